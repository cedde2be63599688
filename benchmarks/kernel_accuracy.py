# SPDX-License-Identifier: Apache-2.0
"""Whole trainings with our kernels and with Paddle's: do their mAP differ as two seeds do?

    python benchmarks/kernel_accuracy.py --data DIR --work DIR [--seeds 0 1 ...] [-o KEY=VALUE ...]

DIR of --data holds data sets (MLClsDataset) and weights/PPLCNet_x1_0_doc_ori.pdparams. Every run is
the ordinary command with the shipped options; for Paddle's kernels numba is hidden from it, as if
it were not installed. Complete runs in --work are not repeated, others go on. The score is that of
the last epoch, the only one that is evaluated. Prints Markdown for docs/results.md: means over the
seeds with 95 % intervals (Student's t), also of the difference for the same seed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks import whole_training  # noqa: E402
from benchmarks.unknown_labels import describe  # noqa: E402
from benchmarks.whole_training import MAIN  # noqa: E402

HIDING = "import runpy, sys; sys.modules['numba'] = None; sys.argv = sys.argv[1:]; "
HIDING += "runpy.run_path(sys.argv[0], run_name='__main__')"
SIDES = {"ours": [MAIN], "Paddle's": ["-c", HIDING, MAIN]}


def main() -> int:
    """Do the trainings that are missing, then print a table for each set."""
    parser = argparse.ArgumentParser(description="What the kernels change in the end")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_kernels")
    parser.add_argument("--sets", nargs="+", default=["natural_scenes"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("-o", dest="more", action="append", default=[], help="for every command")
    options = parser.parse_args()
    for name in options.sets:
        found = {
            side: np.array([train(options, name, side, seed) for seed in options.seeds])
            for side in SIDES
        }
        print(f"\n### {name}, {options.epochs} epochs, {options.size} px\n")
        each = " | ".join(f"seed {seed}" for seed in options.seeds)
        print(f"| kernels | {each} | mean |\n|---|{'---:|' * (len(options.seeds) + 1)}")
        rows = {**found, "difference": found["ours"] - found["Paddle's"]}
        for side, scores in rows.items():
            cells = " | ".join(f"{score:.4f}" for score in scores)
            print(f"| {side} | {cells} | {describe(scores)} |", flush=True)
    return 0


def train(options: argparse.Namespace, name: str, side: str, seed: int) -> float:
    """The mAP on val.txt after one training."""
    output = options.work / name / f"run-{'ours' if side == 'ours' else 'paddle'}-{seed}"
    keys = {"Train.eval_interval": options.epochs, "Train.cache": "ram"}
    dataset = options.data / name
    return whole_training.train(options, output, dataset, seed, keys, SIDES[side])


if __name__ == "__main__":
    sys.exit(main())
