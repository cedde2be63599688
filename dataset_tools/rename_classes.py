# SPDX-License-Identifier: Apache-2.0
"""Rename classes: python dataset_tools/rename_classes.py my_set --rename automobile=car lorry=car.

Classes that get one name, or the name of another class, become one class.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.data import journal, renaming
from paddlex_ml.formats import overrides
from paddlex_ml.safe_text import one_line


def main() -> None:
    """Write label.txt and the lists; print what was done, and how to take it back."""
    parser = terminal.Parser(
        description="Rename classes of label.txt; classes that get one name become one.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder with label.txt and the lists")
    parser.add_argument("--rename", nargs="+", required=True, metavar="OLD=NEW", help="the names")
    args = parser.parse_args()
    change, notes = renaming.rename_classes(args.dataset, renaming.parse(args.rename))
    files = change.lines()
    undo = f"to take this back: {journal.undo_command(args.dataset)}"
    print("\n".join(map(one_line, [*notes, *files, undo if files else "nothing changes"])))


if __name__ == "__main__":
    sys.exit(terminal.run_script(overrides.in_script(main)))
