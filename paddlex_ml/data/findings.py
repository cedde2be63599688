# SPDX-License-Identifier: Apache-2.0
"""Warnings about a data set without faults, with the images that they concern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paddlex_ml.data.annotation import ImageList, MLClsDataset, normalise_path
from paddlex_ml.data.inspect_images import HASH_BYTES, Inspected
from paddlex_ml.data.near_duplicates import find_near_duplicates

IMBALANCE = 50  # times as many images: beyond it, few batches contain the rare class
SMALL = 32  # pixels of the shorter side: smaller images show too little for any network

Lines = Mapping[str, Mapping[str, int]]
"""List -> normalised path -> number of the line."""
Images = Mapping[str, Inspected]


@dataclass(frozen=True)
class Finding:
    """A warning. `images` has paths as in the lists, one or a pair (train, val) in each entry."""

    text: str
    images: Sequence[tuple[str, ...]] = ()
    alike: bool = False
    """Whether the entries are pairs to be shown side by side."""


def find(dataset: MLClsDataset, lines: Lines, images: Images) -> list[Finding]:
    """All warnings about a data set that has no faults."""
    train, val = lines.get("train", {}), lines.get("val", {})
    if train and train.keys() == val.keys():
        overlap = [
            Finding(
                "train.txt and val.txt name the same images: the validation score does not "
                "predict the score on new images; give val.txt other images"
            )
        ]
    else:
        overlap = [
            *_find_copies(dataset, train, val, images),
            *_find_near_duplicates(dataset, images),
        ]
    return [
        *overlap,
        *_find_contradictions(dataset, images),
        *_find_absent(dataset.train, dataset, "train", "the model cannot learn them"),
        *_find_absent(dataset.val, dataset, "val", "their average precision is undefined"),
        *_find_unlabelled(dataset.train, "train"),
        *_find_unlabelled(dataset.val, "val"),
        *_find_imbalance(dataset),
        *_find_small(dataset, images),
    ]


def _find_copies(
    dataset: MLClsDataset, train: Mapping[str, int], val: Mapping[str, int], images: Images
) -> Iterator[Finding]:
    in_train = {images[path].digest: (number, path) for path, number in train.items()}
    copies = [
        (in_train[d], (number, path))
        for path, number in val.items()
        if (d := images[path].digest) in in_train
    ]
    if copies:
        shown = [f"train.txt:{a[0]} = val.txt:{b[0]}" for a, b in copies]
        yield Finding(
            f"the same image (by content) is in train and val {len(copies):,} times: "
            f"{_first(shown, 5)}; the validation score will be too good, remove one of the lines",
            [(a[1], b[1]) for a, b in copies],
        )


def _find_near_duplicates(dataset: MLClsDataset, images: Images) -> Iterator[Finding]:
    lists = [
        [path for path in images_.paths if images[normalise_path(path)].fingerprint]
        for images_ in (dataset.train, dataset.val)
    ]
    if not all(lists):
        return
    train, val = lists
    prints = [[images[normalise_path(path)].fingerprint for path in paths] for paths in lists]
    tables = [np.frombuffer(b"".join(each), np.uint8).reshape(len(each), -1) for each in prints]
    hashes = [np.ascontiguousarray(t[:, :HASH_BYTES]).view(np.uint64).reshape(-1) for t in tables]
    greys = [table[:, HASH_BYTES:] for table in tables]
    numbers = find_near_duplicates(hashes[0], greys[0], hashes[1], greys[1])
    pairs = [(train[a], val[b]) for a, b in numbers]
    pairs = [pair for pair in pairs if len({images[normalise_path(p)].digest for p in pair}) > 1]
    if pairs:
        yield Finding(
            f"{len(pairs):,} images of val look like one of train: "
            f"{_first([f'{b} = {a}' for a, b in pairs], 5)}; they are most likely copies, resized "
            "or edited, and make the validation score too good: move both to the same list "
            "(report.html shows the pairs)",
            pairs,
            alike=True,
        )


def _find_contradictions(dataset: MLClsDataset, images: Images) -> Iterator[Finding]:
    seen: dict[bytes, tuple[str, bytes]] = {}
    pairs = []
    for listed in (dataset.train, dataset.val):
        for path, target in zip(listed.paths, listed.targets, strict=True):
            digest, labels = images[normalise_path(path)].digest, target.tobytes()
            first = seen.setdefault(digest, (path, labels))
            if first[1] != labels:
                pairs.append((first[0], path))
    if pairs:
        yield Finding(
            f"the same image (by content) has different labels {len(pairs):,} times: "
            f"{_first([f'{a} and {b}' for a, b in pairs], 5)}; correct one of the two lines",
            pairs,
        )


def _find_absent(
    images: ImageList, dataset: MLClsDataset, name: str, effect: str
) -> Iterator[Finding]:
    shows = (images.targets.sum(axis=0, dtype=np.int64) > 0).tolist()
    absent = [label for label, shown in zip(dataset.label_names, shows, strict=True) if not shown]
    if absent and len(images):
        yield Finding(
            f"{len(absent)} of {len(shows)} classes have no image in {name}: {_first(absent, 10)}; "
            f"{effect}, add images or remove them from label.txt and the lists"
        )


def _find_unlabelled(images: ImageList, name: str) -> Iterator[Finding]:
    bare = np.flatnonzero(~images.targets.any(axis=1))
    if len(bare):
        yield Finding(
            f"{len(bare):,} of {len(images):,} images in {name} have no label at all "
            f"(the first: {images.paths[bare[0]]}); correct if they show none of the classes",
            [(images.paths[i],) for i in bare],
        )


def _find_imbalance(dataset: MLClsDataset) -> Iterator[Finding]:
    sums = dataset.train.targets.sum(axis=0, dtype=np.int64).tolist()
    counts = sorted((n, name) for n, name in zip(sums, dataset.label_names, strict=True) if n)
    if not counts or counts[-1][0] <= IMBALANCE * counts[0][0]:
        return
    (rare, rare_name), (most, most_name) = counts[0], counts[-1]
    yield Finding(
        f"strong imbalance in train: {most_name} has {most:,} images, {rare_name} {rare:,} "
        f"({most // rare} times fewer; this warning starts at {IMBALANCE} times); "
        "rare classes will score low, add images of them"
    )


def _find_small(dataset: MLClsDataset, images: Images) -> Iterator[Finding]:
    small = [
        path
        for listed in (dataset.train, dataset.val)
        for path in listed.paths
        if min(images[normalise_path(path)][:2]) < SMALL
    ]
    if small:
        yield Finding(
            f"{len(small):,} images are less than {SMALL} pixels wide or high: {_first(small, 5)}; "
            "they show little detail when they are enlarged to the input size of the network",
            [(path,) for path in small],
        )


def _first(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
