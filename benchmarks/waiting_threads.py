# SPDX-License-Identifier: Apache-2.0
"""What threads of matrix products do that wait for the next one, and what a training step takes.

    python benchmarks/waiting_threads.py --models PP-LCNet_x1_0_ML --batch 8

The OpenMP of Paddle lets a thread that has no work spin for a while before it sleeps. Meanwhile our
own kernels, the workers that read images and other programs want its core. Each column is a process
with another KMP_BLOCKTIME (ms), which take steps in turns: seconds of a step and, in brackets, the
processor seconds of all threads; medians. 200 is OpenMP's default, 1 what the toolkit sets.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.peer_speed import OURS_COMMAND, WARM_UP, processor, start_side  # noqa: E402
from benchmarks.turns import Side, Taken, Task  # noqa: E402

TIMES = ("200", "1", "0")


def main() -> int:
    """Measure all models one after the other and print a table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["PP-LCNet_x1_0_ML"])
    for name, default in (("size", 448), ("batch", 8), ("classes", 80), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", nargs="+", default=TIMES, help="of KMP_BLOCKTIME, in ms")
    options = parser.parse_args()
    print(f"{processor()}, {options.size} px, batch {options.batch}\n")
    print(f"| model | {' | '.join(options.times)} |\n|---|{'---:|' * len(options.times)}")
    for model in options.models:
        print(f"| {model} | {' | '.join(_measure(model, options))} |", flush=True)
    return 0


def _measure(model: str, options: argparse.Namespace) -> list[str]:
    shape = {name: getattr(options, name) for name in ("batch", "size", "classes", "threads")}
    task = Task(model=model, peer="", dropout=0.0, **shape)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="waiting")))
        sides = []
        for time in options.times:
            started = start_side(OURS_COMMAND, task, "", folder, {"KMP_BLOCKTIME": time})
            sides.append(stack.enter_context(closing(started)))
            for _ in range(WARM_UP):
                sides[-1].turn()
        rounds = [_take_turns(sides, forwards=k % 2 == 0) for k in range(options.rounds)]
    columns = zip(*rounds, strict=True)
    medians = ([statistics.median(figures) for figures in zip(*c, strict=True)] for c in columns)
    return [f"{seconds:.3f} ({processor_seconds:.2f})" for seconds, processor_seconds in medians]


def _take_turns(sides: list[Side], *, forwards: bool) -> list[Taken]:
    """A step of each; every other round backwards: threads of a side may spin into the next one."""
    taken = {side.log: side.turn() for side in (sides if forwards else reversed(sides))}
    return [taken[side.log] for side in sides]


if __name__ == "__main__":
    sys.exit(main())
