# SPDX-License-Identifier: Apache-2.0
"""How much memory a training uses now."""

from __future__ import annotations

from contextlib import suppress

import paddle
import psutil

MIB = 2**20


def resident_mib() -> float:
    """Resident memory of this process and of those it has started; shared pages count in each."""
    own = psutil.Process()
    total = own.memory_info().rss
    for child in own.children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            total += child.memory_info().rss
    return float(total / MIB)


def gpu_mib() -> float | None:
    """The most that Paddle has allocated on this process's GPU so far; None without one."""
    if not (paddle.device.is_compiled_with_cuda() and paddle.device.get_device().startswith("gpu")):
        return None
    return float(paddle.device.cuda.max_memory_allocated() / MIB)
