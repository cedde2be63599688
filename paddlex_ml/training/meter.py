# SPDX-License-Identifier: Apache-2.0
"""What a training tells while it runs: log lines, speed, memory, time left, metrics.csv."""

from __future__ import annotations

import csv
import io
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddlex_ml.storage.files import write_text
from paddlex_ml.training import memory
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Progress

logger = logging.getLogger(__name__)


FIELDS = (
    *("epoch", "step", "lr", "loss", "raw_map", "ema_map"),
    *("images_per_second", "data_wait", "memory_mib", "seconds"),
)


def write_metrics(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write metrics.csv: one row for every evaluation, the whole file each time.

    `step` counts the updates so far, `seconds` the time of training so far, over all runs; loss is
    the mean of a step of the epoch that the evaluation ended; raw_map and ema_map are 0..1. What
    rows of older checkpoints do not have stays empty.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row in history if row["raw_map"] is not None)
    write_text(path, text.getvalue())


class Meter:
    """Clock of one epoch: a line every `log_interval` steps, and a bar where a person looks on.

    A context, so that the bar goes away also when a step fails. The time it measures is added to
    `progress`, which a resumed run goes on with.
    """

    def __init__(self, progress: Progress, plan: Plan) -> None:
        self.progress, self.plan = progress, plan
        self.step = progress.step
        self.images = 0
        self.waited = 0.0  # seconds without data
        self.worked = 0.0  # seconds with data
        self.losses: list[float] = []  # of the steps on this clock; a resumed epoch began before it
        self.memory_mib = 0.0
        """The most that was seen when a line was written."""
        self._first = 0.0  # seconds of the first step
        self._told = 0  # losses that a line has told of
        self._mark = time.perf_counter()
        self._bar = tqdm(
            total=plan.steps,
            initial=self.step,
            desc=f"epoch {progress.epoch + 1}/{plan.epochs}",
            disable=not (plan.group.is_main and sys.stderr.isatty()),
            leave=False,
        )

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def data_arrived(self) -> None:
        """Book the time since the last step as waiting."""
        passed = self._lap()
        self.waited += passed
        self.progress.waited += passed
        self.progress.seconds += passed

    def step_done(self, loss: float, rate: float, images: int) -> None:
        """Book the time since the data arrived as work, and say so now and then.

        `images` are those of this process; its team has as many times more.
        """
        passed = self._lap()
        self.worked += passed
        self.progress.seconds += passed
        self.step += 1
        self.images += images * self.plan.group.size
        self.losses.append(loss)
        self._first = self._first or self.waited + self.worked
        self._bar.update()
        if self.step % self.plan.log_interval == 0 or self.step == self.plan.steps:
            self._tell(rate)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Book what happens inside as the evaluation of this epoch."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.progress.evaluation_seconds = time.perf_counter() - begin
            self.progress.seconds += self.progress.evaluation_seconds

    @property
    def images_per_second(self) -> float:
        """Speed of this epoch, waiting included; 0.0 before the first step."""
        return self.images / max(self.waited + self.worked, 1e-9)

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        return self.waited / max(self.waited + self.worked, 1e-9)

    @property
    def left(self) -> timedelta:
        """Time to the end of the training, as the steps and the last evaluation went.

        Without the first step: in it the workers start, or kernels are looked for.
        """
        epoch, plan = self.progress.epoch, self.plan
        total, done = self.waited + self.worked, len(self.losses)
        per_step = (total - self._first) / (done - 1) if done > 1 else total
        evaluations = sum(map(plan.is_evaluated, range(epoch + 1, plan.epochs + 1)))
        seconds = per_step * (plan.steps * (plan.epochs - epoch) - self.step)
        return timedelta(seconds=round(seconds + evaluations * self.progress.evaluation_seconds))

    def measure_memory(self) -> float:
        """Look how much memory is in use now; returns the most of this epoch."""
        self.memory_mib = max(self.memory_mib, memory.resident_mib())
        return self.memory_mib

    def _tell(self, rate: float) -> None:
        new = self.losses[self._told :]
        self._told = len(self.losses)
        loss, held, info = sum(new) / len(new), memory.resident_mib(), memory.gpu_mib()
        self.memory_mib = max(self.memory_mib, held)
        logger.info(
            f"[Train][Epoch {self.progress.epoch + 1}/{self.plan.epochs}]"
            f"[Iter {self.step}/{self.plan.steps}] lr {rate:.2g} loss {loss:.2f} "
            f"ips {self.images_per_second:.1f} images/s data {self.data_share:.0%} "
            f"mem {held / 1024:.1f} GiB "
            + ("" if info is None else f"gpu {info / 1024:.1f} GiB ")
            + f"eta {self.left}"
        )
        numbers = {
            "train/loss": loss,
            "train/lr": rate,
            "speed/images_per_second": self.images_per_second,
            "speed/data_wait": self.data_share,
            "speed/memory_mib": held,
        }
        if info is not None:
            numbers["speed/gpu_memory_mib"] = info
        self.plan.scalars(self.progress.epoch * self.plan.steps + self.step, numbers)

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._mark = now - self._mark, now
        return passed
