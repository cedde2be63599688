# SPDX-License-Identifier: Apache-2.0
"""Times all that an evaluation computes from its scores, for the size of COCO.

    python benchmarks/metrics_speed.py

Prints the median and the slowest of several runs of each step, and the most memory that all metrics
together hold at a time beside the scores and targets. The pictures of the page are those of a drawn
data set, read again for every name.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.artifacts.evaluate_result import FORMAT_VERSION, EvaluationResult
from paddlex_ml.metrics.average_precision import mean_average_precision
from paddlex_ml.metrics.label_quality import find_suspects
from paddlex_ml.metrics.measures import summarise
from paddlex_ml.metrics.threshold_search import Goal, decide_held_out, tune
from paddlex_ml.report import evaluation_page
from paddlex_ml.report.content import EvaluationPage


def main() -> int:
    """Time mAP, all metrics without the bootstrap, and all with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--share", type=float, default=0.036, help="positive cells, COCO: 0.036")
    parser.add_argument("--rounds", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--metrics-only", action="store_true", help="no thresholds, labels, page")
    asked = parser.parse_args()

    scores, targets = draw(asked.images, asked.classes, asked.share)
    names = [f"class {i}" for i in range(asked.classes)]
    thresholds = np.full(asked.classes, 0.5)
    print(f"{asked.images} images x {asked.classes} classes, {targets.mean():.1%} positive")

    def summary(rounds: int) -> object:
        return summarise(scores, targets, names, thresholds, rounds=rounds)

    measure("mAP alone", lambda: mean_average_precision(scores, targets), asked.runs)
    measure("all metrics", lambda: summary(0), asked.runs)
    rounds = f"with {asked.rounds} rounds of the bootstrap"
    measure(rounds, lambda: summary(asked.rounds), asked.runs)
    if asked.metrics_only:
        return 0
    goal = Goal("f1")
    measure(
        "thresholds, tuned and held out",
        lambda: (tune(scores, targets, goal), decide_held_out(scores, targets, goal, seed=0)),
        asked.runs,
    )
    measure("doubtful labels", lambda: find_suspects(scores, targets), asked.runs)
    with tempfile.TemporaryDirectory() as folder:
        content = fill_page(Path(folder), scores, targets, names)
        report = Path(folder) / "report.html"
        measure("page", lambda: evaluation_page.write(report, content), asked.runs)
        print(f"size of the page: {report.stat().st_size / 2**20:.1f} MiB")
    print(f"memory of the metrics: {peak_memory(lambda: summary(asked.rounds)):.0f} MiB")
    return 0


def draw(images: int, classes: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a fair model, some classes rare and some frequent: float32 and uint8 [N, C]."""
    rng = np.random.default_rng(0)
    shares = np.clip(rng.exponential(share, classes), 1e-3, 0.9)
    targets = (rng.random((images, classes), np.float32) < shares).astype(np.uint8)
    logits = 1.5 * rng.standard_normal((images, classes), np.float32)
    logits += 4 * targets
    logits -= 3
    return 1 / (1 + np.exp(-logits)), targets


def fill_page(
    folder: Path, scores: np.ndarray, targets: np.ndarray, names: list[str]
) -> EvaluationPage:
    """Input of the page, with photographs of 640 x 480 made of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    photo = folder / "photo.jpg"
    Image.fromarray(noise).resize((640, 480)).save(photo)
    summary = summarise(scores, targets, names, np.full(len(names), 0.5))
    result = EvaluationResult(
        format_version=FORMAT_VERSION,
        done_flag=True,
        weight_path="best_model.pdparams",
        val_digest="",
        metrics=summary.metrics,
        per_class=summary.per_class,
        thresholds=None,
        label_errors=None,
        comparison=None,
        per_class_csv="evaluate/per_class.csv",
    )
    return EvaluationPage(
        result=result,
        label_names=names,
        scores=scores,
        targets=targets,
        paths=[photo] * len(scores),
        shown=[f"images/{i:06d}.jpg" for i in range(len(scores))],
    )


def measure(name: str, act: Callable[[], object], runs: int) -> None:
    """Print the time of `act`."""
    seconds = []
    for _ in range(runs):
        begin = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - begin)
    print(f"{name}: {statistics.median(seconds):.2f} s (slowest of {runs}: {max(seconds):.2f} s)")


def peak_memory(act: Callable[[], object]) -> float:
    """Most memory that `act` holds at a time, MiB: numpy reports its arrays to tracemalloc."""
    tracemalloc.start()  # a run of its own: it makes every allocation slower
    try:
        act()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    sys.exit(main())
