# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform
from pathlib import Path

import pytest

from paddlex_ml import cores
from paddlex_ml.artifacts import processor

INTEL = """\
processor\t: 0
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu sse sse4_1 avx avx2 fma avx512f amx_tile ht

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


def test_name_and_instruction_sets_are_those_of_the_first_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    (tmp_path / "cpuinfo").write_text(INTEL)
    found = processor.describe(tmp_path / "cpuinfo")
    assert found.name == "A Processor @ 2.00GHz"
    assert found.instruction_sets == ["amx_tile", "avx", "avx2", "avx512f", "fma", "sse4_1"]
    assert (found.cores, found.threads) == (cores.usable_cores(), 3)


def test_a_processor_without_a_name_is_that_of_the_platform(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd sve crc32\n")
    found = processor.describe(tmp_path / "cpuinfo")
    assert found.instruction_sets == ["asimd", "sve"]
    assert found.name.startswith(platform.machine())
    assert processor.describe(tmp_path / "none").instruction_sets == []
