# SPDX-License-Identifier: Apache-2.0
"""Whether the machine has a GPU: known before Paddle is imported, which takes seconds."""

from __future__ import annotations

import sys
from pathlib import Path

_DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""What the drivers of NVIDIA, of its small boards, of Windows for its Linux, and of AMD make."""


def are_missing() -> bool:
    """Whether there is surely none: elsewhere than on Linux only Paddle can tell."""
    return sys.platform == "linux" and not any(Path(path).exists() for path in _DRIVERS)
