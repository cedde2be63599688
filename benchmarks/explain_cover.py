# SPDX-License-Identifier: Apache-2.0
"""Whether the places that `explain` shows matter: cover them cell by cell, and predict again.

    python benchmarks/explain_cover.py --model DIR --data DIR [--photos 200]

DIR of --model is a static folder, that of --data the data set that it was trained on
(MLClsDataset); both are made by benchmarks/results.py --only scenes-6. Judged are the labels that
the model finds on the first photographs of the validation list. A cell is covered with the mean
colour of ImageNet, which the network sees as zero. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from paddlex_ml.inference.static_model import StaticModel

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
FOUND = 0.5  # score
ROWS = (
    "the cell with the most attention",
    "the cell with the most attention of the other labels",
    "a cell at random (mean of all)",
    "the cell with the least attention",
    "the cell that costs most, found by trying all",
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=200)
    options = parser.parse_args()
    from paddlex_ml.data import annotation
    from paddlex_ml.data.transforms import read_image
    from paddlex_ml.inference.static_model import StaticModel

    model = StaticModel(options.model)
    model.require_attention()
    judged = []
    for name in annotation.read(options.data).val.paths[: options.photos]:
        pixels = model.preprocess(read_image(options.data / name))
        judged += judge(model, pixels)
    print_table(judged)
    return 0


def judge(model: StaticModel, pixels: np.ndarray) -> list[tuple[float, ...]]:
    """The numbers of ROWS and the two rank correlations, for each label found: pixels [3, H, W]."""
    (maps,) = model.attend(pixels[None], [range(len(model.label_names))])
    attention = np.stack([maps[c].ravel() for c in range(len(maps))])  # [C, T]
    scores = model.run(np.concatenate([pixels[None], cover_each(pixels, maps[0].shape)]))
    fall = scores[0] - scores[1:]  # [T, C]
    judged = []
    for c in np.flatnonzero(scores[0] >= FOUND):
        own, others = attention[c], np.delete(attention, c, axis=0).mean(axis=0)
        by_cover = fall[:, c]
        numbers = (
            by_cover[own.argmax()],
            by_cover[others.argmax()],
            by_cover.mean(),
            by_cover[own.argmin()],
            by_cover.max(),
            rank_correlation(own, by_cover),
            rank_correlation(others, by_cover),
        )
        judged.append(tuple(map(float, numbers)))
    return judged


def cover_each(pixels: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """One copy of the image for each cell, which is covered in it: [T, 3, H, W]."""
    rows, columns = grid
    height, width = pixels.shape[1:]
    copies = np.repeat(pixels[None], rows * columns, axis=0)
    for i, copy in enumerate(copies):
        y, x = divmod(i, columns)
        down = slice(y * height // rows, (y + 1) * height // rows)
        copy[:, down, x * width // columns : (x + 1) * width // columns] = 0
    return copies


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: 1 where both rank the cells alike, 0 where they know nothing of each other."""
    return float(np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1])


def print_table(judged: list[tuple[float, ...]]) -> None:
    """Means over the labels found."""
    *falls, own, others = np.array(judged).mean(axis=0)
    print(f"{len(judged)} labels found\n")
    print("| covered | the score falls by |")
    print("|---|---|")
    for row, value in zip(ROWS, falls, strict=True):
        print(f"| {row} | {value:.4f} |")
    print(
        f"\nrank correlation of attention and fall: {own:.2f} (of the other labels: {others:.2f})"
    )


if __name__ == "__main__":
    sys.exit(main())
