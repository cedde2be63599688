# SPDX-License-Identifier: Apache-2.0
"""The table of estimated labels: when it is made, for how many labels, and where it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml import machine_memory
from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.config import load
from paddlex_ml.config.schema import Config
from paddlex_ml.config.shipped import find
from paddlex_ml.data import annotation
from paddlex_ml.data import targets as data_targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train import label_estimates
from paddlex_ml.engines.train.plan import compose_plan, prepare_lists
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.training.losses import bce_loss
from paddlex_ml.training.precision import Precision

Run = Callable[..., tuple[int, str]]
ROLE = ("Train.loss.name=bce", "Train.loss.unknown=role")
ONE_TAG = (*ROLE, "Train.single_positive=true")
ONE = ProcessGroup()
CELLS = np.tile(np.array([[1, UNKNOWN, 0], [0, 1, UNKNOWN], [UNKNOWN, 0, 1]], np.int8), (8, 1))
KEY = "Train.loss.role_labels"


@pytest.fixture
def config_of(toy: Path, tmp_path: Path) -> Any:
    def read(*overrides: str) -> Config:
        path, _ = find("PP-LCNet_x1_0_ML")
        base = ["Global.mode=train", f"Global.dataset_dir={toy}", f"Global.output={tmp_path}"]
        return load.load(path, [*base, *overrides]).config

    return read


@pytest.fixture
def partly(toy: Path) -> MLClsDataset:
    """The toy with a third of the labels of train.txt unknown; val.txt shows 2 labels an image."""
    dataset = annotation.read(toy)
    train = ImageList(dataset.root, dataset.train.paths, CELLS)
    cells = np.tile(np.array([[1, 1, 0], [1, UNKNOWN, 1], [1, 0, 0], [1, 0, 1]], np.int8), (3, 1))
    val = ImageList(dataset.root, dataset.val.paths, cells)
    return MLClsDataset(dataset.root, dataset.label_names, train, val)


def test_labels_an_image_are_counted_in_val_where_they_are_known(
    config_of: Any, partly: MLClsDataset, caplog: Any
) -> None:
    with caplog.at_level(logging.INFO):
        table = label_estimates.build(config_of(*ROLE), partly, ONE)
    assert table is not None
    assert table.labels == pytest.approx(1 + 1 / 3 + 1 / 2)
    assert table.logits.shape == (24, 3)
    assert (
        "train.txt: 24 x 3 labels are estimated, 1.83 labels an image expected "
        f"({KEY} counted in val.txt), 0.0 MB" in caplog.messages
    )
    table = label_estimates.build(config_of(*ROLE, f"{KEY}=2.5"), partly, ONE)
    assert table is not None
    assert table.labels == 2.5


def test_fewer_labels_than_are_known_is_a_warning(
    config_of: Any, partly: MLClsDataset, caplog: Any
) -> None:
    label_estimates.build(config_of(*ROLE, f"{KEY}=0.5"), partly, ONE)
    assert caplog.messages == [
        "an image of train.txt has 1 labels that are known to be present, more than the 0.5 "
        f"expected: estimates and scores will be too low; -o {KEY}=1.2"
    ]


def test_no_table_is_made_where_nothing_is_unknown_or_another_way_is_asked_for(
    config_of: Any, partly: MLClsDataset, toy: Path
) -> None:
    whole = annotation.read(toy)
    assert label_estimates.build(config_of(*ROLE), whole, ONE) is None
    assert label_estimates.build(config_of(*ONE_TAG), whole, ONE) is not None
    for other in ("ignore", "em", "negative"):
        assert label_estimates.build(config_of(f"Train.loss.unknown={other}"), partly, ONE) is None


def test_known_cells_are_trained_by_cross_entropy_alone(
    config_of: Any, partly: MLClsDataset, caplog: Any
) -> None:
    config = config_of(*ROLE)
    with caplog.at_level(logging.INFO):
        dataset = prepare_lists(config, partly, ONE)
    told = "train.txt: 24 of 72 labels (33.3%) are unknown: Train.loss.unknown=role estimates them "
    assert f"{told}while the model trains" in caplog.messages
    plan = compose_plan(config, dataset, paddle.nn.Linear(2, 2), Precision(), ONE)
    logits, cells = paddle.to_tensor([[0.3, -1.0, 2.0]]), paddle.to_tensor([[1.0, -1.0, 0.0]])
    assert float(plan.loss_fn(logits, cells)) == float(bce_loss(logits, cells))


@pytest.mark.parametrize("make", [data_targets.dense, data_targets.to_sparse])
def test_a_table_that_fits_nowhere_is_refused_before_it_is_made(
    config_of: Any, partly: MLClsDataset, make: Any, monkeypatch: Any
) -> None:
    train = ImageList(partly.root, partly.train.paths, make(CELLS))
    dataset = replace(partly, train=train)
    monkeypatch.setattr(machine_memory, "available", lambda: 2 * 24 * 3 * 8 - 1)
    with pytest.raises(PaddlexMLError) as refused:
        label_estimates.build(config_of(*ROLE), dataset, ONE)
    assert refused.value.what.startswith(
        "the estimated labels of 24 images and 3 classes take 0.0 GB: with a resume it takes 0.0 GB"
    )
    assert refused.value.fix == "-o Train.loss.unknown=em needs no table"
    monkeypatch.setattr(machine_memory, "available", lambda: 2 * 24 * 3 * 8)
    assert label_estimates.build(config_of(*ROLE), dataset, ONE) is not None
    with pytest.raises(PaddlexMLError, match="in 2 processes"):
        label_estimates.build(config_of(*ROLE), dataset, ProcessGroup(local_size=2))


def test_a_table_that_no_checkpoint_holds_is_refused_whatever_the_memory(
    config_of: Any, partly: MLClsDataset, monkeypatch: Any
) -> None:
    size, classes = 500_000, 10_000
    empty = np.zeros(0, np.int32)
    cells = data_targets.SparseTargets(
        np.zeros(size + 1, np.int64),
        empty,
        empty.astype(np.int8),
        np.zeros(size, np.int8),
        classes,
    )
    train = replace(partly.train, values=cells)
    monkeypatch.setattr(machine_memory, "available", lambda: 1 << 50)
    with pytest.raises(PaddlexMLError) as refused:
        label_estimates.build(config_of(*ONE_TAG), replace(partly, train=train), ONE)
    assert refused.value.what == (
        "the estimated labels of 500,000 images and 10,000 classes take 40.0 GB: a checkpoint "
        "holds at most 6.4 GB of it"
    )


def test_a_number_that_cannot_be_is_refused_with_one_that_can(
    config_of: Any, partly: MLClsDataset
) -> None:
    with pytest.raises(PaddlexMLError) as refused:
        label_estimates.build(config_of(*ROLE, f"{KEY}=4"), partly, ONE)
    assert refused.value.what == f"{KEY} is 4, label.txt names 3 classes"
    assert refused.value.fix == f"-o {KEY}=null counts the labels of val.txt"
    absent = ImageList(partly.root, partly.val.paths, np.minimum(partly.val.targets, 0))
    dataset = replace(partly, val=absent)
    with pytest.raises(PaddlexMLError) as refused:
        label_estimates.build(config_of(*ROLE), dataset, ONE)
    assert refused.value.what.startswith("no label of val.txt is known to be present: ")
    assert refused.value.fix == f"set the number that you expect: -o {KEY}=1.5"
    assert label_estimates.build(config_of(*ROLE, f"{KEY}=1.5"), dataset, ONE) is not None


def test_estimates_are_resumed_bit_for_bit_and_leave_with_the_checkpoint(
    run: Run,
    draw_set: Callable[..., Path],
    tmp_path: Path,
    assert_same_ending: Callable[[Path, Path], None],
) -> None:
    data, whole, resumed = draw_set(tmp_path / "set"), tmp_path / "whole", tmp_path / "resumed"
    options = [*ONE_TAG, "Train.batch_size=4", "Train.grad_accum_steps=2"]
    options += ["Train.sampler=repeat_factor", "Train.repeat_threshold=0.9"]
    options += ["Train.loss.label_smoothing=0.1", "Train.epochs_iters=3"]
    train = partial(run, "train", data)
    code, err = train(whole, *options)
    assert code == 0, err
    code, err = train(resumed, *options, f"Train.resume_path={whole / 'epoch_2'}")
    assert code == 0, err
    assert "numbers will differ" not in err
    assert_same_ending(resumed, whole)
    ours, theirs = (
        checkpoint.load(output / "latest").optimizer["estimates"] for output in (resumed, whole)
    )
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert theirs["updates"] == 12  # four steps an epoch: images are repeated
    assert theirs["drawn"].min() > 8
    first = checkpoint.load(whole / "epoch_1").optimizer["estimates"]
    moved = first["logits"] != theirs["logits"]
    assert np.array_equal(moved, annotation.read(data).train.targets == 0)
    names = weights.read(whole / "best_model" / "best_model.pdparams")
    assert not any("estimate" in name for name in names)
    assert not list((whole / "best_model" / "inference").glob("*estimate*"))

    lines = (data / "train.txt").read_text().splitlines()
    (data / "train.txt").write_text("\n".join(reversed(lines)) + "\n")
    more = ("Train.resume_path=auto", "Train.epochs_iters=4")
    for rescored in ("Train.rescore_best=false", "Train.rescore_best=true"):
        code, err = train(whole, *options, *more, rescored)
        assert code == 2
        assert "its estimated labels belong to the images of before" in err
        assert "-o Train.rescore_best=true -o Train.loss.unknown=em goes on without them" in err
    code, err = train(whole, *options, *more, "Train.rescore_best=true", "Train.loss.unknown=em")
    assert code == 0, err
    assert "estimates" not in checkpoint.load(whole / "latest").optimizer


def test_a_run_that_could_begin_can_be_resumed(
    config_of: Any, partly: MLClsDataset, monkeypatch: Any
) -> None:
    """The saved table is in memory by then, and no longer free."""
    size = 24 * 3 * 8
    monkeypatch.setattr(machine_memory, "available", lambda: int(2.5 * size))
    assert label_estimates.build(config_of(*ROLE), partly, ONE) is not None
    monkeypatch.setattr(machine_memory, "available", lambda: int(1.5 * size))
    assert label_estimates.build(config_of(*ROLE), partly, ONE, is_read=True) is not None
    with pytest.raises(PaddlexMLError) as refused:
        label_estimates.build(config_of(*ROLE, f"{KEY}=2"), partly, ONE)
    fix = "-o Train.loss.unknown=em -o Train.loss.role_labels=null needs no table"
    assert refused.value.fix == fix


def test_the_proposed_number_of_labels_can_be_used(
    config_of: Any, partly: MLClsDataset, caplog: Any
) -> None:
    cells = np.zeros((24, 3), np.int8)
    cells[0, 0], cells[1] = 1, UNKNOWN
    dataset = replace(partly, train=replace(partly.train, values=cells))
    label_estimates.build(config_of(*ROLE, f"{KEY}=0.001"), dataset, ONE)
    assert "-o Train.loss.role_labels=0.05" in caplog.text
    caplog.clear()
    label_estimates.build(config_of(*ROLE, f"{KEY}=0.05"), dataset, ONE)
    assert "more than the" not in caplog.text
