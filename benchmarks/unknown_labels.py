# SPDX-License-Identifier: Apache-2.0
"""Hide labels of real data sets, train in several ways, and compare the mAP with full labels.

    python benchmarks/unknown_labels.py --data DIR --work DIR [--sets NAME ...] [--seeds 0 1 ...]

DIR of --data holds data sets (MLClsDataset) and weights/PPLCNet_x1_0_doc_ori.pdparams. Labels are
hidden in train.txt alone: (a) six of ten cells, by chance; (b) of each image all but one present
label, chosen by chance. A seed draws what is hidden, the fresh weights and the order of the images.
Every run is the ordinary command. Runs that are complete in --work are not repeated. Prints
Markdown: mean over the seeds with the 95 % interval of Student's t.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import t as student

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from paddlex_ml.data import annotation  # noqa: E402
from paddlex_ml.metrics.known import UNKNOWN  # noqa: E402

WEIGHTS = "weights/PPLCNet_x1_0_doc_ori.pdparams"
MODEL = "PP-LCNet_x1_0_ML"
HIDDEN = 0.6
ARMS = {
    "full labels": ("full", {}),
    "(a) 60 % hidden, ignore": ("part", {}),
    "(a) 60 % hidden, negative": ("part", {"Train.loss.unknown": "negative"}),
    "(b) one label, negative": ("one", {}),
    "(b) one label, weak_negative": (
        "one",
        {"Train.single_positive": "true", "Train.loss.unknown": "weak_negative"},
    ),
    "(b) one label, em": ("one", {"Train.single_positive": "true", "Train.loss.unknown": "em"}),
}
"""Row of the table -> which labels are left, and the options of the training."""


def main() -> int:
    """Do the trainings that are missing, then print a table for each set."""
    parser = argparse.ArgumentParser(description="What training with unknown labels costs")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_unknown_labels")
    parser.add_argument("--sets", nargs="+", default=["natural_scenes", "clothing_ccp"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("-o", dest="more", action="append", default=[], help="for every training")
    options = parser.parse_args()
    for name in options.sets:
        scores = {arm: [_train(options, name, arm, s) for s in options.seeds] for arm in ARMS}
        print(f"\n### {name}: {options.size} px, {options.epochs} epochs\n")
        print("| training | mAP | seeds | below full labels |\n|---|---|---|---|")
        for arm, found in scores.items():
            _print_row(arm, found, scores["full labels"])
    return 0


def _print_row(arm: str, found: list[float | None], full: list[float | None]) -> None:
    """The mean with its interval, and the mean difference to full labels of the same seeds."""
    values = [score for score in found if score is not None]
    pairs = zip(found, full, strict=True)
    below = [b - a for a, b in pairs if a is not None and b is not None]
    if values:
        print(f"| {arm} | {_describe(values)} | {len(values)} | {_describe(below)} |")


def _describe(values: list[float]) -> str:
    if len(values) < 2:
        return "".join(f"{value:.3f}" for value in values)
    reach = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ± {reach:.3f}"


def _train(options: argparse.Namespace, name: str, arm: str, seed: int) -> float | None:
    """The best mAP on val.txt of one training; None where it was not asked for."""
    labels, overrides = ARMS[arm]
    data = options.work / name / f"{labels}-{seed}"
    words = sorted(overrides.values()) or ["default"]
    output = options.work / name / f"run-{labels}-{'-'.join(words)}-{seed}"
    result, begin = output / "train_result.json", time.perf_counter()
    if not result.is_file():
        if arm not in options.arms:
            return None
        _hide(options.data / name, data, labels, seed)
        keys = {
            "Global.mode": "train",
            "Global.dataset_dir": data,
            "Global.output": output,
            "Global.seed": seed,
            "Train.pretrain_weight_path": options.data / WEIGHTS,
            "Train.image_size": options.size,
            "Train.epochs_iters": options.epochs,
            **overrides,
        }
        chosen = [*(f"{key}={value}" for key, value in keys.items()), *options.more]
        command = [sys.executable, str(ROOT / "main.py"), "-c", MODEL]
        command += [word for text in chosen for word in ("-o", text)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"{output.name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    score: float = json.loads(result.read_text(encoding="utf-8"))["models"]["best"]["score"]
    return score


def _hide(source: Path, folder: Path, labels: str, seed: int) -> None:
    """The data set with fewer labels in train.txt, and the whole val.txt."""
    dataset = annotation.read(source)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "images").exists():
        (folder / "images").symlink_to((source / "images").resolve())
    annotation.write_labels(folder / "label.txt", dataset.label_names)
    annotation.write_list(folder / "val.txt", dataset.val.paths, dataset.val.targets)
    rng, cells = np.random.default_rng(seed), dataset.train.targets.copy()
    if labels == "part":
        cells.flat[rng.choice(cells.size, round(HIDDEN * cells.size), replace=False)] = UNKNOWN
    elif labels == "one":
        for row in cells:
            present = np.flatnonzero(row)
            row[present[present != rng.choice(present)] if len(present) else present] = 0
    annotation.write_list(folder / "train.txt", dataset.train.paths, cells)


if __name__ == "__main__":
    sys.exit(main())
