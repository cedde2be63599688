# SPDX-License-Identifier: Apache-2.0
"""Small square pictures inside a page, as the text of a data: address."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, ImageOps

from paddlex_ml.errors import PaddlexMLError

SIDE = 160  # pixels
_QUALITY = 72
ReadImage = Callable[[Path, int], Image.Image]
"""Reads a file as RGB, upright, with at least so many pixels a side where it has them."""
_THREADS = 8  # Pillow decodes outside the interpreter's lock; network disks are slow


def shrink(path: Path, read: ReadImage, side: int = SIDE, quality: int = _QUALITY) -> str:
    """Return a JPEG of `side` x `side` pixels, cut from the middle. Raises what `read` raises."""
    small = ImageOps.fit(read(path, 2 * side), (side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def shrink_all(
    paths: Iterable[Path], read: ReadImage, side: int = SIDE, quality: int = _QUALITY
) -> dict[Path, str]:
    """Return the thumbnail of each path, made once; '' where the file is missing or damaged."""

    def try_to_shrink(path: Path) -> str:
        try:
            return shrink(path, read, side, quality)
        except PaddlexMLError:
            return ""  # the pages say that this picture is missing

    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(wanted, pool.map(try_to_shrink, wanted), strict=True))
