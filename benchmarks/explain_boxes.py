# SPDX-License-Identifier: Apache-2.0
"""How often the maps of `explain` point at the thing that the label names: boxes as the judge.

    python benchmarks/explain_boxes.py --model DIR [--data DIR]

DIR of --model is a static folder trained on clothing_ccp (benchmarks/results.py --only clothing-10
makes one, in <work>/clothing-10/best_model/inference); --data holds the data set clothing_ccp with
its boxes. Judged are all pairs of a validation photograph and a label that has boxes in it, each
against places that know nothing of the label. Prints a Markdown table for all pairs, one for those
that the model found, and one by class.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FOUND = 0.5  # score


@dataclass(frozen=True)
class Pair:
    """One label on one photograph; each pair of numbers is (hit 0 or 1, mass 0 to 1)."""

    label: str
    score: float
    own: tuple[float, float]
    """By the map of the label."""
    others: tuple[float, float]
    """By the maps of all other labels, in the mean."""
    centre: float
    """Whether the centre of the photograph lies in a box."""
    area: float
    """Share of the photograph that the boxes cover: what an even map would reach in both."""


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    pairs = measure(options.model, options.data / "clothing_ccp")
    found = [pair for pair in pairs if pair.score >= FOUND]
    print_table("All labels with boxes", pairs)
    print_table(f"Labels with a score of {FOUND} at least", found)
    print_classes(pairs)
    return 0


def measure(model_dir: Path, data: Path) -> list[Pair]:
    """Judge the maps of all labels that have boxes."""
    from paddlex_ml import create_model

    content = json.loads((data / "annotations" / "instance_val.json").read_text("utf-8"))
    names = {category["id"]: category["name"] for category in content["categories"]}
    boxes: dict[int, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for box in content["annotations"]:
        boxes[box["image_id"]][names[box["category_id"]]].append(box["bbox"])
    images = content["images"]
    model = create_model("PP-LCNet_x1_0_ML", model_dir)
    paths = [data / "images" / image["file_name"] for image in images]
    results = model.predict(paths, batch_size=8, threshold=0.0, explain=True, on_error="raise")
    return [
        pair
        for image, result in zip(images, results, strict=True)
        for pair in judge_photograph(image, boxes[image["id"]], result)
    ]


def judge_photograph(
    image: dict[str, Any], boxes: dict[str, list[list[float]]], result: Any
) -> list[Pair]:
    """The pairs of one photograph."""
    pairs = []
    by_name = dict(zip(result.label_names, result.class_ids, strict=True))
    scores = dict(zip(result.label_names, result.scores, strict=True))
    for label, own_boxes in boxes.items():
        inside = fill((image["height"], image["width"]), own_boxes)  # [H, W] 0 or 1
        others = [m for c, m in result.maps.items() if c != by_name[label]]
        judged = np.array([judge(one, inside) for one in others]).mean(axis=0)
        centre = inside[inside.shape[0] // 2, inside.shape[1] // 2]
        own = judge(result.maps[by_name[label]], inside)
        numbers = (float(judged[0]), float(judged[1])), float(centre), float(inside.mean())
        pairs.append(Pair(label, scores[label], own, *numbers))
    return pairs


def fill(size: tuple[int, int], boxes: list[list[float]]) -> np.ndarray:
    """1 in every pixel [H, W] that one of the boxes (x, y, width, height) covers, else 0."""
    inside = np.zeros(size, np.float32)
    for x, y, width, height in boxes:
        inside[round(y) : round(y + height), round(x) : round(x + width)] = 1
    return inside


def judge(shares: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """Whether the middle of the highest cell lies inside, and the attention that lies inside."""
    rows, columns = shares.shape
    y, x = np.unravel_index(int(shares.argmax()), shares.shape)
    height, width = inside.shape
    hit = inside[int((y + 0.5) / rows * height), int((x + 0.5) / columns * width)]
    cell_of_row = np.arange(height) * rows // height
    cell_of_column = np.arange(width) * columns // width
    spread = shares[np.ix_(cell_of_row, cell_of_column)]  # [H, W]
    return float(hit), float((spread * inside).sum() / spread.sum())


def print_table(title: str, pairs: list[Pair]) -> None:
    """Means over the pairs."""
    rows = {
        "the map of the label": [pair.own for pair in pairs],
        "the maps of the other labels": [pair.others for pair in pairs],
        "the centre of the photograph": [(pair.centre, pair.centre) for pair in pairs],
        "an even map": [(pair.area, pair.area) for pair in pairs],
    }
    print(f"{title}: {len(pairs)} pairs\n")
    print("| | its highest place is in a box | attention inside the boxes |")
    print("|---|---|---|")
    for name, numbers in rows.items():
        hit, mass = np.mean(numbers, axis=0) if numbers else (np.nan, np.nan)
        print(f"| {name} | {100 * hit:.1f} % | {100 * mass:.1f} % |")
    print()


def print_classes(pairs: list[Pair]) -> None:
    """One row per class, those with the largest boxes first."""
    by_label = defaultdict(list)
    for pair in pairs:
        by_label[pair.label].append(pair)
    print("| label | photographs | in a box: map | centre | even map | inside: map | even map |")
    print("|---|---|---|---|---|---|---|")
    area = {label: np.mean([p.area for p in some]) for label, some in by_label.items()}
    for label in sorted(by_label, key=lambda name: -area[name]):
        some = by_label[label]
        hit, mass = np.mean([p.own for p in some], axis=0)
        centre = np.mean([p.centre for p in some])
        numbers = " | ".join(f"{100 * v:.0f} %" for v in (hit, centre, area[label], mass))
        print(f"| {label} | {len(some)} | {numbers} | {100 * area[label]:.0f} % |")


if __name__ == "__main__":
    sys.exit(main())
