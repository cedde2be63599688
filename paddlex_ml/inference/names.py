# SPDX-License-Identifier: Apache-2.0
"""File names for the results of a run, of which no two may meet in one folder."""

from __future__ import annotations

import os

import numpy as np

_STEM_BYTES = 160  # file systems allow 255 for a name; suffixes and temporary names need some
_RECENT = 2**16


class Names:
    """Hands out file names whose stems differ, also where upper and lower case are the same.

    A million names cost 13 MB, where a set of them takes 98: only their hashes are kept.
    """

    def __init__(self) -> None:
        self._taken = np.empty(0, np.int64)  # sorted hashes
        self._recent: set[int] = set()  # those that are not sorted in yet

    def claim(self, wish: str) -> str:
        """Return `wish`, its stem cut to what file systems take, with a number if it is taken."""
        stem, suffix = os.path.splitext(wish)
        while len(os.fsencode(stem)) > _STEM_BYTES:
            stem = stem[:-1]
        free = stem if not self._is_taken(stem) else self._number(stem)
        self._recent.add(_hash(free))
        if len(self._recent) >= _RECENT:
            recent = np.fromiter(self._recent, np.int64, len(self._recent))
            self._taken = np.sort(np.concatenate([self._taken, recent]), kind="stable")
            self._recent.clear()
        return free + suffix

    def _number(self, stem: str) -> str:
        """The stem with a number that is free, found in steps that double and then halve.

        A thousand folders that hold the same names would make counting up a matter of hours.
        """
        taken, free = 1, 2
        while self._is_taken(f"{stem}_{free}"):
            taken, free = free, 2 * free
        while free - taken > 1:
            middle = (taken + free) // 2
            if self._is_taken(f"{stem}_{middle}"):
                taken = middle
            else:
                free = middle
        return f"{stem}_{free}"

    def _is_taken(self, stem: str) -> bool:
        wanted = _hash(stem)
        if wanted in self._recent:
            return True
        place = int(self._taken.searchsorted(wanted))
        return place < len(self._taken) and int(self._taken[place]) == wanted


def _hash(stem: str) -> int:
    # 64 bits: that two of a million differ and meet is one chance in 40 million, and the worst
    # that comes of it is a number that was not needed.
    return hash(stem.lower())
