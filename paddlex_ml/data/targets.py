# SPDX-License-Identifier: Apache-2.0
"""Targets of the images of a list in memory; `target_lines` has them as texts.

N images, C classes. An array int8 [N, C] holds dense lines; `SparseTargets` holds sparse ones, and
its size does not grow with C, whether most classes of an image are absent or unknown. The functions
here take both; only they know which is which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
_NO_CELLS = np.zeros(0, np.int32), np.zeros(0, np.int8)


@dataclass(frozen=True)
class SparseTargets:
    """The cells that differ from the others of their image, in the order of the classes."""

    starts: npt.NDArray[np.int64]
    """Where the cells of each image begin, [N + 1]; the last one is their number M."""
    ids: npt.NDArray[np.int32]
    """Class of each cell, [M]."""
    values: npt.NDArray[np.int8]
    """1, 0 or UNKNOWN, [M]; never what the others of the image are."""
    others: npt.NDArray[np.int8]
    """What all other cells of each image are, [N]: 0, or UNKNOWN, or 1."""
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
        ids, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int8)
        for part in divide(starts):  # the numbers of all cells may take more than the cells
            new = slice(starts[part.start], starts[part.stop])
            old = np.arange(new.start, new.stop)
            old += np.repeat(begins[part] - starts[part], lengths[part])
            ids[new], values[new] = self.ids[old], self.values[old]
        return SparseTargets(starts, ids, values, self.others[numbers], self.num_classes)

    def images(self) -> npt.NDArray[np.int64]:
        """Number of the image of each cell, [M]."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def compared_with(self, others: npt.NDArray[np.int8]) -> SparseTargets:
        """The same targets, with the cells that differ from `others` [N] instead."""
        changed = self.others != others
        if not changed.any():
            return self
        order = np.concatenate([np.flatnonzero(~changed), np.flatnonzero(changed)])
        parts: list[Targets] = [self.take(~changed)]
        for start, table in blocks(self.take(changed)):
            parts.append(_list_cells(table, others[changed][start : start + len(table)]))
        return to_sparse(concatenate(parts)).take(np.argsort(order))


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
    shown: Sequence[Collection[int]],
    unknown: Iterable[Collection[int]],
    num_classes: int,
    absent: Iterable[Collection[int] | None] | None = None,
) -> Targets:
    """Targets of images, each by the ids of the classes that it shows, and of those unknown.

    Where an image has `absent`, all classes are unknown but these and those that it shows. An id
    that is in several is present. Sparse for more than MOST_DENSE classes. `unknown` and `absent`
    are taken one by one.
    """
    rows = zip(shown, unknown, absent or [None] * len(shown), strict=True)
    if num_classes <= MOST_DENSE:
        table = np.zeros((len(shown), num_classes), np.int8)
        for cells, (present, hidden, denied) in zip(table, rows, strict=True):
            cells[:] = 0 if denied is None else UNKNOWN
            cells[list(hidden)] = UNKNOWN
            cells[list(denied or ())] = 0
            cells[list(present)] = 1
        return table
    starts, others = np.zeros(len(shown) + 1, np.int64), np.zeros(len(shown), np.int8)
    ids, values = [np.zeros(0, np.int32)], [np.zeros(0, np.int8)]
    for image, (present, hidden, denied) in enumerate(rows):
        others[image] = 0 if denied is None else UNKNOWN
        kinds = dict.fromkeys(hidden, UNKNOWN) if denied is None else dict.fromkeys(denied, 0)
        kinds |= dict.fromkeys(present, 1)
        ids.append(np.array(sorted(kinds), np.int32))
        values.append(np.array([kinds[i] for i in ids[-1].tolist()], np.int8))
        starts[image + 1] = starts[image] + len(kinds)
    return SparseTargets(starts, np.concatenate(ids), np.concatenate(values), others, num_classes)


def map_classes(targets: Targets, new_ids: npt.NDArray[np.int64], num_classes: int) -> Targets:
    """The same images with other classes: class i becomes `new_ids[i]` of `num_classes`.

    A class that several become is present where one of them is, else unknown where one of them is;
    one that none becomes is unknown. Sparse and dense targets stay what they are.
    """
    old = to_sparse(targets)
    old = old.compared_with(np.minimum(old.others, 0))
    sources = np.bincount(new_ids, minlength=num_classes)
    parts: list[Targets] = [SparseTargets(old.starts[:1], *_NO_CELLS, old.others[:0], num_classes)]
    for rows in divide(old.starts):
        part = old.take(np.arange(rows.start, rows.stop))
        places = part.images() * num_classes + new_ids[part.ids]
        order = np.argsort(places, kind="stable")
        found, first, sizes = np.unique(places[order], return_index=True, return_counts=True)
        image, class_id = np.divmod(found, num_classes)
        values = np.maximum.reduceat(part.values[order], first) if len(first) else part.values
        # Absent cells are given where the others are unknown: all that become a class must be.
        values[(values == 0) & (sizes < sources[class_id])] = UNKNOWN
        kept = values != part.others[image]
        starts = np.searchsorted(image[kept], np.arange(len(part) + 1))
        cells = class_id[kept].astype(np.int32), values[kept]
        parts.append(SparseTargets(starts, *cells, part.others, num_classes))
    mapped, lacking = to_sparse(concatenate(parts)), np.flatnonzero(sources == 0)
    if isinstance(targets, np.ndarray):
        table = dense(mapped)
        table[:, lacking] = UNKNOWN
        return table
    if not len(lacking):
        return mapped
    looked, parts = mapped.others == 0, [mapped.take(mapped.others < 0)]
    for _, table in blocks(mapped.take(looked)):
        table[:, lacking] = UNKNOWN
        parts.append(to_sparse(table))
    order = np.concatenate([np.flatnonzero(~looked), np.flatnonzero(looked)])
    return take(concatenate(parts), np.argsort(order))


def choose_classes(targets: Targets, classes: npt.NDArray[np.int64]) -> Targets:
    """The cells of some classes, whose numbers rise: they become classes 0, 1, 2, ..."""
    if isinstance(targets, np.ndarray):
        return np.asarray(targets[:, classes])
    column = np.full(targets.num_classes, -1, np.int32)
    column[classes] = np.arange(len(classes))
    kept = column[targets.ids] >= 0
    starts = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[targets.starts]
    cells = column[targets.ids[kept]], targets.values[kept]
    return SparseTargets(starts, *cells, targets.others, len(classes))


def dense(targets: Targets) -> Dense:
    """All cells, int8 [N, C]: 1, 0 or UNKNOWN."""
    if isinstance(targets, np.ndarray):
        return targets
    table = np.zeros(targets.shape, np.int8)
    if targets.others.any():
        table[:] = targets.others[:, None]
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
    cells = np.full(targets.num_classes, targets.others[image], np.int8)
    part = slice(targets.starts[image], targets.starts[image + 1])
    cells[targets.ids[part]] = targets.values[part]
    return cells


def labels(targets: Targets, image: int) -> list[int]:
    """Ids of the classes that an image shows, rising."""
    return [int(i) for i in np.flatnonzero(is_present(row(targets, image)))]


def look_up(
    targets: Targets, images: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.int8]:
    """The values of some cells, image and class of each [K] -> int8 [K]."""
    if isinstance(targets, np.ndarray):
        return np.asarray(targets[images, ids])
    places = targets.images() * targets.num_classes + targets.ids
    wanted = np.asarray(images) * targets.num_classes + ids
    values = targets.others[images]
    if len(places):
        found = np.searchsorted(places, wanted).clip(max=len(places) - 1)
        values = np.where(places[found] == wanted, targets.values[found], values)
    return values


def blocks(targets: Targets) -> Iterator[tuple[int, Dense]]:
    """Dense blocks of images and the number of their first one: at most 16 million cells each."""
    step = max(1, AT_ONCE // max(1, targets.shape[1]))
    for start in range(0, len(targets), step):
        stop = min(start + step, len(targets))
        yield start, dense(take(targets, np.arange(start, stop)))


def divide(starts: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Slices of images whose cells are worked on together; `starts` as of SparseTargets."""
    start = 0
    while start < len(starts) - 1:
        stop = np.searchsorted(starts, starts[start] + AT_ONCE // 8, side="right") - 1
        yield slice(start, max(start + 1, int(stop)))
        start = max(start + 1, int(stop))


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
        np.concatenate([part.others for part in sparse]),
        sparse[0].num_classes,
    )


def to_sparse(targets: Targets) -> SparseTargets:
    """The same cells: without the absent ones, or without the unknown ones where they are more."""
    if isinstance(targets, SparseTargets):
        return targets
    are_open = (targets < 0).sum(axis=1) > (targets == 0).sum(axis=1)
    return _list_cells(targets, np.where(are_open, UNKNOWN, 0).astype(np.int8))


def _list_cells(table: Dense, others: npt.NDArray[np.int8]) -> SparseTargets:
    """The cells of an array that differ from the others of their image, [N]."""
    images, ids = np.nonzero(table != others[:, None] if others.any() else table)
    starts = np.searchsorted(images, np.arange(len(table) + 1))
    return SparseTargets(starts, ids.astype(np.int32), table[images, ids], others, table.shape[1])


def cells(targets: Targets, value: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Image and class of each cell of a value, in the order of the images.

    As many as there are: most cells of sparse targets may be absent or unknown.
    """
    if isinstance(targets, np.ndarray):
        images, ids = np.nonzero(targets == value)
        return images, ids
    if (are_all := targets.others == value).any():
        instead = np.int8(UNKNOWN if value == 0 else 0)
        targets = targets.compared_with(np.where(are_all, instead, targets.others))
    chosen = targets.values == value
    return targets.images()[chosen], targets.ids[chosen]


def rows_of_ids(targets: Targets, *, unknown: bool = False) -> Iterator[list[int]]:
    """Ids of the present (of the unknown) classes of each image, rising."""
    step = max(1, AT_ONCE // max(1, targets.shape[1]))
    for start in range(0, len(targets), step):
        part = take(targets, np.arange(start, min(start + step, len(targets))))
        images, ids = cells(part, UNKNOWN if unknown else 1)
        ends = np.searchsorted(images, np.arange(len(part) + 1)).tolist()
        for begin, end in pairwise(ends):
            yield ids[begin:end].tolist()


def count(targets: Targets) -> LabelCounts:
    """Images that show each class, and images where it is known."""
    if isinstance(targets, np.ndarray):
        present = is_present(targets).sum(axis=0, dtype=np.int64)
        return LabelCounts(present, is_known(targets).sum(axis=0, dtype=np.int64))
    found = []
    for value in (1, UNKNOWN):
        counts = np.bincount(targets.ids[targets.values == value], minlength=targets.num_classes)
        if (are_all := targets.others == value).any():
            among = targets.ids[np.repeat(are_all, np.diff(targets.starts))]
            counts += are_all.sum() - np.bincount(among, minlength=targets.num_classes)
        found.append(counts)
    return LabelCounts(found[0], len(targets) - found[1])


def labels_per_image(targets: Targets, *, unknown: bool = False) -> npt.NDArray[np.int64]:
    """How many classes each image shows (how many are unknown on it), [N]."""
    value = UNKNOWN if unknown else 1
    if isinstance(targets, np.ndarray):
        return np.asarray((targets == value).sum(axis=1, dtype=np.int64))
    found = np.concatenate([[0], np.cumsum(targets.values == value, dtype=np.int64)])
    sums: npt.NDArray[np.int64] = np.diff(found[targets.starts])
    rest = targets.num_classes - np.diff(targets.starts)
    return sums + np.where(targets.others == value, rest, 0)


def count_unknown(targets: Targets) -> int:
    """Number of cells that nobody has looked up."""
    return int(labels_per_image(targets, unknown=True).sum())


def has_unknown(targets: Targets) -> bool:
    """Whether there is a cell that nobody has looked up."""
    if isinstance(targets, np.ndarray):
        return bool(targets.size) and bool(targets.min() < 0)
    return count_unknown(targets) > 0


def assume(targets: Targets, value: int) -> Targets:
    """The same images, with every unknown cell as one of `value`: 1 or 0."""
    if isinstance(targets, np.ndarray):
        return np.abs(targets) if value else np.maximum(targets, 0)
    values, others = (
        np.where(each < 0, np.int8(value), each) for each in (targets.values, targets.others)
    )
    kept = values != np.repeat(others, np.diff(targets.starts))
    starts = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])[targets.starts]
    cells = targets.ids[kept], values[kept]
    return SparseTargets(starts, *cells, others, targets.num_classes)


def digest(targets: Targets, start: bytes = b"") -> str:
    """SHA-256 of `start` and all cells: equal for the same cells, dense or sparse."""
    state = hashlib.sha256(start)
    for _, table in blocks(targets):
        state.update(table.tobytes())
    return state.hexdigest()


def put(
    targets: Targets,
    images: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    values: npt.NDArray[np.int8],
) -> Targets:
    """The targets with other values in some cells, image and class of each [K]; dense or sparse as
    before. Of a cell that is given twice the last value counts."""
    if isinstance(targets, np.ndarray):
        table: Dense = targets.copy()
        table[images, ids] = values
        return table
    changed = np.zeros(len(targets), np.bool_)
    changed[images] = True
    old, place = targets.take(changed), np.cumsum(changed) - 1
    places = np.concatenate([old.images(), place[images]]) * targets.num_classes
    places += np.concatenate([old.ids, ids])
    kinds = np.concatenate([old.values, values.astype(np.int8)])
    # Reversed, so that the first of equal places, which `unique` keeps, is the last one given.
    found, first = np.unique(places[::-1], return_index=True)
    kinds = kinds[::-1][first]
    rows, classes = np.divmod(found, targets.num_classes)
    kept = kinds != old.others[rows]
    starts = np.searchsorted(rows[kept], np.arange(len(old) + 1)).astype(np.int64)
    cells = classes[kept].astype(np.int32), kinds[kept]
    new = SparseTargets(starts, *cells, old.others, targets.num_classes)
    order = np.concatenate([np.flatnonzero(~changed), np.flatnonzero(changed)])
    return take(concatenate([targets.take(~changed), new]), np.argsort(order))
