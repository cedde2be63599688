# SPDX-License-Identifier: Apache-2.0
"""Convert annotations: python dataset_tools/convert.py my_set --source COCO."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # a clone that is not installed

from paddlex_ml import program, systems, terminal
from paddlex_ml.data import renaming
from paddlex_ml.data.split import STRATEGIES, Division
from paddlex_ml.formats import overrides, registry, rewrite
from paddlex_ml.formats.collector import Options
from paddlex_ml.safe_text import one_line


def main() -> None:
    """Write label.txt, train.txt and val.txt; print what was done, and how to take it back."""
    parser = terminal.Parser(
        description="Write label.txt, train.txt and val.txt from annotations in another format.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="folder of the images and their annotations")
    formats = [registry.AUTO, *registry.FORMATS]
    parser.add_argument("--source", default=registry.AUTO, choices=formats, help="the format")
    parser.add_argument("--skip-missing", action="store_true", help="leave out lost images")
    parser.add_argument("--separator", help="text between the names of one cell (detected)")
    parser.add_argument("--image-column", help="column of a table with the images (detected)")
    parser.add_argument("--label-columns", nargs="+", help="columns with labels (detected)")
    parser.add_argument("--label-value", help='what says "shows it" in the column of a class')
    parser.add_argument(
        "--image-from", choices=("stem", "field"), help="the image of a VOC or LabelMe file"
    )
    parser.add_argument(
        "--merge-names",
        action=argparse.BooleanOptionalAction,
        help="spellings of one class name are one class, or several",
    )
    parser.add_argument(
        "--uncertain",
        choices=("unknown", "positive", "negative"),
        help="what a label becomes about which the source is not certain",
    )
    parser.add_argument("--rename", nargs="+", metavar="OLD=NEW", help="other names of classes")
    parser.add_argument("--val-percent", type=int, help="split: share of the images for val")
    parser.add_argument(
        "--strategy", choices=STRATEGIES, default="stratified", help="how to divide"
    )
    parser.add_argument("--seed", type=int, default=42, help="the same seed, the same lists")
    parser.add_argument("--group-regex", help="images with the same match stay in one list")
    args = parser.parse_args()
    args.rename = renaming.parse(args.rename) if args.rename else None
    result = _convert(args)
    lines = map(overrides.for_script, result.format_lines(args.dataset))
    print("\n".join(map(one_line, lines)))
    if "val" not in result.lists:
        split = f"{program.python()} dataset_tools/split.py {systems.quote(str(args.dataset))}"
        print(f"divide the images: {split} --val-percent 20")


def _convert(args: argparse.Namespace) -> rewrite.Rewritten:
    division = None
    if args.val_percent is not None:
        names = ("val_percent", "strategy", "seed", "group_regex")
        division = Division(**{name: getattr(args, name) for name in names})
    with terminal.progress("read annotations") as progress:
        chosen: dict[str, Any] = {"progress": progress}
        for item in fields(Options):
            if hasattr(args, item.name):
                chosen[item.name] = getattr(args, item.name)
        return rewrite.convert(args.dataset, args.source, Options(**chosen), division)


if __name__ == "__main__":
    sys.exit(terminal.run_script(overrides.in_script(main)))
