# SPDX-License-Identifier: Apache-2.0
"""Prepare NUS-WIDE: python dataset_tools/prepare_nus_wide.py --archives DIR --images DIR --output X

The lists are zip archives, folders with their content, or URLs. Those of a URL are fetched into the
cache (PADDLEX_ML_CACHE moves it). The images are linked, or copied from another disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.formats import nus_wide, nus_wide_lists
from paddlex_ml.storage import folders


def main() -> None:
    """Find the lists, link the images, and print what was written."""
    parser = terminal.Parser(description="Make a data set of the lists and images of NUS-WIDE.")
    parser.add_argument("--archives", type=Path, metavar="DIR", help="folder with all of these:")
    for archive in nus_wide_lists.ARCHIVES:
        parser.add_argument(archive.option, metavar="FILE|DIR|URL", help=archive.name)
    parser.add_argument("--images", type=Path, metavar="DIR", required=True, help="their folder")
    parser.add_argument("--output", type=Path, required=True, help="new folder")
    parser.add_argument("--any-size", action="store_true", help="accept parts of the lists, too")
    parser.add_argument("--skip-missing", action="store_true", help="leave out lost images")
    args = parser.parse_args()
    folders.refuse_full(args.output)
    sources = [
        nus_wide_lists.locate(
            archive, getattr(args, archive.key), args.archives, any_size=args.any_size
        )
        for archive in nus_wide_lists.ARCHIVES
    ]
    result = nus_wide.prepare(
        sources,
        args.images,
        args.output,
        terminal.progress,
        any_size=args.any_size,
        skip_missing=args.skip_missing,
    )
    print("\n".join(result.lines()))


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
