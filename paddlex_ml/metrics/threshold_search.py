# SPDX-License-Identifier: Apache-2.0
"""Search of thresholds: for each class that with the best F1, or with a wanted precision or recall.

    scores [N, C], targets [N, C] -> thresholds [C]

A class counts where score >= threshold, both as float32 (`decisions.decide`). Each is tuned on the
images where it is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from paddlex_ml.metrics.columns import columns
from paddlex_ml.metrics.decisions import decide
from paddlex_ml.metrics.known import has_unknown, is_known, is_present

Method = Literal["f1", "precision", "recall"]
SHRINKAGE = 50
"""Positive images of a class at which its own best F1 counts as much as the shared threshold."""
_LEVELS = 2000  # candidates for the threshold that classes share
_DIGITS = 9  # enough for any float32


@dataclass(frozen=True)
class Goal:
    """What thresholds are to reach."""

    method: Method
    """f1: the highest. precision, recall: at least `target`, with the most of the other."""
    target: float | None = None
    min_positives: int = 10
    """Classes with fewer positive images take the shared threshold: their own would be noise."""
    shrinkage: int = SHRINKAGE
    """f1: a class with n positive images goes n / (n + shrinkage) of the way, in log odds, from the
    shared threshold to its own best. On held-out halves of photographs this was better than either
    of the two."""


@dataclass(frozen=True)
class TunedThresholds:
    """The threshold of each class, and how it was chosen."""

    thresholds: np.ndarray
    """float64 [C], 0..1."""
    shared: float
    """The threshold that is best for all classes together."""
    is_shared: np.ndarray
    """Whether a class takes the shared one, bool [C]."""
    is_unreached: np.ndarray
    """Whether no threshold reaches the target, bool [C]: then the nearest one is taken."""


class _Levels(NamedTuple):
    """Hits and predictions of a class at each possible threshold, from the highest down."""

    levels: np.ndarray
    hits: np.ndarray
    predicted: np.ndarray
    positives: int

    def find(self, threshold: float) -> int:
        """Index of the lowest level that counts at a threshold; -1: none does."""
        return int(np.count_nonzero(self.levels >= np.float32(threshold))) - 1

    def gap(self, index: int) -> tuple[float, float]:
        """The level below an index, and its own: between them the same images count.

        1 stands above the highest level, 0 below the lowest.
        """
        edges = np.concatenate([[1.0], self.levels, [0.0]])
        return float(edges[index + 2]), float(edges[index + 1])

    def worth(self, threshold: float, goal: Goal) -> tuple[float, ...]:
        """What a threshold reaches; of two, the larger is better. Nothing to find, none found: 1.

        For a wanted precision or recall: whether it is reached, the other one or else itself.
        """
        index = self.find(threshold)
        hits, predicted = (int(n[index]) if index >= 0 else 0 for n in (self.hits, self.predicted))
        if goal.method == "f1":
            found = predicted + self.positives
            return (2 * hits / found if found else 1.0,)
        assert goal.target is not None
        nothing = 0.0 if self.positives else 1.0
        precision = hits / predicted if predicted else nothing
        recall = hits / self.positives if self.positives else 1.0
        own, other = (precision, recall) if goal.method == "precision" else (recall, precision)
        is_reached = own >= goal.target - 1e-9
        return float(is_reached), other if is_reached else own, other


def tune(
    scores: np.ndarray, targets: np.ndarray, goal: Goal, in_use: np.ndarray | float = 0.5
) -> TunedThresholds:
    """Choose the thresholds that are best on these images; on others they will be less good.

    F1 is searched over all scores of a class (Lipton et al. 2014, arXiv:1402.1892). A threshold
    lies between two scores of its class, in few digits. A class keeps its threshold `in_use`, a
    number or [C], unless the new one reaches more on these images: no class gets worse.
    """
    present, known = is_present(targets), is_known(targets) if has_unknown(targets) else None
    positives = present.sum(axis=0)
    usual = np.broadcast_to(np.asarray(in_use), positives.shape)
    shared = _share(scores, present, known, goal, usual)
    # As it was written: a float32 of 0.7 would become 0.699999988.
    kept = np.array([float(str(each)) for each in usual])
    thresholds = kept.copy()
    is_shared, unreached = np.zeros((2, len(positives)), bool)
    for i, (count, (score, target)) in enumerate(
        zip(positives.tolist(), columns(scores, targets), strict=True)
    ):
        rows = slice(None) if known is None else is_known(target)
        steps = _steps(score[rows], is_present(target[rows]))
        new, takes_shared = shared, count < max(1, goal.min_positives)
        if not takes_shared:
            chosen, unreached[i] = _choose(steps, goal)
            wanted = _shrink(_between(*steps.gap(chosen)), shared, count, goal)
            new = _between(*steps.gap(steps.find(wanted)), near=wanted)
        if steps.worth(new, goal) > steps.worth(thresholds[i], goal):
            thresholds[i], is_shared[i] = new, takes_shared
    if (thresholds == kept)[positives > 0].all():  # fewer false alarms alone are no better F1
        thresholds, is_shared = kept, np.zeros(len(kept), bool)
    return TunedThresholds(thresholds, shared, is_shared, unreached)


def decide_held_out(
    scores: np.ndarray,
    targets: np.ndarray,
    goal: Goal,
    in_use: np.ndarray | float = 0.5,
    *,
    seed: int,
) -> np.ndarray:
    """Which classes count by thresholds that were tuned on the other half: bool [N, C].

    This is the unbiased test of tuned thresholds: no image is decided by thresholds that were
    chosen with its labels, unless `in_use` was. Needs two images: a single one gets no class.
    """
    # In half of the images a class has half of its positives.
    half_goal = replace(goal, min_positives=-(-goal.min_positives // 2))
    order = np.random.default_rng(seed).permutation(len(scores))
    halves = order[::2], order[1::2]
    decided = np.zeros(scores.shape, bool)
    for own, other in (halves, halves[::-1]):
        if len(own) and len(other):
            tuned = tune(scores[other], targets[other], half_goal, in_use)
            decided[own] = decide(scores[own], tuned.thresholds)
    return decided


def _steps(scores: np.ndarray, present: np.ndarray) -> _Levels:
    order = np.argsort(-scores)
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(ranked) != 0, [True] * (len(ranked) > 0)))
    hits = np.cumsum(present[order])[last_of_ties]
    positives = int(hits[-1]) if len(hits) else 0
    return _Levels(ranked[last_of_ties], hits, last_of_ties + 1, positives)


def _choose(steps: _Levels, goal: Goal) -> tuple[int, bool]:
    """Index of the best level, and whether it fails to reach the target."""
    if goal.method == "f1":
        return int(np.argmax(2 * steps.hits / (steps.predicted + steps.positives))), False
    assert goal.target is not None
    if goal.method == "recall":  # the lowest level reaches every recall
        return int(np.argmax(steps.hits >= goal.target * steps.positives - 1e-9)), False
    precision = steps.hits / steps.predicted
    reached = np.flatnonzero(precision >= goal.target - 1e-12)
    if not len(reached):  # the last of the best: it has the most hits
        return int(len(precision) - 1 - np.argmax(precision[::-1])), True
    most = steps.hits[reached].max()
    return int(reached[steps.hits[reached] == most][0]), False  # the first: fewest false alarms


def _shrink(own: float, shared: float, positives: int, goal: Goal) -> float:
    """Between the shared threshold and a class's own. For precision and recall: its own."""
    if goal.method != "f1" or not goal.shrinkage:
        return own
    weight = positives / (positives + goal.shrinkage)
    bounded = np.clip([own, shared], 1e-7, 1 - 1e-7)
    own_odds, shared_odds = np.log(bounded / (1 - bounded))
    odds = weight * own_odds + (1 - weight) * shared_odds
    return float(1 / (1 + np.exp(-odds)))


def _between(below: float, level: float, near: float | None = None) -> float:
    """A number with few digits between two scores, in the middle half of the space between them.

    There no rounding of a score reaches it. near: where it should lie; None: in the middle. Scores
    that are neighbours as float32 have no number between them: then `level`.
    """
    quarter = (level - below) / 4
    low, high = below + quarter, level - quarter
    wanted = float(np.clip((below + level) / 2 if near is None else near, low, high))
    candidates = [round(wanted, digits) for digits in range(2, _DIGITS)]
    for number in (*(each for each in candidates if low <= each <= high), wanted):
        if np.float32(below) < np.float32(number) <= np.float32(level):
            return number
    return level


def _share(
    scores: np.ndarray,
    present: np.ndarray,
    known: np.ndarray | None,
    goal: Goal,
    in_use: np.ndarray,
) -> float:
    """The best threshold for all classes together: macro F1, or pooled precision or recall.

    known: which cells count, bool [N, C]; None: all.
    """
    if not present.any():
        return 0.5
    spread = np.quantile(scores[present], np.linspace(0, 1, _LEVELS), method="lower")
    levels = np.unique(np.append(spread, in_use).astype(np.float32))[::-1]
    below = np.zeros(len(levels), np.float32)  # the next score of any class
    hits, predicted = (np.empty((scores.shape[1], len(levels)), np.int64) for _ in range(2))
    tables = (scores, present) if known is None else (scores, present, known)
    for i, (row, shown, *counted) in enumerate(columns(*tables)):  # [C, L]
        every = row[counted[0]] if counted else row
        for counts, values in ((hits, row[shown]), (predicted, every)):
            ranked = np.sort(values)
            lower = np.searchsorted(ranked, levels, side="left")
            counts[i] = len(values) - lower
            if len(ranked):
                np.maximum(below, np.where(lower, ranked[lower - 1], 0), out=below)
    positives = present.sum(axis=0)
    if goal.method == "f1":
        some = positives > 0
        f1 = 2 * hits[some] / (predicted[some] + positives[some, None])
        chosen = int(np.argmax(f1.mean(axis=0)))
    else:
        pooled = _Levels(
            levels, hits.sum(axis=0), np.maximum(predicted.sum(axis=0), 1), int(positives.sum())
        )
        chosen, _ = _choose(pooled, goal)
    return _between(float(below[chosen]), float(levels[chosen]))
