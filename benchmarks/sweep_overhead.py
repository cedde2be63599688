# SPDX-License-Identifier: Apache-2.0
"""What a sweep costs besides its trainings.

    python benchmarks/sweep_overhead.py [--runs 6]

Starts a sweep of very small trainings on drawn images, one after the other, and prints how long
none of them ran: while the sweep started, between two of them, and while it wrote the table. Beside
the seconds on the clock there are those of the processor that the sweep itself took, which other
programs on the machine change less.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml.data import demo  # noqa: E402

_LOOK = 0.02  # seconds between two looks at the sweep


def main() -> int:
    """Run the sweep, and measure."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--runs", type=int, default=6)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place, "shapes")
        demo.make(data, images=40, size=32, seed=0, val_percent=20)
        keys = {
            "Global.mode": "train", "Global.device": "cpu", "Global.dataset_dir": data,
            "Global.output": Path(place, "sweep"), "Train.image_size": 32, "Train.num_workers": 0,
            "Train.epochs_iters": 1, "Train.pretrain_weight_path": "null",
        }  # fmt: skip
        command = [sys.executable, "-m", "paddlex_ml", "-c", "PP-LCNet_x1_0_ML"]
        command += [part for key, value in keys.items() for part in ("-o", f"{key}={value}")]
        _measure([*command, "--seeds", str(options.runs)], options.runs)
    return 0


def _measure(command: list[str], runs: int) -> None:
    """Run the sweep, and print what it took besides its trainings."""
    began = time.monotonic()
    alone, own = 0.0, 0.0
    process = psutil.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = began
    while process.poll() is None:
        with suppress(psutil.Error):
            own = sum(process.cpu_times()[:2])
            trains = any(each.status() != psutil.STATUS_ZOMBIE for each in process.children())
            now = time.monotonic()
            alone += 0 if trains else now - before
            before = now
        time.sleep(_LOOK)
    if process.returncode:
        sys.exit("the sweep failed")
    total = time.monotonic() - began
    print(f"{runs} runs in {total:.1f} s, load {psutil.getloadavg()[0]:.1f}")
    print(f"without a training: {alone:.1f} s, {alone / runs:.2f} s a run")
    print(f"processor, of the sweep itself: {own:.1f} s, {own / runs:.2f} s a run")


if __name__ == "__main__":
    sys.exit(main())
