# SPDX-License-Identifier: Apache-2.0
"""Split a data set: python dataset_tools/split.py my_set --val-percent 20."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.data.split import STRATEGIES, Division
from paddlex_ml.formats import overrides, rewrite
from paddlex_ml.safe_text import one_line


def main() -> None:
    """Write train.txt and val.txt; print the counts before and after, and how to take it back."""
    parser = terminal.Parser(
        description="Split the images of train.txt and val.txt again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder with label.txt and the lists")
    parser.add_argument("--val-percent", type=int, default=20, help="share of the images for val")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, default="stratified", help="how to divide"
    )
    parser.add_argument("--seed", type=int, default=42, help="the same seed, the same lists")
    parser.add_argument("--group-regex", help="images with the same match stay in one list")
    options = vars(parser.parse_args())
    root = options.pop("dataset")
    print("\n".join(map(one_line, rewrite.resplit(root, Division(**options)).format_lines(root))))


if __name__ == "__main__":
    sys.exit(terminal.run_script(overrides.in_script(main)))
