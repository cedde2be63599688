# SPDX-License-Identifier: Apache-2.0
"""How often the table of runs calls equal models different, and finds one that is worse.

    python benchmarks/leaderboard_chance.py [--trials 200]

Every trial draws a list of images and the scores of some models that are equally good: what makes
an image hard is shared by all models, and each adds an error of its own. A trial is wrong when any
model is marked as worse than the best of the table. For configurations, each seed also moves the
quality of a model. The last column replaces one model by a worse one, and says how often the mark
finds it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.metrics import influence, significance
from paddlex_ml.metrics.average_precision import mean_average_precision

SHARED = 0.7
"""Part of the variance of a score that all models share."""


class Case(NamedTuple):
    """A table of equal models."""

    images: int
    classes: int
    models: int
    rounds: int
    """0: influences."""
    seeds: int = 1
    """Models of one configuration."""
    gap: float = 0.4
    """By how much the positives of a worse model lie lower, in standard deviations."""


CASES = (
    Case(400, 5, 2, 200, gap=0.3),
    Case(400, 5, 12, 200),
    Case(400, 5, 12, 0),
    Case(100, 5, 12, 200, gap=0.8),
    Case(60, 3, 4, 200, gap=1.0),
    Case(600, 10, 12, 0, gap=0.25),
    Case(400, 5, 12, 200, seeds=2, gap=1.0),
    Case(400, 5, 12, 200, seeds=3, gap=0.8),
)


def draw(case: Case, rng: np.random.Generator, worse: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Scores of the models, the last one worse by `worse`, and the targets of one trial."""
    share = np.linspace(0.1, 0.4, case.classes)
    targets = (rng.random((case.images, case.classes)) < share).astype(np.int8)
    targets[0] = 1  # each class has an image
    common, scores = rng.normal(size=targets.shape), []
    last = case.models - case.seeds
    for model in range(case.models):
        own = rng.normal(size=targets.shape)
        distance = 1.5 - (worse if model >= last else 0)
        distance += rng.normal() * 0.1 * (case.seeds > 1)
        logits = SHARED**0.5 * common + (1 - SHARED) ** 0.5 * own + distance * targets
        scores.append((1 / (1 + np.exp(-logits))).astype(np.float32))
    return scores, targets


def find_worse(case: Case, scores: list[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """Which models, or configurations, the table marks as worse than its best: bool [K]."""
    values = np.array([mean_average_precision(each, targets) for each in scores])
    slopes = np.array([influence.measure(each, targets).on_mean for each in scores])
    repeats = values.reshape(-1, case.seeds)
    slopes = slopes.reshape(len(repeats), case.seeds, -1).mean(axis=1)
    errors = significance.errors_of_influences(slopes)
    freedom = significance.freedom_of_influences(slopes)
    if case.rounds:
        options = {"rounds": case.rounds, "seed": 42}
        table = np.array([significance.resample_map(s, targets, **options) for s in scores])
        table = table.reshape(len(repeats), case.seeds, -1).mean(axis=1)
        errors = np.fmax(errors, significance.errors_of_rounds(table))
    if case.seeds > 1:
        errors, freedom = significance.add_spread(errors, freedom, list(repeats))
        values = repeats.mean(axis=1)
    p_values = significance.compare_all(values, errors, freedom)[values.argmax()]
    found: np.ndarray = p_values < significance.LEVEL
    return found


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=200)
    trials = parser.parse_args().trials
    print("images classes models seeds method        wrong      worse one found")
    for case in CASES:
        rng, wrong, found = np.random.default_rng(2), 0, 0
        for _ in range(trials):
            wrong += bool(find_worse(case, *draw(case, rng, 0.0)).any())
            found += bool(find_worse(case, *draw(case, rng, case.gap))[-1])
        method = f"{case.rounds} rounds" if case.rounds else "influence"
        print(
            f"{case.images:6} {case.classes:7} {case.models:6} {case.seeds:5} {method:12} "
            f"{wrong:4} ({wrong / trials:5.1%}) {found / trials:8.0%} (gap {case.gap:g})",
            flush=True,
        )


if __name__ == "__main__":
    main()
