# SPDX-License-Identifier: Apache-2.0
"""Votes of several annotators as soft targets, or rounded to the majority: which teaches more?

    python benchmarks/soft_labels.py --data DIR --work DIR [--seeds 0 1 ...] [--votes 3]

Annotators are drawn: each one is wrong about a label of train.txt with the same chance (--error),
or with a chance that is drawn for every label between 0 and twice that (labels that are hard to
see). A linear layer on features of the frozen backbone (`unknown_labels.py --frozen`) learns from
the share of the votes, from the majority, from the first annotator alone, and from the true labels.
Prints Markdown for docs/results.md: mAP on val.txt, means over the seeds with 95 % intervals
(Student's t).
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


def main() -> int:
    """Train for each set, kind of error and seed, and print a table."""
    parser = argparse.ArgumentParser(description="What soft targets from votes add")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_unknown_labels")
    parser.add_argument("--sets", nargs="+", default=["natural_scenes", "clothing_ccp"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--votes", type=int, default=5, help="annotators of each image")
    parser.add_argument("--error", type=float, default=0.25, help="mean share of wrong votes")
    options = parser.parse_args()
    print(f"{options.votes} votes for each label, {options.error:.0%} of them wrong\n")
    print("| set | errors | one vote | majority | share | share - majority | true labels |")
    print("|---|---|---|---|---|---|---|")
    for name in options.sets:
        for kind in ("the same for all labels", "differ by label"):
            found = np.array([train(options, name, kind, seed) for seed in options.seeds])
            one, majority, share, true = found.T
            cells = " | ".join(map(describe, (one, majority, share, share - majority, true)))
            print(f"| {name} | {kind} | {cells} |", flush=True)
    return 0


def train(options: argparse.Namespace, name: str, kind: str, seed: int) -> list[float]:
    """The mAP from one vote, from the majority, from the share of votes and from true labels."""
    from paddlex_ml.training.losses import bce_loss

    arrays = read_features(options, name)
    labels, rng = arrays["train_labels"].astype(np.float32), np.random.default_rng(seed)
    chance = np.full(labels.shape, options.error)
    if kind == "differ by label":
        chance = rng.uniform(0, 2 * options.error, labels.shape)
    wrong = rng.random((options.votes, *labels.shape)) < chance
    votes = np.where(wrong, 1 - labels, labels)
    share = votes.mean(axis=0)
    loss_fn = partial(bce_loss, unknown_weight=None)
    return [
        mean_average_precision(
            fit_linear(arrays["train"], given.astype(np.float32), loss_fn, seed, arrays["val"]),
            arrays["val_labels"],
        )
        for given in (votes[0], share > 0.5, share, labels)
    ]


if __name__ == "__main__":
    sys.exit(main())
