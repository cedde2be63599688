# SPDX-License-Identifier: Apache-2.0
"""Seconds from the start of a training to the end of its first step, and in which part they pass.

    python benchmarks/first_step.py [--models PP-LCNet_x1_0_ML ...] [--rounds 5] [--batch 8]

Draws a small data set and runs `main.py -c MODEL -o Global.mode=train` on it, in turns: as on a new
machine, with an empty cache (a folder of PADDLEX_ML_CACHE of its own), and once more with what that
run has left there. The weights are random: on a new machine the download of published ones comes
in addition. The command is that of a user, except that it notes times, and ends itself after its
first step. Medians; the parts add up to the whole of a run, but not their medians.
--processor counts all processor time of the command and its processes instead of seconds, without
parts: other programs change it less.
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
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {"train": 64, "val": 8}
SIZE = (640, 480)
CLASSES = 20
FRESH, AGAIN = "new machine", "later"
NUMBA = "NUMBA_CACHE_DIR"

# In the process that trains: the end of every part is noted, and the last one ends the command.
_COMMAND = """
import importlib, json, sys, time
sys.path.insert(0, {root!r})
marks = [("start", {begin!r})]

def note(part):
    marks.append((part, time.time()))

def noting(owner, name, before, after):
    function = getattr(owner, name)
    def call(*arguments, **options):
        if before:
            note(before)
        result = function(*arguments, **options)
        note(after)
        return result
    setattr(owner, name, call)

def ending(*arguments, **options):
    note("workers and first images")
    step(*arguments, **options)
    note("first step")
    with open({marks!r}, "w") as file:
        json.dump([marks, waited], file)
    raise KeyboardInterrupt

def waiting(*families):
    begin = time.time()
    try:
        return kernels(*families)
    finally:
        waited.append(time.time() - begin)

from paddlex_ml import cli, paddle_runtime
noting(paddle_runtime, "prepare", "Python and the command line", "import of Paddle")
plain_import = importlib.import_module

def import_and_note(name, package=None):
    global kernels, step
    module = plain_import(name, package)
    if name == cli.ENGINES["train"]:
        importlib.import_module = plain_import
        from paddlex_ml.kernels import layers
        from paddlex_ml.training import loop
        note("import of the other modules")
        noting(module.build, "prepare", "lists and checks", "model and optimizer")
        kernels, layers.kernels = layers.kernels, waiting
        step, loop.train_step = loop.train_step, ending
    return module

waited = []
importlib.import_module = import_and_note
sys.exit(cli.main(sys.argv[1:]))
"""
WAITED = "of it, waiting for kernels"


def main() -> int:
    """Measure all models and print a Markdown table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--processor", action="store_true", help="processor time, without parts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = draw(folder / "data")
        runs: dict[tuple[str, str], list[dict[str, float]]] = {}
        for number in range(options.rounds):
            for model in options.models:
                cache = folder / f"cache of {model}, {number}"
                for way in (FRESH, AGAIN):
                    taken = measure(model, options.batch, data, cache, cache / f"run {way}")
                    runs.setdefault((model, way), []).append(taken)
                    print(f"round {number + 1}, {model}, {way}: {taken}", file=sys.stderr)
    kind = "processor seconds" if options.processor else "seconds"
    print(f"{platform.machine()}, {os.cpu_count()} cores, batch {options.batch}, {kind}\n")
    columns = [*runs]
    print(f"| part | {' | '.join(f'{model}, {way}' for model, way in columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    parts = [*runs[columns[0]][0]]
    for part in parts:
        if options.processor == (part == "processor time"):
            medians = (statistics.median(run[part] for run in runs[column]) for column in columns)
            print(f"| {part} | {' | '.join(f'{seconds:.1f}' for seconds in medians)} |")
    return 0


def draw(folder: Path) -> Path:
    """A data set of photographs of noise; returns its folder."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "label.txt").write_text("".join(f"{k} class {k}\n" for k in range(CLASSES)))
    for name, count in IMAGES.items():
        lines = []
        for number in range(count):
            small = random.integers(0, 256, (12, 16, 3), np.uint8)
            image = Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)
            path = f"images/{name}{number}.jpg"
            image.save(folder / path, quality=90)
            row = random.random(CLASSES) < 0.2
            row[number % CLASSES] = True
            lines.append(f"{path}\t{','.join(str(int(value)) for value in row)}\n")
        (folder / f"{name}.txt").write_text("".join(lines))
    return folder


def measure(model: str, batch: int, data: Path, cache: Path, run: Path) -> dict[str, float]:
    """Seconds of each part of one training up to its first step, with this cache."""
    variables = {key: value for key, value in os.environ.items() if key != NUMBA}
    variables |= {"PADDLEX_ML_CACHE": str(cache)}
    marks = run.with_suffix(".json")
    cache.mkdir(exist_ok=True)
    settings = {
        "Global.mode": "train",
        "Global.dataset_dir": data,
        "Global.output": run,
        "Global.device": "cpu",
        "Train.pretrain_weight_path": "null",
        "Train.batch_size": batch,
        "Train.num_classes": "null",
        "Train.resume_path": "null",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.time()
    code = _COMMAND.format(root=str(ROOT), begin=begin, marks=str(marks))
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", model, "-o", *(f"{k}={v}" for k, v in settings.items())],
        env=variables,
        cwd=run.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if not marks.exists():
        raise RuntimeError(f"the command ended before its first step:\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    times, waited = json.loads(marks.read_text())
    seconds = {part: end - start for (_, start), (part, end) in pairwise(times)}
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    whole = times[-1][1] - times[0][1]
    return seconds | {WAITED: sum(waited), "whole": whole, "processor time": processor}


if __name__ == "__main__":
    sys.exit(main())
