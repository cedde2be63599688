# SPDX-License-Identifier: Apache-2.0
"""A sweep of twelve trainings, unbroken, and killed three times: do both end with the same table?

    python benchmarks/sweep_example.py DATA WEIGHTS FOLDER [--epochs 1] [--jobs 2]

DATA is natural_scenes (docs/results.md), WEIGHTS a trained backbone. Three rates, two losses and
two seeds, started with one command, which is repeated after each kill (SIGKILL). The kills are
drawn: so many epochs are done, and some seconds more. The second one takes the trainings along, as
a machine that goes down. Prints the table and what each kill found. Exit code 1: a number of the
two tables differs, but for time and memory. What is done in FOLDER is not done again; the run
folders are removed once their table is taken.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml.artifacts.run_folder import RunFolder  # noqa: E402
from paddlex_ml.inference import verified_engines  # noqa: E402
from paddlex_ml.storage import files  # noqa: E402

SIDE = 96
"""Pixels, as in small_sets.py."""
SWEEP = (
    "--sweep", "Train.learning_rate=3e-4,1e-3,3e-3",
    "--sweep", "Train.loss.name=asymmetric,bce",
    "--seeds", "2",
)  # fmt: skip
RUNS = 12
KILLS = 3
_TAKES_ALL = 2  # the kill, counted from 1, that takes the trainings along
_MEASURED = ("seconds", "memory_mib")
"""Columns of leaderboard.csv that a clock or the system tells."""
_LOOK = 0.2  # seconds between two looks at a sweep


class Kill(NamedTuple):
    """When the sweep is killed."""

    epochs: int
    """Of all runs together, that are done then."""
    delay: float
    """Seconds after that."""


class Part(NamedTuple):
    """One of the two sweeps, and what stays of it."""

    sweep: Path
    log: Path
    csv: Path
    said: Path
    """The table as printed."""
    kills: Path
    """What each kill found, in JSON."""


def draw_kills(seed: int, epochs: int) -> list[Kill]:
    """When the kills come, in order; none in the first or the last run."""
    chosen, total = random.Random(seed), epochs * RUNS
    after = sorted(chosen.sample(range(1, total - epochs), KILLS))
    return [Kill(each, round(chosen.uniform(0, 20), 1)) for each in after]


def count_epochs(sweep: Path) -> tuple[int, int]:
    """Epochs and trainings that are done in the folder of a sweep."""
    epochs = 0
    for path in sweep.glob("*/metrics.csv"):
        epochs += max(0, len(path.read_text("utf-8").splitlines()) - 1)
    return epochs, sum(RunFolder(each).result("train").is_file() for each in sweep.glob("*=*"))


def kill_at(
    process: psutil.Popen, kill: Kill, sweep: Path, *, takes_all: bool
) -> dict[str, object]:
    """Wait for the moment, and kill the sweep; returns what was done by then."""
    while count_epochs(sweep)[0] < kill.epochs:
        if process.poll() is not None:
            sys.exit(f"the sweep in {sweep} ended before it was killed")
        time.sleep(_LOOK)
    time.sleep(kill.delay)
    trainings = process.children(recursive=True) if takes_all else []
    for each in (process, *trainings):
        each.kill()
    process.wait()
    epochs, runs = count_epochs(sweep)
    return {"epochs": epochs, "runs": runs, "delay": kill.delay, "takes_all": takes_all}


def train(part: Part, command: list[str], kills: list[Kill]) -> None:
    """Run the sweep to its end, unless that was done; kill it where it still must be killed."""
    if part.csv.is_file():
        return
    done = json.loads(part.kills.read_text("utf-8")) if part.kills.is_file() else []
    words = [*command, "-o", f"Global.output={part.sweep}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with part.log.open("a", encoding="utf-8") as log:
        for number in range(len(done) + 1, len(kills) + 1):
            process = psutil.Popen(words, env=environment, stdout=log, stderr=log)
            takes_all = number == _TAKES_ALL
            done.append(kill_at(process, kills[number - 1], part.sweep, takes_all=takes_all))
            files.write_json(part.kills, done)
        ended = subprocess.run(
            words, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=False
        )
    if ended.returncode:
        sys.exit(f"the sweep failed: {part.log}")
    files.write_text(part.said, ended.stdout)
    files.write_bytes(part.csv, (part.sweep / "leaderboard.csv").read_bytes())
    shutil.rmtree(part.sweep)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, without what a clock or the system tells."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key not in _MEASURED} for row in rows]


def compare(whole: Path, broken: Path) -> list[str]:
    """Where the two tables differ, a line for each number."""
    ours, theirs = read_rows(whole), read_rows(broken)
    if len(ours) != RUNS or len(theirs) != RUNS:
        return [f"{len(ours)} and {len(theirs)} rows in place of {RUNS}"]
    return [
        f"{row['run']}: {key} is {row[key]}, and {other.get(key)} where it was killed"
        for row, other in zip(ours, theirs, strict=True)
        for key in row
        if row[key] != other.get(key)
    ]


def main() -> int:
    """Train both sweeps as far as they are missing, and compare."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name in ("data", "weights", "folder"):
        parser.add_argument(name, type=Path)
    for name, default in (("epochs", 1), ("jobs", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument(
        "--only", choices=("unbroken", "killed"), help="train one of the two sweeps"
    )
    options = parser.parse_args()
    keys = {
        "Global.mode": "train", "Global.device": "cpu", "Global.dataset_dir": options.data,
        "Train.pretrain_weight_path": options.weights, "Train.image_size": SIDE,
        "Train.epochs_iters": options.epochs, "Train.save_interval": options.epochs,
    }  # fmt: skip
    command = [sys.executable, "-m", "paddlex_ml", "-c", "PP-LCNet_x1_0_ML"]
    command += [part for key, value in keys.items() for part in ("-o", f"{key}={value}")]
    command += [*SWEEP, "--jobs", str(options.jobs)]
    options.folder.mkdir(parents=True, exist_ok=True)
    kills, parts = draw_kills(options.seed, options.epochs), []
    for name, own in (("unbroken", []), ("killed", kills)):
        endings = ("", "_log.txt", ".csv", ".txt", "_kills.json")
        parts.append(Part(*(options.folder / f"{name}{ending}" for ending in endings)))
        if options.only in (name, None):
            train(parts[-1], command, own)
    if options.only is not None:
        return 0
    whole, broken = parts
    processor = verified_engines.name_processor().rpartition(":")[2].strip()
    print(f"{processor}, {psutil.cpu_count()} cores, {options.epochs} epochs\n")
    print(whole.said.read_text("utf-8"))
    for each in json.loads(broken.kills.read_text("utf-8")):
        what = "the sweep and its trainings" if each["takes_all"] else "the sweep"
        print(f"killed {what}: {each['runs']} of {RUNS} runs and {each['epochs']} of "
              f"{RUNS * options.epochs} epochs were done")  # fmt: skip
    differences = compare(whole.csv, broken.csv)
    numbers = sum(len(row) for row in read_rows(whole.csv))
    print("\n".join(differences) or f"all {numbers} cells of the two tables are equal")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
