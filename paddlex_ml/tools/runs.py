# SPDX-License-Identifier: Apache-2.0
"""Compare trainings: python -m paddlex_ml.tools.runs FOLDER [FOLDER ...]."""

from __future__ import annotations

import sys
from pathlib import Path

from paddlex_ml import program, streams, terminal
from paddlex_ml.engines.leaderboard import collect, files, rank
from paddlex_ml.errors import PaddlexMLError


def main() -> None:
    """Print the table of the runs, and write it as CSV and as a page."""
    parser = terminal.Parser(
        prog=f"{program.python()} -m paddlex_ml.tools.runs",
        description="One table of all trainings below some folders: which is the best, and which "
        "differences are more than chance.",
        allow_abbrev=False,
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="holds runs")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER",
        help="where leaderboard.csv and leaderboard.html are written (default: the first folder)",
    )  # fmt: skip
    options = parser.parse_args()
    board = rank.rank(collect.collect(options.folders))
    output = options.output or options.folders[0]
    print("\n".join(files.render(board)))
    try:
        table, page = files.write(board, output)
    except OSError as error:
        raise PaddlexMLError(
            f"the table cannot be written: {error.strerror}",
            where=str(output),
            fix="choose another folder: --output FOLDER",
        ) from error
    print(f"table:  {table}\nreport: {page}")
    streams.refuse_loss()


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
