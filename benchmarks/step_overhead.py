# SPDX-License-Identifier: Apache-2.0
"""What logging, averaging and checks cost of a training step.

    python benchmarks/step_overhead.py [--rounds 12] [--classes 20]

Runs the loop's own `train_step` and `Meter` with parts taken out, in turns on every step, so that
a noisy machine disturbs all of them alike. The parts are also timed alone: read that figure where a
share is smaller than the noise between two steps.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml import cores, paddle_runtime

SIZES = ((448, 8), (160, 32))  # the shipped image size, and one at which overhead matters
_ALL = "everything"
LINES = 20  # steps between two log lines, as shipped


class NoAverage:
    """Replaces Ema."""

    def update(self, model: object) -> None:
        """Do nothing."""


class NoMeter:
    """Replaces Meter."""

    def data_arrived(self) -> None:
        """Do nothing."""

    def step_done(self, loss: float, rate: float, images: int) -> None:
        """Do nothing."""


def main() -> int:
    """Measure both sizes and print a table of each."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--classes", type=int, default=20)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    paddle_runtime.prepare()  # before anything imports Paddle
    logging.getLogger("paddlex_ml").addHandler(logging.FileHandler(os.devnull))
    logging.getLogger("paddlex_ml").setLevel(logging.INFO)
    logging.getLogger("paddlex_ml").propagate = False
    print(f"{platform.machine()}, {cores.usable_cores()} cores, {options.rounds} rounds")
    for size, batch in SIZES:
        _report(size, batch, options.classes, options.rounds)
    return 0


def _report(size: int, batch: int, classes: int, rounds: int) -> None:
    steps = Steps(size, batch, classes)
    ways: dict[str, Callable[[], float]] = {
        _ALL: steps.run,
        "without log lines": lambda: steps.run(meter=NoMeter()),
        "without averaging": lambda: steps.run(average=NoAverage()),
        "without the check": lambda: steps.run(checked=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(rounds + 1):
        order = list(ways) if k % 2 else list(reversed(ways))
        for name in order:
            taken = ways[name]()
            if k:  # in the first round Paddle chooses kernels and allocates memory
                seconds[name].append(taken)
    full = statistics.median(seconds[_ALL])
    print(f"\n{size} px, batch {batch}: {full * 1000:.1f} ms a step")
    for name, values in list(seconds.items())[1:]:
        shares = [(a - b) / a for a, b in zip(seconds[_ALL], values, strict=True)]
        print(f"  {name:24}{statistics.median(shares):8.1%} less, by turns")
    parts = steps.time_parts()
    for name, taken in parts.items():
        print(f"  {name:24}{taken * 1000:8.3f} ms {taken / full:8.2%} of a step, by itself")
    print(
        f"  {'together':24}{sum(parts.values()) * 1000:8.3f} ms {sum(parts.values()) / full:8.2%}"
    )


class Steps:
    """A training at one image size, to take steps of."""

    def __init__(self, size: int, batch: int, classes: int) -> None:
        import paddle

        from paddlex_ml.artifacts.checkpoint import ModelInfo
        from paddlex_ml.models import zoo
        from paddlex_ml.training import loop
        from paddlex_ml.training.ema import Ema
        from paddlex_ml.training.losses import asymmetric_loss
        from paddlex_ml.training.meter import Meter
        from paddlex_ml.training.optimizer import build_optimizer
        from paddlex_ml.training.plan import Plan
        from paddlex_ml.training.schedule import build_schedule
        from paddlex_ml.training.state import Training

        self.loop = loop
        paddle.seed(0)
        model, averaged = (zoo.build("PP-LCNet_x1_0_ML", classes) for _ in range(2))
        self.training = Training(
            ModelInfo("PP-LCNet_x1_0_ML", [str(k) for k in range(classes)], size),
            model,
            averaged,
            Ema(model, 0.9997),
            build_optimizer(model, weight_decay=1e-4),
            paddle.amp.GradScaler(enable=False),
            {},
        )
        self.plan = Plan(
            epochs=20,
            batch_size=batch,
            grad_accum_steps=1,
            images=batch * 10**4,
            order=np.arange,
            schedule=build_schedule(
                "cosine", 1e-4, epochs=1, steps_per_epoch=10**4, warmup_epochs=0
            ),
            seed=0,
            loss_fn=asymmetric_loss,
            log_interval=LINES,
        )
        targets = (paddle.rand([batch, classes]) < 0.1).astype("float32")
        self.batch = (paddle.randn([batch, 3, size, size]), targets)
        self.average: Any = self.training.ema
        self.meter = Meter(self.training.progress, self.plan)
        model.train()

    def run(self, meter: Any = None, average: Any = None, *, checked: bool = True) -> float:
        """Take one step as `train_epoch` does; returns its seconds."""
        watch, self.training.ema = meter or self.meter, average or self.average
        check = math.isfinite if checked else lambda loss: True
        with patch.object(self.loop, "math", SimpleNamespace(isfinite=check)):
            begin = time.perf_counter()
            watch.data_arrived()
            _, loss = self.loop.train_step(self.training, self.plan, [self.batch])
            watch.step_done(loss, self.training.optimizer.get_lr(), self.plan.batch_size)
            return time.perf_counter() - begin

    def time_parts(self) -> dict[str, float]:
        """Seconds a step of each part by itself, a log line's among its twenty steps."""
        model, meter = self.training.model, self.meter

        def log() -> None:
            meter.data_arrived()
            meter.step_done(1.0, 1e-4, self.plan.batch_size)

        booking: list[float] = []
        lines: list[float] = []
        for _ in range(LINES * 20):
            taken = _time(log, 1)
            (booking if meter.step % LINES else lines).extend(taken)
        return {
            "log lines": statistics.median(booking) + statistics.median(lines) / LINES,
            "averaging": statistics.median(_time(lambda: self.average.update(model), 50)),
            "the check": statistics.median(_time(lambda: math.isfinite(1.0), 50)),
        }


def _time(part: Callable[[], object], times: int) -> list[float]:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        part()
        seconds.append(time.perf_counter() - begin)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
