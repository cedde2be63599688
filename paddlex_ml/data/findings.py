# SPDX-License-Identifier: Apache-2.0
"""Warnings about a data set without faults, with the images that they concern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from paddlex_ml import systems
from paddlex_ml.cores import usable_cores
from paddlex_ml.data import near_duplicates, split, targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset, normalise_path
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.inspect_images import HASH_BYTES, Inspected
from paddlex_ml.data.near_duplicates import find_near_duplicates, is_copy
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count, first_names, part_of

IMBALANCE = 50  # times as many images: beyond it, few batches contain the rare class
SMALL = 32  # pixels of the shorter side: smaller images show too little for any network
_CLASSES = "class", "classes"
_HAVE, _ARE = ("has", "have"), ("is", "are")
_COMPARED = 300  # pairs of near-duplicates that are decoded again: 1 to 3 seconds
_TOGETHER = 0.9  # of the pairs: no better pattern is looked for
_SERIES = (r"\D)\d+\D*$", r"\D)\d+\D+\d+\D*$", r"\d)\d\d\D*$", r"\d)\d\D*$", r"\d)\d\d\d\D*$")
"""Ends of patterns that may keep a series together: without the last number, the last two, or the
last digits of a number."""

Lines = Mapping[str, Mapping[str, int]]
"""List -> normalised path -> number of the line."""
Images = Mapping[str, Inspected]


@dataclass(frozen=True)
class Finding:
    """A warning. `images` has paths as in the lists, one or a pair (train, val) in each entry.

    The text names the first few; `images` and `names` have them all.
    """

    text: str
    images: Sequence[tuple[str, ...]] = ()
    alike: bool = False
    """Whether the entries are pairs to be shown side by side."""
    names: Sequence[str] = ()
    """Classes that it concerns, where these are many."""


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
            *_find_copies(train, val, images),
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
    train: Mapping[str, int], val: Mapping[str, int], images: Images
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
            f"the same image (by content) is in train and val {count(len(copies), 'time')}: "
            f"{first_names(shown, 5)}; the validation score will be too good, remove one of the "
            "lines",
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
    copied = _compare(dataset.root, pairs, images)
    copies = [pair for pair, is_copied in zip(pairs, copied, strict=True) if is_copied]
    views = [pair for pair, is_copied in zip(pairs, copied, strict=True) if not is_copied]
    if copies:
        yield Finding(
            f"{count(len(copies), 'image of val looks', 'images of val look')} like one of train: "
            f"{_equate(copies)}; they are "
            "most likely copies, resized or edited, and make the validation score too good: move "
            "both to the same list (report.html shows the pairs)",
            copies,
            alike=True,
        )
    if views:
        yield Finding(
            f"{count(len(views), 'image of val shows', 'images of val show')} nearly the same view "
            "as one of train: "
            f"{_equate(views)}; they may be moments of one camera or one scene, and make the "
            f"validation score too good: {_advise_groups(dataset, views)} (report.html shows the "
            "pairs)",
            views,
            alike=True,
        )


def _advise_groups(dataset: MLClsDataset, pairs: Sequence[tuple[str, str]]) -> str:
    pattern = propose_groups([*dataset.train.paths, *dataset.val.paths], pairs)
    if not pattern:
        return (
            "move both to the same list; where file names tell the series, "
            "CheckDataset.split.group_regex keeps it on one side"
        )
    share = len(dataset.val) / (len(dataset.train) + len(dataset.val))
    percent = min(99, max(1, round(100 * share)))
    group = systems.quote(f"CheckDataset.split.group_regex={pattern}")
    return (
        "split again with the images of a series on one side: -o CheckDataset.split.enable=true "
        f"-o CheckDataset.split.train_percent={100 - percent} -o CheckDataset.split.val_percent="
        f"{percent} -o {group}"
    )


def _compare(root: Path, pairs: Sequence[tuple[str, str]], images: Images) -> list[bool]:
    """Which pairs are copies of one picture; the others show nearly the same view.

    A camera that stands still makes frames of one size, and in some of them nothing has moved: so
    where most pairs of one size are no copies, none of them is called one. Of very many pairs some
    are looked at, evenly spread; the others are called copies where nearly all of those are.
    """

    def look(number: int) -> bool:
        greys = [
            np.asarray(
                read_image(root / path, min_side=near_duplicates.SIDE)
                .convert("L")
                .resize((near_duplicates.SIDE,) * 2, Image.Resampling.BOX)
            )
            for path in pairs[number]
        ]
        return is_copy(*greys)

    chosen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), _COMPARED)).astype(int))
    with ThreadPoolExecutor(usable_cores()) as pool:
        seen = dict(zip(chosen.tolist(), pool.map(look, chosen.tolist()), strict=True))
    of_one_size = [len({images[normalise_path(p)][:2] for p in pair}) == 1 for pair in pairs]
    shares = {
        kind: float(np.mean([copy for i, copy in seen.items() if of_one_size[i] == kind] or [0]))
        for kind in (True, False)
    }
    copied = []
    for i, is_same_size in enumerate(of_one_size):
        share = shares[is_same_size]
        is_camera = is_same_size and share <= 0.5
        copied.append(seen.get(i, share >= 0.95) and not is_camera)
    return copied


def propose_groups(paths: Sequence[str], pairs: Sequence[tuple[str, str]]) -> str:
    """A pattern for `CheckDataset.split.group_regex` that keeps most of the pairs together.

    The file names must have a number, as frames have: the text before it, or all but its last
    digits, names the group. "" where no pattern leaves groups that can be divided.
    """
    place = {path: i for i, path in enumerate(paths)}
    first, second = (np.array([place[pair[i]] for pair in pairs]) for i in (0, 1))
    best, most = "", 0.0
    for pattern in (head + end for end in _SERIES for head in ("^(.*", "([^/]*")):
        try:
            groups = split.group(paths, pattern)
        except PaddlexMLError:  # no name matches
            continue
        together = float(np.mean(groups[first] == groups[second]))
        if together > most and 2 * np.bincount(groups).max() <= len(paths):
            best, most = pattern, together
        if most >= _TOGETHER:
            break
    return best


def _find_contradictions(dataset: MLClsDataset, images: Images) -> Iterator[Finding]:
    seen: dict[bytes, tuple[str, ImageList, int]] = {}
    pairs = []
    for listed in (dataset.train, dataset.val):
        for i, path in enumerate(listed.paths):
            digest = images[normalise_path(path)].digest
            first, other, k = seen.setdefault(digest, (path, listed, i))
            if first is path:
                continue
            rows = targets.row(other.values, k), targets.row(listed.values, i)
            if not np.array_equal(*rows):
                pairs.append((first, path))
    if pairs:
        shown = first_names([f"{a} and {b}" for a, b in pairs], 5)
        yield Finding(
            f"the same image (by content) has different labels {count(len(pairs), 'time')}: "
            f"{shown}; correct one of the two lines",
            pairs,
        )


def _find_absent(
    images: ImageList, dataset: MLClsDataset, name: str, effect: str
) -> Iterator[Finding]:
    counts, names = targets.count(images.values), dataset.label_names
    if not len(images):
        return
    absent = [names[i] for i in np.flatnonzero((counts.present == 0) & (counts.known > 0))]
    if absent:
        yield Finding(
            f"{part_of(len(absent), len(names), _CLASSES, _HAVE)} no image in {name}: "
            f"{first_names(absent)}; {effect}, add images or remove them from label.txt and the "
            "lists",
            names=absent,
        )
    if unseen := [names[i] for i in np.flatnonzero(counts.known == 0)]:
        yield Finding(
            f"{part_of(len(unseen), len(names), _CLASSES, _ARE)} unknown in every image of {name}: "
            f"{first_names(unseen)}; {effect}, look for them in some images, or remove them from "
            "label.txt and the lists",
            names=unseen,
        )
    everywhere = (counts.known == counts.present) & (counts.known < len(images))
    if one_sided := [names[i] for i in np.flatnonzero(everywhere & (counts.present > 0))]:
        yield Finding(
            f"{part_of(len(one_sided), len(names), _CLASSES, _ARE)} known only where {name} shows "
            "them: "
            f"{first_names(one_sided)}; nothing says what an image without them looks like: write "
            "0 where somebody has looked, or train with -o Train.single_positive=true",
            names=one_sided,
        )


def find_unlabelled_list(name: str, images: ImageList) -> DatasetFault | None:
    """The fault of a list none of whose images has a label; None for any other."""
    if not len(images) or targets.labels_per_image(images.values).any():
        return None
    text = f"none of the {len(images):,} images of {name} has a label"
    if len(images) == 1:
        text = f"the only image of {name} has no label"
    text += " that is known to be present" * bool(targets.count_unknown(images.values))
    fix = "look whether the labels were read from the right files; without labels nothing is learnt"
    return DatasetFault("no labels", f"{name}.txt", text, fix)


def _find_unlabelled(images: ImageList, name: str) -> Iterator[Finding]:
    nouns = f"image in {name}", f"images in {name}"
    without = targets.labels_per_image(images.values) == 0
    hidden = targets.labels_per_image(images.values, unknown=True)
    bare = np.flatnonzero(without & (hidden == 0))
    if len(unseen := np.flatnonzero(hidden == images.values.shape[1])):
        yield Finding(
            f"{part_of(len(unseen), len(images), nouns, _ARE)} unknown in every class "
            f"(the first: {images.paths[unseen[0]]}); nothing is learned or measured from them",
            [(images.paths[i],) for i in unseen],
        )
    if len(bare):
        yield Finding(
            f"{part_of(len(bare), len(images), nouns, _HAVE)} no label at all "
            f"(the first: {images.paths[bare[0]]}); correct if they show none of the classes",
            [(images.paths[i],) for i in bare],
        )


def _find_imbalance(dataset: MLClsDataset) -> Iterator[Finding]:
    sums = targets.count(dataset.train.values).present.tolist()
    counts = sorted((n, name) for n, name in zip(sums, dataset.label_names, strict=True) if n)
    if not counts or counts[-1][0] <= IMBALANCE * counts[0][0]:
        return
    (rare, rare_name), (most, most_name) = counts[0], counts[-1]
    yield Finding(
        f"strong imbalance in train: {most_name} has {count(most, 'image')}, {rare_name} {rare:,} "
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
            f"{count(len(small), 'image is', 'images are')} less than {SMALL} pixels wide or high: "
            f"{first_names(small, 5)}; they show little detail when they are enlarged to the input "
            "size of the network",
            [(path,) for path in small],
        )


def _equate(pairs: Sequence[tuple[str, str]]) -> str:
    return first_names([f"{val} = {train}" for train, val in pairs], 5)
