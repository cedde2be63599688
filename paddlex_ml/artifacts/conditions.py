# SPDX-License-Identifier: Apache-2.0
"""Under which conditions a training was started: what else decides about its numbers.

Each start of run.json has them, so that somebody can say whether the numbers can be had again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec

from paddlex_ml.artifacts import git_state, processor
from paddlex_ml.artifacts.git_state import GitState
from paddlex_ml.artifacts.processor import Processor
from paddlex_ml.paddle_runtime import MKL_PATH
from paddlex_ml.storage import regular_file

Digest: TypeAlias = Annotated[str, msgspec.Meta(max_length=200)]

DECIDING = (
    *(MKL_PATH, "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    *("NUMBA_DISABLE_JIT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"),
    *("NVIDIA_TF32_OVERRIDE", "FLAGS_use_mkldnn", "FLAGS_cudnn_deterministic"),
)
"""Environment variables by which libraries choose their code."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Those of one start."""

    processor: Processor
    device: str
    """`cpu`, or the kind of GPU."""
    processes: int
    environment: dict[str, str]
    """Those of `DECIDING` that are set."""
    code: Digest
    """SHA-256 of the modules of this package."""
    options: Digest
    """SHA-256 of the options that decide about the numbers; "": not known yet."""
    weights: Digest
    """SHA-256 of the file of weights that the run began with; "": random, or a checkpoint."""
    lists: dict[str, Digest]
    """The digests of the lists at this start: a later one may have others."""
    git: GitState
    """Of the folder in which the command was started."""


def describe(
    *, device: str, processes: int, weights: str, lists: Mapping[str, str], options: str = ""
) -> Conditions:
    """The conditions of a training that starts now, in this process."""
    return Conditions(
        processor=processor.describe(),
        device=device,
        processes=processes,
        environment={name: os.environ[name] for name in DECIDING if name in os.environ},
        code=_digest_package(),
        options=options,
        weights=weights,
        lists=dict(lists),
        git=git_state.describe(),
    )


def digest_options(values: Mapping[str, Any]) -> str:
    """SHA-256 of options: key -> plain value, in any order."""
    text = msgspec.json.encode(sorted(values.items()), enc_hook=str)
    return hashlib.sha256(text).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of the content of a file of weights. Raises OSError."""
    found = hashlib.sha256()
    with regular_file.open_regular(path, regular_file.LARGEST_WEIGHTS, is_text=False) as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def _digest_package() -> str:
    """Of two states with one version, such as two commits, each has its own."""
    root, found = Path(__file__).resolve().parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()
