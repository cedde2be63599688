# SPDX-License-Identifier: Apache-2.0
"""Mode train: yaml -> config -> data -> model -> loss -> optimizer -> weights, on one page."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import NamedTuple

import msgspec

from paddlex_ml import devices
from paddlex_ml.artifacts import weights
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.train_result import TrainResult
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines import tracked_run
from paddlex_ml.engines.plan import batch_size
from paddlex_ml.engines.train import (
    build,
    changed_lists,
    preflight,
    pretrained,
    resume,
    start,
    teachers,
)
from paddlex_ml.engines.train.plan import build_loaders, prepare_lists
from paddlex_ml.engines.train.result import build_result, draw_curves
from paddlex_ml.engines.train.resume import Beginning
from paddlex_ml.errors import Stopped
from paddlex_ml.export.static import save_static
from paddlex_ml.metrics.average_precision import constant_predictor_map
from paddlex_ml.progress import named
from paddlex_ml.storage.files import set_link_aside
from paddlex_ml.terminal import SafeFormatter
from paddlex_ml.tracking import tracker
from paddlex_ml.training import precision
from paddlex_ml.training.interrupt import SIGINT, Interrupt
from paddlex_ml.training.loop import fit
from paddlex_ml.training.saving import Keeper
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)


class TrainJob(NamedTuple):
    """What every process of a training gets."""

    config: Config
    beginning: Beginning
    command: list[str]
    """As it was typed: a process that this one starts has a command of its own."""


def run(config: Config) -> TrainResult | None:
    """Train one model; None on machines other than the first, which has the result."""
    options, device = config.Train, devices.find(config.Global.device)
    precision.choose(options.amp, options.amp_dtype, device.first)  # refuses early what it cannot
    tracker.require(options.trackers)
    beginning = resume.choose(config)
    if beginning.resume is None:
        start.fetch_weights(config)
    teachers.check(config)
    if options.batch_size == "auto":
        config = batch_size.give_number(config, device, beginning)
    job = TrainJob(config, beginning, [*sys.orig_argv])
    result: TrainResult | None = launch.run(train_model, job, device, options.dist_ips)
    return result


def train_model(job: TrainJob, group: ProcessGroup) -> TrainResult | None:
    """The training itself, in one process or in each of several; None except in the main one."""
    config = job.config
    assert config.Global.dataset_dir is not None  # the configuration refuses None
    dataset = annotation.read(config.Global.dataset_dir, soft_labels=config.Train.soft_labels)
    build.refuse_unfit_lists(config, dataset, group)
    output, files = config.Global.output, RunFolder(config.Global.output)
    opened = start.read(config, job.beginning, dataset)
    with (
        Interrupt(group) as interrupt,
        _log_file(files.train_log, group) as open_log,
        ExitStack() as stack,
    ):
        dataset = prepare_lists(config, dataset, group)
        build.load_kernels(config, opened.info.model)
        training, plan = build.prepare(config, dataset, opened, group)
        train_loader, val_loader = build_loaders(config, dataset, group)
        with closing(train_loader), closing(val_loader):
            train_loader.begin(plan.batches_left(training.progress))
            if group.is_main:
                preflight.check(training, output, plan)
            start.open_folder(config, opened, job.beginning, training, group, command=job.command)
            open_log()
            tracked = stack.enter_context(tracked_run.observe(config, training, plan, interrupt))
            plan = replace(plan, scalars=tracked.log)
            if opened.saved is not None:
                changed_lists.adopt(training, opened.saved, plan, val_loader, output)
                if job.beginning.goes_on_in(output):
                    Keeper(output, plan).complete_epoch(training)
            pretrained.evaluate_start(training, plan, val_loader, interrupt)
            fit(training, plan, train_loader, val_loader, output, interrupt)
        result = None
        has_time = interrupt.signal in (None, SIGINT)  # who sends another signal waits seconds
        if group.is_main and training.progress.best is not None and has_time:
            difference = export_best(training, output)
            draw_curves(files.curves, msgspec.to_builtins(training.progress.history))
            result = build_result(
                training.info,
                training.progress,
                output,
                difference=difference,
                constant=constant_predictor_map(dataset.val.targets),
            )
            is_whole = interrupt.signal is None
            tracked_run.upload_training(
                tracked, training.progress, output, result if is_whole else None
            )
    if interrupt.signal is not None:
        raise Stopped(interrupt.signal)
    return result


@named("exporting the best model, and comparing its scores")
def export_best(training: Training, output: Path) -> float:
    """Export the weights with the best score; returns how far scores of the static model differ."""
    files = RunFolder(output).best_model
    best = weights.read(files.weights)
    for name, value in training.averaged.state_dict().items():
        value.set_value(best[name].astype(str(value.numpy().dtype)))
    return save_static(training.averaged, training.info, files.inference.folder)


class _LogFile(logging.FileHandler):
    """A log that ignores a full disk: files that must be written there report it."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


@contextmanager
def _log_file(path: Path, group: ProcessGroup) -> Iterator[Callable[[], None]]:
    """Write the package's log to `path` too; a resumed run appends to it.

    Yields the function that opens the file, when the folder is that of this run: until then lines
    are kept, and a run that is refused leaves none.
    """
    if not group.is_main:
        yield lambda: None
        return
    package, kept = logging.getLogger("paddlex_ml"), MemoryHandler(10**6, logging.CRITICAL + 1)
    package.addHandler(kept)

    def open_log() -> None:
        set_link_aside(path)
        handler = _LogFile(path, encoding="utf-8")
        handler.setFormatter(SafeFormatter("[%(asctime)s] %(message)s", "%Y-%m-%d %H:%M:%S"))
        kept.setTarget(handler)
        kept.capacity = 1  # from now on each line is written at once

    try:
        yield open_log
    finally:
        package.removeHandler(kept)
        target = kept.target
        with suppress(OSError):  # the disk is full
            kept.close()
        if target is not None:
            with suppress(OSError):
                target.close()
