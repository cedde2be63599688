# SPDX-License-Identifier: Apache-2.0
"""Seconds and memory of large lists: reading, dividing, writing and checking them.

    python benchmarks/list_speed.py [--images 500000] [--classes 80] [--rounds 3] [--folder /tmp]
                                    [--known 10] [--soft 1600000]

Draws a data set (2.9 labels an image, a long tail of rare classes) of empty image files in a
temporary folder, with sparse lists for more than 1,000 classes. With --known, so many classes of
each image are absent besides, and all others unknown, as in Open Images. With --soft, so many
labels of train.txt have a soft value of up to 8 digits, and the lists are not divided. Then runs
each step in processes of its own, and prints the median seconds and the highest memory. "check
besides decoding" is mode check_dataset's check with a decoder that does nothing. The last two rows
are those with limits.
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.data import annotation, check, inspect_images, soft_targets, targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.split import Division, count_classes, divide
from paddlex_ml.storage import files

LABELS_PER_IMAGE = 2.9
LIMITS = {
    "read, divide, write": "60 s, 2048 MiB",
    "check besides decoding": "20 s (60 s and 2048 MiB for 10,000 classes)",
}


def main() -> int:
    """Measure each step and print a table; with --step: draw the data set, or run one step."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--images", type=int, default=500_000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--known", type=int)
    parser.add_argument("--soft", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--step", choices=["draw", *STEPS], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "draw":
        draw_set(options.folder, options.images, options.classes, options.known, options.soft)
    elif options.step:
        print(json.dumps(STEPS[options.step](options.folder)))
    else:
        with tempfile.TemporaryDirectory(prefix="list_speed.", dir=options.folder) as folder:
            print_table(Path(folder), options)
    return 0


def print_table(folder: Path, options: argparse.Namespace) -> None:
    """Draw the data set into the empty folder and measure on it."""
    sizes = ["--images", str(options.images), "--classes", str(options.classes)]
    sizes += [] if options.known is None else ["--known", str(options.known)]
    sizes += ["--soft", str(options.soft)]
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {versions}")
    print(f"{options.images:,} images x {options.classes} classes, median of {options.rounds}\n")
    # Not in this process: on Linux children start with the highest memory of their parent.
    call("--step", "draw", *sizes, folder)
    print(f"{'step':26}{'seconds':>9}{'MiB':>7}  limits")
    for step in ("read", "write", "check besides decoding") if options.soft else STEPS:
        runs = [json.loads(call("--step", step, folder)) for _ in range(options.rounds)]
        seconds = statistics.median(run["seconds"] for run in runs)
        memory = max(run["mebibytes"] for run in runs)
        print(f"{step:26}{seconds:9.2f}{memory:7.0f}  {LIMITS.get(step, '')}", flush=True)


def draw_set(
    root: Path, num_images: int, num_classes: int, num_known: int | None, num_soft: int
) -> None:
    """Write label.txt, train.txt, val.txt and empty images, 30 frames a video, 1,000 a folder."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, num_classes + 1)
    chances *= LABELS_PER_IMAGE / chances.sum()
    labels: list[list[int]] = [[] for _ in range(num_images)]
    for i, size in enumerate(rng.binomial(num_images, np.minimum(chances, 1))):
        for image in rng.choice(num_images, size, replace=False, shuffle=False):
            labels[image].append(i)
    absent: list[set[int] | None] = [None] * num_images
    if num_known is not None:
        absent = [set(rng.integers(num_classes, size=num_known).tolist()) for _ in absent]
    values = targets.from_labels(labels, [()] * num_images, num_classes, absent)
    paths = [f"images/{i // 1000:04d}/video{i // 30:05d}_{i:06d}.jpg" for i in range(num_images)]
    for folder in {os.path.dirname(path) for path in paths}:
        (root / folder).mkdir(parents=True)
    for path in paths:
        os.close(os.open(root / path, os.O_CREAT | os.O_WRONLY))
    cut = num_images * 9 // 10
    annotation.write_labels(root / "label.txt", [f"class {i}" for i in range(num_classes)])
    train = targets.take(values, np.arange(cut))
    places = np.unique(rng.integers(cut * num_classes, size=num_soft))
    shares = rng.random(len(places), np.float32).clip(1e-6, 1 - 1e-6)
    images, ids = np.divmod(places, num_classes)
    train = targets.put(train, images, ids, (shares >= soft_targets.HALF).astype(np.int8))
    soft = soft_targets.from_cells(images, ids, shares, cut)
    (root / "train.txt").write_text(annotation.list_text(paths[:cut], train, soft))
    annotation.write_list(
        root / "val.txt", paths[cut:], targets.take(values, np.arange(cut, num_images))
    )


def call(*arguments: str | Path) -> bytes:
    """Run this script in a process of its own; the last argument is the folder."""
    command = [sys.executable, __file__, *arguments[:-1], "--folder", arguments[-1]]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


# Steps: each gets the folder of the data set and returns what it took


def time_reading(root: Path) -> dict[str, float]:
    """Both lists and label.txt."""
    return take(lambda: annotation.parse(root, soft_labels=True))


def time_dividing(root: Path, **options: str) -> dict[str, float]:
    """The stratified division alone, of lists that were read before."""
    images = read_all(root)
    return take(lambda: divide(images, Division(val_percent=20, **options)))  # type: ignore[arg-type]


def time_writing(root: Path) -> dict[str, float]:
    """Both lists, into another folder."""
    dataset = annotation.parse(root, soft_labels=True).dataset
    return take(lambda: write({"train": dataset.train, "val": dataset.val}, root / "new"))


def time_all(root: Path) -> dict[str, float]:
    """A re-split from files to files, with the table of classes."""

    def resplit() -> None:
        dataset = annotation.parse(root, soft_labels=True).dataset
        before = {"train": dataset.train, "val": dataset.val}
        after = divide(join(dataset.train, dataset.val), Division(val_percent=20))
        count_classes(before, after, dataset.label_names, 20)
        write(after, root / "new")

    return take(resplit)


def time_checking(root: Path) -> dict[str, float]:
    """Everything that check_dataset does about lists, with a decoder that does nothing."""
    Image.new("RGB", (64, 48)).save(root / "one.png")
    (sound,) = inspect_images.inspect_chunk(str(root), ["one.png"])
    random = np.random.default_rng(0)

    def inspect_nothing(root: str, paths: list[str]) -> list[inspect_images.Inspected]:
        prints = [random.bytes(inspect_images.FINGERPRINT_BYTES) for _ in paths]
        return [sound._replace(digest=each[:20], fingerprint=each) for each in prints]

    inspect_images.inspect_chunk = inspect_nothing

    def check_all() -> None:
        parsed = annotation.parse(root, soft_labels=True)
        images = check.inspect(parsed, workers=0)
        known, wrong = check.read_relations(parsed)
        faults = [*check.find_faults(parsed, images), *wrong]
        check.summarise(check.make_report(parsed, images, faults, known))

    return take(check_all)


def take(work: Callable[[], object]) -> dict[str, float]:
    """Seconds of `work`, and the most memory that this process has had."""
    begin = time.perf_counter()
    work()
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mebibytes": peak / (2**20 if sys.platform == "darwin" else 2**10)}


def read_all(root: Path) -> ImageList:
    """The images of both lists."""
    dataset = annotation.parse(root, soft_labels=True).dataset
    return join(dataset.train, dataset.val)


def join(train: ImageList, val: ImageList) -> ImageList:
    """One list of two."""
    values = targets.concatenate([train.values, val.values])
    return ImageList(train.root, train.paths + val.paths, values)


def write(lists: dict[str, ImageList], folder: Path) -> None:
    """train.txt and val.txt."""
    for name, images in lists.items():
        files.write_text(folder / f"{name}.txt", images.text())


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    "read": time_reading,
    "divide": time_dividing,
    "divide, groups of 30": lambda root: time_dividing(root, group_regex=r"(video\d+)_"),
    "write": time_writing,
    "read, divide, write": time_all,
    "check besides decoding": time_checking,
}

if __name__ == "__main__":
    sys.exit(main())
