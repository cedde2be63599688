# SPDX-License-Identifier: Apache-2.0
"""What a training shows while it runs: log lines, speed, memory, time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from tqdm import tqdm

from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.progress import LONGEST_SILENCE
from paddlex_ml.training import memory
from paddlex_ml.training.plan import Plan

GUIDE = (
    "loss: a sum over all images of a step, so it may be far above 1; what counts is that it falls",
    "mAP: from 0 to 1; raw: of the weights as they learn, ema: of their average over many steps",
)
"""What the lines of a training mean, for those who see the first one."""

logger = logging.getLogger(__name__)


class Meter:
    """Clock of one epoch: a line every `log_interval` steps, or 30 seconds; a bar on a terminal.

    Run the steps inside `with ticking(meter.bar)`, so that the bar is removed also when a step
    fails. The measured time is added to `progress`, from which a resumed run goes on.
    """

    def __init__(self, progress: Progress, plan: Plan) -> None:
        self.progress, self.plan = progress, plan
        self.step = progress.step
        self.images = 0
        self.waited = 0.0  # seconds without data
        self.worked = 0.0  # seconds with data
        self.losses: list[float] = []  # of the steps on this clock; a resumed epoch began before it
        self.memory_mib = 0.0
        """The most that was measured when a line was written."""
        self._first = 0.0  # seconds of the first step
        self._logged = 0  # losses that log lines have covered
        self._mark = self._told = time.perf_counter()
        self.bar = tqdm(
            total=plan.steps,
            initial=self.step,
            desc=f"epoch {progress.epoch + 1}/{plan.epochs}",
            disable=not (plan.group.is_main and sys.stderr.isatty()),
            leave=False,
        )

    def data_arrived(self) -> None:
        """Count the time since the last step as waiting."""
        passed = self._lap()
        self.waited += passed
        self.progress.waited += passed

    def step_done(self, loss: float, rate: float, images: int) -> None:
        """Count the time since the data arrived as work; log a line when it is due.

        `rate` is the learning rate, `images` the number in this process: each rank has as many.
        """
        self.worked += self._lap()
        self.step += 1
        self.images += images * self.plan.group.size
        self.losses.append(loss)
        self._first = self._first or self.waited + self.worked
        self.bar.update()
        is_due = self.step % self.plan.log_interval == 0 or self.step == self.plan.steps
        if not is_due and self._mark - self._told < LONGEST_SILENCE:
            return
        self._told, new = self._mark, self.losses[self._logged :]
        loss, resident, gpu = sum(new) / len(new), memory.resident_mib(), memory.gpu_mib()
        self.memory_mib = max(self.memory_mib, resident)
        logger.info(
            f"[Train][Epoch {self.progress.epoch + 1}/{self.plan.epochs}]"
            f"[Iter {self.step}/{self.plan.steps}] lr {rate:.2g} loss {loss:.2f} "
            f"ips {self.images_per_second:.1f} images/s data {self.data_share:.0%} "
            f"mem {resident / 1024:.1f} GiB "
            + ("" if gpu is None else f"gpu {gpu / 1024:.1f} GiB ")
            + f"eta {self.left}"
        )
        if not is_due:  # a line between: the numbers of trackers are those of the steps alone
            return
        self._logged = len(self.losses)
        scalars = {
            "train/loss": loss,
            "train/lr": rate,
            "speed/images_per_second": self.images_per_second,
            "speed/data_wait": self.data_share,
            "speed/memory_mib": resident,
        }
        if gpu is not None:
            scalars["speed/gpu_memory_mib"] = gpu
        self.plan.scalars(self.progress.epoch * self.plan.steps + self.step, scalars)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time inside as the evaluation of this epoch."""
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
        """Time to the end of the training, estimated from the steps and the last evaluation.

        The first step does not count: in it the workers start, or Paddle chooses kernels.
        """
        epoch, plan = self.progress.epoch, self.plan
        total, done = self.waited + self.worked, len(self.losses)
        per_step = (total - self._first) / (done - 1) if done > 1 else total
        evaluations = sum(map(plan.is_evaluated, range(epoch + 1, plan.epochs + 1)))
        seconds = per_step * (plan.steps * (plan.epochs - epoch) - self.step)
        return timedelta(seconds=round(seconds + evaluations * self.progress.evaluation_seconds))

    def _lap(self) -> float:
        """Seconds since the last call, added to the time of the training."""
        now = time.perf_counter()
        passed, self._mark = now - self._mark, now
        self.progress.seconds += passed
        return passed
