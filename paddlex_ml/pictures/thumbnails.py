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
_TOPS = (1, 255, 1023, 4095, 16383, 65535)  # white in samples of some bits, or shares
_THREADS = 8  # Pillow decodes outside the interpreter's lock; network disks are slow


def shrink(path: Path, side: int = SIDE, quality: int = _QUALITY) -> str:
    """Return a JPEG of `side` x `side` pixels, cut from the middle. Raises what Pillow raises."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * side, 2 * side))  # a large JPEG is decoded at a part of its size
        upright: Image.Image = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):  # Pillow would cut the values off, not scale them
            samples = np.nan_to_num(np.asarray(upright, np.float32))
            most = float(samples.max())
            top = next((limit for limit in _TOPS if most <= limit), most)
            upright = Image.fromarray((samples.clip(0) * (255 / top)).astype(np.uint8))
        small = ImageOps.fit(upright.convert("RGB"), (side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def shrink_all(paths: Iterable[Path], side: int = SIDE, quality: int = _QUALITY) -> dict[Path, str]:
    """Return the thumbnail of each path, made once; '' where the file is missing or damaged."""
    wanted = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        return dict(
            zip(wanted, pool.map(lambda path: _try(path, side, quality), wanted), strict=True)
        )


def _try(path: Path, side: int, quality: int) -> str:
    # Damaged files make Pillow raise nearly anything: struct.error, KeyError, ZeroDivisionError.
    try:
        return shrink(path, side, quality)
    except Exception:
        return ""
