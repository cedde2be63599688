# SPDX-License-Identifier: Apache-2.0
"""Files in the safetensors format: a table of names, types and shapes, then plain numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import regular_file
from paddlex_ml.storage.regular_file import LARGEST_WEIGHTS

_TYPES = {
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    "BF16": "<u2",  # numpy has no such type; Paddle too writes its bits as these
}
_TABLE_LIMIT = 100_000_000  # bytes: the format's own


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as the format does: the size of its table, then the table."""
    try:
        with regular_file.open_regular(path, LARGEST_WEIGHTS, is_text=False) as file:
            head = file.read(9)
    except OSError:  # the reader raises it
        return False
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _TABLE_LIMIT


def read_metadata(path: Path) -> dict[str, str]:
    """The texts beside the table, none where there are none. Raises PaddlexMLError like `load`."""
    with _readable(path), safetensors.safe_open(path, framework="numpy") as file:
        return dict(file.metadata() or {})


def load(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors, bfloat16 as uint16. Raises PaddlexMLError for a damaged file."""
    with _readable(path):
        # The library checks the table. It would hold large weights in memory three times, so the
        # numbers are read here.
        with safetensors.safe_open(path, framework="numpy"):
            pass
        tensors = {}
        with regular_file.open_regular(path, LARGEST_WEIGHTS, is_text=False) as file:
            size = int.from_bytes(file.read(8), "little")
            table = json.loads(file.read(size))
            table.pop("__metadata__", None)
            for name, entry in table.items():
                kind, shape = entry["dtype"], entry["shape"]
                if kind not in _TYPES:
                    raise PaddlexMLError(
                        f"its entry {name!r} holds values of type {kind}, which weights do not "
                        "have",
                        where=str(path),
                        fix="save the weights as float32, float16 or bfloat16",
                    )
                file.seek(8 + size + entry["data_offsets"][0])
                tensors[name] = np.fromfile(file, _TYPES[kind], math.prod(shape)).reshape(shape)
        return tensors


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        raise PaddlexMLError(
            f"not a safetensors file, or a damaged one ({' '.join(str(error).split())})",
            where=str(path),
            fix="copy or download the file again, and compare its size with the original",
        ) from error
