# SPDX-License-Identifier: Apache-2.0
"""Labels of an image that keep relations between classes: implications and exclusive groups.

A class that is shown is at least as certain as what implies it: its score is the highest of its own
and of theirs (the hierarchy constraint of Giunchiglia and Lukasiewicz 2020, arXiv:2010.10151). Then
the classes are taken by falling score as long as they contradict none that was taken before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class ClassRelations:
    """Relations between C classes, by class id."""

    implied: tuple[tuple[int, ...], ...]
    """All that each class implies, directly or through others, without itself: [C]."""
    exclusive: tuple[tuple[int, ...], ...]
    """Groups of classes of which an image shows one at most. No class may imply two of a group, or
    one of a group that it is in."""

    @cached_property
    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """A class, and one that it implies: ids [P], ids [P]."""
        pairs = [(a, b) for a, others in enumerate(self.implied) for b in others]
        table = np.array(pairs, np.int64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    @cached_property
    def _groups(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the exclusive groups that each class is in, [C]."""
        found: list[list[int]] = [[] for _ in self.implied]
        for number, group in enumerate(self.exclusive):
            for class_id in group:
                found[class_id].append(number)
        return tuple(map(tuple, found))

    @cached_property
    def _sizes(self) -> np.ndarray:
        """How many classes each one implies, [C]: fewer than what implies it."""
        return np.array([len(others) for others in self.implied], np.int64)

    def raise_scores(self, scores: np.ndarray) -> np.ndarray:
        """The scores [..., C], each at least as high as those of the classes that imply it."""
        raised: np.ndarray = np.array(scores)
        start, end = self._pairs
        columns = np.moveaxis(raised, -1, 0)  # a view
        np.maximum.at(columns, end, columns[start])
        return raised

    def choose(
        self, scores: np.ndarray, thresholds: np.ndarray, min_labels: int, max_labels: int | None
    ) -> np.ndarray:
        """Ids of the classes that an image with `scores` [C] gets, by falling raised score; of
        equal ones what is implied comes before what implies it.

        A class counts where its raised score reaches its threshold, or where one that implies it
        counts. Of an exclusive group the one with the highest score stays; what implies a removed
        class goes with it. Fewer than `min_labels` where no other class fits to those chosen.
        """
        scores = self.raise_scores(scores)
        order = np.lexsort((np.arange(len(scores)), self._sizes, -scores))
        reached = scores >= thresholds
        start, end = self._pairs
        reached[end[reached[start]]] = True
        is_wanted = reached[order]
        chosen: set[int] = set()
        taken: set[int] = set()
        # What a class implies is reached where it is, and stands before it: so it is decided first.
        for candidates, most in ((order[is_wanted], max_labels), (order[~is_wanted], min_labels)):
            for class_id in candidates.tolist():
                if most is not None and len(chosen) >= most:
                    break
                groups = self._groups[class_id]
                if chosen.issuperset(self.implied[class_id]) and taken.isdisjoint(groups):
                    chosen.add(class_id)
                    taken.update(groups)
        kept = np.zeros(len(scores), np.bool_)
        kept[list(chosen)] = True
        return np.asarray(order[kept[order]])

    def find_limits(self, scores: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The highest score [C] that fits to the ids `chosen`, of an image with `scores` [C].

        A class that a chosen one excludes, and what implies it, has at most 1 less the score of the
        chosen one; any other class 1.
        """
        limits, shown = np.ones(len(scores)), {*chosen.tolist()}
        for group in self.exclusive:
            for winner in shown.intersection(group):
                others = [i for i in group if i != winner]
                limits[others] = np.minimum(limits[others], 1 - scores[winner])
        start, end = self._pairs
        np.minimum.at(limits, start, limits[end])
        return limits
