# SPDX-License-Identifier: Apache-2.0
"""Is a data set fit for training? Text files and every image -> a report (no drawing, no printing).

parse the lists -> decode each image once, on all cores -> faults, warnings, counts
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paddlex_ml.data import annotation, worker
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.data.faults import Fault
from paddlex_ml.data.transforms import decode_image
from paddlex_ml.environment import usable_cores
from paddlex_ml.errors import PaddlexMLError

IMBALANCE = 50  # times as many images: beyond it, the rare class is seldom seen in a batch
_CHUNK = 16  # images handed to a worker at once: a fraction of a second, so that Ctrl-C is prompt
_FEW = 256  # images decoded faster than worker processes start

Progress = Callable[[int, int], None]


class Inspected(NamedTuple):
    """What one image file is: size in pixels, hash of its bytes, or why it cannot be used."""

    width: int
    height: int
    digest: bytes
    problem: str
    fix: str


@dataclass(frozen=True)
class Report:
    """The findings. With faults there are no warnings, and `dataset` has the sound lines alone."""

    dataset: MLClsDataset
    faults: list[Fault]
    warnings: list[str]
    images: dict[str, Inspected]
    """Every image file named in a list and present, by normalised path."""


def check(
    dataset_dir: Path, progress: Progress | None = None, workers: int | None = None
) -> Report:
    """Check the text files and decode every image.

    `progress(done, total)` is called as images are done. `workers`: None for one process per core
    (a small set is done in this process), 0 for this process. Raises PaddlexMLError when a worker
    is killed; faults of the data set are returned, not raised.
    """
    root = Path(dataset_dir)
    parsed = annotation.parse(root)
    places: dict[str, list[str]] = {}  # path -> ["train.txt:7", "val.txt:3"]
    for name, lines in parsed.lines.items():
        for path, number in lines.items():
            places.setdefault(path, []).append(f"{name}.txt:{number}")
    images = _inspect_all(root, list(places), progress or _ignore, workers)
    broken = [
        Fault("image not decodable", ", ".join(places[path]), f"{path}: {image.problem}", image.fix)
        for path, image in images.items()
        if image.problem
    ]
    faults = parsed.faults + broken
    # Counts taken from a faulty set would mislead: they come when the set is sound.
    told = [] if faults else _warn(parsed.dataset, parsed.lines, images)
    return Report(parsed.dataset, faults, told, images)


def summarise(report: Report) -> dict[str, Any]:
    """Counts of a report without faults, as plain JSON values; image sizes are in pixels."""
    names = report.dataset.label_names
    lists = {"train": report.dataset.train, "val": report.dataset.val}
    return {
        "class_counts": {
            name: dict(zip(names, count_positives(images), strict=True))
            for name, images in lists.items()
        },
        "labels_per_image": {name: _labels_per_image(images) for name, images in lists.items()},
        "image_sizes": _sizes([image for image in report.images.values() if not image.problem]),
    }


def count_positives(images: ImageList) -> list[int]:
    """For each class, how many images of the list show it."""
    return [int(count) for count in images.targets.sum(axis=0, dtype=np.int64)]


def _labels_per_image(images: ImageList) -> dict[str, Any]:
    counts = images.targets.sum(axis=1, dtype=np.int64)
    spread = np.bincount(counts)
    return {
        "mean": round(float(counts.mean()), 3) if len(counts) else 0.0,
        "images_by_number_of_labels": {str(k): int(n) for k, n in enumerate(spread) if n},
    }


def _sizes(images: list[Inspected]) -> dict[str, dict[str, int]]:
    sides = {"width": [i.width for i in images], "height": [i.height for i in images]}
    return {
        side: {"min": min(all_), "median": int(np.median(all_)), "max": max(all_)}
        for side, all_ in sides.items()
        if all_
    }


# Decoding


def _inspect_all(
    root: Path, paths: list[str], progress: Progress, workers: int | None
) -> dict[str, Inspected]:
    if workers is None:
        workers = usable_cores() if len(paths) > _FEW else 0
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    run = _inspect_in_pool(root, chunks, workers) if workers > 1 else _inspect_here(root, chunks)
    images: dict[str, Inspected] = {}
    for chunk, found in zip(chunks, run, strict=True):
        images.update(zip(chunk, found, strict=True))
        progress(len(images), len(paths))
    return images


def _inspect_here(root: Path, chunks: list[list[str]]) -> Iterator[list[Inspected]]:
    return map(inspect_chunk, repeat(str(root)), chunks)


def _inspect_in_pool(
    root: Path, chunks: list[list[str]], workers: int
) -> Iterator[list[Inspected]]:
    # `spawn` on every system: a fork of a process with threads (progress bar, OpenMP) can hang.
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)), multiprocessing.get_context("spawn"), worker.begin
    )
    done = 0
    try:
        for found in pool.map(inspect_chunk, repeat(str(root)), chunks):
            yield found
            done += 1
    except BrokenProcessPool as error:
        raise PaddlexMLError(
            f"a process that decodes images was killed after {done * _CHUNK:,} images",
            where=f"{root}, near {chunks[done][0]}",
            fix="most often memory ran out: free some, look for a huge image there, and run again",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def inspect_chunk(root: str, paths: list[str]) -> list[Inspected]:
    """Decode some images of the data set; runs in a worker process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata: the pixels are fine
        return [_inspect(os.path.join(root, path)) for path in paths]


def _inspect(path: str) -> Inspected:
    try:
        content = Path(path).read_bytes()
        width, height = decode_image(content, where=path).size
    except OSError as error:
        fix = "make the file readable, or remove its line from the list"
        return Inspected(0, 0, b"", f"the image cannot be opened: {error.strerror}", fix)
    except PaddlexMLError as error:
        return Inspected(0, 0, b"", error.what, error.fix)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    return Inspected(width, height, digest, "", "")


def _ignore(_done: int, _total: int) -> None:
    """Nobody watches the progress."""


# Warnings


def _warn(
    dataset: MLClsDataset, lines: dict[str, dict[str, int]], images: dict[str, Inspected]
) -> list[str]:
    warned = chain(
        _warn_overlap(lines.get("train", {}), lines.get("val", {}), images),
        _warn_absent(dataset.train, dataset, "train", "the model cannot learn them"),
        _warn_absent(dataset.val, dataset, "val", "their average precision is undefined"),
        _warn_unlabelled(dataset.train, "train"),
        _warn_unlabelled(dataset.val, "val"),
        _warn_imbalance(dataset),
    )
    return list(warned)


def _warn_overlap(
    train: dict[str, int], val: dict[str, int], images: dict[str, Inspected]
) -> Iterator[str]:
    if train and train.keys() == val.keys():
        yield (
            "train.txt and val.txt name the same images: the validation score will say nothing "
            "about new images; give val.txt images of its own"
        )
        return
    in_train = {images[path].digest: number for path, number in train.items()}
    in_train.pop(b"", None)  # images that cannot be decoded are faults already
    twins = [
        (in_train[d], number) for p, number in val.items() if (d := images[p].digest) in in_train
    ]
    if twins:
        shown = ", ".join(f"train.txt:{a} = val.txt:{b}" for a, b in twins[:5])
        more = ", ..." if len(twins) > 5 else ""
        yield (
            f"the same image (by content) is in train and val {len(twins):,} times: {shown}{more}; "
            "the validation score will be too good, remove one of the two lines"
        )


def _warn_absent(images: ImageList, dataset: MLClsDataset, name: str, effect: str) -> Iterator[str]:
    counts = count_positives(images)
    absent = [label for label, n in zip(dataset.label_names, counts, strict=True) if n == 0]
    if absent and len(images):
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        yield (
            f"{len(absent)} of {len(counts)} classes have no image in {name}: {shown}; {effect}, "
            "add images or remove them from label.txt and the lists"
        )


def _warn_unlabelled(images: ImageList, name: str) -> Iterator[str]:
    bare = np.flatnonzero(~images.targets.any(axis=1))
    if len(bare):
        yield (
            f"{len(bare):,} of {len(images):,} images in {name} have no label at all "
            f"(the first: {images.paths[bare[0]]}); right if they show none of the classes"
        )


def _warn_imbalance(dataset: MLClsDataset) -> Iterator[str]:
    pairs = zip(count_positives(dataset.train), dataset.label_names, strict=True)
    counts = sorted((n, name) for n, name in pairs if n)
    if not counts or counts[-1][0] <= IMBALANCE * counts[0][0]:
        return
    (rare, rare_name), (most, most_name) = counts[0], counts[-1]
    yield (
        f"strong imbalance in train: {most_name} has {most:,} images, {rare_name} {rare:,} "
        f"({most // rare} times fewer; this is said from {IMBALANCE} times on); "
        "rare classes will score low, add images of them"
    )
