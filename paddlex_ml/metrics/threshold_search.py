# SPDX-License-Identifier: Apache-2.0
"""The score from which a class counts: tuned per class for F1, a precision or a recall.

    scores [N, C], targets [N, C] -> thresholds [C]

A class counts where score >= threshold, both as float32 (`decisions.decide`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from paddlex_ml.metrics.decisions import decide

Method = Literal["f1", "precision", "recall"]
PULL = 50
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
    """Classes with fewer positive images take the shared threshold: their own would be chance."""
    pull: int = PULL
    """f1: a class with n positive images goes n / (n + pull) of the way, in log odds, from the
    shared threshold to its own best. On held-out halves of photographs that beat both ends."""


@dataclass(frozen=True)
class Tuned:
    """Thresholds and where they come from."""

    thresholds: np.ndarray
    """float64 [C], 0..1."""
    shared: float
    """The one threshold that is best for all classes together."""
    is_shared: np.ndarray
    """Whether a class takes it, bool [C]."""
    is_unreached: np.ndarray
    """Whether no threshold reaches the target, bool [C]: the nearest to it is taken."""


class _Levels(NamedTuple):
    """What each threshold of a class gives, from the highest down."""

    levels: np.ndarray
    hits: np.ndarray
    predicted: np.ndarray
    positives: int


def tune(scores: np.ndarray, targets: np.ndarray, goal: Goal) -> Tuned:
    """Choose the thresholds that are best on these images; on others they will do less well.

    F1 is searched over all scores of a class (Lipton et al. 2014, arXiv:1402.1892). The best one
    lies between the last score that counts and the next, in few digits, before it is pulled.
    """
    present = targets.astype(bool)
    positives = present.sum(axis=0)
    shared = _share(scores, present, goal)
    thresholds = np.full(scores.shape[1], shared)
    is_shared = positives < max(1, goal.min_positives)
    unreached = np.zeros(scores.shape[1], bool)
    for i in np.flatnonzero(~is_shared):
        steps = _steps(scores[:, i], present[:, i])
        chosen, unreached[i] = _choose(steps, goal)
        below = steps.levels[chosen + 1] if chosen + 1 < len(steps.levels) else 0.0
        own = _between(float(below), float(steps.levels[chosen]))
        thresholds[i] = _pull(own, shared, int(positives[i]), goal)
    return Tuned(thresholds, shared, is_shared, unreached)


def decide_held_out(
    scores: np.ndarray, targets: np.ndarray, goal: Goal, *, seed: int
) -> np.ndarray:
    """Which classes count by thresholds that were tuned on the other half: bool [N, C].

    The honest judge of tuned thresholds: no image is decided by thresholds that saw its labels.
    Needs two images: a single one gets no class.
    """
    order = np.random.default_rng(seed).permutation(len(scores))
    halves = order[::2], order[1::2]
    decided = np.zeros(scores.shape, bool)
    for own, other in (halves, halves[::-1]):
        if len(own) and len(other):
            tuned = tune(scores[other], targets[other], _halved(goal))
            decided[own] = decide(scores[own], tuned.thresholds)
    return decided


def _halved(goal: Goal) -> Goal:
    """In half of the images a class has half of its positives."""
    return replace(goal, min_positives=-(-goal.min_positives // 2))


def _steps(scores: np.ndarray, present: np.ndarray) -> _Levels:
    order = np.argsort(-scores)
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    hits = np.cumsum(present[order])[last_of_ties]
    return _Levels(ranked[last_of_ties], hits, last_of_ties + 1, int(hits[-1]))


def _choose(steps: _Levels, goal: Goal) -> tuple[int, bool]:
    """Index of the best level, and whether it misses the target."""
    if goal.method == "f1":
        return int(np.argmax(2 * steps.hits / (steps.predicted + steps.positives))), False
    assert goal.target is not None
    if goal.method == "recall":  # every recall is reached at last
        return int(np.argmax(steps.hits >= goal.target * steps.positives - 1e-9)), False
    precision = steps.hits / steps.predicted
    reached = np.flatnonzero(precision >= goal.target - 1e-12)
    if not len(reached):
        return _last_best(precision), True
    most = steps.hits[reached].max()
    return int(reached[steps.hits[reached] == most][0]), False  # none of the misses behind them


def _pull(own: float, shared: float, positives: int, goal: Goal) -> float:
    """Between the shared threshold and a class's own; precision and recall are promised as such."""
    if goal.method != "f1" or not goal.pull:
        return own
    weight = positives / (positives + goal.pull)
    odds = weight * _log_odds(own) + (1 - weight) * _log_odds(shared)
    return _shorten(float(1 / (1 + np.exp(-odds))))


def _shorten(score: float) -> float:
    """Four significant digits of the distance to 0 or 1, whichever is nearer.

    0.99996 stays apart from 1, which no score reaches: networks do say such things.
    """
    side = min(score, 1 - score)
    if side <= 0:
        return score
    return round(score, max(4, 3 - int(np.floor(np.log10(side)))))


def _log_odds(score: float) -> float:
    bounded = min(max(score, 1e-7), 1 - 1e-7)
    return float(np.log(bounded / (1 - bounded)))


def _last_best(values: np.ndarray) -> int:
    return int(len(values) - 1 - np.argmax(values[::-1]))


def _between(below: float, level: float) -> float:
    """A number with few digits above `below` and up to `level`, as float32 compares them."""
    middle = (below + level) / 2
    for digits in range(2, _DIGITS):
        number = round(middle, digits)
        if np.float32(below) < np.float32(number) <= np.float32(level):
            return number
    return level


def _share(scores: np.ndarray, present: np.ndarray, goal: Goal) -> float:
    """The best threshold for all classes together: macro F1, or pooled precision or recall."""
    if not present.any():
        return 0.5
    spread = np.quantile(scores[present], np.linspace(0, 1, _LEVELS), method="lower")
    levels = np.unique(np.array([_shorten(float(level)) for level in spread], np.float32))[::-1]
    hits, predicted = _count(scores, present, levels)  # [C, L]
    positives = present.sum(axis=0)
    if goal.method == "f1":
        known = positives > 0
        f1 = 2 * hits[known] / (predicted[known] + positives[known, None])
        chosen = int(np.argmax(f1.mean(axis=0)))
    else:
        pooled = _Levels(
            levels, hits.sum(axis=0), np.maximum(predicted.sum(axis=0), 1), int(positives.sum())
        )
        chosen, _ = _choose(pooled, goal)
    return float(str(levels[chosen]))  # as it was shortened: a float32 of 0.7 is 0.699999988


def _count(
    scores: np.ndarray, present: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hits and predictions of every class at every level: [C, L] each."""
    hits, predicted = (np.empty((scores.shape[1], len(levels)), np.int64) for _ in range(2))
    for i, (row, shown) in enumerate(zip(scores.T, present.T, strict=True)):
        for counts, values in ((hits, row[shown]), (predicted, row)):
            counts[i] = len(values) - np.searchsorted(np.sort(values), levels, side="left")
    return hits, predicted
