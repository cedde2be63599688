# SPDX-License-Identifier: Apache-2.0
"""Draw the demo data set: python dataset_tools/make_demo_dataset.py --output dataset/demo."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.data import demo


def main() -> None:
    """Draw the images, then print what was written."""
    parser = terminal.Parser(
        description="Draw a small multi-label data set, and the same images in COCO format.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("dataset/demo"), help="new folder")
    parser.add_argument("--images", type=int, default=demo.IMAGES, help="train and val together")
    parser.add_argument("--size", type=int, default=demo.SIZE, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=demo.SEED, help="the same seed, the same files")
    parser.add_argument(
        "--val-percent", type=int, default=demo.VAL_PERCENT, help="share of the images for val"
    )
    result = demo.make(**vars(parser.parse_args()))
    print(f"wrote {result.folder} and, in COCO format, {result.coco_folder}")
    print(f"{'class':16}{'train':>7}{'val':>7}")
    counts = zip(result.label_names, result.train.sum(axis=0), result.val.sum(axis=0), strict=True)
    for name, train, val in counts:
        print(f"{name:16}{train:7}{val:7}")
    print(f"{'images':16}{len(result.train):7}{len(result.val):7}")
    print(f"mAP of a constant predictor, the score to beat: {result.constant_map:.3f}")


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
