# SPDX-License-Identifier: Apache-2.0
"""Self-training: what the labels of a model on unlabelled images add, as Predict.save_labels does.

    python benchmarks/self_training.py --data DIR --work DIR [--seeds 0 1 ...] [--share 0.1]

Of the images of train.txt a share has labels. A linear layer on features of the frozen backbone
(`unknown_labels.py --frozen`) learns from them and scores the others; scores from the higher
threshold are present labels, below the lower one absent, between unknown. Then a new layer learns
from all. Prints Markdown for docs/results.md: mAP on val.txt, means over the seeds with 95 %
intervals (Student's t).
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.unknown_labels import describe, fit_linear, read_features  # noqa: E402
from paddlex_ml.metrics.average_precision import mean_average_precision  # noqa: E402
from paddlex_ml.metrics.known import UNKNOWN  # noqa: E402


def main() -> int:
    """Train for each set and seed, and print a table."""
    parser = argparse.ArgumentParser(description="What self-training adds")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_unknown_labels")
    parser.add_argument("--sets", nargs="+", default=["natural_scenes", "clothing_ccp"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--share", type=float, default=0.1, help="images with labels")
    parser.add_argument("--scores", type=float, nargs=2, default=[0.1, 0.9])
    options = parser.parse_args()
    low, high = options.scores
    print(f"{options.share:.0%} of the images have labels; thresholds {low:g} and {high:g}\n")
    print(
        "| set | labelled images alone | with the labels of the model | difference | all labels |"
    )
    print("|---|---|---|---|---|")
    for name in options.sets:
        found = np.array([train(options, name, seed) for seed in options.seeds])
        few, own, full = found.T
        cells = " | ".join(map(describe, (few, own, own - few, full)))
        print(f"| {name} | {cells} |", flush=True)
    return 0


def train(options: argparse.Namespace, name: str, seed: int) -> tuple[float, float, float]:
    """The mAP from the labelled images, with the labels of the model, and from all labels."""
    from paddlex_ml.training.losses import bce_loss

    loss_fn = partial(bce_loss, unknown_weight=0.0)
    arrays = read_features(options, name)
    images, labels = arrays["train"], arrays["train_labels"].astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(images))
    given, others = np.split(order, [round(options.share * len(images))])

    def measure(rows: np.ndarray, known: np.ndarray) -> float:
        logits = fit_linear(images[rows], known, loss_fn, seed, arrays["val"])
        return mean_average_precision(logits, arrays["val_labels"])

    logits = fit_linear(images[given], labels[given], loss_fn, seed, images[others])
    scores = 1 / (1 + np.exp(-logits))
    low, high = options.scores
    own = np.where(scores >= high, 1, np.where(scores < low, 0, UNKNOWN)).astype(np.float32)
    return (
        measure(given, labels[given]),
        measure(order, np.concatenate([labels[given], own])),
        measure(order, labels[order]),
    )


if __name__ == "__main__":
    sys.exit(main())
