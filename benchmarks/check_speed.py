# SPDX-License-Identifier: Apache-2.0
"""Speed of a check compared with decoding alone: python benchmarks/check_speed.py DIR.

The same files are decoded by a bare pool of processes that does nothing else (with `decode_image`,
as training does, and with Pillow's `load` alone), and inspected as check_dataset does it (hash of
the bytes, perceptual hash, result per image), in turn, several times. DIR is any folder of images;
they are used several times over when they are few. Starting the processes is part of every time.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.cores import usable_cores
from paddlex_ml.data import worker
from paddlex_ml.data.inspect_images import inspect_images
from paddlex_ml.data.transforms import SUFFIXES, decode_image

_CHUNK = 16


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images, searched in all depths")
    parser.add_argument("--images", type=int, default=8000, help="how many to decode in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = sorted(p for p in options.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    names = [str(p.relative_to(options.folder)) for p in files]
    # A file that is used again gets another name, so that no result is shared.
    paths = [f"{'./' * (i // len(names))}{names[i % len(names)]}" for i in range(options.images)]
    seconds: dict[str, list[float]] = {"decode_image": [], "Pillow's load": [], "check": []}
    for _ in range(options.rounds):
        seconds["decode_image"].append(time_bare(options.folder, paths, decode))
        seconds["Pillow's load"].append(time_bare(options.folder, paths, load))
        seconds["check"].append(time_check(options.folder, paths))
    print(f"{len(paths):,} images, {platform.machine()}, {os.cpu_count()} cores")
    for name, each in seconds.items():
        ratios = [a / b for a, b in zip(each, seconds["check"], strict=True)]
        rate = len(paths) / statistics.median(each)
        print(f"  {name:14}{rate:8,.0f} images/s; check {statistics.median(ratios):.2f} times this")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"  peak memory of the main process: {peak:.0f} MiB")
    return 0


def time_bare(root: Path, paths: list[str], work: Callable[[str, list[str]], None]) -> float:
    """Seconds of a pool that reads and decodes, and keeps nothing."""
    begin = time.perf_counter()
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cores(), context, worker.start) as pool:
        for _ in pool.map(work, [str(root)] * len(chunks), chunks):
            pass
    return time.perf_counter() - begin


def decode(root: str, paths: list[str]) -> None:
    """Decode images to upright RGB."""
    for path in paths:
        decode_image(Path(root, path).read_bytes(), where=path)


def load(root: str, paths: list[str]) -> None:
    """Decode images, and leave them as they are."""
    for path in paths:
        with Image.open(io.BytesIO(Path(root, path).read_bytes())) as image:
            image.load()


def time_check(root: Path, paths: list[str]) -> float:
    """Seconds of what check_dataset does with images."""
    begin = time.perf_counter()
    inspect_images(root, paths, lambda done, total: None, None)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
