# SPDX-License-Identifier: Apache-2.0
"""Prepare NUS-WIDE: python dataset_tools/prepare_nus_wide.py --archives DIR --images DIR --output X

The lists are zip archives, folders with what they hold, or URLs: then they are fetched into the
cache (PADDLEX_ML_CACHE moves it). The images are linked, or copied from another disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.formats import nus_wide, nus_wide_lists, prepared


def main() -> None:
    """Find the lists, link the images, and tell what was written."""
    parser = terminal.Parser(description="Make a data set of the lists and images of NUS-WIDE.")
    parser.add_argument("--archives", type=Path, metavar="DIR", help="folder with all of these:")
    for archive in nus_wide_lists.ARCHIVES:
        parser.add_argument(archive.option, metavar="FILE|DIR|URL", help=archive.name)
    parser.add_argument("--images", type=Path, metavar="DIR", required=True, help="their folder")
    parser.add_argument("--output", type=Path, required=True, help="new folder")
    parser.add_argument("--any-size", action="store_true", help="take a part of the data set too")
    parser.add_argument("--skip-missing", action="store_true", help="leave out lost images")
    asked = parser.parse_args()
    prepared.refuse_full(asked.output)
    how = {"any_size": asked.any_size}
    sources = [
        nus_wide_lists.locate(archive, getattr(asked, archive.key), asked.archives, **how)
        for archive in nus_wide_lists.ARCHIVES
    ]
    how["skip_missing"] = asked.skip_missing
    made = nus_wide.prepare(sources, asked.images, asked.output, terminal.progress, **how)
    print("\n".join(made.told()))


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
