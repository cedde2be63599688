# SPDX-License-Identifier: Apache-2.0
"""Join data sets: python dataset_tools/merge.py first second --output merged.

The sets stay as they are: their images are linked, or copied to another disk.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.formats import merging, overrides
from paddlex_ml.safe_text import one_line


def main() -> None:
    """Write the merged set, then print what was put together."""
    parser = terminal.Parser(
        description="Join data sets in a new folder: all their classes, and each image once.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("sets", type=Path, nargs="+", help="folders with label.txt and the lists")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument(
        "--conflicts", choices=merging.WAYS, help="labels present in one set, absent in another"
    )
    args = parser.parse_args()
    result = merging.merge(args.sets, args.output, terminal.progress, args.conflicts)
    print("\n".join(map(one_line, result.lines())))


if __name__ == "__main__":
    sys.exit(terminal.run_script(overrides.in_script(main)))
