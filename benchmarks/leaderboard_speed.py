# SPDX-License-Identifier: Apache-2.0
"""How long the table of many runs takes.

    python benchmarks/leaderboard_speed.py [--runs 1000] [--images 1000] [--classes 20]

Writes run folders of ten configurations with scores of their own, and starts the command that users
start: `python -m paddlex_ml.tools.runs FOLDER`. Prints the seconds by the clock and those of the
processor, with the start of Python, three times.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.finished_runs import draw_scores, draw_targets, write_run

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Write the runs, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=20)
    options = parser.parse_args()
    targets = draw_targets(options.images, options.classes)
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.runs):
            chosen = {"Train.learning_rate": 1e-4 * (1 + number % 10), "Global.seed": number // 10}
            scores = draw_scores(targets, 1 + number % 50 / 100, number)
            write_run(Path(place, f"run_{number}"), scores, targets, chosen)
        command = [sys.executable, "-m", "paddlex_ml.tools.runs", place]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for _ in range(3):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
            took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
            busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{options.runs} runs: {took:.1f} s, of the processor {busy:.1f} s", flush=True)


if __name__ == "__main__":
    main()
