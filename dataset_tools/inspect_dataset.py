# SPDX-License-Identifier: Apache-2.0
"""Look into a data set: python dataset_tools/inspect_dataset.py my_set --output report.

Not named inspect.py: Python would then find it in place of its own module of that name.
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
    asked = parser.parse_args()
    places = (f"Global.dataset_dir={asked.dataset}", f"Global.output={asked.output}")
    return cli.main(["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=check_dataset", *places])


if __name__ == "__main__":
    sys.exit(main())
