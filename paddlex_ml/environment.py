# SPDX-License-Identifier: Apache-2.0
"""Settings that must stand in the environment BEFORE Paddle is imported."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
MKL_PATH = "MKL_DEBUG_CPU_TYPE"


def prepare() -> str:
    """Set what the user has not set; return one line that says what is set and why.

    Thread counts follow the cores this process may use (affinity and container quota), not those
    of the machine. On AMD processors with AVX2, MKL_DEBUG_CPU_TYPE=5 keeps the MKL that Paddle
    brings from its slow path for foreign processors (`benchmarks/train_speed.py` measures it).
    """
    if "paddle" in sys.modules and not os.environ.get(MKL_PATH) and _is_amd_with_avx2():
        return f"Paddle was imported before paddlex_ml: set {MKL_PATH}=5 yourself for full speed"
    cores = usable_cores()
    notes = [_set(name, str(cores), f"{cores} usable cores") for name in THREADS]
    if _is_amd_with_avx2():
        notes.append(_set(MKL_PATH, "5", "fast matrix products on AMD"))
    return "environment: " + ", ".join(notes)


def usable_cores() -> int:
    """Cores this process may use: CPU affinity, cut by a container's quota; at least 1."""
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


def _is_amd_with_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in text and " avx2" in text


def _set(name: str, value: str, reason: str) -> str:
    if name in os.environ:
        return f"{name}={os.environ[name]} (yours)"
    os.environ[name] = value
    return f"{name}={value} ({reason})"
