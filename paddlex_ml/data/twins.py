# SPDX-License-Identifier: Apache-2.0
"""Images that look alike: which image of val has a twin in train.

perceptual hashes (64 bits) that differ in few bits -> tiny grey pictures that agree -> pairs

T and V are numbers of images in train and val. Nothing is compared with everything: of four parts
of 16 bits one differs in one bit at most when the whole differs in seven at most, so a table by
part finds every candidate.
"""

from __future__ import annotations

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
AGREEMENT = 0.85
"""Correlation of the 8 x 8 grey pictures, -1 to 1. The one false pair had 0.68."""

_PART = 16  # bits
_AT_ONCE = 1 << 21  # candidates: bounds the memory at about 100 MB
_BITS = np.array([number.bit_count() for number in range(1 << _PART)], np.uint8)


class Twins(NamedTuple):
    """A pair of images that look alike: their numbers in train and val."""

    train: int
    val: int


def find_twins(train: Hashes, train_greys: Greys, val: Hashes, val_greys: Greys) -> list[Twins]:
    """For each image of val that has any, the image of train that looks most like it.

    Hashes [T] and [V]; grey pictures [T, 64] and [V, 64].
    """
    # Equal hashes are looked for once: a thousand copies of one picture are one question.
    different, first = np.unique(train, return_index=True)
    asked, which = np.unique(val, return_inverse=True)
    found, of, bits = _search(different, asked)
    best: list[Twins] = []
    order = np.lexsort((found, bits, of))
    starts = np.searchsorted(of[order], np.arange(len(asked) + 1))
    for image, question in enumerate(which.reshape(-1)):
        candidates = first[found[order[starts[question] : starts[question + 1]]]]
        for candidate in candidates:
            if _agree(train_greys[candidate], val_greys[image]):
                best.append(Twins(int(candidate), image))
                break
    return best


def _search(table: Hashes, asked: Hashes) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Pairs of different numbers of `table` and `asked`: position, position, bits between them."""
    results = []
    for part in range(0, 64, _PART):
        order, starts = _index(table, part)
        wanted = _cut(asked, part)
        for flip in (0, *(1 << bit for bit in range(_PART))):
            key = wanted ^ flip
            results += _compare(table, asked, order, starts[key], starts[key + 1])
    pairs = np.concatenate(results, axis=1) if results else np.zeros((3, 0), np.int64)
    _, once = np.unique(pairs[1] * max(1, len(table)) + pairs[0], return_index=True)
    position, question, bits = pairs[:, once]
    return position, question, bits


def _index(table: Hashes, part: int) -> tuple[_Numbers, _Numbers]:
    keys = _cut(table, part)
    order = np.argsort(keys, kind="stable")
    return order, np.searchsorted(keys[order], np.arange((1 << _PART) + 1))


def _cut(hashes: Hashes, part: int) -> _Numbers:
    cut: _Numbers = ((hashes >> np.uint64(part)) & np.uint64((1 << _PART) - 1)).astype(np.int64)
    return cut


def _compare(
    table: Hashes, asked: Hashes, order: _Numbers, start: _Numbers, end: _Numbers
) -> list[npt.NDArray[np.int64]]:
    """Rows [3, P] (position, question, bits) for the entries start..end of each question."""
    counts = end - start
    results = []
    ends = np.cumsum(counts)
    begin = 0
    while begin < len(counts):  # as many questions as fit, one at least
        done = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
        question = np.repeat(np.arange(begin, stop), counts[begin:stop])
        inside = np.arange(len(question)) - np.repeat(
            ends[begin:stop] - counts[begin:stop] - done, counts[begin:stop]
        )
        position = order[start[question] + inside]
        bits = _count_bits(table[position] ^ asked[question])
        near = bits <= MOST_BITS
        results.append(np.stack([position[near], question[near], bits[near]]))
        begin = stop
    return results


def _count_bits(values: Hashes) -> _Numbers:
    bits: _Numbers = _BITS[values.view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.int64)
    return bits


def _agree(a: Greys, b: Greys) -> bool:
    x, y = (grey.astype(np.float64) - grey.mean() for grey in (a, b))
    return float(x @ y) >= AGREEMENT * float(np.sqrt((x @ x) * (y @ y)))
