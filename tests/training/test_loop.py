# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.train_result import Best, WeightsKind
from paddlex_ml.data import annotation
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset, SampleIndex
from paddlex_ml.data.loader import Loader, batches, evaluation_indices
from paddlex_ml.data.preprocess import standard
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import Evaluation, evaluate
from paddlex_ml.training import diagnostics, loop
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.interrupt import SIGTERM, Interrupt
from paddlex_ml.training.loop import fit
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.plan import Plan, Saving
from paddlex_ml.training.schedule import build_schedule
from paddlex_ml.training.state import Training

SIZE = 32
PLAN = Plan(
    epochs=3,
    batch_size=8,
    grad_accum_steps=1,
    images=24,
    order=lambda epoch: np.random.default_rng([7, epoch]).permutation(24),
    schedule=build_schedule("cosine", 5e-3, epochs=3, steps_per_epoch=3, warmup_epochs=0.5),
    seed=7,
    loss_fn=asymmetric_loss,
    log_interval=2,
)
SPEED = ("images_per_second", "data_wait", "memory_mib", "seconds")  # differ from run to run


class Tiny(paddle.nn.Layer):
    """A model with all that a resume must restore: batch norm, dropout, a frozen parameter."""

    def __init__(self, *, random: bool = True) -> None:
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 8, 4, stride=4)
        self.norm = paddle.nn.BatchNorm2D(8) if random else paddle.nn.Identity()
        self.dropout = paddle.nn.Dropout(0.3 if random else 0.0)
        self.frozen = self.create_parameter([8])
        self.frozen.stop_gradient = True
        self.fc = paddle.nn.Linear(8, 3)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        features = paddle.nn.functional.relu(self.norm(self.conv(images))).mean([2, 3])
        return self.fc(self.dropout(features) + self.frozen)


def new_training(build: Callable[[], paddle.nn.Layer] = Tiny, decay: float = 0.8) -> Training:
    paddle.seed(3)
    model = build()
    return Training(
        ModelInfo("tiny", ["red", "green", "blue"], SIZE),
        model,
        build(),
        Ema(model, decay),
        build_optimizer(model, weight_decay=1e-4),
        paddle.amp.GradScaler(enable=False),
        {"Global.seed": 7},
    )


@pytest.fixture(scope="module")
def data(toy: Path) -> tuple[MultiLabelDataset, MultiLabelDataset]:
    """24 augmented training images, 12 plain ones to evaluate on."""
    lists = annotation.read(toy)
    augmentation = Augmentation(seed=7, cutout=0.5, randaugment=True)
    train = MultiLabelDataset(lists.train, standard(SIZE), augmentation)
    return train, MultiLabelDataset(lists.val, standard(SIZE))


@pytest.fixture
def train(data: tuple[MultiLabelDataset, MultiLabelDataset], tmp_path: Path) -> Callable[..., None]:
    """Runs `fit` on the toy data set; images, loss, output and interrupt can be replaced."""

    def run(training: Training, plan: Plan = PLAN, **other: Any) -> None:
        images = other.get("train", data[0]), other.get("val", data[1])
        loaders = [Loader(each, other.get("workers", 0)) for each in images]
        with closing(loaders[0]), closing(loaders[1]):
            fit(
                training,
                replace(plan, loss_fn=other.get("loss", plan.loss_fn)),
                loaders[0],
                loaders[1],
                other.get("output", tmp_path / "output"),
                other.get("interrupt", Interrupt()),
            )

    return run


def state(training: Training) -> dict[str, Any]:
    """All that decides about the numbers, as arrays and plain values."""
    saved = training.snapshot()
    arrays = {**saved.weights, **{f"ema/{k}": v for k, v in saved.ema.items()}}
    arrays |= saved.optimizer["moments"]
    history = [
        {k: v for k, v in row.items() if k not in SPEED} for row in saved.progress["history"]
    ]
    return {"arrays": arrays, "history": history, "best": saved.progress["best"]}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["history"] == expected["history"]
    assert found["best"] == expected["best"]
    assert found["arrays"].keys() == expected["arrays"].keys()
    different = [
        name
        for name, value in expected["arrays"].items()
        if not np.array_equal(found["arrays"][name], value)
    ]
    assert different == []


@pytest.fixture(scope="module")
def unbroken(
    data: tuple[MultiLabelDataset, MultiLabelDataset], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Three epochs without a stop."""
    training = new_training()
    train, val = (Loader(images, 0) for images in data)
    fit(training, PLAN, train, val, tmp_path_factory.mktemp("run"), Interrupt())
    return state(training)


def resumed(folder: Path) -> Training:
    training = new_training()
    paddle.seed(12345)  # whatever happened before in this process must not matter
    training.restore(checkpoint.load(folder))
    return training


def test_the_unbroken_run_learned_and_used_every_kind_of_state(unbroken: dict[str, Any]) -> None:
    losses = [row["loss"] for row in unbroken["history"]]
    assert losses[2] < losses[0]
    assert np.ptp(unbroken["arrays"]["norm._mean"]) > 0
    assert "conv.weight/moment1_0" in unbroken["arrays"]
    ema, raw = (unbroken["arrays"][name] for name in ("ema/fc.weight", "fc.weight"))
    assert 1e-6 < np.abs(ema - raw).max() < 1


def stop_at_step(number: int, interrupt: Interrupt) -> Callable[..., paddle.Tensor]:
    """A loss that notes SIGTERM in its `number`-th call."""
    calls = []

    def loss(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        calls.append(1)
        if len(calls) == number:
            interrupt.signal = SIGTERM
        return asymmetric_loss(logits, targets)

    return loss


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 5, 6, 9])
def test_a_run_stopped_at_any_step_ends_bit_for_bit_like_the_unbroken_one(
    train: Callable[..., None],
    unbroken: dict[str, Any],
    tmp_path: Path,
    step: int,
    workers: int,
) -> None:
    interrupt = Interrupt()
    training = new_training()
    stopping = stop_at_step(step, interrupt)
    train(training, loss=stopping, interrupt=interrupt, workers=workers)
    assert training.progress.epoch * 3 + training.progress.step == step
    training = resumed(tmp_path / "output" / "latest")
    train(training, workers=workers)
    assert_same(state(training), unbroken)


def test_a_run_stopped_again_and_again_ends_like_the_unbroken_one(
    train: Callable[..., None], unbroken: dict[str, Any], tmp_path: Path
) -> None:
    training = new_training()
    for _ in range(9):
        interrupt = Interrupt()
        train(training, loss=stop_at_step(1, interrupt), interrupt=interrupt)
        training = resumed(tmp_path / "output" / "latest")
    train(training)
    assert_same(state(training), unbroken)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_every_epochs_folder_can_be_resumed(
    train: Callable[..., None], unbroken: dict[str, Any], tmp_path: Path, epoch: int
) -> None:
    train(new_training())
    training = resumed(tmp_path / "output" / f"epoch_{epoch}")
    train(training, output=tmp_path / "again")
    assert_same(state(training), unbroken)


def test_a_best_model_with_averaged_weights_resumes_from_the_raw_ones(
    train: Callable[..., None], unbroken: dict[str, Any], tmp_path: Path
) -> None:
    interrupt = Interrupt()
    training = new_training()
    train(training, loss=stop_at_step(4, interrupt), interrupt=interrupt)
    checkpoint.write(tmp_path / "best_model", training.snapshot(use_ema=True))
    training = resumed(tmp_path / "best_model")
    train(training)
    assert_same(state(training), unbroken)


class StoppingImages(MultiLabelDataset):
    """Notes SIGTERM when image `number` is read."""

    interrupt: Interrupt
    number: int

    def __getitem__(self, draw: SampleIndex) -> Any:
        if draw.sample == self.number:
            self.interrupt.signal = SIGTERM
        return super().__getitem__(draw)


@pytest.mark.parametrize("number", [0, 11])
def test_a_stop_while_evaluating_repeats_the_evaluation_alone(
    train: Callable[..., None],
    data: tuple[MultiLabelDataset, MultiLabelDataset],
    unbroken: dict[str, Any],
    tmp_path: Path,
    number: int,
) -> None:
    val = StoppingImages(data[1].images, standard(SIZE))
    val.number, val.interrupt = number, Interrupt()
    training = new_training()
    train(training, val=val, interrupt=val.interrupt)
    assert (training.progress.epoch, training.progress.step) == (0, 3)
    assert training.progress.history == []
    training = resumed(tmp_path / "output" / "latest")
    train(training)
    assert_same(state(training), unbroken)


def test_two_batches_of_four_are_one_step_of_eight(train: Callable[..., None]) -> None:
    # Without batch norm and dropout: both see a batch of 4 where the other run has 8.
    build = partial(Tiny, random=False)
    whole, halves = new_training(build), new_training(build)
    train(whole)
    train(halves, replace(PLAN, batch_size=4, grad_accum_steps=2))
    for name, value in whole.model.state_dict().items():
        difference = np.abs(value.numpy() - halves.model.state_dict()[name].numpy()).max()
        assert difference < 1e-5, name  # float32 sums in another order, then Adam's division
    for row, other in zip(whole.progress.history, halves.progress.history, strict=True):
        assert row.loss == pytest.approx(other.loss, rel=1e-5)


def test_the_learning_rate_of_every_step_is_that_of_the_schedule(
    train: Callable[..., None],
) -> None:
    training = new_training()
    rates = []

    def loss(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        rates.append(training.optimizer.get_lr())  # of the step before
        return asymmetric_loss(logits, targets)

    train(training, loss=loss)
    assert rates[1:] == [PLAN.schedule.rate(step) for step in range(8)]
    assert [row.lr for row in training.progress.history] == [
        PLAN.schedule.rate(step) for step in (2, 5, 8)
    ]


def test_both_kinds_of_weights_are_evaluated_in_one_pass(
    train: Callable[..., None], data: tuple[MultiLabelDataset, MultiLabelDataset]
) -> None:
    read: list[int] = []

    class Counting(MultiLabelDataset):
        def __getitem__(self, draw: SampleIndex) -> Any:
            read.append(draw.sample)
            return super().__getitem__(draw)

    training = new_training()
    train(training, val=Counting(data[1].images, standard(SIZE)))
    assert read == 3 * list(range(12))
    assert any(row.raw_map != row.ema_map for row in training.progress.history)


def test_without_averaging_the_raw_weights_alone_are_evaluated(
    train: Callable[..., None],
) -> None:
    training = new_training(decay=0.0)
    train(training)
    assert [row.ema_map for row in training.progress.history] == [None] * 3
    assert training.progress.best is not None
    assert training.progress.best.weights == "raw"


def score_of(folder: Path, val: MultiLabelDataset) -> float:
    """mAP of the weight file in a checkpoint folder."""
    model = Tiny()
    read = weights.read(folder / f"{folder.name}.pdparams")
    model.set_state_dict(read)  # type: ignore[arg-type]
    model.eval()
    (result,) = evaluate([model], batches(val, evaluation_indices(len(val), 5), 0))
    return result.map


@pytest.mark.parametrize(("decay", "kind"), [(0.0, "raw"), (0.5, None)])
def test_the_recorded_score_is_that_of_the_saved_weights(
    train: Callable[..., None],
    data: tuple[MultiLabelDataset, MultiLabelDataset],
    tmp_path: Path,
    decay: float,
    kind: str | None,
) -> None:
    training = new_training(decay=decay)
    train(training)
    best = training.progress.best
    assert best is not None
    assert best.weights == (kind or best.weights)
    assert score_of(tmp_path / "output" / "best_model", data[1]) == best.score
    for row in training.progress.history:
        folder = tmp_path / "output" / f"epoch_{row.epoch}"
        assert score_of(folder, data[1]) == row.raw_map


def scripted(scores: Sequence[tuple[float, float]]) -> Callable[..., list[Evaluation]]:
    """An `evaluate` that gives these raw and EMA scores, one pair an evaluation."""
    coming = iter(scores)

    def evaluate(networks: Sequence[Any], feed: Any, **_: Any) -> list[Evaluation]:
        outputs = np.arange(4.0).reshape(2, 2)
        return [Evaluation(score, np.ones(2), 0.3, outputs) for score in next(coming)]

    return evaluate


def test_the_best_of_raw_and_averaged_weights_is_kept_and_later_ones_win_a_tie(
    train: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [(0.5, 0.4), (0.45, 0.6), (0.6, 0.6), (0.59, 0.1)]
    expected: list[tuple[WeightsKind, float, int]] = [
        ("raw", 0.5, 1),
        ("ema", 0.6, 2),
        ("ema", 0.6, 3),
        ("ema", 0.6, 3),
    ]
    monkeypatch.setattr(loop, "evaluate", scripted(scores))
    training = new_training()
    for epoch, (kind, score, of_epoch) in enumerate(expected, start=1):
        train(training, replace(PLAN, epochs=epoch))
        assert training.progress.best == Best(score, kind, of_epoch)
        saved = checkpoint.load(tmp_path / "output" / "best_model")
        assert (saved.use_ema, saved.progress["epoch"]) == (kind == "ema", of_epoch)
        usable = weights.read(tmp_path / "output" / "best_model" / "best_model.pdparams")
        source = saved.ema if kind == "ema" else saved.weights
        assert np.array_equal(usable["fc.weight"], source["fc.weight"])


def test_early_stopping_counts_evaluations_that_are_not_better(
    train: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = [(0.5, 0.4), (0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.5, 0.6)]  # equal is not better
    monkeypatch.setattr(loop, "evaluate", scripted(scores))
    training = new_training()
    with caplog.at_level(logging.INFO):
        train(training, replace(PLAN, epochs=10, early_stop_patience=2))
    assert training.progress.epoch == 5
    assert "stopped early: no better score in the last 2 evaluations" in caplog.messages
    again = resumed(tmp_path / "output" / "latest")
    train(again, replace(PLAN, epochs=10, early_stop_patience=2))
    assert again.progress.epoch == 5


def test_evaluations_come_at_their_interval_and_after_the_last_epoch(
    train: Callable[..., None],
) -> None:
    training = new_training()
    train(training, replace(PLAN, epochs=5, eval_interval=2))
    evaluated = [row.epoch for row in training.progress.history if row.raw_map is not None]
    assert evaluated == [2, 4, 5]


def test_epoch_folders_come_at_their_interval_and_after_the_last_epoch(
    train: Callable[..., None], tmp_path: Path
) -> None:
    train(new_training(), replace(PLAN, epochs=5, saving=Saving(epoch_interval=2)))
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == [
        ".paddlex_ml.lock",
        "best_model",
        "epoch_2",
        "epoch_4",
        "epoch_5",
        "latest",
        "metrics.csv",
    ]


def test_a_loss_that_is_no_number_names_the_images_and_keeps_the_last_checkpoint(
    train: Callable[..., None],
    data: tuple[MultiLabelDataset, MultiLabelDataset],
    tmp_path: Path,
) -> None:
    calls = []

    def loss(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        calls.append(1)
        return asymmetric_loss(logits, targets) * (float("nan") if len(calls) == 5 else 1.0)

    training = new_training()
    with pytest.raises(PaddlexMLError, match="the loss became nan") as caught:
        train(training, loss=loss)
    (draws,) = PLAN.epoch_steps(1)[1]
    paths = [str(data[0].images.path(draw.sample)) for draw in draws]
    assert caught.value.what.splitlines()[1:] == [f"    {path}" for path in paths]
    assert "Train.learning_rate" in caught.value.fix
    saved = checkpoint.load(tmp_path / "output" / "latest")
    assert (saved.progress["epoch"], saved.progress["step"]) == (1, 0)
    assert all(np.isfinite(value).all() for value in training.snapshot().weights.values())


class Dead(Tiny):
    """Says the same for every image."""

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return super().forward(images * 0)


def test_scores_that_are_all_equal_are_reported_with_the_likely_cause(
    train: Callable[..., None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "JUDGED", 3)  # updates of an epoch
    train(new_training(Dead), replace(PLAN, epochs=1))
    assert "the scores no longer differ between images" in caplog.text
    assert "try -o Train.learning_rate=5e-04" in caplog.text


def test_each_epoch_ends_with_one_line_of_both_scores(
    train: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    training = new_training()
    with caplog.at_level(logging.INFO):
        train(training, replace(PLAN, epochs=1))
    (row,) = training.progress.history
    (line,) = [text for text in caplog.messages if text.startswith("[Epoch ")]
    assert line.startswith(
        f"[Epoch 1/1] loss {row.loss:.2f} mAP raw {row.raw_map:.4f}, "
        f"ema {row.ema_map:.4f} (constant predictor 0."
    )
    assert line.endswith(", best so far")


def test_workers_that_die_of_the_same_signal_are_no_error() -> None:
    def feed() -> Iterator[Any]:
        yield None, None
        raise PaddlexMLError("a worker was killed", where="the loader", fix="none")

    interrupt = Interrupt()
    assert list(loop._while_readable(feed(), interrupt)) == [(None, None)]
    with pytest.raises(PaddlexMLError, match="a worker was killed"):
        interrupt.raise_error(is_saved=True)
    interrupt = Interrupt()
    interrupt.signal = SIGTERM
    assert list(loop._while_readable(feed(), interrupt)) == [(None, None)]
    assert interrupt.error is None
    interrupt.raise_error(is_saved=True)  # a signal is no error


def test_a_resumed_run_continues_the_metrics_file_without_gaps_or_doubles(
    train: Callable[..., None], tmp_path: Path
) -> None:
    plan = replace(PLAN, epochs=5, eval_interval=2)
    interrupt = Interrupt()
    train(new_training(), plan, loss=stop_at_step(8, interrupt), interrupt=interrupt)
    train(resumed(tmp_path / "output" / "latest"), plan)
    text = (tmp_path / "output" / "metrics.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("2", "6"), ("4", "12"), ("5", "15")]
    seconds = [float(row["seconds"]) for row in rows]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
