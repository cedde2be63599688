# SPDX-License-Identifier: Apache-2.0
"""Choose the images for validation, so that both sides have their part of every class.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011, "On the Stratification of Multi-Label
Data", ECML PKDD): the rarest class is divided first. The packages iterative-stratification and
scikit-multilearn implement it for single images. They have no groups, do not guarantee that a rare
class is on both sides, and need SciPy and scikit-learn at run time; scikit-multilearn also misses
the wanted shares (figures: docs/decisions.md). Hence this file, in numpy alone.

    targets [N, C] -> units [U] -> a side for each: distribute, repair, refine, adjust -> mask [N]

N images, C classes, U units: a unit is an image, or a group of images that stays together. The last
column is the class "image", which every image shows: sizes are then parts of a class like the
others, of the largest one, so that images without labels are divided last.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from paddlex_ml.data import targets
from paddlex_ml.data.targets import Mask, SparseTargets, Targets
from paddlex_ml.metrics.known import UNKNOWN

Numbers = npt.NDArray[np.int64]
Amounts = npt.NDArray[np.float64]
_TRAIN, _VAL, _FREE = 0, 1, -1
_MAX_DEPTH = 100  # moves that may depend on one another
_GOOD_SPREAD = 0.001  # of a class, see `_measure_spread`; chance gives 0.16 at 20 %
_MOST_CELLS = 1 << 23  # unknown or absent ones that are listed for their columns
_BUDGET = 200_000  # units and classes that a search visits: a second or two


def choose_by_class(values: Targets, groups: Numbers, val_percent: int, seed: int) -> Mask:
    """Choose the images for validation, so that val has its part of every class: a mask [N].

    A class that is unknown on some images has its part of the known absent ones too.

    `groups` [N] holds a number, 0 to U - 1, for each image; equal numbers stay together; U > 1.
    """
    rng = np.random.default_rng(seed)
    units = _make_units(values, groups, rng)
    wanted = _compute_wanted(units, val_percent)
    sides = _distribute(units, wanted, rng)
    drawn = np.zeros_like(sides)
    drawn[units.of_image] = choose_by_chance(groups, val_percent, seed)
    # Where few combinations of classes occur, all linked to one another, the greedy choice passes
    # its errors on from class to class, and a random choice can be better.
    if _measure_spread(units, drawn, wanted) < _measure_spread(units, sides, wanted):
        sides = drawn
    for improve in (_repair, _refine, _adjust_size):
        sides = improve(units, sides, wanted)
    in_val: Mask = sides[units.of_image] == _VAL
    return in_val


def choose_by_chance(groups: Numbers, val_percent: int, seed: int) -> Mask:
    """Choose groups at random, until the size is as near as possible; see `choose_by_class`."""
    order = np.random.default_rng(seed).permutation(groups.max() + 1)
    so_far = np.cumsum(np.bincount(groups)[order])[:-1]  # the last group is always for train
    count = np.abs(so_far - _choose_size(len(groups), val_percent)).argmin() + 1
    return np.isin(groups, order[:count])


def _choose_size(num_images: int, val_percent: int) -> int:
    return min(max((num_images * val_percent + 50) // 100, 1), num_images - 1)


@dataclass(frozen=True)
class _Units:
    """What is divided, numbered at random: "the first unit" is always a random one.

    In unit `unit[p]`, `count[p]` images show class `label[p]`; ordered by unit, then class.
    """

    of_image: Numbers  # [N]
    unit: Numbers
    label: Numbers
    count: Numbers
    num_columns: int  # C + 1, and one for each class that is unknown on some images
    start: Numbers
    """Where each unit's entries begin, and where the last one's end: [U + 1]."""
    sizes: Numbers
    """Images of each unit [U]."""
    totals: Numbers
    """Images of each class [C + 1]."""
    holders: Numbers
    """Units of each class [C + 1]."""
    members: list[Numbers]
    """The units of each class, those with most of its images first."""

    def entries_of(self, unit: int) -> list[tuple[int, int]]:
        """A unit's classes, "image" included, and how many of its images show each."""
        where = slice(self.start[unit], self.start[unit + 1])
        return list(zip(self.label[where].tolist(), self.count[where].tolist(), strict=True))

    def sum_off(self, sides: Numbers, wanted: Numbers) -> Numbers:
        """Hundredths of images of each class that val has too many: [C + 1]."""
        in_val = np.where(sides[self.unit] == _VAL, self.count, 0)
        sums = np.bincount(self.label, in_val, self.num_columns).astype(np.int64)
        off: Numbers = 100 * sums - wanted
        return off


def _make_units(values: Targets, numbers: Numbers, rng: np.random.Generator) -> _Units:
    of_image = rng.permutation(numbers.max() + 1)[numbers]
    image, label, num_columns = _list_columns(values)
    entries, count = np.unique(of_image[image] * num_columns + label, return_counts=True)
    unit, label = np.divmod(entries, num_columns)
    holders = np.bincount(label, minlength=num_columns)
    by_label = np.lexsort((unit, -count, label))
    return _Units(
        of_image,
        unit,
        label,
        count,
        num_columns,
        start=np.searchsorted(unit, np.arange(unit[-1] + 2)),
        sizes=np.bincount(of_image),
        totals=np.bincount(label, count, num_columns).astype(np.int64),
        holders=holders,
        members=np.split(unit[by_label], np.cumsum(holders)[:-1]),
    )


def _list_columns(values: Targets) -> tuple[Numbers, Numbers, int]:
    """Image and column of each cell that counts, and the number of columns, "image" the last.

    A class that is unknown on some images has a second column, of its unknown or absent cells. That
    can be half of all cells of sparse targets: then there are a column of the images most of whose
    classes are unknown, and two for each class: absent on these, and unknown on the others.
    """
    num_images, num_classes = values.shape
    counts = targets.count(values)
    unknown = num_images - counts.known
    num_rarer = int(np.minimum(counts.absent, unknown).sum())
    parts = [targets.cells(values)]
    if isinstance(values, SparseTargets) and values.others.any() and num_rarer > _MOST_CELLS:
        are_open, listed = values.others < 0, values.values != 1
        image, label = values.images()[listed], values.ids[listed]
        parts.append((image, num_classes * (1 + are_open[image]) + label))
        parts.append((np.flatnonzero(are_open), np.full(are_open.sum(), 3 * num_classes)))
        num_columns = 3 * num_classes + 2
    else:
        column = np.zeros(num_classes, np.int64)
        column[unknown > 0] = num_classes + np.arange(np.count_nonzero(unknown))
        # The rarer of the two says as much, and there are fewer cells to list.
        by_absent = counts.absent < unknown
        for value, chosen in ((UNKNOWN, ~by_absent & (unknown > 0)), (0, by_absent)):
            classes = np.flatnonzero(chosen)
            image, label = targets.cells(targets.choose_classes(values, classes), value)
            parts.append((image, column[classes[label]]))
        num_columns = num_classes + np.count_nonzero(unknown) + 1
    parts.append((np.arange(num_images), np.full(num_images, num_columns - 1)))
    image, label = (np.concatenate(each) for each in zip(*parts, strict=True))
    return image, label, num_columns


def _compute_wanted(units: _Units, val_percent: int) -> Numbers:
    """Hundredths of images of each class that val should have [C + 1]: whole numbers are exact."""
    wanted = val_percent * units.totals
    several = units.totals > 1
    # At least one image on each side, from the start: common classes then balance the images that
    # rare classes need in val. Moving these afterwards would come on top of the rest.
    wanted[several] = wanted[several].clip(100, 100 * units.totals[several] - 100)
    wanted[-1] = 100 * _choose_size(len(units.of_image), val_percent)
    return wanted


def _distribute(units: _Units, wanted: Numbers, rng: np.random.Generator) -> Numbers:
    """Iterative stratification: give each unit to the side that lacks most of its rarest class.

    Units with many images of the class come first: small ones then fill the gaps.
    """
    wants = [(100 * units.totals - wanted).tolist(), wanted.tolist()]  # what each side still lacks
    coins = rng.integers(0, 2, len(units.sizes)).tolist()
    start, labels = units.start.tolist(), units.label.tolist()
    worth = (100 * units.count).tolist()
    sides = [_FREE] * len(units.sizes)
    left = 100 * units.totals  # what both sides lack; most of all where a class is done
    for _ in range(units.num_columns):
        rarest = int(left.argmin())
        left[rarest] = np.iinfo(np.int64).max // 2
        taken: list[int] = []
        for unit in units.members[rarest].tolist():
            if sides[unit] != _FREE:
                continue
            more = (
                wants[_VAL][rarest] - wants[_TRAIN][rarest] or wants[_VAL][-1] - wants[_TRAIN][-1]
            )
            side = sides[unit] = (_VAL if more > 0 else _TRAIN) if more else coins[unit]
            for p in range(start[unit], start[unit + 1]):
                wants[side][labels[p]] -= worth[p]
            taken += range(start[unit], start[unit + 1])
        np.subtract.at(left, units.label[taken], 100 * units.count[taken])
    return np.array(sides, np.int64)


def _repair(units: _Units, sides: Numbers, wanted: Numbers) -> Numbers:
    """Move the fewest images so that each class of several units is on both sides.

    To find the fewest is as hard as set splitting (NP-complete), but the classes in question are
    rare and few: trying all ways to move 1, 2, ... images ends at once. Where the search exceeds
    its budget, or no way exists, as many classes as possible are repaired one by one.
    """
    search = _Search(units, sides, wanted)
    broken = search.find_broken(range(units.num_columns))
    if broken and not search.solve(broken, _BUDGET):
        for label in broken:
            search.solve([label], _BUDGET // len(broken))
    return np.array(search.sides, np.int64)


class _Search:
    """A search for the fewest moves that `_repair` needs, with the state of the division."""

    def __init__(self, units: _Units, sides: Numbers, wanted: Numbers) -> None:
        self.sides: list[int] = sides.tolist()
        self._units = units
        in_val = np.bincount(units.label, sides[units.unit], units.num_columns).astype(np.int64)
        self._on = [(units.holders - in_val).tolist(), in_val.tolist()]  # units on each side
        self._off: list[int] = units.sum_off(sides, wanted).tolist()
        self._holders: list[int] = units.holders.tolist()
        self._totals: list[int] = units.totals.tolist()
        self._given_up: set[int] = set()
        self._tried: set[int] = set()
        self._budget = 0
        self._next: int | None = None

    def find_broken(self, labels: Iterable[int]) -> list[int]:
        """Those of `labels` that are on one side and need not be, those of fewest units first."""
        train, val = self._on
        several = (c for c in labels if self._holders[c] > 1 and c not in self._given_up)
        return sorted(
            (c for c in several if not (train[c] and val[c])), key=lambda c: (self._holders[c], c)
        )

    def solve(self, goals: list[int], budget: int) -> bool:
        """Bring the classes `goals` to both sides, and keep the others there; or move nothing."""
        self._given_up = set()
        self._given_up = {*self.find_broken(range(self._units.num_columns))}.difference(goals)
        self._budget = budget
        allowed: int | None = 0
        while allowed is not None and self._budget > 0:
            self._next = None
            if self._search(goals, 0, allowed):
                return True
            allowed = self._next  # the least number of images that was too many
        return False

    def _search(self, watched: Iterable[int], moved: int, allowed: int, depth: int = 0) -> bool:
        """Try all ways to end with at most `allowed` images moved, `moved` of them already.

        `watched` are the classes that may be on one side only by now.
        """
        broken = self.find_broken(watched)
        if not broken:
            return True
        if depth == _MAX_DEPTH or self._budget <= 0:
            return False
        # At least so many images must move: one unit of each class, where no two share a unit.
        needed, used = moved, set[int]()
        for label in broken:
            units = self._units.members[label]
            self._budget -= 1
            if used.isdisjoint(units.tolist()):
                needed += int(self._units.sizes[units].min())
                used.update(units.tolist())
        if self._is_too_many(needed, allowed):
            return False
        ways = [u for u in self._units.members[broken[0]].tolist() if u not in self._tried]
        self._budget -= len(ways)
        tried = set()
        solved = False
        for unit in sorted(ways, key=self._gain, reverse=True):
            after = moved + int(self._units.sizes[unit])
            if self._is_too_many(after, allowed):
                continue
            self._move(unit)
            tried.add(unit)
            self._tried.add(unit)  # for the next units too: all ways that move it are done then
            watching = {*broken, *(label for label, _ in self._units.entries_of(unit))}
            if self._search(watching, after, allowed, depth + 1):
                solved = True
                break
            self._move(unit)
        self._tried -= tried
        return solved

    def _is_too_many(self, images: int, allowed: int) -> bool:
        if images <= allowed:
            return False
        self._next = min(images, self._next or images)
        return True

    def _gain(self, unit: int) -> tuple[int, float]:
        """Classes that a move brings to both sides, less those it leaves on one; minus the spread.

        The spread (`_measure_spread`) that the move adds decides between equals.
        """
        side, entries = self.sides[unit], self._units.entries_of(unit)
        here, there = self._on[side], self._on[1 - side]
        divisible = [label for label, _ in entries if self._holders[label] > 1]
        gained = sum((there[label] == 0) - (here[label] == 1) for label in divisible)
        sign = 1 if side == _TRAIN else -1
        harms = ((sign * self._off[c] / 50 + n) * n / self._totals[c] for c, n in entries)
        return gained, -sum(harms)

    def _move(self, unit: int) -> None:
        side = self.sides[unit]
        for label, count in self._units.entries_of(unit):
            self._on[side][label] -= 1
            self._on[1 - side][label] += 1
            self._off[label] += 100 * count if side == _TRAIN else -100 * count
        self.sides[unit] = 1 - side


def _refine(units: _Units, sides: Numbers, wanted: Numbers) -> Numbers:
    """Move units while that brings the classes much nearer to what is wanted; returns new sides.

    Groups, and images of many classes, leave errors that no later choice can correct.
    """
    batch = max(1, len(sides) // 8)
    spread = _measure_spread(units, sides, wanted)
    while batch and spread > _GOOD_SPREAD * units.num_columns:
        harms = _weigh_moves(units, sides, wanted, batch)
        moved = np.argsort(harms, kind="stable")[:batch]
        moved = moved[harms[moved] < 0]
        trial = sides.copy()
        trial[moved] = 1 - trial[moved]
        after = _measure_spread(units, trial, wanted)
        if after > 0.9 * spread:
            batch //= 2
        if after < spread:
            sides, spread = trial, after
    return sides


def _adjust_size(units: _Units, sides: Numbers, wanted: Numbers) -> Numbers:
    """Move the units that matter least until val has its size, or none can move; new sides.

    No unit moves that is larger than the excess.
    """
    sides = sides.copy()
    batch = len(sides)
    while batch:
        excess = int(units.sum_off(sides, wanted)[-1]) // 100  # images too many in val
        batch = min(batch, max(1, abs(excess) // 8))
        source = _VAL if excess > 0 else _TRAIN
        harms = _weigh_moves(units, sides, wanted, batch) / units.sizes
        harms[(sides != source) | (units.sizes > abs(excess))] = np.inf
        moved = np.argsort(harms, kind="stable")[:batch]
        moved = moved[np.isfinite(harms[moved]) & (np.cumsum(units.sizes[moved]) <= abs(excess))]
        sides[moved] = 1 - source
        if not len(moved):
            batch //= 2
    return sides


def _measure_spread(units: _Units, sides: Numbers, wanted: Numbers) -> float:
    """Sum over classes of (images in val - wanted)^2 / images; small for a good division."""
    off = units.sum_off(sides, wanted) / 100
    return float((off**2 / units.totals.clip(min=1)).sum())


def _weigh_moves(units: _Units, sides: Numbers, wanted: Numbers, batch: int) -> Amounts:
    """How much each unit's move to the other side would add to the spread [U].

    Infinite where moving `batch` units could leave a class, or a side, without images.
    """
    side = sides[units.unit]
    off = units.sum_off(sides, wanted)[units.label] / 100
    grown = (2 * np.where(side == _TRAIN, off, -off) + units.count) * units.count
    harms = np.bincount(units.unit, grown / units.totals[units.label]).astype(np.float64)
    in_val = np.bincount(units.label, side, units.num_columns)
    left = np.array([units.holders - in_val, in_val])[side, units.label]
    harms[units.unit[(left <= batch) & (units.holders[units.label] > 1)]] = np.inf
    return harms
