# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str]]
QUICK = ("Evaluate.bootstrap=0", "Evaluate.report=false", "Evaluate.label_errors=null")


def read(folder: Path) -> Any:
    return json.loads((folder / "evaluate_result.json").read_text(encoding="utf-8"))


def weights(output: Path, name: str) -> str:
    return f"Evaluate.weight_path={output / name / name}.pdparams"


def test_an_evaluation_of_other_weights_keeps_the_earlier_one(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "evaluate"
    kept = folder / "evaluation.bak"
    for _ in range(2):  # the same model again replaces its own evaluation
        code, err = run("evaluate", toy, copy_of_run, *QUICK)
        assert code == 0, err
        assert not kept.exists()
    best, table = read(copy_of_run), (folder / "per_class.csv").read_bytes()
    code, err = run("evaluate", toy, copy_of_run, weights(copy_of_run, "epoch_2"), *QUICK)
    assert code == 0, err
    assert f"the earlier evaluation, not known to be of this model and list: {kept}" in err
    assert read(kept) == best
    assert (kept / "per_class.csv").read_bytes() == table
    names = ["evaluate_result.json", "per_class.csv", "val_scores.npz"]
    assert sorted(os.listdir(kept)) == names
    assert (best["epoch"], read(copy_of_run)["epoch"]) == (1, 2)
    assert run("evaluate", toy, copy_of_run, *QUICK)[0] == 0
    assert read(kept) == best
    assert read(folder / "evaluation.bak.1")["epoch"] == 2
    assert not [name for name in os.listdir(copy_of_run) if name.endswith(".old")]


@pytest.mark.parametrize("refused", ["Train.num_classes=7", "Evaluate.batch_size=abc"])
def test_a_refused_evaluation_loses_none(
    run: Run, toy: Path, copy_of_run: Path, refused: str
) -> None:
    assert run("evaluate", toy, copy_of_run, *QUICK)[0] == 0
    best = read(copy_of_run)
    for _ in range(2):
        assert run("evaluate", toy, copy_of_run, *QUICK, refused)[0] == 2
        assert read(copy_of_run)["done_flag"] is False
    kept = copy_of_run / "evaluate" / "evaluation.bak"
    assert run("evaluate", toy, copy_of_run, weights(copy_of_run, "epoch_2"), *QUICK)[0] == 0
    assert read(kept) == best


def test_the_evaluation_of_an_earlier_best_model_is_kept_and_is_not_on_the_card(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    assert run("evaluate", toy, copy_of_run, *QUICK)[0] == 0
    path = copy_of_run / "evaluate_result.json"
    earlier = read(copy_of_run) | {"epoch": 7}  # as if the training had gone on since
    path.write_text(json.dumps(earlier), encoding="utf-8")
    assert run("export", None, copy_of_run)[0] == 0
    card = (copy_of_run / "best_model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "is of no evaluation of this model, or not there" in card
    assert run("evaluate", toy, copy_of_run, *QUICK)[0] == 0
    assert read(copy_of_run / "evaluate" / "evaluation.bak") == earlier
    card = (copy_of_run / "best_model" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "- mAP of the evaluation: " in card
