# SPDX-License-Identifier: Apache-2.0
"""Mode train: yaml -> config -> data -> model -> loss -> optimizer -> weights, on one page."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import paddle

from paddlex_ml import devices
from paddlex_ml.artifacts import weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config.load import dump
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train import plan as train_plan
from paddlex_ml.engines.train import start
from paddlex_ml.engines.train.result import describe
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.export.static import save_static
from paddlex_ml.metrics.average_precision import constant_predictor_map
from paddlex_ml.models import zoo
from paddlex_ml.pictures import plots
from paddlex_ml.storage.files import write_text
from paddlex_ml.training import diagnostics, events, precision
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.interrupt import SIGTERM, Interrupt
from paddlex_ml.training.loop import fit, global_step
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.recompute import recompute_blocks
from paddlex_ml.training.state import Training
from paddlex_ml.training.sync_batch_norm import synchronise

logger = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Train one model; returns the content of train_result.json."""
    device = devices.find(config.Global.device)
    precision.choose(config.Train.amp, config.Train.amp_dtype, device.first)  # or refuse, early
    if config.Train.tensorboard:
        events.require_package()
    start.finish_interrupted(config)
    result: dict[str, Any] = launch.run(train, config, device, config.Train.dist_ips)
    return result


def train(config: Config, group: ProcessGroup) -> dict[str, Any]:
    """The training itself, in one process or in each of several."""
    assert config.Global.dataset_dir is not None  # the configuration refuses it
    dataset = annotation.read(config.Global.dataset_dir)
    _refuse_other_class_count(config, dataset)
    _refuse_few_images(dataset, group)
    output = config.Global.output
    files = RunFolder(output)
    with (
        Interrupt(group) as interrupt,
        _log_file(files.train_log, group),
        ExitStack() as stack,
    ):
        training, plan = prepare(config, dataset, group)
        if config.Train.tensorboard and group.is_main:
            begin = global_step(training.progress, plan)
            tell = stack.enter_context(events.writing(files.events, begin))
            plan = replace(plan, scalars=tell)
        for text in diagnostics.of_lists(
            dataset.label_names, dataset.train.targets, dataset.val.targets
        ):
            logger.warning(text)
        train_loader, val_loader = train_plan.loaders(config, dataset, group)
        if group.is_main:
            write_text(files.config_yaml, dump(config))
            annotation.write_labels(files.label_dict, dataset.label_names)
        with closing(train_loader), closing(val_loader):
            fit(training, plan, train_loader, val_loader, output, interrupt)
        difference = None
        if group.is_main and training.progress.best is not None and interrupt.signal != SIGTERM:
            difference = export_best(training, output)
            plots.curves(files.curves, training.progress.history)
    if interrupt.signal is not None:
        raise Stopped(interrupt.signal)
    if not group.is_main:
        return {}
    return describe(
        training.info,
        training.progress,
        output,
        static_difference=difference,
        constant_map=constant_predictor_map(dataset.val.targets),
    )


def prepare(config: Config, dataset: MLClsDataset, group: ProcessGroup) -> tuple[Training, Plan]:
    """Build the model and all that changes with it, new or from Train.resume_path."""
    train = config.Train
    info = ModelInfo(
        config.Global.model,
        dataset.label_names,
        train.image_size,
        zoo.choose_tokens(config.Global.model, train.decoder_tokens),
    )
    paddle.seed(config.Global.seed)
    model = zoo.build(info.model, len(info.label_names), tokens=info.decoder_tokens)
    resumed_from, resumed = start.read_resumed(config, info)
    if resumed is None and train.pretrain_weight_path is not None:
        start.load_pretrained(model, info.model, train.pretrain_weight_path)
    averaged = zoo.build(info.model, len(info.label_names), tokens=info.decoder_tokens)
    device = paddle.device.get_device()
    if train.sync_bn:
        model = synchronise(model, group, on_gpu=device != "cpu")
    optimizer = build_optimizer(
        model,
        weight_decay=train.weight_decay,
        lr_mult=partial(
            zoo.find(info.model).lr_mult,
            head=train.head_lr_mult,
            backbone=train.backbone_lr_mult,
        ),
        clip_norm=train.grad_clip_norm,
    )
    computing = precision.choose(train.amp, train.amp_dtype, device)
    computing.decorate(model, optimizer)
    if train.recompute:
        recompute_blocks(model)
    training = Training(
        info,
        model,
        averaged,
        Ema(model, train.ema_decay),
        optimizer,
        computing.scaler(),
        train_plan.fingerprint(config, group),
    )
    if resumed_from is not None and resumed is not None:
        training.restore(resumed)
        start.report_resume(training, resumed.fingerprint)
        start.recover_best(training, resumed_from, config, group)
    return training, train_plan.compose(config, dataset, model, computing, group)


def export_best(training: Training, output: Path) -> float:
    """Export the weights that earned the best score; returns the static graph's difference."""
    files = RunFolder(output).best_model
    best = weights.read(files.weights)
    for name, value in training.averaged.state_dict().items():
        value.set_value(best[name])
    return save_static(training.averaged, training.info, files.inference.folder)


def _refuse_other_class_count(config: Config, dataset: MLClsDataset) -> None:
    wanted = config.Train.num_classes
    if wanted is not None and wanted != len(dataset.label_names):
        raise PaddlexMLError(
            f"Train.num_classes is {wanted}, label.txt names {len(dataset.label_names)} classes",
            where=str(dataset.root / annotation.LABEL_FILE),
            fix="-o Train.num_classes=null takes the number from label.txt",
        )


def _refuse_few_images(dataset: MLClsDataset, group: ProcessGroup) -> None:
    if len(dataset.train) < group.size:
        raise PaddlexMLError(
            f"{len(dataset.train)} images cannot be shared by {group.size} processes",
            where=str(dataset.root / annotation.TRAIN_FILE),
            fix="-o Global.device=auto trains in one process",
        )


class _LogFile(logging.FileHandler):
    """A log that says nothing when its disk is full: what must be saved there will."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def _log_file(path: Path, group: ProcessGroup) -> Iterator[None]:
    """Send the package's log to `path` as well; a resumed run adds to it."""
    if not group.is_main:
        yield
        return
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
