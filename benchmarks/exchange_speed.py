# SPDX-License-Identifier: Apache-2.0
"""Steps of two processes that exchange gradients after the backward pass, or within it, in turns.

    python benchmarks/exchange_speed.py [--size 224] [--batch 4] [--rounds 7] [--device cpu:0,1]

Train.overlap_exchange=false and true for PP-LCNet (33 MB of gradients), in the same processes, on
images in memory. Also tells how far the weights of both are from each other at the end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import paddle_runtime  # noqa: E402

WARM_UP = 3  # the reducer begins with the second step


def main() -> int:
    """Measure in turns and print a Markdown table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in (("size", 224), ("batch", 4), ("classes", 80), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu:0,1")
    options = parser.parse_args()
    paddle_runtime.prepare()
    from paddlex_ml import devices
    from paddlex_ml.distributed import launch

    found = devices.find(options.device)
    seconds, difference = launch.run(measure, options, found)
    print(f"PP-LCNet_x1_0_ML, {options.size} px, {options.batch} images in each process of "
          f"{options.device}, medians of {options.rounds} rounds\n")  # fmt: skip
    print("| exchange | seconds a step | ratio |\n|---|---:|---:|")
    first = statistics.median(seconds["after the backward pass"])
    for name, each in seconds.items():
        median = statistics.median(each)
        print(f"| {name} | {median:.3f} | {first / median:.2f} |")
    print(f"\nLargest difference of a weight at the end: {difference:.1e}")
    return 0


def measure(options: argparse.Namespace, group: object) -> tuple[dict[str, list[float]], float]:
    """Seconds of every step by way, and the difference. Runs in every process."""
    from benchmarks.train_speed import build_step

    sizes = options.batch, options.size, options.classes
    ways = {"after the backward pass": False, "within it": True}
    steps = {
        name: build_step("PP-LCNet_x1_0_ML", *sizes, group, overlaps=overlaps)
        for name, overlaps in ways.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM_UP + options.rounds):
        for name in list(steps) if number % 2 else reversed(steps):
            taken = steps[name].run()
            if number >= WARM_UP:
                seconds[name].append(taken)
    for step in steps.values():
        step.meter.bar.close()
    states = [step.training.model.state_dict().values() for step in steps.values()]
    differences = [float((a - b).abs().max()) for a, b in zip(*states, strict=True)]
    return seconds, max(differences)


if __name__ == "__main__":
    sys.exit(main())
