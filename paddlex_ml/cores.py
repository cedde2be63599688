# SPDX-License-Identifier: Apache-2.0
"""CPU cores that this process may use."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path


def usable_cores() -> int:
    """Cores this process may use: CPU affinity, limited by a container's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _quota(Path("/sys/fs/cgroup"))))


def _quota(cgroup: Path) -> int:
    """Whole cores of the cgroup's CPU quota (version 2, then 1); a huge number without one."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return sys.maxsize
    if not quota.isdigit():  # "max", or -1: no quota
        return sys.maxsize
    return math.ceil(int(quota) / int(period))
