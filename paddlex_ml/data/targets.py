# SPDX-License-Identifier: Apache-2.0
"""Targets of the images of a list in memory; `target_lines` has them as texts.

N images, C classes. An array int8 [N, C] holds dense lines; `SparseTargets` holds sparse ones, and
its size does not grow with C. The functions here take both; only they know which is which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from paddlex_ml.metrics.known import UNKNOWN, is_known, is_present

Dense: TypeAlias = np.ndarray
Mask: TypeAlias = npt.NDArray[np.bool_]
Rows: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.intp] | list[int] | Mask
MOST_DENSE = 1000
"""Classes up to which new lists are dense: a line of more would be longer than any path."""
AT_ONCE = 1 << 24
"""Cells, or characters of lines, that are worked on together."""


@dataclass(frozen=True)
class SparseTargets:
    """The cells that are not absent, image by image; of an image in the order of the classes."""

    starts: npt.NDArray[np.int64]
    """Where the cells of each image begin, [N + 1]; the last one is their number M."""
    ids: npt.NDArray[np.int32]
    """Class of each cell, [M]."""
    values: npt.NDArray[np.int8]
    """1 or UNKNOWN, [M]."""
    num_classes: int

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.starts) - 1

    @property
    def shape(self) -> tuple[int, int]:
        """N and C, as of an array."""
        return len(self), self.num_classes

    def take(self, rows: Rows) -> SparseTargets:
        """The images of some numbers, or of a mask [N], in that order."""
        numbers = np.arange(len(self))[np.asarray(rows, None if len(rows) else np.int64)]
        begins, lengths = self.starts[numbers], np.diff(self.starts)[numbers]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        cells = np.arange(starts[-1]) + np.repeat(begins - starts[:-1], lengths)
        return SparseTargets(starts, self.ids[cells], self.values[cells], self.num_classes)

    def images(self) -> npt.NDArray[np.int64]:
        """Number of the image of each cell, [M]."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))


Targets: TypeAlias = Dense | SparseTargets


class LabelCounts(NamedTuple):
    """Images of each class, int64 [C]."""

    present: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]

    @property
    def absent(self) -> npt.NDArray[np.int64]:
        """Images that are known not to show the class."""
        return self.known - self.present


def from_labels(
    shown: Sequence[Collection[int]], unknown: Iterable[Collection[int]], num_classes: int
) -> Targets:
    """Targets of images, each by the ids of the classes that it shows, and of those unknown.

    An id that is in both is present. Sparse for more than MOST_DENSE classes. `unknown` is taken
    one by one: where most classes are, the sets together would be far larger than the targets.
    """
    if num_classes <= MOST_DENSE:
        table = np.zeros((len(shown), num_classes), np.int8)
        for cells, present, hidden in zip(table, shown, unknown, strict=True):
            cells[list(hidden)] = UNKNOWN
            cells[list(present)] = 1
        return table
    starts = np.zeros(len(shown) + 1, np.int64)
    ids, values = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)]
    for image, (present, hidden) in enumerate(zip(shown, unknown, strict=True)):
        kinds = dict.fromkeys(hidden, UNKNOWN) | dict.fromkeys(present, 1)
        ids.append(np.array(sorted(kinds), np.int32))
        values.append(np.array([kinds[i] for i in ids[-1].tolist()], np.int8))
        starts[image + 1] = starts[image] + len(kinds)
    return SparseTargets(starts, np.concatenate(ids), np.concatenate(values), num_classes)


def map_classes(targets: Targets, new_ids: npt.NDArray[np.int64], num_classes: int) -> Targets:
    """The same images with other classes: class i becomes `new_ids[i]` of `num_classes`.

    A class that several become is present where one of them is, else unknown where one of them is;
    one that none becomes is absent. Sparse and dense targets stay what they are.
    """
    old = to_sparse(targets)
    images, ids = old.images(), new_ids[old.ids]
    order = np.lexsort((-old.values, ids, images))  # present before unknown
    images, ids = images[order], ids[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(images) > 0) | (np.diff(ids) > 0)
    starts = np.searchsorted(images[first], np.arange(len(old) + 1))
    mapped = ids[first].astype(np.int32), old.values[order][first]
    sparse = SparseTargets(starts, *mapped, num_classes)
    return dense(sparse) if isinstance(targets, np.ndarray) else sparse


def dense(targets: Targets) -> Dense:
    """All cells, int8 [N, C]: 1, 0 or UNKNOWN."""
    if isinstance(targets, np.ndarray):
        return targets
    table = np.zeros(targets.shape, np.int8)
    table[targets.images(), targets.ids] = targets.values
    return table


def take(targets: Targets, rows: Rows) -> Targets:
    """The images of some numbers, or of a mask [N], in that order."""
    if isinstance(targets, SparseTargets):
        return targets.take(rows)
    return np.asarray(targets[np.asarray(rows, None if len(rows) else np.int64)])


def row(targets: Targets, image: int) -> Dense:
    """The cells of one image, int8 [C]."""
    if isinstance(targets, np.ndarray):
        return np.asarray(targets[image])
    cells = np.zeros(targets.num_classes, np.int8)
    part = slice(targets.starts[image], targets.starts[image + 1])
    cells[targets.ids[part]] = targets.values[part]
    return cells


def labels(targets: Targets, image: int) -> list[int]:
    """Ids of the classes that an image shows, rising."""
    if isinstance(targets, np.ndarray):
        return [int(i) for i in np.flatnonzero(is_present(targets[image]))]
    part = slice(targets.starts[image], targets.starts[image + 1])
    return [int(i) for i in targets.ids[part][targets.values[part] > 0]]


def blocks(targets: Targets) -> Iterator[tuple[int, Dense]]:
    """Dense blocks of images and the number of their first one: at most 16 million cells each."""
    step = max(1, AT_ONCE // max(1, targets.shape[1]))
    for start in range(0, len(targets), step):
        stop = min(start + step, len(targets))
        yield start, dense(take(targets, np.arange(start, stop)))


def concatenate(parts: Sequence[Targets]) -> Targets:
    """The images of several lists, one after the other: sparse where one of them is."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([dense(part) for part in parts])
    sparse = [to_sparse(part) for part in parts]
    ends = np.cumsum([0, *(len(part.ids) for part in sparse)])
    starts = [part.starts[:-1] + end for part, end in zip(sparse, ends[:-1], strict=True)]
    return SparseTargets(
        np.concatenate([*starts, ends[-1:]]),
        np.concatenate([part.ids for part in sparse]),
        np.concatenate([part.values for part in sparse]),
        sparse[0].num_classes,
    )


def to_sparse(targets: Targets) -> SparseTargets:
    """The same cells, without the absent ones."""
    if isinstance(targets, SparseTargets):
        return targets
    images, ids = np.nonzero(targets)
    starts = np.searchsorted(images, np.arange(len(targets) + 1))
    return SparseTargets(starts, ids.astype(np.int32), targets[images, ids], targets.shape[1])


def cells(targets: Targets, *, unknown: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Image and class of each present cell (of each unknown one), in the order of the images."""
    if isinstance(targets, np.ndarray):
        images, ids = np.nonzero(targets < 0 if unknown else is_present(targets))
        return images, ids
    chosen = targets.values < 0 if unknown else targets.values > 0
    return targets.images()[chosen], targets.ids[chosen]


def rows_of_ids(targets: Targets, *, unknown: bool = False) -> Iterator[list[int]]:
    """Ids of the present (of the unknown) classes of each image, rising."""
    images, ids = cells(targets, unknown=unknown)
    ends = np.searchsorted(images, np.arange(len(targets) + 1)).tolist()
    for begin, end in pairwise(ends):
        yield ids[begin:end].tolist()


def count(targets: Targets) -> LabelCounts:
    """Images that show each class, and images where it is known."""
    if isinstance(targets, np.ndarray):
        present = is_present(targets).sum(axis=0, dtype=np.int64)
        return LabelCounts(present, is_known(targets).sum(axis=0, dtype=np.int64))
    shown, hidden = (
        np.bincount(targets.ids[chosen], minlength=targets.num_classes)
        for chosen in (targets.values > 0, targets.values < 0)
    )
    return LabelCounts(shown, len(targets) - hidden)


def labels_per_image(targets: Targets) -> npt.NDArray[np.int64]:
    """How many classes each image shows, [N]."""
    if isinstance(targets, np.ndarray):
        return np.asarray(is_present(targets).sum(axis=1, dtype=np.int64))
    shown = np.concatenate([[0], np.cumsum(targets.values > 0, dtype=np.int64)])
    sums: npt.NDArray[np.int64] = shown[targets.starts]
    return sums[1:] - sums[:-1]


def has_unknown(targets: Targets) -> bool:
    """Whether there is a cell that nobody has looked up."""
    values = targets.values if isinstance(targets, SparseTargets) else targets
    return bool(values.size) and bool(values.min() < 0)


def assume_absent(targets: Targets) -> Targets:
    """The same images, with every unknown cell as an absent one."""
    if isinstance(targets, np.ndarray):
        return np.maximum(targets, 0)
    shown = targets.values > 0
    starts = np.concatenate([[0], np.cumsum(shown, dtype=np.int64)])[targets.starts]
    return SparseTargets(starts, targets.ids[shown], targets.values[shown], targets.num_classes)


def assume_present(targets: Targets) -> Targets:
    """The same images, with every unknown cell as a present one."""
    if isinstance(targets, np.ndarray):
        return np.abs(targets)
    return replace(targets, values=np.abs(targets.values))


def digest(targets: Targets, start: bytes = b"") -> str:
    """SHA-256 of `start` and all cells: equal for the same cells, dense or sparse."""
    state = hashlib.sha256(start)
    for _, table in blocks(targets):
        state.update(table.tobytes())
    return state.hexdigest()


def count_unknown(targets: Targets) -> int:
    """Number of cells that nobody has looked up."""
    values = targets.values if isinstance(targets, SparseTargets) else targets
    return int(np.count_nonzero(values < 0))


def put(
    targets: Targets,
    images: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    values: npt.NDArray[np.int8],
) -> Targets:
    """The targets with other values in some cells, image and class of each [K]; dense or sparse as
    before. Of a cell that is given twice the last value counts."""
    if isinstance(targets, np.ndarray):
        changed: Dense = targets.copy()
        changed[images, ids] = values
        return changed
    places = np.concatenate([targets.images(), images]) * targets.num_classes
    places += np.concatenate([targets.ids, ids])
    kinds = np.concatenate([targets.values, values.astype(np.int8)])
    # Reversed, so that the first of equal places, which `unique` keeps, is the last one given.
    found, first = np.unique(places[::-1], return_index=True)
    kinds = kinds[::-1][first]
    found, kinds = found[kinds != 0], kinds[kinds != 0]
    rows, classes = np.divmod(found, targets.num_classes)
    starts = np.searchsorted(rows, np.arange(len(targets) + 1)).astype(np.int64)
    return SparseTargets(starts, classes.astype(np.int32), kinds, targets.num_classes)
