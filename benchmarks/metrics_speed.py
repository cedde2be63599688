# SPDX-License-Identifier: Apache-2.0
"""Speed of mAP on as many scores as COCO has: python benchmarks/metrics_speed.py."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.metrics.average_precision import mean_average_precision

IMAGES, CLASSES, ROUNDS = 40_000, 80, 9


def main() -> int:
    """Time it and print the median."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((IMAGES, CLASSES)).astype(np.float32)
    targets = rng.random((IMAGES, CLASSES)) < 0.05
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        mean_average_precision(scores, targets)
        seconds.append(time.perf_counter() - begin)
    median = statistics.median(seconds)
    print(f"mAP of {IMAGES} images x {CLASSES} classes: {median:.3f} s (median of {ROUNDS})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
