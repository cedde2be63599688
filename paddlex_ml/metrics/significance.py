# SPDX-License-Identifier: Apache-2.0
"""Which of many models differ by more than chance: paired errors, p-values, Holm's correction.

    scores of K models for the same N images -> errors of all differences [K, K]
    values [K], errors [K, K] -> p-values [K, K], corrected for all pairs

A model that is compared with the best of K was not chosen before the scores were seen: the best one
is partly the luckiest. So the correction counts all K (K - 1) / 2 pairs, not the K - 1 that are
shown. With the smaller count, equal models would be called different in more than 5 % of the tables
(`benchmarks/leaderboard_chance.py` measures it).

The errors are those of the paired bootstrap: every round draws the same images for all models.
Where it would take too long they come from the influence of each image, the limit of the bootstrap
for many images (`influence`). Few positives decide about a difference, so its error is itself
uncertain: p-values are those of Student's distribution (`freedom_of_influences`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from paddlex_ml.metrics.average_precision import descend
from paddlex_ml.metrics.bootstrap import draw_weights
from paddlex_ml.metrics.columns import columns
from paddlex_ml.metrics.known import has_unknown, is_known, is_present

LEVEL = 0.05
"""A difference holds where its corrected p-value is below."""
LEAST_ROUNDS, MOST_ROUNDS = 200, 1000
_CELLS = 2 * 10**8
"""Cells times rounds of all models together, a few seconds; above, influences are compared."""
_AT_ONCE = 1 << 22
_TINY = 1e-24
"""Square of a difference that is none: what rounding leaves."""
_FEW = 10
"""Degrees of freedom below which Student's distribution is summed."""


def choose_rounds(cells: int) -> int:
    """Rounds of the bootstrap for so many scores of all models together; 0: influences instead."""
    rounds = min(MOST_ROUNDS, _CELLS // max(cells, 1))
    return rounds if rounds >= LEAST_ROUNDS else 0


def resample_map(
    scores: np.ndarray, targets: np.ndarray, *, rounds: int, seed: int, noise: float = 0.0
) -> np.ndarray:
    """mAP of each round of a bootstrap: scores and targets [N, C] -> float64 [R].

    The same seed draws the same images for every model, so that rounds of two models are paired.
    A round leaves out the classes without a positive in it, and is NaN without any class.
    noise: as in `average_precision`.
    """
    weights = draw_weights(len(scores), rounds=rounds, seed=seed).astype(np.int32)
    some_unknown, per_class = has_unknown(targets), []
    found = zip(descend(scores, targets, noise=noise), columns(scores, targets), strict=True)
    for steps, (score, target) in found:
        if not len(steps.hits):
            continue
        order = np.argsort(-score)
        if some_unknown:
            order = order[is_known(target[order])]
        order = order[: steps.depth[-1]]
        present, sampled = is_present(target[order]), np.empty(rounds)
        at_once = max(1, _AT_ONCE // len(order))
        for start in range(0, rounds, at_once):
            drawn = weights[start : start + at_once, order]
            depth = np.cumsum(drawn, axis=1)[:, steps.depth - 1]
            hits = np.cumsum(drawn * present, axis=1)[:, steps.depth - 1]
            gain = np.diff(hits, axis=1, prepend=0) * (hits / np.maximum(depth, 1))
            with np.errstate(invalid="ignore"):
                sampled[start : start + at_once] = gain.sum(axis=1) / hits[:, -1]
        per_class.append(sampled)
    if not per_class:
        return np.full(rounds, np.nan)
    defined = ~np.isnan(per_class)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, per_class, 0).sum(axis=0) / defined.sum(axis=0))


def errors_of_rounds(maps: np.ndarray) -> np.ndarray:
    """Standard errors of all differences from the rounds of K models: [K, R] -> [K, K].

    NaN for all where fewer than half of the rounds are defined.
    """
    defined = ~np.isnan(maps).any(axis=0)
    if 2 * defined.sum() < len(defined):
        return np.full((len(maps), len(maps)), np.nan)
    return _errors(np.atleast_2d(np.cov(maps[:, defined])))


def errors_of_influences(influences: np.ndarray) -> np.ndarray:
    """The same from the influence of each image on each mAP: [K, N] -> [K, K]."""
    return _errors(influences @ influences.T)


def freedom_of_influences(influences: np.ndarray) -> np.ndarray:
    """Degrees of freedom of the errors: [K, N] -> [K, K].

    They are those of normal values whose error is as uncertain. The error is a sum of N squares,
    and their fourth powers tell how much such a sum varies: for normal values the degrees are N; a
    few images that decide about all give few.
    """
    squared = influences**2
    cubed, total = squared * influences, influences @ influences.T
    own, fourth = np.diag(total), (squared**2).sum(axis=1)
    squares = own[:, None] + own[None, :] - 2 * total
    mixed = cubed @ influences.T
    fourths = fourth[:, None] + fourth[None, :] - 4 * (mixed + mixed.T) + 6 * squared @ squared.T
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = 2 * squares**2 / (fourths - squares**2 / influences.shape[1])
    return np.asarray(np.where(squares > _TINY, np.maximum(freedom, 1), np.inf))


def _errors(covariance: np.ndarray) -> np.ndarray:
    own = np.diag(covariance)
    squares = own[:, None] + own[None, :] - 2 * covariance
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def compare_all(values: np.ndarray, errors: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Corrected p-values of all differences: [K], [K, K] -> [K, K], 1 on the diagonal.

    freedom: degrees of freedom of each error, [K, K]. NaN where an error is unknown. Models without
    any measurable difference of their images have 1.
    """
    count = len(values)
    adjusted, rows = np.ones((count, count)), np.triu_indices(count, 1)
    gaps, error = np.abs(values[rows[0]] - values[rows[1]]), errors[rows]
    with np.errstate(divide="ignore", invalid="ignore"):
        statistics = np.where(error**2 > _TINY, gaps / error, 0)
    statistics[np.isnan(error) | np.isnan(gaps)] = np.nan
    found = two_sided(statistics, freedom[rows])
    adjusted[rows] = adjusted.T[rows] = holm(found)
    return adjusted


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of [M] p-values: none below LEVEL by chance alone in 95 %.

    Holm 1979, "A simple sequentially rejective multiple test procedure". NaN stays and counts not.
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int((~np.isnan(p_values)).sum())]  # NaN comes last
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return adjusted


def two_sided(statistics: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Chance that |t| of Student's distribution is at least so large: [M], [M] -> [M]; NaN stays.

    From ten degrees of freedom on by the normal distribution (Wallace 1959, "Bounds on normal
    approximations to Student's and the chi-square distributions"), within a hundredth of the
    chance. Below, the density is summed: with t = sqrt(freedom) * tan(angle) that of the angle is
    cos(angle) ** (freedom - 1).
    """
    many = np.minimum(freedom, 1e9)
    normal = np.sqrt(many * np.log1p(statistics**2 / many)) * (8 * many + 1) / (8 * many + 3)
    found = np.array([math.erfc(each / math.sqrt(2)) for each in normal.tolist()])
    angles = np.linspace(0, math.pi / 2, 20_001)
    for number in np.flatnonzero((freedom < _FEW) & ~np.isnan(statistics)):
        density = np.cos(angles) ** (freedom[number] - 1)
        steps = np.append(0, np.cumsum((density[1:] + density[:-1]) / 2))
        angle = math.atan(statistics[number] / math.sqrt(freedom[number]))
        found[number] = 1 - np.interp(angle, angles, steps) / steps[-1]
    return found


def add_spread(
    image_errors: np.ndarray, image_freedom: np.ndarray, repeats: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of differences between mean values, with the chance of the seed: two arrays [G, G].

    image_errors and image_freedom [G, G]: of the means, by other images. repeats: the values of
    each of G groups, one for each seed. The spread of seeds is taken to be the same in all groups,
    as an analysis of variance does: two or three seeds of one group alone would tell it too badly.
    The degrees of freedom of the sum are those of Satterthwaite 1946. NaN where no group has two
    values.
    """
    counts = np.array([len(values) for values in repeats], np.float64)
    own_freedom = counts.sum() - len(counts)
    squares = sum(float(np.square(values - values.mean()).sum()) for values in repeats)
    spread = squares / own_freedom if own_freedom else np.nan
    of_seeds = spread * (1 / counts[:, None] + 1 / counts[None, :])
    total = image_errors**2 + of_seeds
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = image_errors**4 / image_freedom + of_seeds**2 / max(own_freedom, 1)
        freedom = np.where(sums > 0, total**2 / sums, np.inf)
    return np.sqrt(total), np.where(np.isnan(total), np.nan, freedom)


def errors_of_folds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and degrees of freedom of differences between means over folds: [G, L] -> [G, G] each.

    The differences of L folds are not independent, because each training list shares images with
    the others. The variance is corrected as in Nadeau and Bengio 2003, "Inference for the
    Generalization Error": 1 / L becomes 1 / L + 1 / (L - 1), the part of val against train.
    """
    folds = values.shape[1]
    gaps = values[:, None, :] - values[None, :, :]
    errors = gaps.std(axis=2, ddof=1) * math.sqrt(1 / folds + 1 / (folds - 1))
    return errors, np.full(errors.shape, folds - 1.0)
