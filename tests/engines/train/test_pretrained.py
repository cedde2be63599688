# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo
from paddlex_ml.artifacts.weights import to_arrays
from paddlex_ml.config import load, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.engines.train import pretrained
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import zoo

NAME = "PP-LCNet_x1_0_ML"
Run = Callable[..., tuple[int, str]]

OLD = [f"class {i}" for i in range(12)]
ORDER = [OLD[i] for i in (7, 2, 9, 0, 5, 11, 4, 1, 10, 3, 8, 6)]
MIDDLE = [*OLD[:6], "new a", "new b", "new c", *OLD[6:]]
MANY = [f"class {i}" for i in range(130)]


def config_of(path: Path, *overrides: str) -> Config:
    shipped_file, _ = shipped.find(NAME)
    start = f"Train.pretrain_weight_path={path}"
    return load.load(shipped_file, (start, *overrides), to_run=False).config


def save(folder: Path, names: list[str], queries: int, *, named: bool = True) -> paddle.nn.Layer:
    """A model whose scores differ, and its checkpoint in the folder."""
    paddle.seed(2)
    model = zoo.build(NAME, len(names), queries)
    for key, value in model.state_dict().items():
        if key.startswith("fc.") and value.ndim > 1:
            value.set_value(value + 0.05 * paddle.randn(value.shape))
    arrays = to_arrays(model.state_dict())
    info = ModelInfo(NAME, names, 64, num_queries=queries)
    checkpoint.write(folder, Checkpoint(info, arrays, arrays, {}, {}, {}))
    if not named:
        (folder / f"{folder.name}.pdstates").unlink()
    model.eval()
    return model


def start_from(folder: Path, names: list[str], *overrides: str):
    """The model before its first step, what became of the classes, and the layout of its head."""
    config = config_of(folder / f"{folder.name}.pdparams", *overrides)
    info = ModelInfo(NAME, names, 64)
    found = pretrained.read(config, info)
    assert found is not None
    paddle.seed(3)
    model = zoo.build(NAME, len(names), layout=found.layout)
    account = pretrained.load(model, found, info)
    model.eval()
    return model, account, found.layout


def scores(model: paddle.nn.Layer) -> np.ndarray:
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), np.float32)
    with paddle.no_grad():
        return paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()


def test_the_starter_weights_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "starter").write_text("a file of the user")
    monkeypatch.chdir(tmp_path)
    config, info = config_of(Path("starter")), ModelInfo(NAME, OLD, 64)
    found = pretrained.read(config, info)
    assert found is not None
    model = zoo.build(NAME, len(OLD), layout=found.layout)
    assert pretrained.load(model, found, info) is msgspec.UNSET
    states = to_arrays(model.state_dict())
    taken = states.keys() & found.entries  # of a test's model, which has fewer blocks
    assert len(taken) > 30
    assert all(np.array_equal(states[name], found.entries[name]) for name in taken)
    assert config.Train.pretrain_weight_path == "starter"


@pytest.mark.parametrize(
    ("before", "queries", "now", "wanted", "found_queries"),
    [
        (OLD, 12, ORDER, "auto", 12),
        (OLD, 12, MIDDLE, "auto", 15),
        (OLD, 12, OLD[::2], "auto", 6),
        (OLD, 4, ORDER, "4", 4),
        (OLD, 4, MIDDLE, "4", 4),
        (OLD, 4, OLD[::2], "4", 4),
        (OLD, 4, MIDDLE, "6", 6),
        (OLD, 6, MIDDLE, "auto", 15),
        (OLD, 12, MIDDLE, "12", 12),  # from one query per class to groups
        (MANY, 130, ["new", *MANY[10:]], "auto", 120),
        (MANY, 100, ["new", *MANY[:4], *MANY[20:]], "auto", 100),
    ],
)
def test_kept_classes_score_as_before(
    tmp_path: Path,
    before: list[str],
    queries: int,
    now: list[str],
    wanted: str,
    found_queries: int,
) -> None:
    was = scores(save(tmp_path / "old", before, queries))
    model, account, layout = start_from(tmp_path / "old", now, f"Train.num_queries={wanted}")
    found = scores(model)
    assert (layout.classes, layout.queries, found.shape[1]) == (len(now), found_queries, len(now))
    assert account.kept == [name for name in now if name in before]
    assert account.new == [name for name in now if name not in before]
    assert account.dropped == [name for name in before if name not in now]
    old_columns = [before.index(name) for name in account.kept]
    new_columns = [now.index(name) for name in account.kept]
    assert np.abs(found[:, new_columns] - was[:, old_columns]).max() < 1e-6
    assert np.ptp(was, axis=1).min() > 0.1  # or a class could pass for another one


def test_the_same_names_are_taken_as_they_are(tmp_path: Path) -> None:
    for names, queries in ((OLD, 12), (OLD, 5), (MANY, 130)):
        old = save(tmp_path / f"old{queries}", names, queries)
        model, account, layout = start_from(tmp_path / f"old{queries}", names)
        assert (account, layout.queries, layout.slots) == (msgspec.UNSET, queries, None)
        for key, value in old.state_dict().items():
            assert np.array_equal(model.state_dict()[key].numpy(), value.numpy())


def test_weights_without_names_give_what_their_shapes_allow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = save(tmp_path / "old", MANY, 130, named=False)
    model, account, layout = start_from(tmp_path / "old", MANY)
    assert (account, layout.queries) == (msgspec.UNSET, 130)
    assert np.abs(scores(model) - scores(old)).max() < 1e-6
    caplog.set_level("INFO", "paddlex_ml")
    _, account, layout = start_from(tmp_path / "old", MANY[:120])
    assert (account, layout.queries) == (msgspec.UNSET, 100)
    assert "left out fc.group_conv.bias: shape [130], the model needs [200]" in caplog.text


def test_too_few_queries_for_what_the_weights_know_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "old", OLD, 12)
    with pytest.raises(PaddlexMLError, match="come from 12 queries: with 5"):
        start_from(tmp_path / "old", ORDER, "Train.num_queries=5")
    assert start_from(tmp_path / "old", ORDER, "Train.num_queries=auto")[2].queries == 12


def test_weights_that_contradict_what_is_named_beside_them_are_refused(tmp_path: Path) -> None:
    old = to_arrays(save(tmp_path / "old", OLD, 12).state_dict())
    for info, message in (
        (ModelInfo(NAME, OLD[:7], 64), "the weights have 12 classes, 7 are named beside them"),
        (ModelInfo(NAME, OLD, 64, num_queries=4), "the weights have 12 queries, 4 are named"),
    ):
        checkpoint.write(tmp_path / "old", Checkpoint(info, old, old, {}, {}, {}))
        with pytest.raises(PaddlexMLError, match=message) as caught:
            start_from(tmp_path / "old", ORDER)
        assert "behind Train.pretrain_weight_path" in caught.value.fix


def with_classes(data: Path, target: Path, *lines: str) -> Path:
    shutil.copytree(data, target)
    (target / "label.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(lines)))
    return target


def result_of(output: Path) -> Any:
    return json.loads((output / "train_result.json").read_text(encoding="utf-8"))


def test_a_training_says_what_became_of_the_classes_and_evaluates_before_the_first_step(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    data = with_classes(toy, tmp_path / "set", "green", "yellow", "red")
    path = toy_run / "best_model" / "best_model.pdparams"
    this = (f"Train.pretrain_weight_path={path}", "Train.epochs_iters=1")
    code, err = run("train", data, tmp_path / "out", *this)
    assert code == 0, err
    assert "classes by name: 2 kept (green, red); 1 new (yellow); 1 dropped (blue)" in err
    assert "what was learned about a class now belongs" not in err
    started = result_of(tmp_path / "out")["started_from"]
    assert started["path"] == str(path)
    assert started["kept"] == ["green", "red"]
    assert (started["new"], started["dropped"]) == (["yellow"], ["blue"])
    line = f"before the first step: mAP {started['map']:.4f}; over the 2 kept classes "
    assert f"{line}{started['kept_map']:.4f}" in err
    lines = err.splitlines()
    before, first = (
        next(i for i, text in enumerate(lines) if part in text)
        for part in ("before the first step", "[Train][Epoch 1/1]")
    )
    assert before < first
    # What a resume, an export and an evaluation make of it.
    again = ("Train.epochs_iters=2", "Train.resume_path=auto")
    assert run("train", data, tmp_path / "out", *again)[0] == 0
    assert result_of(tmp_path / "out")["started_from"] == started
    assert "started_from" not in result_of(toy_run)


def test_a_list_with_nothing_in_common_is_told(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    data = with_classes(toy, tmp_path / "set", "Red", "Green", "Blue")
    path = toy_run / "best_model" / "best_model.pdparams"
    this = (f"Train.pretrain_weight_path={path}", "Train.epochs_iters=1")
    code, err = run("train", data, tmp_path / "out", *this)
    assert code == 0, err
    assert "warning: no class of label.txt is one of the 3 that the weights name (red, " in err
    assert "nothing of the head is kept" in err
    started = result_of(tmp_path / "out")["started_from"]
    assert started["kept"] == []
    assert "kept_map" not in started


def test_classes_in_another_order_go_through_every_mode(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    first, output = tmp_path / "first", tmp_path / "out"
    this = ("Train.num_queries=2", "Train.epochs_iters=1")
    assert run("train", toy, first, *this)[0] == 0
    data = with_classes(toy, tmp_path / "set", "blue", "red", "green")
    path = first / "latest" / "latest.pdparams"
    code, err = run("train", data, output, *this, f"Train.pretrain_weight_path={path}")
    assert code == 0, err
    assert "3 kept (blue, red, green); 0 new (none); 0 dropped (none)" in err
    slots = weights.read(output / "latest" / "latest.pdparams")["fc.class_slots"]
    assert slots.tolist() == [0, 2, 3]
    info = checkpoint.read_model_info(output / "latest" / "latest.pdparams")
    assert info is not None
    assert (info.num_queries, info.class_queries) == (2, [0, 1, 1])
    assert result_of(output)["metrics"]["static_difference"] < 1e-5
    unbroken = tmp_path / "unbroken"
    longer = ("Train.num_queries=2", "Train.epochs_iters=2")
    assert run("train", data, unbroken, *longer, f"Train.pretrain_weight_path={path}")[0] == 0
    code, err = run("train", data, output, "Train.epochs_iters=2", "Train.resume_path=auto")
    assert code == 0, err
    rows = [result_of(folder)["metrics"]["history"][0] for folder in (unbroken, output)]
    assert rows[0]["raw_map"] == rows[1]["raw_map"]
    best = f"Evaluate.weight_path={output / 'best_model' / 'best_model.pdparams'}"
    other = "raw" if result_of(output)["models"]["best"]["weights"] == "ema" else "ema"
    compare = (best, f"Evaluate.compare_with={other}", "Evaluate.bootstrap=20")
    code, err = run("evaluate", data, tmp_path / "eval", *compare)
    assert code == 0, err
    found = json.loads((tmp_path / "eval" / "evaluate_result.json").read_text("utf-8"))
    score = result_of(output)["models"]["best"]["score"]
    assert found["metrics"]["MultiLabelMAP"] == pytest.approx(score, abs=1e-6)
