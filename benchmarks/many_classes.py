# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of check_dataset for a set of many classes, and the size of its pictures.

    python benchmarks/many_classes.py [--classes 5000] [--images 10000] [--rounds 3] [--work DIR]

Draws a data set (2.9 labels an image, a long tail) with one photograph-like JPEG per image, then
runs, in turn and in processes of their own, the check of lists and images alone, and mode
check_dataset with all its pictures. Prints medians, the difference of the two, and the files.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

LABELS_PER_IMAGE = 2.9
SIZE = (320, 240)  # pixels
DRAWN = ("check_dataset/histogram.png", "check_dataset/report.html")


def main() -> int:
    """Measure and print; with --step: one part of it."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--classes", type=int, default=5000)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--step", choices=["draw", "images", "all"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "draw":
        draw_set(options.work / "set", options.images, options.classes)
    elif options.step:
        print(json.dumps(time_step(options.work, options.step)))
    else:
        with tempfile.TemporaryDirectory(prefix="many_classes.", dir=options.work) as folder:
            print_table(Path(folder), options)
    return 0


def print_table(folder: Path, options: argparse.Namespace) -> None:
    """Draw the data set into the empty folder and measure on it."""
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{options.classes:,} classes, {options.images:,} images, median of {options.rounds}\n")
    sizes = ["--images", str(options.images), "--classes", str(options.classes)]
    call("draw", folder, *sizes)
    runs: dict[str, list[dict[str, float]]] = {"images": [], "all": []}
    for _ in range(options.rounds):
        for step, taken in runs.items():
            taken.append(json.loads(call(step, folder)))
    for step, taken in runs.items():
        seconds = statistics.median(run["seconds"] for run in taken)
        memory = statistics.median(run["mebibytes"] for run in taken)
        print(f"{step:10}{seconds:8.1f} s{memory:8.0f} MiB")
    for unit in ("seconds", "cpu", "mebibytes"):
        pairs = zip(runs["images"], runs["all"], strict=True)
        more = statistics.median(whole[unit] - images[unit] for images, whole in pairs)
        print(f"all besides images: {more:.1f} {unit}")
    for name in DRAWN:
        print(f"{name}: {(folder / 'output' / name).stat().st_size / 1e6:.2f} MB")
    with Image.open(folder / "output" / DRAWN[0]) as picture:
        print(f"the picture: {picture.width} x {picture.height} pixels")


def draw_set(root: Path, num_images: int, num_classes: int) -> None:
    """Write label.txt, train.txt, val.txt and the images; each class has an image while they last.

    A tenth of the images is in val, so most of the rare classes are absent there.
    """
    from paddlex_ml.data import annotation

    random = np.random.default_rng(0)
    chances = 1 / np.arange(1, num_classes + 1)
    chances *= (LABELS_PER_IMAGE - 1) / chances.sum()
    targets = (random.random((num_images, num_classes), np.float32) < chances).astype(np.uint8)
    targets[np.arange(num_images), np.arange(num_images) % num_classes] = 1
    paths = [f"images/{i // 1000:02d}/{i:06d}.jpg" for i in range(num_images)]
    for folder in {os.path.dirname(path) for path in paths}:
        (root / folder).mkdir(parents=True)
    for path in paths:
        shapes = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(shapes).resize(SIZE, Image.Resampling.BICUBIC).save(root / path)
    names = [f"class {i} of the long tail" for i in range(num_classes)]
    cut = num_images * 9 // 10
    annotation.write_labels(root / "label.txt", names)
    annotation.write_list(root / "train.txt", paths[:cut], targets[:cut])
    annotation.write_list(root / "val.txt", paths[cut:], targets[cut:])


def call(step: str, folder: Path, *arguments: str) -> bytes:
    """Run this script in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--work", str(folder), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def time_step(folder: Path, step: str) -> dict[str, float]:
    """Seconds, of the clock and of this process, and its most memory (workers are not counted)."""
    from paddlex_ml.config.schema import Config, GlobalConfig, TrainConfig
    from paddlex_ml.data import annotation, inspect_images
    from paddlex_ml.engines import check_dataset
    from paddlex_ml.storage import files

    logging.disable()
    root, output = folder / "set", folder / "output"
    begin = time.perf_counter()
    if step == "images":
        parsed = annotation.parse(root)
        paths = list(parsed.lines["train"] | parsed.lines["val"])
        inspect_images.inspect_images(root, paths, lambda done, total: None, None)
    else:
        config = Config(
            Global=GlobalConfig(
                model="PP-LCNet_x1_0_ML", mode="check_dataset", dataset_dir=root, output=output
            ),
            Train=TrainConfig(learning_rate=1e-3, warmup_steps=1),
        )
        result = check_dataset.run(config)
        files.write_json(output / "check_dataset_result.json", msgspec.to_builtins(result))
    seconds = time.perf_counter() - begin
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,  # without the workers that decode
        "mebibytes": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }


if __name__ == "__main__":
    sys.exit(main())
