# SPDX-License-Identifier: Apache-2.0
"""Small square pictures inside a page, as the text of a data: address."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE = 160  # pixels
_QUALITY = 72
_THREADS = 8  # Pillow decodes outside the interpreter's lock; network disks are slow


def shrink(path: Path) -> str:
    """Return a JPEG of SIDE x SIDE pixels, cut from the middle. Raises what Pillow raises."""
    with Image.open(path) as image:
        image.draft(
            "RGB", (2 * SIDE, 2 * SIDE)
        )  # a large JPEG is decoded at a fraction of its size
        upright: Image.Image = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would cut the values off, not scale them
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        small = ImageOps.fit(upright.convert("RGB"), (SIDE, SIDE), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def shrink_all(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the thumbnail of each path, made once; '' where the file is missing or damaged."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(wanted, pool.map(_shrink_or_leave, wanted), strict=True))


def _shrink_or_leave(path: Path) -> str:
    # Damaged files make Pillow raise nearly anything: struct.error, KeyError, ZeroDivisionError.
    try:
        return shrink(path)
    except Exception:
        return ""
