# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a training step by number of classes, with groups and with a query per class.

    python benchmarks/large_label_sets.py [--size 448] [--batch 4] [--rounds 3] [--steps 7]

Runs the loop's own `train_step` on images in memory: model, loss, AdamW, averaged weights and the
second model that evaluates them. Each case runs in processes of its own, and they take turns, so
that a noisy machine disturbs all of them alike. The table has the median of all steps and of the
peaks of memory, and their ratios to the first row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

MODEL = "PP-LCNet_x1_0_ML"
CASES = ((80, "auto"), (1000, "auto"), (9605, "auto"), (80, "one"), (1000, "one"))
"""Classes, and Train.num_queries: auto, or one query per class."""
LABELS = 3  # of an image, about


class Taken(NamedTuple):
    """What a case took: the seconds of its steps, and the most memory of its process."""

    seconds: list[float]
    mebibytes: float
    queries: int


def main() -> int:
    """Measure all cases and print a Markdown table; with --case: one of them."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        classes, queries = options.case.split(":")
        print(json.dumps(take_steps(int(classes), queries, options)))
        return 0
    taken: dict[tuple[int, str], list[Taken]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        order = [*CASES] if number % 2 == 0 else [*reversed(CASES)]
        for classes, queries in order:
            command = [sys.executable, *sys.argv, "--case", f"{classes}:{queries}"]
            found = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
            taken[classes, queries].append(Taken(*json.loads(found.splitlines()[-1])))
    print_table(taken, options)
    return 0


def print_table(taken: dict[tuple[int, str], list[Taken]], options: argparse.Namespace) -> None:
    """Print medians, and ratios to the first case."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{MODEL}, {options.batch} images of {options.size} px a step\n")
    print("| classes | num_queries | queries | seconds a step | ratio | peak MiB | ratio |")
    print("|---:|---|---:|---:|---:|---:|---:|")
    first: tuple[float, float] | None = None
    for (classes, name), runs in taken.items():
        seconds = statistics.median(second for run in runs for second in run.seconds)
        memory = statistics.median(run.mebibytes for run in runs)
        first = first or (seconds, memory)
        print(
            f"| {classes} | {'auto' if name == 'auto' else classes} | {runs[0].queries} "
            f"| {seconds:.2f} | {seconds / first[0]:.2f} | {memory:.0f} | {memory / first[1]:.2f} |"
        )


def take_steps(classes: int, queries: str, options: argparse.Namespace) -> Taken:
    """Train for a few steps; the first, in which Paddle chooses kernels, is not counted."""
    warnings.filterwarnings("ignore")
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()  # before anything imports Paddle
    import paddle

    from paddlex_ml.models import head_layout, zoo
    from paddlex_ml.training import loop

    paddle_runtime.use_own_threads()
    paddle.seed(0)
    wanted = head_layout.count_queries(classes, "auto" if queries == "auto" else classes)
    layout = head_layout.published(classes, wanted)
    model, averaged = (zoo.build(MODEL, classes, layout=layout) for _ in range(2))
    training, plan = _compose(model, averaged)
    images = paddle.randn([options.batch, 3, options.size, options.size])
    targets = (paddle.rand([options.batch, classes]) < LABELS / classes).astype("float32")
    model.train()
    seconds = []
    for _ in range(options.steps + 1):
        begin = time.perf_counter()
        loop.train_step(training, plan, [(images, targets)])
        seconds.append(time.perf_counter() - begin)
        training.progress.step += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Taken(seconds[1:], peak / (2**20 if sys.platform == "darwin" else 2**10), wanted)


def _compose(model: Any, averaged: Any) -> tuple[Any, Any]:
    """All that changes in a training, and the few parts of a plan that a step asks for."""
    import paddle

    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.distributed.group import ProcessGroup
    from paddlex_ml.training.ema import Ema
    from paddlex_ml.training.losses import asymmetric_loss
    from paddlex_ml.training.optimizer import build_optimizer
    from paddlex_ml.training.schedule import build_schedule
    from paddlex_ml.training.state import Training

    plan = SimpleNamespace(
        seed=0,
        steps=1000,
        group=ProcessGroup(),
        precision=lambda: paddle.amp.auto_cast(enable=False),
        loss_fn=asymmetric_loss,
        schedule=build_schedule("cosine", 1e-4, epochs=2, steps_per_epoch=1000, warmup_epochs=1),
    )
    scaler = paddle.amp.GradScaler(enable=False)
    optimizer = build_optimizer(model, weight_decay=1e-4)
    info = ModelInfo(MODEL, ["class"], 448)
    return Training(info, model, averaged, Ema(model, 0.9997), optimizer, scaler, {}), plan


if __name__ == "__main__":
    sys.exit(main())
