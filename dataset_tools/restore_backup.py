# SPDX-License-Identifier: Apache-2.0
"""Take the last conversion or division back: python dataset_tools/restore_backup.py my_set."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.data import journal
from paddlex_ml.safe_text import one_line


def main() -> None:
    """Put the newest backups back; print which, and the new names of the files they replace."""
    parser = terminal.Parser(
        description="Take the last conversion or division of a data set back. The backups (.bak) "
        "get their names again; the files that had them are kept as .undone. Run it again to "
        "go back one more change."
    )
    parser.add_argument("dataset", type=Path, help="folder of the data set")
    parser.add_argument(
        "--newest",
        action="store_true",
        help="put the newest backup of every list and annotation back, whatever the records of "
        "changes say",
    )
    given = parser.parse_args()
    transaction = journal.undo(given.dataset, newest=given.newest)
    print("\n".join(map(one_line, [transaction.what, *transaction.lines()])))


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
