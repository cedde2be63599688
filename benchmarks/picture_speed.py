# SPDX-License-Identifier: Apache-2.0
"""How long it takes to draw the labels of a prediction below its image.

    python benchmarks/picture_speed.py

Each row draws pictures of the same classes with other scores, as mode predict does for one image
after the other: the processor time of the first, and the median of the others.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml.pictures.labelled import draw_labels


def main() -> int:
    """Print a row for each number of labels."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 20, 80, 400, 1000])
    parser.add_argument("--pictures", type=int, default=9, help="after the first")
    options = parser.parse_args()
    image, rng = Image.new("RGB", (1200, 800), "grey"), random.Random(0)
    draw_labels(image, ["a"])  # opens the font
    print("| labels | first picture, ms | others, ms |")
    print("|---|---|---|")
    for count in options.labels:
        names = [f"class {number} of {count}" for number in range(count)]
        spent = []
        for _ in range(options.pictures + 1):
            labels = [f"{name} {rng.random():.2f}" for name in names]
            start = time.process_time()
            draw_labels(image, labels, names)
            spent.append(1000 * (time.process_time() - start))
        print(f"| {count} | {spent[0]:.0f} | {statistics.median(spent[1:]):.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
