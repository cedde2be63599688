# SPDX-License-Identifier: Apache-2.0
"""Does a training take what mode plan has said? Time and memory, planned and then measured.

    python benchmarks/plan_accuracy.py --data my_set --size 96 --epochs 2

The plan and the training are commands of their own, as a user starts them. Beside the seconds on
the clock there are those of all cores together, which other programs on the machine change less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml.inference import verified_engines  # noqa: E402

_LOOK = 0.2  # seconds between two looks at the processes of a command


class Measured(NamedTuple):
    """What a command took."""

    said: str
    seconds: float
    processor: float
    """Seconds of all cores, in all its processes."""
    peak_mib: float
    """Most memory of the main process, and of its workers at the same time."""


def main() -> int:
    """Plan and train in turns, and print a Markdown table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set")
    parser.add_argument("--model", default="PP-LCNet_x1_0_ML")
    for name, default in (("size", 96), ("epochs", 2), ("batch", 32), ("rounds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    print(f"{verified_engines.name_processor().rpartition(':')[2].strip()}, "
          f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}\n")  # fmt: skip
    print("| measure | planned | measured | measured / planned |\n|---|---:|---:|---:|")
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            _compare(options, Path(folder))
    return 0


def _compare(options: argparse.Namespace, folder: Path) -> None:
    output = folder / "run"
    settings = [
        f"Global.dataset_dir={options.data}", f"Global.output={output}", "Global.device=cpu",
        f"Train.image_size={options.size}", f"Train.epochs_iters={options.epochs}",
        f"Train.batch_size={options.batch}", "Train.pretrain_weight_path=null",
    ]  # fmt: skip
    command = ["-c", options.model, "-o", *settings]
    plan = json.loads(_run([*command, "Global.mode=plan", "--json"]).said)
    trained = _run([*command, "Global.mode=train"])
    history = json.loads((output / "train_result.json").read_text())["metrics"]["history"]
    disk = sum({path.stat().st_ino: path.stat().st_size for path in output.rglob("*")}.values())
    seconds, steps = history[-1]["seconds"], plan["steps"] * plan["epochs"]
    planned = steps * plan["step"]["seconds"] + plan["validations"] * plan["validation"]["seconds"]
    rows = {
        "run, processor s": (plan["run"]["processor"], trained.processor),
        "run, s": (plan["run"]["seconds"], trained.seconds),
        "steps and validation, s": (planned, seconds),
        "memory, MiB": (plan["memory_mib"], trained.peak_mib),
        "memory between steps, MiB": (
            plan["resident_mib"], max(row["memory_mib"] for row in history)
        ),
        "disk, MB": (plan["disk_bytes"] / 1e6, disk / 1e6),
    }  # fmt: skip
    for name, (first, second) in rows.items():
        print(f"| {name} | {first:.1f} | {second:.1f} | {second / first:.3f} |", flush=True)


def _run(arguments: list[str]) -> Measured:
    """Run a command of the toolkit to its end, and watch its processes."""
    command = [sys.executable, "-m", "paddlex_ml", *arguments]
    begin, times, peak = time.perf_counter(), dict[int, float](), 0.0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as started:
        process = psutil.Process(started.pid)
        while started.poll() is None:
            own, others = 0.0, 0.0
            with suppress(psutil.Error, OSError):
                for line in Path(f"/proc/{started.pid}/status").read_text().splitlines():
                    own = max(own, float(line.split()[1]) / 1024 if "VmHWM" in line else 0)
                times[started.pid] = sum(process.cpu_times()[:2])
                for child in process.children(recursive=True):
                    others += child.memory_info().rss / 2**20
                    times[child.pid] = sum(child.cpu_times()[:2])
            peak = max(peak, own + others)
            time.sleep(_LOOK)
        assert started.stdout is not None
        said = started.stdout.read()
    if started.returncode:
        raise SystemExit(f"{command} failed")
    return Measured(said, time.perf_counter() - begin, sum(times.values()), peak)


if __name__ == "__main__":
    sys.exit(main())
