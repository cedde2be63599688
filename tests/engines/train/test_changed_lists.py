# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.data import annotation

Run = Callable[..., tuple[int, str]]
AUTO, RESCORE = "Train.resume_path=auto", "Train.rescore_best=true"


@pytest.fixture
def data(draw_set: Callable[..., Path], tmp_path: Path) -> Path:
    """The data set of `toy_run` again, for tests that change its lists."""
    return draw_set(tmp_path / "set")


def invert(path: Path) -> None:
    """Turn every label of a list over: a model that was right is wrong now."""
    lines = path.read_text().splitlines()
    text = [line.split("\t") for line in lines]
    turned = [f"{name}\t{row.translate({48: 49, 49: 48})}" for name, row in text]
    path.write_text("\n".join(turned) + "\n")


def best(folder: Path) -> Any:
    progress = checkpoint.read_progress(folder / "best_model")
    assert progress is not None
    return progress["best"]


@pytest.mark.parametrize("name", ["train.txt", "val.txt"])
def test_a_resume_with_another_list_is_refused_with_both_repairs(
    run: Run, data: Path, copy_of_run: Path, name: str
) -> None:
    invert(data / name)
    code, err = run("train", data, copy_of_run, AUTO, "Train.epochs_iters=3")
    assert code == 2
    assert f"{name} changed since this run began" in err
    fix = err.partition("fix:")[2]
    assert f"-o Global.output={copy_of_run}_2 -o Train.resume_path=null" in fix
    assert "-o Train.rescore_best=true" in fix


def test_the_same_lists_in_another_place_and_with_other_line_ends_are_the_same(
    run: Run, data: Path, copy_of_run: Path
) -> None:
    path = data / "val.txt"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    code, err = run("train", data, copy_of_run, AUTO, "Train.epochs_iters=3")
    assert code == 0, err
    assert "[Epoch 3/3]" in err


def test_the_best_model_is_scored_on_the_new_list_first(
    run: Run, data: Path, copy_of_run: Path
) -> None:
    before = best(copy_of_run)
    invert(data / "val.txt")
    code, err = run("train", data, copy_of_run, AUTO, RESCORE, "Train.epochs_iters=2")
    assert code == 0, err
    after = best(copy_of_run)
    assert after["epoch"] == before["epoch"]
    assert after["score"] < before["score"]
    told = f"had mAP {before['score']:.4f} on the old list and has {after['score']:.4f} on the new"
    assert told in err
    result = json.loads((copy_of_run / "train_result.json").read_text())
    assert result["metrics"]["MultiLabelMAP"] == after["score"]

    code, err = run("evaluate", data, copy_of_run)
    assert code == 0, err
    evaluated = json.loads((copy_of_run / "evaluate_result.json").read_text())["metrics"]
    assert abs(evaluated["MultiLabelMAP"] - after["score"]) < 1e-4

    # The run has these lists from now on: it goes on without the option.
    code, err = run("train", data, copy_of_run, AUTO, "Train.epochs_iters=3")
    assert code == 0, err
    assert "val.txt changed" not in err
    assert "does not hold the best model" not in err


def test_an_interrupted_epoch_begins_again_with_another_train_list(
    run: Run, data: Path, copy_of_run: Path
) -> None:
    shutil.rmtree(copy_of_run / "epoch_2")
    saved = checkpoint.load(copy_of_run / "epoch_1")
    progress = {**saved.progress, "step": 2, "loss_sum": 5.0}
    checkpoint.write(
        copy_of_run / "latest", checkpoint.Checkpoint(**{**vars(saved), "progress": progress})
    )
    dataset = annotation.read(data)
    annotation.write_list(data / "train.txt", dataset.train.paths[:16], dataset.train.targets[:16])
    code, err = run("train", data, copy_of_run, AUTO, RESCORE)
    assert code == 0, err
    assert "train.txt changed: epoch 2, of which 2 steps were done, begins again" in err
    assert ", after 1 epoch and 2 steps" in err
    assert "[Epoch 2/2]" in err


def test_the_option_has_no_effect_where_nothing_changed(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    before = best(copy_of_run)
    code, err = run("train", toy, copy_of_run, AUTO, RESCORE)
    assert code == 0, err
    assert "changed" not in err
    assert best(copy_of_run) == before
