# SPDX-License-Identifier: Apache-2.0
"""Images that look alike: which image of one side has a twin on the other.

perceptual hashes (64 bits) that differ in few bits -> tiny grey pictures that agree -> pairs

Nothing is compared with everything: of four parts of 16 bits one differs in one bit at most when
the whole differs in seven at most, so a table by part finds every candidate. An image is done with
when its first twin is found: ten thousand frames of one film, all alike, are ten thousand pairs and
not a hundred million.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Greys = npt.NDArray[np.uint8]
_Numbers = npt.NDArray[np.int64]

MOST_BITS = 6
"""Hashes of near-duplicates differ in this many bits at most; up to 7 would be found.

Seen on 2,000 landscapes and 2,098 street photographs: of 42 pairs at 0 to 6 bits, 41 showed the
same photograph, resized, recompressed or cropped by a few percent; of the 8 at 8 bits 2 did.
"""
AGREEMENT = 0.9
"""Correlation of the 8 x 8 grey pictures, -1 to 1. Of the pairs seen the true ones had 0.92 or
more, the false ones at up to 8 bits 0.82 or less."""

_PART = 16  # bits
_AT_ONCE = 1 << 18  # candidates: bounds the memory at about 100 MB
_WINDOW = 64  # candidates of an image that are looked at before it may be done with
_BITS = np.array([number.bit_count() for number in range(1 << _PART)], np.uint8)


class NearDuplicates(NamedTuple):
    """A pair of images that look alike: their numbers in train and val."""

    train: int
    val: int


class _Side(NamedTuple):
    hashes: Hashes
    greys: Greys


class _Table(NamedTuple):
    """The images that are searched; of equal hashes the first alone: a thousand copies are one."""

    hashes: Hashes
    greys: Greys
    numbers: _Numbers
    """Which image of its side an entry is."""


def find_twins(
    train: Hashes, train_greys: Greys, val: Hashes, val_greys: Greys
) -> list[NearDuplicates]:
    """For each image of val that has any, an image of train that looks like it.

    Hashes [T] and [V]; grey pictures [T, 64] and [V, 64]. Nearer hashes are met first, but the
    nearest of all is not sought.
    """
    flips = (0, *(1 << bit for bit in range(_PART)))
    twins = _search(_Side(train, train_greys), _Side(val, val_greys), flips)
    return [NearDuplicates(int(twins[i]), int(i)) for i in np.flatnonzero(twins >= 0)]


def count_repeated(hashes: Hashes, greys: Greys) -> int:
    """How many images of one list, hashes [N] and grey pictures [N, 64], look like an earlier one.

    Sees every pair of up to three bits and, to be quick, only most of the others.
    """
    side = _Side(hashes, greys)
    return int((_search(side, side, (0,), earlier=True) >= 0).sum())


def _search(
    side: _Side, asked: _Side, flips: tuple[int, ...], *, earlier: bool = False
) -> _Numbers:
    """A twin in `side` for each image asked for, -1 for none; `earlier`: with a smaller number.

    Parts of the hash are compared as they are and with each of `flips`.
    """
    _, numbers = np.unique(side.hashes, return_index=True)
    table = _Table(side.hashes[numbers], side.greys[numbers], numbers)
    twins = np.full(len(asked.hashes), -1, np.int64)
    neighbours = np.argsort(asked.hashes)  # they ask for entries that lie close together
    indexes = [(part, *_index(table.hashes, part)) for part in range(0, 64, _PART)]
    for flip in flips:
        for part, order, starts in indexes:
            left = neighbours[twins[neighbours] < 0]
            key = _cut(asked.hashes[left], part) ^ flip
            for question, place in _walk(twins, left, starts[key], starts[key + 1]):
                position = order[place]
                if earlier:
                    before = table.numbers[position] < question
                    question, position = question[before], position[before]
                _compare(table, asked, question, position, twins)
    return twins


def _index(hashes: Hashes, part: int) -> tuple[_Numbers, _Numbers]:
    """Positions sorted by the part of the hash, and where each of its values begins."""
    keys = _cut(hashes, part)
    order = np.argsort(keys, kind="stable")
    return order, np.searchsorted(keys[order], np.arange((1 << _PART) + 1))


def _cut(hashes: Hashes, part: int) -> _Numbers:
    cut: _Numbers = ((hashes >> np.uint64(part)) & np.uint64((1 << _PART) - 1)).astype(np.int64)
    return cut


def _walk(
    twins: _Numbers, left: _Numbers, start: _Numbers, end: _Numbers
) -> Iterator[tuple[_Numbers, _Numbers]]:
    """Questions and places start..end for them, a few at first and twice as many in each round,
    for as long as they have no twin."""
    width = _WINDOW
    while True:
        rest = (start < end) & (twins[left] < 0)
        left, start, end = left[rest], start[rest], end[rest]
        if not len(left):
            return
        stop = np.minimum(start + width, end)
        for some in _portions(stop - start):
            yield _expand(left[some], start[some], stop[some])
        start, width = stop, 2 * width


def _compare(
    table: _Table, asked: _Side, question: _Numbers, position: _Numbers, twins: _Numbers
) -> None:
    """Write the best twin of each question among its candidates, if one is good enough."""
    bits = _count_bits(table.hashes[position] ^ asked.hashes[question])
    near = bits <= MOST_BITS
    question, position, bits = question[near], position[near], bits[near]
    agree = _agree(table.greys[position], asked.greys[question])
    question, position, bits = question[agree], position[agree], bits[agree]
    numbers = table.numbers[position]
    best = np.lexsort((numbers, bits, question))
    done, at = np.unique(question[best], return_index=True)
    twins[done] = numbers[best][at]


def _portions(counts: _Numbers) -> list[slice]:
    """Cut so that the counts of a portion add up to `_AT_ONCE` at most, or it is one alone."""
    ends = np.cumsum(counts)
    portions = []
    begin = done = 0
    while begin < len(counts):
        stop = max(begin + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        portions.append(slice(begin, stop))
        begin, done = stop, int(ends[stop - 1])
    return portions


def _expand(names: _Numbers, start: _Numbers, stop: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Each name as often as start..stop has numbers, and these numbers."""
    counts = stop - start
    before = np.cumsum(counts) - counts
    inside = np.arange(int(counts.sum())) - np.repeat(before - start, counts)
    return np.repeat(names, counts), inside


def _count_bits(values: Hashes) -> _Numbers:
    bits: _Numbers = _BITS[values.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.int64)
    return bits


def _agree(a: Greys, b: Greys) -> npt.NDArray[np.bool_]:
    """Which of the pictures [P, 64] agree with their partners."""
    x, y = (grey.astype(np.float32) - grey.mean(axis=1, keepdims=True) for grey in (a, b))
    # Picture by picture, for a float of 32 bits: 64 products below 2 ** 16 each lose nothing.
    product = np.einsum("pi,pi->p", x, y)
    sizes = np.einsum("pi,pi->p", x, x) * np.einsum("pi,pi->p", y, y)
    agree: npt.NDArray[np.bool_] = product >= AGREEMENT * np.sqrt(sizes)
    return agree
