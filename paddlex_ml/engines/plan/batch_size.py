# SPDX-License-Identifier: Apache-2.0
"""The largest batch size whose training fits in memory: tried, each in a process of its own."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from paddlex_ml import machine_memory, paddle_runtime
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.config import shipped
from paddlex_ml.config.schema import BATCH_SIZE, Config
from paddlex_ml.config.validation import override, with_value
from paddlex_ml.data import annotation
from paddlex_ml.devices import Devices
from paddlex_ml.distributed import addresses
from paddlex_ml.engines.answering_process import OutOfMemory
from paddlex_ml.engines.plan import trial
from paddlex_ml.engines.plan.trial import TrialFindings, TrialTask
from paddlex_ml.engines.train.resume import Beginning
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import named
from paddlex_ml.storage import cache, fetch, temporary
from paddlex_ml.training.memory import MIB
from paddlex_ml.wording import count

KEY = "Train.batch_size"
SIZES = tuple(sorted({size for k in range(12) for size in (2**k, 3 * 2**k)}))
"""That are tried: each is 1.3 to 1.5 times the one before."""
STEPS = 20
"""Of an epoch, that `auto` leaves where the shipped size does: fewer updates teach less."""
LONGEST_STEP = 20.0
"""Seconds of a step above which larger batches are not tried."""
FARTHEST = 8
"""Times the largest size that is known: no line is trusted as far as that."""
_SHARE = 0.9
"""Of the free memory that a training may take: images differ, and other programs live too."""

logger = logging.getLogger(__name__)


class Largest(NamedTuple):
    """The largest batch size that fits."""

    size: int
    limited_by: str
    """"memory", "images" or "time"."""


class Trials:
    """Tries batch sizes of one training, and remembers what was found."""

    def __init__(self, config: Config, device: Devices, folder: Path) -> None:
        """folder: empty, for what the trials write."""
        self.reports: dict[int, TrialFindings | None] = {}
        """None: the training did not fit, or failed."""
        self.notes: list[str] = []
        self.free_mib = machine_memory.available() / MIB
        """Of the machine, before the first trial."""
        self._device, self._processes = device, len(device.numbers)
        self.config = self._redirect(config, folder)
        if self._processes > 1:
            paddle_runtime.share_cores(self._processes)

    @property
    def room_mib(self) -> float:
        """Memory that one process of the training may take, of the device that computes."""
        rooms = [each.room_mib for each in self.reports.values() if each and each.room_mib]
        return _SHARE * (rooms[0] if rooms else self.free_mib / self._processes)

    def run(self, size: int, *, is_complete: bool) -> TrialFindings:
        """Try one size. Raises as `trial.run`."""
        config = with_value(self.config, KEY, size)
        with named(
            f"trying {count(size, 'image')} per step{'' if is_complete else ', for its memory'}"
        ):
            report = trial.run(TrialTask(config, self._device, is_complete))
        self.reports[size] = report
        return report

    def measure(self, size: int) -> float | None:
        """MiB of the steps of one size; None where it does not fit.

        Raises what is wrong with the training itself: a failure of the first trial that is no
        want of memory. When a size has worked, whatever fails counts as one that does not fit.
        """
        if size not in self.reports:
            try:
                self.run(size, is_complete=False)
            except PaddlexMLError as error:
                if not isinstance(error, OutOfMemory) and not any(self.reports.values()):
                    raise
                logger.info("%d images per step cannot be held: %s", size, error.what)
                self.reports[size] = None
        report = self.reports[size]
        return None if report is None else report.step_mib

    def find_largest(self, first: int, images: int) -> Largest:
        """The largest size, of a training on `images` images, beginning with the size `first`.

        Raises PaddlexMLError where not even one image fits.
        """
        most, limit = max(1, images // self._processes), "images"
        first = min(first, most)
        while self.measure(first) is None:
            if first == 1:
                raise PaddlexMLError(
                    "memory does not hold a step with a single image",
                    where=machine_memory.describe(),
                    fix="a smaller -o Train.image_size, another model, or -o Train.recompute=true",
                )
            first //= 2
        report = self.reports[first]
        assert report is not None
        affordable = int(LONGEST_STEP / max(1e-9, report.kinds[0].step[0] / first))
        if affordable < most:
            most, limit = max(first, affordable), "time"
        size = search(self.measure, first, most, self.room_mib)
        larger = [each for each in SIZES if size < each <= most]
        return Largest(size, "memory" if larger else limit)

    def _redirect(self, config: Config, folder: Path) -> Config:
        """The configuration of a trial, which writes into `folder` alone and fetches nothing."""
        config = with_value(config, "Global.output", folder / "run")
        config.Global.output.mkdir()
        changes = {"resume_path": None, "tensorboard": False, "cache_dir": folder / "cache"}
        text = config.Train.pretrain_weight_path
        if text is not None and fetch.is_url(text) and not os.path.isfile(cache.path_for(text)):
            changes["pretrain_weight_path"] = None
            note = "the weights to start from are not in the cache yet: measured with random ones; "
            self.notes.append(note + "a training fetches them first")
        for name, value in changes.items():
            config = with_value(config, f"Train.{name}", value)
        return config


def search(measure: Callable[[int], float | None], first: int, most: int, room: float) -> int:
    """The largest size, of SIZES and `first`, from 1 to `most` whose memory is at most `room`.

    measure: size -> MiB, or None where it does not fit. It is asked for few sizes: between two that
    are known, memory is a straight line. `first` is known to have an answer.
    """
    sizes = sorted({size for size in (*SIZES, first, most) if size <= most})
    known, failed = dict[int, float](), set[int]()

    def ask(size: int) -> None:
        found = measure(size)
        if found is None or found > room:
            failed.add(size)
        if found is not None:
            known[size] = found

    ask(first)
    if others := [size for size in sizes if size != first]:
        below = [size for size in others if size <= first // 2]
        ask(below[-1] if below else others[0])
    while True:
        low, high = min(known), max(known)
        slope = (known[high] - known[low]) / max(1, high - low)
        limit = min([*failed, FARTHEST * high, most + 1])
        fits = [
            size
            for size in sizes
            if size < limit and known.get(size, known[high] + slope * (size - high)) <= room
        ]
        best = fits[-1] if fits else 1
        if best in known or best in failed:
            return best
        ask(best)


def give_number(config: Config, device: Devices, beginning: Beginning) -> Config:
    """The configuration of a training with a number in the place of Train.batch_size=auto.

    A run that goes on keeps the size it began with.
    """
    refuse_launched()
    if beginning.resume is not None:
        size = checkpoint.read_settings(beginning.resume).get(KEY)
        if isinstance(size, int):
            logger.info("%s=auto: %d, as in the run that goes on", KEY, size)
            return with_value(config, KEY, size)
    model, images = config.Global.model, count_images(config)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=temporary.own_folder()) as aside:
        trials = Trials(config, device, Path(aside))
        size = choose(trials, model, images, len(device.numbers))
    for sentence in describe_choice(config, size, len(device.numbers)):
        logger.info("%s", sentence)
    return with_value(config, KEY, size)


def choose(trials: Trials, model: str, images: int, processes: int) -> int:
    """What `auto` means: the largest size that fits, and that leaves an epoch enough steps."""
    usual = shipped.batch_size(model)
    most = max(usual * processes, images // STEPS)
    return trials.find_largest(usual, min(images, most)).size


def describe_choice(config: Config, size: int, processes: int) -> list[str]:
    """What a training with a chosen size has to know about its learning rate."""
    options, usual = config.Train, shipped.batch_size(config.Global.model)
    update = size * processes * options.grad_accum_steps
    told = (
        f"{KEY}=auto: {count(size, 'image')} per step, the largest size that memory holds, or that "
    )
    told += f"leaves an epoch {STEPS} steps"
    if update == usual:
        return [told]
    rate = (
        f"Train.learning_rate stays {options.learning_rate:g}, which is meant for "
        f"{count(usual, 'image')}"
    )
    if update > usual:
        scaled = options.learning_rate * (update / usual) ** 0.5
        better = override("Train.learning_rate", float(f"{scaled:.2g}"))
        return [told, f"{rate} an update: for {update} the square root rule of Adam gives {better}"]
    again = override("Train.grad_accum_steps", -(-usual // (size * processes)))
    return [told, f"{rate} an update, not for {update}: {again} adds up as many"]


def count_images(config: Config) -> int:
    """Images of train.txt. Raises PaddlexMLError as `annotation.read`."""
    assert config.Global.dataset_dir is not None  # the configuration refuses None
    soft = config.Train.soft_labels
    return len(annotation.read(config.Global.dataset_dir, soft_labels=soft).train)


def refuse_launched() -> None:
    """Raise PaddlexMLError in one process of several that Paddle's launcher has started."""
    if addresses.is_launched():
        raise PaddlexMLError(
            f"{KEY}=auto and mode plan try trainings in processes of their own, but "
            "paddle.distributed.launch has started several processes already",
            where=KEY,
            fix=f"without the launcher, on one machine; or a number: {override(KEY, BATCH_SIZE)}",
        )
