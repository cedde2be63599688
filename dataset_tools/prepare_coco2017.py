# SPDX-License-Identifier: Apache-2.0
"""Prepare COCO 2017: python dataset_tools/prepare_coco2017.py --archives DIR --output dataset/coco.

Each archive is a file or a URL; one of a URL is fetched into the cache (PADDLEX_ML_CACHE moves it).
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import terminal
from paddlex_ml.formats import coco2017
from paddlex_ml.storage import archives, folders


def main() -> None:
    """Find the archives, unpack them, write the lists, and print what was written."""
    parser = terminal.Parser(description="Make a data set of the official archives of COCO 2017.")
    parser.add_argument("--archives", type=Path, metavar="DIR", help="folder with all of these:")
    for archive in coco2017.ARCHIVES:
        parser.add_argument(archive.option, metavar="FILE|URL", help=archive.name)
    parser.add_argument("--output", type=Path, required=True, help="new folder")
    parser.add_argument("--any-size", action="store_true", help="accept parts of archives, too")
    parser.add_argument("--skip-missing", action="store_true", help="leave out lost images")
    args = parser.parse_args()
    folders.refuse_full(args.output)
    paths = [
        archives.locate(archive, getattr(args, archive.key), args.archives, any_size=args.any_size)
        for archive in coco2017.ARCHIVES
    ]
    result = coco2017.prepare(paths, args.output, terminal.progress, skip_missing=args.skip_missing)
    print("\n".join(result.lines()))


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
