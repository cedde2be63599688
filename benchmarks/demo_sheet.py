# SPDX-License-Identifier: Apache-2.0
"""The README's picture: predictions of `make demo` side by side.

make demo && .venv/bin/python benchmarks/demo_sheet.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, ROWS, GAP = 4, 2, 12


def main() -> int:
    """Paste the first pictures of demo/output/predict into docs/predictions.png."""
    found = sorted((ROOT / "demo" / "output" / "predict").glob("*.jpg"))[: COLUMNS * ROWS]
    if len(found) < COLUMNS * ROWS:
        print("error: run `make demo` first", file=sys.stderr)
        return 2
    pictures = [Image.open(path) for path in found]
    width = max(picture.width for picture in pictures) + GAP
    height = max(picture.height for picture in pictures) + GAP
    sheet = Image.new("RGB", (COLUMNS * width - GAP, ROWS * height - GAP), "white")
    for k, picture in enumerate(pictures):
        sheet.paste(picture, (k % COLUMNS * width, k // COLUMNS * height))
    sheet.thumbnail((900, 900))
    sheet.save(ROOT / "docs" / "predictions.png", optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
