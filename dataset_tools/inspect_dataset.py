# SPDX-License-Identifier: Apache-2.0
"""Inspect a data set: python dataset_tools/inspect_dataset.py my_set --output report.

Not named inspect.py, because Python would import it instead of its own module of that name.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import cli


def main() -> int:
    """Check a data set and write <output>/check_dataset/report.html; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Check a data set and write <output>/check_dataset/report.html.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder with label.txt and the lists")
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder for the report")
    args = parser.parse_args()
    paths = (f"Global.dataset_dir={args.dataset}", f"Global.output={args.output}")
    return cli.main(["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=check_dataset", *paths])


if __name__ == "__main__":
    sys.exit(main())
