# SPDX-License-Identifier: Apache-2.0
"""The first steps of a training, in a process of its own: what they take in time and memory.

Everything is real: model, images, loader, optimizer, averaged weights, validation, checkpoint and
export; only the output lies in a temporary folder. The first steps, in which kernels are compiled
and memory is taken for the first time, are no part of the time of a step.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import paddle
import psutil

from paddlex_ml import machine_memory
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.data.loader import IndexBatches, Loader
from paddlex_ml.devices import Devices
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.answering_process import (
    AnsweringProcess,
    OutOfMemory,
    begin_answering,
    find_peak,
    serve_with_paddle,
)
from paddlex_ml.engines.train import build, preflight, start
from paddlex_ml.engines.train.plan import build_loaders, prepare_lists
from paddlex_ml.engines.train.result import draw_curves
from paddlex_ml.engines.train.resume import Beginning
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import Evaluation
from paddlex_ml.export.static import save_static
from paddlex_ml.storage import cache
from paddlex_ml.training import memory
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.loop import evaluate_both, train_step
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.saving import ROUNDS
from paddlex_ml.training.state import Training

TIMED_STEPS = 3
"""Steps whose time counts, at least."""
TIMED_SECONDS = 5.0
"""So long at least, where there are steps enough: short ones differ more from each other."""
STEADY_SECONDS = 10.0
"""After the first step, until batches that were prepared in advance no longer hide the loader."""
MOST_STEPS = 100
VAL_BATCHES = 3
_RESERVE = 0.04
"""Share of the memory below which a trial is ended, before the system ends anything."""
_ROW = {"epoch": 1, "loss": 1.0, "lr": 1e-3, "raw_map": 0.5, "ema_map": 0.5}
_FULL = ("ResourceExhausted", "out of memory", "OutOfMemory", "Cannot allocate memory")
"""In the words of Paddle for memory that it does not get."""

Times: TypeAlias = np.ndarray
"""Seconds on the clock, and seconds of all cores: float64 [2]."""


class TrialTask(NamedTuple):
    """What a trial does."""

    config: Config
    """With a number as batch size, and an output folder of its own."""
    device: Devices
    is_complete: bool
    """False: two steps, for their memory."""


class EpochKind(NamedTuple):
    """Epochs whose steps take the same time."""

    epochs: int
    step: Times
    """Of a whole step."""
    timed: int
    """Steps that were timed."""


class TrialFacts(NamedTuple):
    """What the lists and the plan of the training say."""

    train_images: int
    val_images: int
    classes: int
    steps: int
    """Of an epoch."""
    whole_steps: float
    """The same, where the last one counts by its images."""
    validations: int
    kept_epochs: int


class Completion(NamedTuple):
    """What a training does besides its steps."""

    first_validation: Times
    """More than that of a later one."""
    begin_validation: Times
    """The part that does not depend on the number of images."""
    per_image: Times
    score: Times
    """The interval of the mAP, of all validation images."""
    checkpoint: Times
    export: Times
    end: Times
    """The curves."""
    checkpoint_bytes: int
    best_bytes: int
    """Of the best model, which may hold both kinds of weights."""
    export_bytes: int


class TrialFindings(NamedTuple):
    """What a trial found."""

    facts: TrialFacts
    kinds: list[EpochKind]
    start: Times
    """From the start of the process to the end of the first step, less the time of a step."""
    step_mib: float
    """Most memory of the steps, of the device that computes."""
    room_mib: float | None
    """Memory of the GPU; None on a CPU."""
    memory_mib: float
    """Most memory of the main process and its workers."""
    resident_mib: float
    """Between steps."""
    gpu_mib: float | None
    completion: Completion | None = None
    warnings: Sequence[str] = ()


def run(task: TrialTask) -> TrialFindings:
    """Try a training in a process of its own.

    Raises PaddlexMLError as a training would, and OutOfMemory where it does not fit: also when
    hardly any memory of the machine is left, before the system ends a process of its choice.
    """
    with AnsweringProcess(serve_with_paddle, __name__) as process:
        process.send(task)

        def look() -> None:
            if machine_memory.available() < _RESERVE * machine_memory.total():
                process.kill()
                raise OutOfMemory(
                    "the training takes all memory", where=machine_memory.describe(),
                    fix="free memory, or train with a smaller -o Train.batch_size",
                )  # fmt: skip

        report: TrialFindings = process.receive(TrialFindings, look)
    return report


def serve(connection: Connection, task: TrialTask) -> None:
    """Measure, and send the report or the error."""
    warnings = begin_answering()
    reply: TrialFindings | BaseException
    try:
        report: TrialFindings = launch.run(measure, task, task.device, None)
        reply = report._replace(warnings=warnings)
    except PaddlexMLError as error:
        reply = error
    except Exception as error:
        known = cache.explain(error) if isinstance(error, OSError) else None
        reply = known or RuntimeError(f"the trial failed:\n{traceback.format_exc()}")
        if isinstance(error, MemoryError) or any(words in str(error) for words in _FULL):
            reply = OutOfMemory(
                "memory does not hold a step of this training", where=machine_memory.describe(),
                fix="train with a smaller -o Train.batch_size",
            )  # fmt: skip
    with suppress(BrokenPipeError, ConnectionResetError):  # the parent has enough
        connection.send(reply)


def measure(task: TrialTask, group: ProcessGroup) -> TrialFindings | None:
    """The trial, in one process or in each of several; None except in the main one."""
    config = task.config
    assert config.Global.dataset_dir is not None  # the configuration refuses None
    dataset = annotation.read(config.Global.dataset_dir, soft_labels=config.Train.soft_labels)
    build.refuse_unfit_lists(config, dataset, group)
    opened = start.read(config, Beginning(), dataset)
    with Interrupt(group) as interrupt, ExitStack() as stack:
        dataset = prepare_lists(config, dataset, group)
        training, plan = build.prepare(config, dataset, opened, group)
        if task.is_complete and group.is_main:
            preflight.check(training, config.Global.output, plan)
        loaders = build_loaders(config, _with_few(dataset, plan), group)
        for loader in loaders:
            stack.enter_context(closing(loader))
        kinds, began = list[EpochKind](), np.zeros(2)
        for epoch, epochs in _list_epochs(config)[: None if task.is_complete else 1]:
            steps = _Steps(training, plan, loaders[0], epoch)
            steps.take(is_timed=task.is_complete)
            began = began if kinds else np.maximum(steps.first - steps.mean, 0)
            kinds.append(EpochKind(epochs, steps.mean, steps.timed))
        gpu, peak, resident = memory.gpu_mib(), _find_tree_peak(), memory.resident_mib()
        report = TrialFindings(
            _find_facts(dataset, plan),
            kinds,
            start=began,
            step_mib=peak if gpu is None else gpu,
            room_mib=None if gpu is None else _find_gpu_room(),
            memory_mib=peak,
            resident_mib=resident,
            gpu_mib=gpu,
        )
        if task.is_complete:
            output = config.Global.output
            completion = _complete(training, plan, loaders[1], dataset, interrupt, output)
            # What a validation and a checkpoint leave behind is there in the next epoch.
            _Steps(training, plan, loaders[0], plan.epochs - 1).take(is_timed=False)
            report = report._replace(
                completion=completion,
                memory_mib=max(peak, _find_tree_peak()),
                resident_mib=max(resident, memory.resident_mib()),
                gpu_mib=memory.gpu_mib(),
            )
        return report if group.is_main else None


def clock() -> Times:
    """Seconds since this process began, and seconds of all cores that it and its workers took."""
    own = psutil.Process()
    processor = sum(own.cpu_times()[:2])
    for child in own.children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            processor += sum(child.cpu_times()[:2])
    return np.array([time.time() - own.create_time(), processor])


class _Steps:
    """Steps of a training, as an epoch does them, and their time."""

    def __init__(self, training: Training, plan: Plan, loader: Loader, epoch: int) -> None:
        self._training, self._plan, self._loader, self._epoch = training, plan, loader, epoch
        self.first: Times = np.zeros(2)
        """When the first step had ended."""
        self.timed = 0
        """Steps whose time counts: the last ones."""
        self.mean: Times = np.zeros(2)
        """Of them."""

    def take(self, *, is_timed: bool) -> None:
        """Do the steps; without `is_timed` two of them, of which the second one counts."""
        plan, training, progress = self._plan, self._training, self._training.progress
        progress.epoch, progress.step = self._epoch, 0
        training.model.train()
        plan.begin_epoch(self._epoch)
        training.passes.begin_epoch()
        # The same images in each phase: a cache has them then.
        drawn = [
            [[draw._replace(epoch=self._epoch) for draw in batch] for batch in step]
            for step in islice(_draw_whole_steps(plan), MOST_STEPS if is_timed else 2)
        ]
        begin, mark, steady, last = self.first, 0.0, 0, len(drawn)
        with closing(self._loader.epoch([batch for step in drawn for batch in step])) as feed:
            for done, step in enumerate(drawn, start=1):
                train_step(training, plan, list(islice(feed, len(step))), step)
                progress.step = (progress.step + 1) % plan.steps
                now = time.perf_counter()
                if done == 1:
                    self.first, mark = clock(), now
                    ahead = -(-2 * self._loader.num_workers // len(step)) if is_timed else 0
                passed = now - mark
                limit = TIMED_SECONDS if steady else STEADY_SECONDS
                (is_short,) = plan.group.all_reduce_max([float(passed < limit)])
                if not steady and (done > ahead or not is_short or done == last - TIMED_STEPS):
                    begin, mark, steady = clock(), time.perf_counter(), done
                elif done == last or (done >= steady + TIMED_STEPS and not is_short):
                    break
        self.timed = done - steady
        self.mean = (clock() - begin) / self.timed


def _draw_whole_steps(plan: Plan) -> Iterator[IndexBatches]:
    """The steps of the first epochs that have all images of a step."""
    for epoch in count():
        steps = plan.epoch_steps(epoch)
        whole = sum(plan.step_images(k) == plan.step_images(0) for k in range(plan.steps))
        yield from steps[:whole]


def _list_epochs(config: Config) -> list[tuple[int, int]]:
    """(first epoch, number of epochs) wherever steps begin to take another time.

    A cache is filled in the first epoch, and a frozen backbone learns later.
    """
    options = config.Train
    begins = {0, options.freeze_backbone_epochs, int(options.cache != "none")}
    ordered = sorted(begin for begin in begins if begin < options.epochs_iters)
    ends = [*ordered[1:], options.epochs_iters]
    return [(begin, end - begin) for begin, end in zip(ordered, ends, strict=True)]


def _with_few(dataset: MLClsDataset, plan: Plan) -> MLClsDataset:
    """The data set with some batches of its validation images, drawn by the seed."""
    order = np.random.default_rng(plan.seed).permutation(len(dataset.val))
    few = VAL_BATCHES * plan.batch_size * plan.group.size
    return replace(dataset, val=dataset.val.take(np.sort(order[:few])))


def _find_facts(dataset: MLClsDataset, plan: Plan) -> TrialFacts:
    epochs = range(1, plan.epochs + 1)
    kept = sum(map(plan.is_kept, epochs))
    return TrialFacts(
        train_images=len(dataset.train),
        val_images=len(dataset.val),
        classes=len(dataset.label_names),
        steps=plan.steps,
        whole_steps=plan.used / plan.step_images(0),
        validations=sum(map(plan.is_evaluated, epochs)),
        kept_epochs=min(kept, plan.saving.keep_last or kept),
    )


def _complete(
    training: Training,
    plan: Plan,
    loader: Loader,
    dataset: MLClsDataset,
    interrupt: Interrupt,
    output: Path,
) -> Completion:
    """Validate, save and export once, as a training does after its epochs."""

    def take(work: Callable[[], object]) -> Times:
        begin = clock()
        work()
        taken: Times = clock() - begin
        return taken

    def validate() -> None:
        evaluate_both(training, plan, loader, interrupt)

    first, second = take(validate), take(validate)
    networks = [training.model, *([training.averaged] if training.ema.decay > 0 else [])]
    begin = np.minimum(take(lambda: [plan.scoring(each) for each in networks]), second)
    targets = dataset.val.targets
    random = np.random.default_rng(0).random(targets.shape, np.float32)
    found = Evaluation(0.0, np.zeros(0), 0.0, random, targets)
    files, export = RunFolder(output), output / "export"
    saved = exported = drawn = np.zeros(2)
    score = take(lambda: found.interval(rounds=ROUNDS, seed=0))
    if plan.group.is_main:
        # As a training does: the snapshot of the best model lives on while latest is written.
        best = training.snapshot(use_ema=training.ema.decay > 0)
        checkpoint.write(files.best_model.folder, best)
        latest = files.latest.folder
        saved = take(lambda: checkpoint.write(latest, training.snapshot()))
        exported = take(lambda: save_static(training.averaged, training.info, export))
        drawn = take(lambda: draw_curves(files.curves, [_ROW]))
    return Completion(
        first_validation=np.maximum(first - second, 0),
        begin_validation=begin,
        per_image=(second - begin) / len(loader.dataset),
        score=score,
        checkpoint=saved,
        export=exported,
        end=drawn,
        checkpoint_bytes=_measure_folder(files.latest.folder),
        best_bytes=_measure_folder(files.best_model.folder),
        export_bytes=_measure_folder(export),
    )


def _measure_folder(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _find_tree_peak() -> float:
    """Most MiB that this process has had, with what its workers have now."""
    workers = memory.resident_mib() - psutil.Process().memory_info().rss / memory.MIB
    return max((find_peak() or 0) / memory.MIB + workers, memory.resident_mib())


def _find_gpu_room() -> float:
    properties = paddle.device.cuda.get_device_properties()
    return float(properties.total_memory / memory.MIB)
