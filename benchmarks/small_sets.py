# SPDX-License-Identifier: Apache-2.0
"""How long, and how, to train on few images: `python benchmarks/small_sets.py DATA WEIGHTS FOLDER`.

DATA is natural_scenes (docs/results.md), WEIGHTS a trained backbone. For each number of training
images a stratified part of train.txt is drawn (seed 0), and PP-LCNet is trained on it with each set
of options; the mAP is that on the whole val.txt after the last epoch. Runs that are done are
skipped, and the table is printed at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from paddlex_ml.data import annotation
from paddlex_ml.data.split import Division, divide
from paddlex_ml.storage import files

SIDE = 96
"""Pixels: a third of the time of 160, for the same order of the options."""
RUNS = (
    (24, "epochs_iters=20"),
    (24, "epochs_iters=100"),
    (100, "epochs_iters=20"),
    (100, "epochs_iters=60"),
    (24, "epochs_iters=100 freeze_backbone_epochs=20"),
    (24, "epochs_iters=100 augment.randaugment=false"),
    (100, "epochs_iters=60 freeze_backbone_epochs=10"),
    (100, "epochs_iters=60 augment.randaugment=false"),
    (400, "epochs_iters=10"),
    (400, "epochs_iters=30"),
    (400, "epochs_iters=30 augment.randaugment=false"),
)


def take(data: Path, count: int, folder: Path) -> None:
    """A data set of `count` training images and all validation images, which are linked."""
    if (folder / "val.txt").exists():
        return
    dataset = annotation.read(data)
    percent = -(-100 * count // len(dataset.train))
    division = Division(val_percent=percent, strategy="stratified", seed=0, group_regex=None)
    chosen = divide(dataset.train, division)["val"].take([*range(count)])
    folder.mkdir(parents=True)
    for name in ("images", "label.txt"):
        (folder / name).symlink_to((data / name).resolve())
    files.write_text(folder / "train.txt", chosen.text())
    files.write_text(folder / "val.txt", dataset.val.text())


def train(data: Path, weights: Path, output: Path, options: str) -> float:
    """The best mAP of a run, which is trained unless it was."""
    result = output / "train_result.json"
    if not result.exists():
        epochs = int(options.split()[0].partition("=")[2])
        keys = {
            "Global.mode": "train", "Global.dataset_dir": data, "Global.output": output,
            "Global.device": "cpu", "Train.pretrain_weight_path": weights, "Train.image_size": SIDE,
            "Train.start_eval_epoch": epochs, "Train.num_workers": 1,
            "Train.save_interval": epochs, "Train.batch_size": 16,
        }  # fmt: skip
        words = [*(f"{key}={value}" for key, value in keys.items()), "Global.overwrite=true"]
        words += [f"Train.{text}" for text in options.split()]
        start = [sys.executable, "-m", "paddlex_ml", "-c", "PP-LCNet_x1_0_ML", "-o", *words]
        done = subprocess.run(start, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
    return float(json.loads(result.read_text("utf-8"))["models"]["best"]["score"])


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "weights", "folder"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    print("| images | options | mAP |\n|---|---|---|")
    for count, options in RUNS:
        take(args.data, count, args.folder / f"set-{count}")
        name = f"{count}-{options.replace(' ', '-')}"
        score = train(args.folder / f"set-{count}", args.weights, args.folder / name, options)
        shown = ", ".join(f"`Train.{text}`" for text in options.split())
        print(f"| {count} | {shown} | {score:.4f} |", flush=True)


if __name__ == "__main__":
    main()
