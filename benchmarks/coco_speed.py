# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of the COCO conversion at COCO's own size: python benchmarks/coco_speed.py.

Writes annotations of 118,000 + 5,000 images, 830,000 boxes with polygons and 80 categories (about
465 MB of JSON, the same for the same seed) and an empty file for every image into a temporary
folder, reads them in a fresh process and writes label.txt and both lists, some times over. The
folder is removed at the end: 0.6 GB of disk are needed (`--folder` says where).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TextIO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.data import annotation
from paddlex_ml.formats import coco
from paddlex_ml.formats.collector import Options

IMAGES = {"train": 118_000, "val": 5_000}
BOXES = {"train": 796_000, "val": 34_000}
CATEGORIES, SEED, ROUNDS = 80, 0, 5
_POLYGONS = 4_000  # different ones: a text is taken again, which no reader can tell
_CHUNK = 20_000


def main() -> int:
    """Make the data, read it in fresh processes, print the medians."""
    parser = argparse.ArgumentParser(description="Time the COCO conversion at COCO's own size.")
    parser.add_argument("--folder", type=Path, default=None, help="where 0.6 GB are free")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="fresh processes")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the images and boxes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="coco_speed_", dir=options.folder) as folder:
        root = Path(folder)
        make(root, options.scale)
        size = sum(path.stat().st_size for path in (root / "annotations").iterdir())
        runs = [_measure(root) for _ in range(options.rounds)]
    print(f"{size / 1e6:.0f} MB of JSON on {platform.machine()}, {os.cpu_count()} cores,", end=" ")
    print(f"Python {platform.python_version()}; median of {len(runs)} fresh processes:")
    _tell("read", [run[0] for run in runs])
    _tell("write the lists", [run[1] for run in runs])
    _tell("together", [run[0] + run[1] for run in runs])
    _tell("together, processor time", [run[2] for run in runs])
    print(f"  peak memory: {max(run[3] for run in runs) / 2**30:.2f} GiB")
    return 0


def _tell(what: str, seconds: list[float]) -> None:
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    print(f"  {what}: {statistics.median(seconds):.2f} s ({spread})")


def make(root: Path, scale: float) -> None:
    """Write a data set in the shape of COCO 2017 into `root`, its image files empty."""
    rng = np.random.default_rng(SEED)
    category_ids = np.sort(rng.choice(np.arange(1, 91), CATEGORIES, replace=False))
    image_ids = rng.choice(600_000, sum(IMAGES.values()), replace=False)  # gaps, and no order
    polygons = [_polygon(rng) for _ in range(_POLYGONS)]
    (root / "annotations").mkdir()
    begin = 0
    for name in IMAGES:
        ids = image_ids[begin : begin + round(IMAGES[name] * scale)]
        begin += IMAGES[name]
        folder = root / f"{name}2017"
        folder.mkdir()
        for i in ids:
            (folder / f"{i:012}.jpg").touch()
        path = root / "annotations" / f"instances_{name}2017.json"
        with path.open("w", encoding="utf-8") as file:
            _write(file, rng, ids, category_ids, polygons, round(BOXES[name] * scale))


def _polygon(rng: np.random.Generator) -> str:
    points = rng.integers(6, 53)
    return "[[" + ",".join(f"{x:.2f}" for x in rng.uniform(0, 640, 2 * points)) + "]]"


def _write(
    file: TextIO,
    rng: np.random.Generator,
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    polygons: list[str],
    boxes: int,
) -> None:
    file.write('{"info":{"description":"generated"},"licenses":[],"images":[')
    file.write(",".join(map(_image, image_ids)))
    file.write('],"annotations":[')
    for begin in range(0, boxes, _CHUNK):
        file.write("," if begin else "")
        count = min(_CHUNK, boxes - begin)
        file.write(",".join(_annotations(rng, begin, count, image_ids, category_ids, polygons)))
    categories = (f'{{"supercategory":"thing","id":{i},"name":"class {i}"}}' for i in category_ids)
    file.write(f'],"categories":[{",".join(categories)}]}}')


def _image(image_id: int) -> str:
    name = f"{image_id:012}.jpg"
    return (
        f'{{"license":3,"file_name":"{name}","coco_url":"http://images.cocodataset.org/{name}",'
        f'"height":480,"width":640,"date_captured":"2013-11-14 17:02:52","id":{image_id}}}'
    )


def _annotations(
    rng: np.random.Generator,
    begin: int,
    count: int,
    image_ids: np.ndarray,
    category_ids: np.ndarray,
    polygons: list[str],
) -> Iterator[str]:
    images = rng.choice(image_ids, count)
    # Squared: few categories are frequent, many are rare, as in COCO.
    categories = category_ids[(rng.random(count) ** 2 * len(category_ids)).astype(int)]
    boxes = rng.uniform(0, 320, (count, 4))
    shapes = rng.integers(0, len(polygons), count)
    for i in range(count):
        x, y, width, height = boxes[i]
        yield (
            f'{{"segmentation":{polygons[shapes[i]]},"area":{width * height / 2:.4f},"iscrowd":0,'
            f'"image_id":{images[i]},"bbox":[{x:.2f},{y:.2f},{width:.2f},{height:.2f}],'
            f'"category_id":{categories[i]},"id":{900_000 + begin + i}}}'
        )


def _measure(root: Path) -> tuple[float, float, float, int]:
    """Seconds of reading, of writing, of processor time for both; peak memory in bytes."""
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_convert, args=(root, there))
    child.start()
    there.close()
    measured: tuple[float, float, float, int] = here.recv()
    child.join()
    return measured


def _convert(root: Path, answer: Connection) -> None:
    begin, begin_cpu = time.perf_counter(), time.process_time()
    found = coco.read(root, Options())
    read = time.perf_counter()
    annotation.write_labels(root / "label.txt", found.label_names)
    for name, images in found.lists.items():
        annotation.write_list(root / f"{name}.txt", images.paths, images.targets)
    written = time.perf_counter()
    answer.send((read - begin, written - read, time.process_time() - begin_cpu, _peak()))


def _peak() -> int:
    """Largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # ru_maxrss would begin with what the parent had at the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.exit(main())
