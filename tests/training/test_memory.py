# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import paddle
import psutil
import pytest

from paddlex_ml.training import memory


def test_the_memory_of_children_counts() -> None:
    before = memory.resident_mib()
    own = psutil.Process()
    family = [own, *own.children(recursive=True)]  # other tests may have left helpers of Python
    assert before == pytest.approx(sum(p.memory_info().rss for p in family) / 2**20, rel=0.05)
    code = "block = b'x' * 2**27; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        grown = memory.resident_mib() - before
        child.communicate("\n")
    assert 128 < grown < 256


@pytest.mark.skipif(paddle.device.is_compiled_with_cuda(), reason="this Paddle knows GPUs")
def test_a_cpu_has_no_card() -> None:
    assert memory.gpu_mib() is None
