# SPDX-License-Identifier: Apache-2.0
"""Measures tuned thresholds on photographs that they were not tuned on.

    python benchmarks/thresholds.py --data DIR --work DIR

--work holds the runs scenes-6 and clothing-10 of benchmarks/results.py, --data the data sets that
they were trained on. The validation photographs are halved at random: thresholds are tuned on one
half and measured on the other, and the other way round, for ten divisions. Writes the last section
of docs/results.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import paddlex_ml
from paddlex_ml.data import annotation
from paddlex_ml.metrics import decisions
from paddlex_ml.metrics.average_precision import mean_average_precision
from paddlex_ml.metrics.threshold_search import Goal, tune

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
TITLE = "## Tuned thresholds\n"
RUNS = {"scenes-6": "natural_scenes", "clothing-10": "clothing_ccp"}
DIVISIONS = 10
GOAL = Goal("f1")


def main() -> int:
    """Measure both runs and write the section."""
    parser = argparse.ArgumentParser(description="Measure tuned thresholds on held-out halves")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_results")
    options = parser.parse_args()
    sections = [_HEAD]
    for run, data in RUNS.items():
        scores, targets = _score(options.work / run, options.data / data)
        sections.append(_section(f"{data}, run {run}", scores, targets))
    kept = PAGE.read_text(encoding="utf-8").split(TITLE)[0].rstrip()
    PAGE.write_text(f"{kept}\n\n{TITLE}\n" + "\n".join(sections), encoding="utf-8")
    print("\n".join(sections))
    return 0


def _score(run: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets of the validation list, by the model that the run exported."""
    val = annotation.read(data, lists=("val",)).val
    model = paddlex_ml.create_model(
        "PP-LCNet_x1_0_ML", model_dir=run / "best_model" / "inference", device="cpu"
    )
    paths = [val.path(i) for i in range(len(val))]
    results = model.predict(paths, batch_size=16, return_all_scores=True)
    return np.array([result.all_scores for result in results], np.float32), val.targets


def _halves(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The half to tune on and the half to measure on, twice for each division."""
    for division in range(DIVISIONS):
        order = np.random.default_rng(division).permutation(count)
        halves = order[::2], order[1::2]
        yield halves
        yield halves[::-1]


def _section(title: str, scores: np.ndarray, targets: np.ndarray) -> str:
    half = np.full(targets.shape[1], 0.5)
    rows = []
    for own, other in _halves(len(scores)):
        tuned = tune(scores[own], targets[own], GOAL)
        shared = np.full(len(half), tuned.shared)
        rows.append(
            [
                _macro_f1(scores[part], targets[part], thresholds)
                for part in (own, other)
                for thresholds in (half, shared, tuned.thresholds)
            ]
        )
    table = np.array(rows)  # [2 * divisions, 6]
    better = int((table[:, 5] > table[:, 3]).sum())
    mean = mean_average_precision(scores, targets)
    lines = [
        f"### {title}, mAP {mean:.3f}",
        "",
        "| macro F1 | at 0.5 | one tuned threshold for all | tuned class by class |",
        "|---|---|---|---|",
        *(_row(f"division 1, {name}", table[i]) for i, name in enumerate(("A to B", "B to A"))),
        _row(f"mean of {len(table)}", table.mean(axis=0)),
        "",
        f"Thresholds tuned class by class were better than 0.5 on the held-out half in {better} of "
        f"{len(table)} cases.",
    ]
    return "\n".join(line for text in lines for line in text.split("\n")) + "\n"


def _row(name: str, values: np.ndarray) -> str:
    lines = []
    for part, figures in (("the half tuned on", values[:3]), ("held-out half", values[3:])):
        lines.append(f"| {name}, {part} | " + " | ".join(f"{x:.3f}" for x in figures) + " |")
    return "\n".join(lines)


def _macro_f1(scores: np.ndarray, targets: np.ndarray, thresholds: np.ndarray) -> float:
    return decisions.average(
        decisions.count(decisions.decide(scores, thresholds), targets)
    ).macro_f1


_HEAD = """Written by `benchmarks/thresholds.py`, on runs of `benchmarks/results.py` that were
trained again for it (two runs differ by about 0.01 of mAP). The validation photographs are divided
into two halves at random: thresholds are tuned for F1 on one half (`Evaluate.tune_threshold: f1`,
with `tune_min_positives: 10`) and evaluated on both halves, then the halves are exchanged. macro F1
is the mean of the classes' F1. Only the held-out half predicts the result on new photographs. The
strength with which a class is moved to the shared threshold (`SHRINKAGE` in
`paddlex_ml/metrics/threshold_search.py`) was chosen on these two sets.
"""


if __name__ == "__main__":
    sys.exit(main())
