# SPDX-License-Identifier: Apache-2.0
"""What of a processor decides about the last digits of a result."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import msgspec

from paddlex_ml.cores import usable_cores
from paddlex_ml.paddle_runtime import own_threads

_DECIDING = re.compile(r"(sse4|ssse3|avx|fma|f16c|amx|asimd|neon|sve|sme|bf16|i8mm)\w*")
"""Instruction sets by which libraries choose their code, as /proc/cpuinfo calls them."""


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """A processor, and how much of it a command uses."""

    name: str
    instruction_sets: list[str]
    """Those by which libraries choose their code; empty where the system does not tell."""
    cores: int
    """That this process may use."""
    threads: int
    """Of a product of matrices."""


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """The processor of this machine."""
    name, flags = f"{platform.machine()} {platform.processor()}".strip(), list[str]()
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    for line in reversed(lines):  # the first core of all is the last that is read here
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = value.split()
    return Processor(
        name=name,
        instruction_sets=sorted({flag for flag in flags if _DECIDING.fullmatch(flag)}),
        cores=usable_cores(),
        threads=own_threads(),
    )
