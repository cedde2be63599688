# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_FAULTS = """
import resource, sys
import numpy as np
from paddlex_ml.kernels import freed_memory
if sys.argv[1] == "keep":
    freed_memory.keep()
np.ones(2**24, np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**24, np.float32)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only the C library of Linux can be told so"
)
def test_a_block_of_64_mb_that_was_freed_is_used_again():
    faults = {
        word: int(subprocess.check_output([sys.executable, "-c", _FAULTS, word], cwd=ROOT))
        for word in ("keep", "return")
    }
    assert faults["keep"] < 100
    assert faults["return"] > 10 * faults["keep"]
