# SPDX-License-Identifier: Apache-2.0
"""Every option of section Train arrives where it acts; off, it leaves no trace."""

from __future__ import annotations

import logging
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.config import load
from paddlex_ml.config.schema import Config
from paddlex_ml.config.shipped import find
from paddlex_ml.data import annotation, soft_targets
from paddlex_ml.data import targets as data_targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.data.image_cache import ImageCache
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train import build, start
from paddlex_ml.engines.train.plan import build_loaders, compose_plan, prepare_lists
from paddlex_ml.engines.train.resume import Beginning
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.training.losses import (
    asymmetric_loss,
    bce_loss,
    entropy_maximised,
    two_way_loss,
)
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.precision import Precision
from paddlex_ml.training.state import Training


@pytest.fixture(scope="module")
def config_of(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    output = tmp_path_factory.mktemp("plan")

    def read(*overrides: str) -> Config:
        path, _ = find("PP-LCNet_x1_0_ML")
        base = ["Global.mode=train", f"Global.dataset_dir={toy}", f"Global.output={output}"]
        base += ["Train.image_size=32", "Train.batch_size=8", "Train.num_workers=0"]
        base += ["Train.pretrain_weight_path=null", "Train.epochs_iters=4"]
        return load.load(path, [*base, *overrides]).config

    return read


@pytest.fixture(scope="module")
def plan_of(toy: Path, config_of: Any) -> Any:
    def compose(*overrides: str) -> Plan:
        dataset = annotation.read(toy)
        model = paddle.nn.Linear(2, 2)
        return compose_plan(config_of(*overrides), dataset, model, Precision(), ProcessGroup())

    return compose


@pytest.fixture(scope="module")
def prepared(toy: Path, config_of: Any) -> Any:
    def prepare(*overrides: str) -> tuple[Training, Plan]:
        config, dataset, group = config_of(*overrides), annotation.read(toy), ProcessGroup()
        return build.prepare(config, dataset, start.read(config, Beginning(), dataset), group)

    return prepare


LOGITS = np.array([[0.3, -1.2, 2.0], [-0.4, 0.9, -2.5]], np.float32)
TARGETS = np.array([[1, 0, 1], [0, 1, 0]], np.float32)


def loss(function: Any, targets: np.ndarray = TARGETS) -> float:
    return float(function(paddle.to_tensor(LOGITS), paddle.to_tensor(targets)))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], partial(asymmetric_loss, gamma_neg=4, gamma_pos=0, clip=0.05)),
        (
            ["Train.loss.gamma_neg=2", "Train.loss.gamma_pos=1", "Train.loss.clip=0.1"],
            partial(asymmetric_loss, gamma_neg=2, gamma_pos=1, clip=0.1),
        ),
        (["Train.loss.name=bce"], bce_loss),
        (["Train.loss.name=two_way"], partial(two_way_loss, temperature=4)),
        (
            ["Train.loss.name=two_way", "Train.loss.temperature=2"],
            partial(two_way_loss, temperature=2),
        ),
    ],
)
def test_the_loss_is_the_one_that_was_asked_for(
    plan_of: Any, overrides: list[str], expected: Any
) -> None:
    assert loss(plan_of(*overrides).loss_fn) == loss(expected)


def test_pos_weight_weighs_present_labels(plan_of: Any, toy: Path) -> None:
    listed = plan_of("Train.loss.name=bce", "Train.loss.pos_weight=[1, 2, 3]").loss_fn
    weight = paddle.to_tensor([1.0, 2.0, 3.0])
    assert loss(listed) == loss(partial(bce_loss, pos_weight=weight))
    automatic = plan_of("Train.loss.name=bce", "Train.loss.pos_weight=auto").loss_fn
    present = annotation.read(toy).train.targets.sum(axis=0)
    weight = paddle.to_tensor(((24 - present) / present).astype(np.float32))
    assert loss(automatic) == pytest.approx(loss(partial(bce_loss, pos_weight=weight)), rel=1e-6)
    with pytest.raises(PaddlexMLError, match="pos_weight has 2 numbers, the data set 3 classes"):
        plan_of("Train.loss.name=bce", "Train.loss.pos_weight=[1, 2]")


def test_weights_of_one_tag_a_photo_that_is_taken_for_all_count_its_zeros(
    plan_of: Any, toy: Path
) -> None:
    weighted = ("Train.loss.name=bce", "Train.loss.pos_weight=auto")
    plain = plan_of(*weighted).loss_fn
    negative = plan_of(*weighted, "Train.single_positive=true", "Train.loss.unknown=negative")
    assert loss(negative.loss_fn) == loss(plain)  # the zeros are trained as absent, so they count


def test_label_smoothing_makes_targets_less_certain(plan_of: Any) -> None:
    smoothed = plan_of("Train.loss.name=bce", "Train.loss.label_smoothing=0.2").loss_fn
    assert loss(smoothed) == pytest.approx(loss(bce_loss, TARGETS * 0.8 + 0.1), rel=1e-6)


def test_the_schedule_is_the_one_that_was_asked_for(plan_of: Any) -> None:
    overrides = ("Train.learning_rate=1e-3", "Train.warmup_steps=1")
    cosine, one_cycle = plan_of(*overrides), plan_of(*overrides, "Train.lr_schedule=one_cycle")
    assert [plan.schedule.rate(3) for plan in (cosine, one_cycle)] == [1e-3, 1e-3]
    assert cosine.schedule.rate(0) == pytest.approx(1e-6)
    assert one_cycle.schedule.rate(0) == pytest.approx(1e-3 / 25)
    assert one_cycle.schedule.rate(11) == pytest.approx(1e-7)


def test_head_and_backbone_learn_at_their_own_rates(prepared: Any) -> None:
    training, _ = prepared("Train.head_lr_mult=0.5", "Train.backbone_lr_mult=0.1")
    rates = {
        name: p.optimize_attr["learning_rate"]
        for name, p in training.model.named_parameters()
        if not p.stop_gradient
    }
    assert {rate for name, rate in rates.items() if name.startswith("fc.")} == {0.5}
    assert {rate for name, rate in rates.items() if not name.startswith("fc.")} == {0.1}


def test_the_backbone_is_frozen_in_its_epochs_and_thaws(prepared: Any) -> None:
    training, plan = prepared("Train.freeze_backbone_epochs=2")

    def learning(epoch: int) -> set[bool]:
        training.model.train()
        plan.begin_epoch(epoch)
        entries = training.model.named_parameters()
        return {p.stop_gradient for k, p in entries if k.startswith("conv1.conv")}

    assert [learning(epoch) for epoch in range(4)] == [{True}, {True}, {False}, {False}]
    assert training.model.fc.query_pos_embed.weight.stop_gradient  # frozen for ever


def test_gradients_are_clipped_to_the_norm(prepared: Any) -> None:
    training, plan = prepared("Train.grad_clip_norm=1e-3", "Train.weight_decay=0")
    assert training.optimizer._grad_clip.clip_norm == 1e-3
    assert prepared()[0].optimizer._grad_clip is None
    assert plan.precision is not None


def test_mixup_cache_and_reduced_decoding_reach_the_loaders(config_of: Any, toy: Path) -> None:
    dataset = annotation.read(toy)
    options = ("Train.augment.mixup=0.2", "Train.cache=ram", "Evaluate.reduced_decode=true")
    train_loader, val_loader = build_loaders(config_of(*options), dataset, ProcessGroup())
    with closing(train_loader), closing(val_loader):
        assert train_loader.dataset.augmentation is not None
        assert train_loader.dataset.augmentation.mixup == 0.2
        assert val_loader.dataset.augmentation is None
        assert (train_loader.dataset.min_side, val_loader.dataset.min_side) == (64, 64)
        assert isinstance(train_loader.dataset.cache, ImageCache)
        ((_, targets),) = train_loader.epoch([[SampleIndex(0, sample) for sample in range(8)]])
    assert ((targets.numpy() > 0) & (targets.numpy() < 1)).any()
    plain, val_loader = build_loaders(
        config_of("Train.reduced_decode=false"), dataset, ProcessGroup()
    )
    assert (plain.dataset.min_side, val_loader.dataset.min_side) == (None, None)
    assert plain.dataset.cache is None


def test_what_is_off_leaves_no_trace(plan_of: Any, prepared: Any) -> None:
    plan = plan_of()
    assert isinstance(plan.loss_fn, partial)
    assert plan.loss_fn.func is asymmetric_loss
    assert isinstance(plan.precision(), nullcontext)
    assert plan.begin_epoch(0) is None
    assert plan.saving.keep_last is plan.saving.steps is plan.saving.minutes is None
    training, _ = prepared()
    assert not training.scaler.is_enable()
    assert "forward" not in vars(training.model.blocks3[0])  # no recomputing
    training, _ = prepared("Train.recompute=true")
    assert "forward" in vars(training.model.blocks3[0])


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "told", "left_out"),
    [
        (8, 1, [], []),
        (7, 1, ["24 images an epoch: the last of its 4 steps has 3 instead of 7"], []),
        (8, 2, ["24 images an epoch: the last of its 2 steps has 8 instead of 16"], []),
        (23, 1, [], ["each epoch leaves out 1 of 24 images"]),
        (64, 1, [], []),
    ],
)
def test_what_becomes_of_images_that_fill_no_batch_is_told(
    plan_of: Any, caplog: Any, batch_size: int, accumulate: int, told: list, left_out: list
) -> None:
    with caplog.at_level(logging.INFO):
        plan = plan_of(f"Train.batch_size={batch_size}", f"Train.grad_accum_steps={accumulate}")
    by_level: dict[int, list[str]] = {logging.INFO: [], logging.WARNING: []}
    for record in caplog.records:
        by_level[record.levelno].append(record.getMessage())
    assert by_level[logging.INFO] == told
    assert [message.partition(",")[0] for message in by_level[logging.WARNING]] == left_out
    assert plan.schedule.total_steps == 4 * plan.steps


CELLS = np.tile(np.array([[1, UNKNOWN, 0], [0, 1, UNKNOWN], [UNKNOWN, 0, 1]], np.int8), (8, 1))
PARTLY = np.array([[1, UNKNOWN, 0], [UNKNOWN, 1, 0]], np.float32)


@pytest.fixture(scope="module")
def partly(toy: Path) -> MLClsDataset:
    """The toy with a third of the labels of train.txt unknown."""
    dataset = annotation.read(toy)
    train = ImageList(dataset.root, dataset.train.paths, CELLS)
    return MLClsDataset(dataset.root, dataset.label_names, train, dataset.val)


def compose(config: Config, dataset: MLClsDataset) -> Plan:
    group = ProcessGroup()
    dataset = prepare_lists(config, dataset, group)
    return compose_plan(config, dataset, paddle.nn.Linear(2, 2), Precision(), group)


@pytest.mark.parametrize(
    ("overrides", "expected", "effect"),
    [
        ([], asymmetric_loss, "ignore leaves them out of the loss"),
        (["Train.loss.unknown=ignore"], asymmetric_loss, "ignore leaves them out of the loss"),
        (
            ["Train.loss.unknown=weak_negative"],
            partial(asymmetric_loss, unknown_weight=0.5),
            "weak_negative counts them as absent with the weight 0.5",
        ),
        (
            ["Train.loss.unknown=em", "Train.loss.em_alpha=0.2"],
            partial(entropy_maximised, loss_fn=asymmetric_loss, alpha=0.2),
            "em leaves their scores undecided (Train.loss.em_alpha=0.2)",
        ),
        (
            ["Train.loss.name=two_way", "Train.loss.unknown=weak_negative"],
            partial(two_way_loss, unknown_weight=0.5),
            "weak_negative counts them as absent with the weight 0.5",
        ),
    ],
)
def test_unknown_labels_are_trained_as_asked_and_counted(
    config_of: Any, partly: MLClsDataset, caplog: Any, overrides: list, expected: Any, effect: str
) -> None:
    with caplog.at_level(logging.INFO):
        plan = compose(config_of(*overrides), partly)
    assert loss(plan.loss_fn, PARTLY) == loss(expected, PARTLY)
    told = f"train.txt: 24 of 72 labels (33.3%) are unknown: Train.loss.unknown={effect}"
    assert told in caplog.messages


def test_smoothing_and_weights_compose_with_unknown_labels(
    config_of: Any, partly: MLClsDataset
) -> None:
    bce = ("Train.loss.name=bce", "Train.loss.pos_weight=[1, 2, 3]", "Train.loss.unknown=em")
    weight = paddle.to_tensor([1.0, 2.0, 3.0])
    known = partial(bce_loss, pos_weight=weight)
    plan = compose(config_of(*bce, "Train.loss.label_smoothing=0.2"), partly)
    softer = np.where(PARTLY < 0, PARTLY, PARTLY * np.float32(0.8) + np.float32(0.1))
    expected = partial(entropy_maximised, loss_fn=known, alpha=0.1)
    assert loss(plan.loss_fn, PARTLY) == pytest.approx(loss(expected, softer), rel=1e-6)


@pytest.mark.parametrize("make", [data_targets.dense, data_targets.to_sparse])
def test_assumed_absent_labels_are_absent_for_all_that_counts_them(
    config_of: Any, partly: MLClsDataset, make: Any
) -> None:
    train = ImageList(partly.root, partly.train.paths, make(CELLS))
    dataset = MLClsDataset(partly.root, partly.label_names, train, partly.val)
    config = config_of("Train.loss.unknown=negative", "Train.augment.mixup=0.4")
    dataset = prepare_lists(config, dataset, ProcessGroup())
    assert type(dataset.train.values) is type(train.values)
    assert np.array_equal(dataset.train.targets, CELLS.clip(0))
    loaders = build_loaders(config, dataset, ProcessGroup())
    with closing(loaders[0]), closing(loaders[1]):
        ((_, targets),) = loaders[0].epoch([[SampleIndex(0, sample) for sample in range(12)]])
    assert targets.numpy().min() == 0  # before mixup: a present label keeps its share
    assert ((targets.numpy() > 0) & (targets.numpy() < 1)).any()


@pytest.mark.parametrize("make", [data_targets.dense, data_targets.to_sparse])
def test_a_list_of_which_nothing_is_known_is_refused_before_a_model_is_built(
    config_of: Any, partly: MLClsDataset, make: Any
) -> None:
    def judge(cells: np.ndarray, *overrides: str, **more: Any) -> None:
        train = ImageList(partly.root, partly.train.paths, make(cells.astype(np.int8)), **more)
        dataset = MLClsDataset(partly.root, partly.label_names, train, partly.val)
        build.refuse_unfit_lists(config_of(*overrides), dataset, ProcessGroup())

    hidden, weights = np.full_like(CELLS, UNKNOWN), np.zeros(len(CELLS), np.float32)
    with pytest.raises(PaddlexMLError, match=r"every label of train\.txt is unknown"):
        judge(hidden)
    judge(hidden, "Train.teacher=[other_run]")  # its scores teach
    one = hidden.copy()
    one[0, 0] = 0
    judge(one)
    weights[1:] = 1
    with pytest.raises(PaddlexMLError, match=r"every label of train\.txt is unknown"):
        judge(one, weights=weights)  # the only known image does not count
    with pytest.raises(PaddlexMLError, match=r"Train\.single_positive reads 0 as unknown"):
        judge(one, "Train.single_positive=true")


def test_lists_that_nothing_is_unknown_in_are_trained_as_before(
    config_of: Any, toy: Path, caplog: Any
) -> None:
    with caplog.at_level(logging.INFO):
        plan = compose(config_of(), annotation.read(toy))
    assert isinstance(plan.loss_fn, partial)
    assert plan.loss_fn.keywords["unknown_weight"] is None  # not even looked for
    assert not any("unknown" in text for text in caplog.messages)
    with caplog.at_level(logging.INFO):
        plan = compose(config_of("Train.loss.unknown=em"), annotation.read(toy))
    assert isinstance(plan.loss_fn, partial)
    assert plan.loss_fn.func is asymmetric_loss
    assert "train.txt has no unknown label: Train.loss.unknown changes nothing" in caplog.messages


@pytest.mark.parametrize("make", [data_targets.dense, data_targets.to_sparse])
def test_one_tag_a_photo_makes_absent_labels_of_train_unknown(
    config_of: Any, partly: MLClsDataset, caplog: Any, make: Any
) -> None:
    train = ImageList(partly.root, partly.train.paths, make(CELLS))
    dataset = MLClsDataset(partly.root, partly.label_names, train, partly.val)
    config, group = config_of("Train.single_positive=true"), ProcessGroup()
    with caplog.at_level(logging.INFO):
        prepared = prepare_lists(config, dataset, group)
    assert prepared.train.values is train.values  # nothing is written out
    assert (
        "train.txt: 48 of 72 labels (66.7%) are unknown: Train.loss.unknown=weak_negative counts "
        "them as absent with the weight 0.5" in caplog.messages
    )
    draws = [[SampleIndex(0, sample) for sample in range(6)]]
    loaders = build_loaders(config, prepared, group)
    with closing(loaders[0]), closing(loaders[1]):
        (((_, targets),), ((_, val),)) = (loader.epoch(draws) for loader in loaders)
    assert np.array_equal(targets.numpy(), np.where(CELLS > 0, 1, UNKNOWN)[:6])
    assert np.array_equal(val.numpy(), partly.val.targets[:6])
    expected = partial(asymmetric_loss, unknown_weight=0.5)
    one = np.array([[1, UNKNOWN, UNKNOWN], [UNKNOWN, 1, UNKNOWN]], np.float32)
    plan = compose_plan(config, prepared, paddle.nn.Linear(2, 2), Precision(), group)
    assert loss(plan.loss_fn, one) == loss(expected, one)


def test_a_class_that_would_be_predicted_everywhere_is_named_unless_em_prevents_it(
    config_of: Any, partly: MLClsDataset, caplog: Any
) -> None:
    cells = CELLS.copy()
    cells[cells[:, 0] == 0, 0] = UNKNOWN
    train = ImageList(partly.root, partly.train.paths, cells)
    dataset = MLClsDataset(partly.root, partly.label_names, train, partly.val)
    named = f"known not to show it ({partly.label_names[0]}): a model learns that such a class is"
    for unknown in ("ignore", "em", "negative", "weak_negative", "role"):
        caplog.clear()
        config = config_of(f"Train.loss.unknown={unknown}", "Train.loss.name=bce")
        prepare_lists(config, dataset, ProcessGroup())
        assert any(named in text for text in caplog.messages) == (unknown == "ignore"), unknown


def test_images_of_weight_0_are_left_out_of_all_that_a_training_counts(
    toy: Path, config_of: Any, caplog: Any
) -> None:
    dataset = annotation.read(toy)
    weights = np.ones(len(dataset.train), np.float32)
    weights[dataset.train.targets[:, 0] == 1] = 0
    dataset = replace(dataset, train=replace(dataset.train, weights=weights))
    with caplog.at_level(logging.INFO):
        kept = prepare_lists(config_of(), dataset, ProcessGroup()).train
    assert f"left out: {np.count_nonzero(weights == 0)} images with the weight 0" in caplog.text
    assert "1 class has no image in train.txt" in caplog.text
    assert kept.paths == [p for p, w in zip(dataset.train.paths, weights, strict=True) if w]
    assert (kept.targets[:, 0] == 0).all()
    assert kept.weights is not None
    assert kept.weights.all()


def test_soft_values_count_as_known_where_one_label_an_image_is_named(
    toy: Path, config_of: Any, caplog: Any
) -> None:
    dataset = annotation.read(toy)
    parsed = soft_targets.parse(["1,0.3,0", "0.8,0.2,0.1"], 3, "")
    train = ImageList(toy, dataset.train.paths[:2], parsed.values, parsed.soft)
    options = ("Train.single_positive=true", "Train.soft_labels=true", "Train.loss.name=bce")
    with caplog.at_level(logging.INFO):
        prepare_lists(config_of(*options), replace(dataset, train=train), ProcessGroup())
    assert "1 of 6 labels (16.7%) are unknown" in caplog.text
