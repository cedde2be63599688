# SPDX-License-Identifier: Apache-2.0
"""How much of the decoder's own speed is left in a check: python benchmarks/check_speed.py DIR.

The same files are decoded by a bare pool of processes that does nothing else, and inspected as
check_dataset does it (hash of the bytes, perceptual hash, result per image), in turn, several
times. DIR is any folder of images; they are used several times over when they are few.
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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.data import worker
from paddlex_ml.data.inspect_images import inspect_images
from paddlex_ml.data.transforms import SUFFIXES
from paddlex_ml.environment import usable_cores

_CHUNK = 16


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of images, searched in all depths")
    parser.add_argument("--images", type=int, default=8000, help="how many to decode in a round")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found = sorted(p for p in asked.folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    names = [str(p.relative_to(asked.folder)) for p in found]
    # The same file by another name: no result is shared.
    paths = [f"{'./' * (i // len(names))}{names[i % len(names)]}" for i in range(asked.images)]
    ratios, rates = [], []
    for _ in range(asked.rounds):
        bare = time_bare(asked.folder, paths)
        checked = time_check(asked.folder, paths)
        ratios.append(bare / checked)
        rates.append((len(paths) / bare, len(paths) / checked))
    print(
        f"{len(paths):,} images of {asked.folder} on {platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"  decoder alone: {statistics.median(r[0] for r in rates):,.0f} images/s")
    print(f"  check:         {statistics.median(r[1] for r in rates):,.0f} images/s")
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"  ratio:         {statistics.median(ratios):.2f} ({spread})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"  peak memory of the main process: {peak:.0f} MiB")
    return 0


def time_bare(root: Path, paths: list[str]) -> float:
    """Seconds of a pool that reads and decodes, and keeps nothing."""
    begin = time.perf_counter()
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(usable_cores(), context, worker.begin) as pool:
        for _ in pool.map(decode, [str(root)] * len(chunks), chunks):
            pass
    return time.perf_counter() - begin


def decode(root: str, paths: list[str]) -> None:
    """Decode some images."""
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
