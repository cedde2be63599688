# SPDX-License-Identifier: Apache-2.0
"""What a training tells while it runs: log lines, speed, time left, metrics.csv."""

from __future__ import annotations

import csv
import io
import logging
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

from paddlex_ml.files import write_text

logger = logging.getLogger(__name__)


FIELDS = ("epoch", "lr", "loss", "raw_map", "ema_map", "images_per_second", "data_wait")


def write_metrics(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Write metrics.csv: one row for every finished epoch, empty where it was not evaluated."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


class Meter:
    """Clock of one epoch: a line every `log_interval` steps, and a bar where a person looks on.

    A context, so that the bar goes away also when a step fails.
    """

    def __init__(
        self, epoch: int, epochs: int, done: int, left: int, log_interval: int, shown: bool = True
    ) -> None:
        """Epoch number `epoch` (from 0) of `epochs`, with `done` of its steps behind it."""
        self.epoch, self.epochs = epoch, epochs
        self.step, self.steps = done, done + left
        self.log_interval = log_interval
        self.images = 0
        self.waited = 0.0  # seconds without data
        self.worked = 0.0  # seconds with data
        self._done = 0  # steps on this clock; a resumed epoch began before it
        self._losses: list[float] = []  # since the last line
        self._mark = time.perf_counter()
        self._bar = tqdm(
            total=self.steps,
            initial=done,
            desc=f"epoch {epoch + 1}/{epochs}",
            disable=not (shown and sys.stderr.isatty()),
            leave=False,
        )

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def data_arrived(self) -> None:
        """Book the time since the last step as waiting."""
        self.waited += self._lap()

    def step_done(self, loss: float, rate: float, images: int) -> None:
        """Book the time since the data arrived as work, and say so now and then."""
        self.worked += self._lap()
        self.step += 1
        self._done += 1
        self.images += images
        self._losses.append(loss)
        self._bar.update()
        if self.step % self.log_interval == 0 or self.step == self.steps:
            logger.info(self._line(rate))
            self._losses.clear()

    @property
    def images_per_second(self) -> float:
        """Speed of this epoch, waiting included; 0.0 before the first step."""
        return self.images / max(self.waited + self.worked, 1e-9)

    @property
    def data_share(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        return self.waited / max(self.waited + self.worked, 1e-9)

    def _line(self, rate: float) -> str:
        left = self.steps * (self.epochs - self.epoch) - self.step
        per_step = (self.waited + self.worked) / self._done
        loss = sum(self._losses) / len(self._losses)
        return (
            f"[Train][Epoch {self.epoch + 1}/{self.epochs}][Iter {self.step}/{self.steps}] "
            f"lr {rate:.2g} loss {loss:.2f} ips {self.images_per_second:.1f} images/s "
            f"data {self.data_share:.0%} eta {timedelta(seconds=round(left * per_step))}"
        )

    def _lap(self) -> float:
        now = time.perf_counter()
        passed, self._mark = now - self._mark, now
        return passed
