# SPDX-License-Identifier: Apache-2.0
"""Mode train: yaml -> config -> data -> model -> loss -> optimizer -> weights, on one page."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import paddle

from paddlex_ml import checkpoint, devices, fetch
from paddlex_ml.checkpoint import Card
from paddlex_ml.config.load import dump
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset
from paddlex_ml.engines.train_result import describe
from paddlex_ml.environment import usable_cores
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.export import save_static
from paddlex_ml.files import write_text
from paddlex_ml.losses import asymmetric_loss
from paddlex_ml.models import weights, zoo
from paddlex_ml.pictures import charts
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.interrupt import SIGTERM, Interrupt
from paddlex_ml.training.loop import LossFn, Plan, Progress, Training, fit, steps_per_epoch
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.schedule import warmup_cosine

logger = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Train one model; returns the content of train_result.json."""
    device = devices.select(config.Global.device)
    _refuse_amp_on_cpu(config, device)
    assert config.Global.dataset_dir is not None  # the configuration refuses it
    dataset = annotation.read(config.Global.dataset_dir)
    _refuse_other_class_count(config, dataset)
    output = config.Global.output
    _fetch_start(config)
    with Interrupt() as interrupt, _log_file(output / "train.log"):
        training, plan = prepare(config, dataset)
        write_text(output / "config.yaml", dump(config))
        annotation.write_labels(output / "label_dict.txt", dataset.label_names)
        fit(
            training,
            plan,
            _loss(config),
            *_datasets(config, dataset),
            output,
            interrupt,
        )
        difference = None
        if training.progress.best is not None and interrupt.signal != SIGTERM:
            difference = export_best(training, output)
            charts.curves(output / "curves.png", training.progress.history)
    if interrupt.signal is not None:
        raise Stopped(interrupt.signal)
    return describe(training.card, training.progress, difference, output)


def prepare(config: Config, dataset: MLClsDataset) -> tuple[Training, Plan]:
    """Build the model and all that changes with it, new or from Train.resume_path."""
    train = config.Train
    card = Card(
        config.Global.model,
        dataset.label_names,
        train.image_size,
        zoo.choose_tokens(config.Global.model, train.decoder_tokens),
    )
    paddle.seed(config.Global.seed)
    model = zoo.build(card.model, len(card.label_names), tokens=card.decoder_tokens)
    resumed_from, resumed = _read_resumed(config, card)
    if resumed is None and train.pretrain_weight_path is not None:
        _load_pretrained(model, card.model, train.pretrain_weight_path)
    optimizer = build_optimizer(
        model,
        weight_decay=train.weight_decay,
        lr_mult=partial(zoo.find(card.model).lr_mult, head=train.head_lr_mult),
    )
    averaged = zoo.build(card.model, len(card.label_names), tokens=card.decoder_tokens)
    scaler = paddle.amp.GradScaler(enable=train.amp != "OFF")
    if train.amp == "O2":
        paddle.amp.decorate(models=model, optimizers=optimizer, level="O2", master_weight=True)
    training = Training(
        card, model, averaged, Ema(model, train.ema_decay), optimizer, scaler, settings(config)
    )
    plan = _plan(config, len(dataset.train))
    if resumed_from is not None and resumed is not None:
        training.restore(resumed)
        _report_resume(training, resumed.settings)
        _recover_best(training, resumed_from, config)
    return training, plan


def export_best(training: Training, output: Path) -> float:
    """Export the weights that earned the best score; returns the static graph's difference."""
    folder = output / "best_model"
    best = weights.read(folder / "best_model.pdparams")
    for name, value in training.averaged.state_dict().items():
        value.set_value(best[name])
    return save_static(
        training.averaged,
        model_name=training.card.model,
        label_names=training.card.label_names,
        image_size=training.card.image_size,
        decoder_tokens=training.card.decoder_tokens,
        folder=folder / "inference",
    )


def settings(config: Config) -> dict[str, Any]:
    """What a resumed run must share with the first for equal numbers: key -> plain value."""
    train = config.Train
    return {
        "Global.seed": config.Global.seed,
        "Train.epochs_iters": train.epochs_iters,
        "Train.batch_size": train.batch_size,
        "Train.learning_rate": train.learning_rate,
        "Train.head_lr_mult": train.head_lr_mult,
        "Train.warmup_steps": train.warmup_steps,
        "Train.ema_decay": train.ema_decay,
        "Train.amp": train.amp,
        "Train.grad_accum_steps": train.grad_accum_steps,
        "Train.weight_decay": train.weight_decay,
        "Train.loss.gamma_neg": train.loss.gamma_neg,
        "Train.loss.gamma_pos": train.loss.gamma_pos,
        "Train.loss.clip": train.loss.clip,
        "Train.augment.cutout": train.augment.cutout,
        "Train.augment.randaugment": train.augment.randaugment,
        "Train.augment.flip": train.augment.flip,
        "Train.eval_interval": train.eval_interval,
    }


def _plan(config: Config, images: int) -> Plan:
    train = config.Train
    schedule = warmup_cosine(
        train.learning_rate,
        epochs=train.epochs_iters,
        steps_per_epoch=steps_per_epoch(images, train.batch_size, train.grad_accum_steps),
        warmup_epochs=train.warmup_steps,
    )
    return Plan(
        epochs=train.epochs_iters,
        batch_size=train.batch_size,
        grad_accum_steps=train.grad_accum_steps,
        schedule=schedule,
        seed=config.Global.seed,
        num_workers=usable_cores() if train.num_workers is None else train.num_workers,
        log_interval=train.log_interval,
        eval_interval=train.eval_interval,
        save_interval=train.save_interval,
        early_stop_patience=train.early_stop_patience,
        amp=train.amp,
    )


def _datasets(config: Config, dataset: MLClsDataset) -> tuple[MultiLabelDataset, MultiLabelDataset]:
    augment = config.Train.augment
    changes = Augmentation(config.Global.seed, augment.cutout, augment.randaugment, augment.flip)
    size = config.Train.image_size
    return MultiLabelDataset(dataset.train, size, changes), MultiLabelDataset(dataset.val, size)


def _loss(config: Config) -> LossFn:
    loss = config.Train.loss
    return partial(
        asymmetric_loss, gamma_neg=loss.gamma_neg, gamma_pos=loss.gamma_pos, clip=loss.clip
    )


def _fetch_start(config: Config) -> None:
    """Fetch the weights to start from, if need be, while a signal still ends the command."""
    text = config.Train.pretrain_weight_path
    if text is not None and fetch.is_url(text) and config.Train.resume_path is None:
        _locate_start(text)


def _locate_start(text: str) -> Path:
    return weights.locate(text, "Train.pretrain_weight_path", null="trains from random weights")


def _load_pretrained(model: paddle.nn.Layer, name: str, text: str) -> None:
    if not fetch.is_url(text):
        checkpoint.settle(Path(text).resolve().parent)
    path = _locate_start(text)
    fitted = weights.fit(model, weights.read(path), head=zoo.find(name).head, where=str(path))
    total = len(fitted.loaded) + len(fitted.missing)
    logger.info("loaded %d of %d entries from %s", len(fitted.loaded), total, path)
    for entry, reason in fitted.skipped.items():
        logger.info("  left out %s: %s", entry, reason)
    if fitted.missing:
        logger.info("  random start: %s", _shorten(fitted.missing))


def _shorten(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _read_resumed(
    config: Config, card: Card
) -> tuple[Path, checkpoint.Checkpoint] | tuple[None, None]:
    """The checkpoint of Train.resume_path, and its folder."""
    key = "Train.resume_path"
    if config.Train.resume_path is None:
        return None, None
    folder = checkpoint.find_folder(config.Train.resume_path, key)
    saved = checkpoint.load(folder)
    for what in ("model", "image_size", "label_names", "decoder_tokens"):
        was, now = getattr(saved.card, what), getattr(card, what)
        if was != now:
            raise PaddlexMLError(
                f"the checkpoint has {what} {was}, this run has {now}",
                where=str(folder),
                fix=f"-o Train.{what}={was}, or start anew: -o {key}=null"
                if what in ("image_size", "decoder_tokens")
                else f"resume with the same data set and model, or start anew: -o {key}=null",
            )
    return folder, saved


def _report_resume(training: Training, before: Mapping[str, Any]) -> None:
    progress = training.progress
    logger.info("resumed after %d epochs and %d steps", progress.epoch, progress.step)
    for key, now in training.settings.items():
        if key in before and before[key] != now:
            logger.warning(
                "%s was %s before the stop and is %s now: the numbers will differ from those of "
                "an unbroken run",
                key,
                before[key],
                now,
            )


def _recover_best(training: Training, resumed_from: Path, config: Config) -> None:
    """Make sure that best_model holds the best that the checkpoint speaks of.

    In a new output folder it is copied from beside the checkpoint. Raises PaddlexMLError when it is
    lost and no epoch is left to find a new one.
    """
    progress = training.progress
    here = config.Global.output / "best_model"
    for folder in (here, resumed_from.parent / "best_model"):
        if progress.best is not None and _is_record_of(progress, folder):
            if folder is not here:
                checkpoint.write(here, checkpoint.load(folder))
            return
    if progress.best is not None:
        logger.warning(
            "%s does not hold the best model of the resumed run (mAP %.4f, epoch %d): the next "
            "evaluation begins a new count",
            here,
            progress.best["score"],
            progress.best["epoch"],
        )
    progress.best, progress.evaluations_since_best = None, 0
    if progress.epoch >= config.Train.epochs_iters:
        raise PaddlexMLError(
            f"all {progress.epoch} epochs are done and their best model is not there",
            where=str(resumed_from.parent / "best_model"),
            fix=f"put that folder back, or train on: -o Train.epochs_iters={progress.epoch + 1}",
        )


def _is_record_of(progress: Progress, folder: Path) -> bool:
    """Whether `folder` holds the best of this very run: another may have the same score."""
    record = checkpoint.read_progress(folder)
    if record is None or progress.best is None:
        return False
    past = progress.history[: progress.best["epoch"]]
    return bool(record["best"] == progress.best and record["history"] == past)


def _refuse_amp_on_cpu(config: Config, device: str) -> None:
    if config.Train.amp != "OFF" and device == "cpu":
        raise PaddlexMLError(
            f"mixed precision ({config.Train.amp}) needs a GPU; this run is on the CPU",
            where="Train.amp",
            fix="-o Train.amp=OFF",
        )


def _refuse_other_class_count(config: Config, dataset: MLClsDataset) -> None:
    wanted = config.Train.num_classes
    if wanted is not None and wanted != len(dataset.label_names):
        raise PaddlexMLError(
            f"Train.num_classes is {wanted}, label.txt names {len(dataset.label_names)} classes",
            where=str(dataset.root / "label.txt"),
            fix="-o Train.num_classes=null takes the number from label.txt",
        )


class _LogFile(logging.FileHandler):
    """A log that says nothing when its disk is full: what must be saved there will."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Send the package's log to `path` as well; a resumed run adds to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%Y-%m-%d %H:%M:%S"))
    package = logging.getLogger("paddlex_ml")
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        with suppress(OSError):  # lines that found no room
            handler.close()
