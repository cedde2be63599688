# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates: images of one list that look like an image of the other.

perceptual hashes (64 bits) that differ in few bits -> tiny grey pictures that agree -> pairs
a pair -> both pictures in grey, aligned and with equal brightness -> a copy, or another moment

Not all pairs are compared. A hash has four parts of 16 bits: when two hashes differ in seven bits
at most, one of their parts differs in one bit at most. So a table by part finds every candidate.
The search for an image ends at its first near-duplicate: ten thousand similar frames of one film
are ten thousand pairs and not a hundred million.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Greys = npt.NDArray[np.uint8]
Levels = npt.NDArray[np.float32]
_Numbers = npt.NDArray[np.int64]

MOST_BITS = 6
"""Hashes of near-duplicates differ in this many bits at most; the search works up to 7.

Seen on 2,000 landscapes and 2,098 street photographs: of 42 pairs at 0 to 6 bits, 41 showed the
same photograph, resized, recompressed or cropped by a few percent; of the 8 at 8 bits 2 did.
"""
AGREEMENT = 0.9
"""Least correlation of the 8 x 8 grey pictures, -1 to 1. Of the pairs seen the true ones had 0.92
or more, the false ones at up to 8 bits 0.82 or less."""

SIDE = 96
"""Pixels of the grey pictures that `is_copy` compares."""

_PART = 16  # bits
_AT_ONCE = 1 << 18  # candidates: bounds the memory at about 100 MB
_WINDOW = 64  # candidates of an image that are compared in the first round
_BITS = np.array([number.bit_count() for number in range(1 << _PART)], np.uint8)
# What remains between two aligned pictures, in grey levels. Copies of photographs (14 real pairs;
# resized, recompressed, brighter, cropped): at most 24, and 5 times the rest of the picture.
# Frames in which something of a twentieth of the height moves: at least 20, and 13 times the rest.
_MOST_DIFFERENT = 32.0
_MOST_LOCAL = 8.0
_NOISE = 6.0  # smaller differences are no object
_BLOCK = 5  # pixels: the smallest object
_DARK, _BRIGHT = 6, 249  # beyond these, a change of brightness cuts values off


class NearDuplicates(NamedTuple):
    """A pair of images that look alike: their positions in train and val."""

    train: int
    val: int


class _Side(NamedTuple):
    hashes: Hashes
    greys: Greys


class _Table(NamedTuple):
    """The images that are searched; of equal hashes only the first: a thousand copies are one."""

    hashes: Hashes
    greys: Greys
    numbers: _Numbers
    """Which image of its list an entry is."""


def find_near_duplicates(
    train: Hashes, train_greys: Greys, val: Hashes, val_greys: Greys
) -> list[NearDuplicates]:
    """For each image of val that has near-duplicates in train, one of them.

    Hashes [T] and [V]; grey pictures [T, 64] and [V, 64]. Nearer hashes are tried first, but the
    result need not be the nearest of all.
    """
    _, numbers = np.unique(train, return_index=True)
    table = _Table(train[numbers], train_greys[numbers], numbers)
    queries = _Side(val, val_greys)
    matches = np.full(len(val), -1, np.int64)  # image of train for each of val; -1: none
    neighbours = np.argsort(val)  # in this order, queries read entries that are close in memory
    indexes = []
    for part in range(0, 64, _PART):
        keys = _cut(table.hashes, part)
        order = np.argsort(keys, kind="stable")  # entries sorted by this part of the hash
        starts = np.searchsorted(keys[order], np.arange((1 << _PART) + 1))  # of each of its values
        indexes.append((part, order, starts))
    for flip in (0, *(1 << bit for bit in range(_PART))):
        for part, order, starts in indexes:
            pending = neighbours[matches[neighbours] < 0]
            key = _cut(val[pending], part) ^ flip
            for query, candidate in _walk(matches, pending, starts[key], starts[key + 1]):
                _compare(table, queries, query, order[candidate], matches)
    return [NearDuplicates(int(matches[i]), int(i)) for i in np.flatnonzero(matches >= 0)]


def is_copy(first: Greys, second: Greys) -> bool:
    """Whether two grey pictures [SIDE, SIDE] show the same photograph, resized or edited.

    Two moments before one camera are no copies: where something has moved, a small region differs
    far more than the rest of the picture.
    """
    import cv2  # only sets with near-duplicates wait for it

    a: Levels = cv2.GaussianBlur(first.astype(np.float32), (0, 0), 1.0).astype(np.float32)
    b: Levels = cv2.GaussianBlur(second.astype(np.float32), (0, 0), 1.0).astype(np.float32)
    shift = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    try:
        _, found = cv2.findTransformECC(a, b, shift.copy(), cv2.MOTION_AFFINE, stop)
        shift = found.astype(np.float32)
    except cv2.error:
        pass  # nothing to align by: they are compared as they are
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved: Levels = cv2.warpAffine(b, shift, (SIDE, SIDE), flags=how).astype(np.float32)
    inside = cv2.warpAffine(np.ones_like(a), shift, (SIDE, SIDE), flags=how) > 0.99
    inside &= (a > _DARK) & (a < _BRIGHT) & (moved > _DARK) & (moved < _BRIGHT)
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if inside.sum() < SIDE:  # hardly a pixel can be compared
        return False
    x, y = moved[inside], a[inside]
    differing = np.abs(y - _fit_brightness(x, y, x))
    typical = differing <= np.quantile(differing, 0.9)  # without what has moved
    rest = np.zeros_like(a)
    rest[inside] = np.abs(y - _fit_brightness(x[typical], y[typical], x))
    most = float(cv2.blur(rest, (_BLOCK, _BLOCK)).max())
    is_local = most > _MOST_LOCAL * (1 + float(np.quantile(rest, 0.9)))
    return most <= _NOISE or (most <= _MOST_DIFFERENT and not is_local)


def _fit_brightness(x: Levels, y: Levels, values: Levels) -> Levels:
    """`values` with the contrast and brightness that make `x` most like `y`."""
    centred = x - x.mean()
    gain = (centred * (y - y.mean())).sum() / max(1e-6, float((centred**2).sum()))
    fitted: Levels = gain * (values - x.mean()) + y.mean()
    return fitted


def _cut(hashes: Hashes, part: int) -> _Numbers:
    cut: _Numbers = ((hashes >> np.uint64(part)) & np.uint64((1 << _PART) - 1)).astype(np.int64)
    return cut


def _walk(
    matches: _Numbers, pending: _Numbers, start: _Numbers, end: _Numbers
) -> Iterator[tuple[_Numbers, _Numbers]]:
    """Yield queries and their candidates start..end: a few at first, twice as many in each round,
    as long as a query has no match."""
    width = _WINDOW
    while True:
        rest = (start < end) & (matches[pending] < 0)
        pending, start, end = pending[rest], start[rest], end[rest]
        if not len(pending):
            return
        stop = np.minimum(start + width, end)
        for portion in _portions(stop - start):
            counts = stop[portion] - start[portion]
            before = np.cumsum(counts) - counts
            candidates = np.arange(int(counts.sum())) - np.repeat(before - start[portion], counts)
            yield np.repeat(pending[portion], counts), candidates
        start, width = stop, 2 * width


def _compare(
    table: _Table, queries: _Side, query: _Numbers, entry: _Numbers, matches: _Numbers
) -> None:
    """Write the best match of each query among its candidates, if one is good enough."""
    differing = (table.hashes[entry] ^ queries.hashes[query]).view(np.uint16).reshape(-1, 4)
    bits = _BITS[differing].sum(axis=1, dtype=np.int64)
    near = bits <= MOST_BITS
    query, entry, bits = query[near], entry[near], bits[near]
    agree = _agree(table.greys[entry], queries.greys[query])
    query, entry, bits = query[agree], entry[agree], bits[agree]
    numbers = table.numbers[entry]
    best = np.lexsort((numbers, bits, query))
    done, first = np.unique(query[best], return_index=True)
    matches[done] = numbers[best][first]


def _portions(counts: _Numbers) -> list[slice]:
    """Cut so that the counts of a portion add up to `_AT_ONCE` at most, or it has only one."""
    ends = np.cumsum(counts)
    portions = []
    begin = done = 0
    while begin < len(counts):
        stop = max(begin + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        portions.append(slice(begin, stop))
        begin, done = stop, int(ends[stop - 1])
    return portions


def _agree(a: Greys, b: Greys) -> npt.NDArray[np.bool_]:
    """Which of the pictures [P, 64] agree with their partners."""
    x, y = (grey.astype(np.float32) - grey.mean(axis=1, keepdims=True) for grey in (a, b))
    # float32 is exact enough: each sum has 64 products below 2 ** 16.
    product = np.einsum("pi,pi->p", x, y)
    sizes = np.einsum("pi,pi->p", x, x) * np.einsum("pi,pi->p", y, y)
    agree: npt.NDArray[np.bool_] = product >= AGREEMENT * np.sqrt(sizes)
    return agree
