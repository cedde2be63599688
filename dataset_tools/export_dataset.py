# SPDX-License-Identifier: Apache-2.0
"""Write a data set in another format: python dataset_tools/export_dataset.py my_set --format COCO.

The images stay where they are: paths in the files are relative to the data set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.formats import exporters, overrides
from paddlex_ml.safe_text import one_line


def main() -> None:
    """Write the files, then print their names."""
    parser = terminal.Parser(
        description="Write the lists of a data set as COCO-style JSON, CSV, JSON Lines, or plain "
        "0 and 1 for PaddleX.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder with label.txt and the lists")
    parser.add_argument("--format", required=True, choices=exporters.WRITERS, help="the format")
    parser.add_argument("--output", type=Path, help="new or empty folder (the data set itself)")
    parser.add_argument(
        "--unknown",
        choices=exporters.UNKNOWN_WAYS,
        help="what unknown labels become (kept in CSV and JSONL, else refused)",
    )
    parser.add_argument(
        "--hard",
        action="store_true",
        help="write soft values as 0 or 1 and leave weights out (else refused)",
    )
    args = parser.parse_args()
    with terminal.progress("read image sizes") as progress:
        transaction = exporters.export(
            args.dataset, args.format, args.output, progress, args.unknown, hard=args.hard
        )
    print("\n".join(map(one_line, transaction.lines() or ["all files are there already"])))


if __name__ == "__main__":
    sys.exit(terminal.run_script(overrides.in_script(main)))
