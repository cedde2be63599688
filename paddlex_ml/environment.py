# SPDX-License-Identifier: Apache-2.0
"""What must stand in the environment BEFORE Paddle is imported, and its import."""

from __future__ import annotations

import ctypes
import importlib
import io
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import warnings
from contextlib import redirect_stderr
from multiprocessing import connection
from pathlib import Path

import psutil

from paddlex_ml.errors import PaddlexMLError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
MKL_PATH = "MKL_DEBUG_CPU_TYPE"
LOG_LEVEL = "GLOG_minloglevel"

_prepared: set[str] = set()  # what `prepare` has set itself
_done = False  # whether `prepare` has run


def prepare() -> str:
    """Set what the user has not set, import Paddle, and say in one line what was set and why.

    Thread counts follow the cores this process may use (affinity and container quota), not those
    of the machine. On AMD processors with AVX2, MKL_DEBUG_CPU_TYPE=5 keeps the MKL that Paddle
    brings from its slow path for foreign processors (`benchmarks/train_speed.py` measures it).
    Raises PaddlexMLError where Paddle is not installed.
    """
    global _done
    _done = True
    if "paddle" in sys.modules:
        late = "environment: left as it is, for Paddle was imported before paddlex_ml"
        slow = _is_amd_with_avx2() and MKL_PATH not in os.environ
        return f"{late}; set {MKL_PATH}=5 yourself for full speed" if slow else late
    cores = usable_cores()
    notes = [_set(name, str(cores), f"{cores} usable cores") for name in THREADS]
    if _is_amd_with_avx2():
        notes.append(_set(MKL_PATH, "5", "fast matrix products on AMD"))
    os.environ.setdefault(LOG_LEVEL, "2")  # errors; below it Paddle's C++ side talks to itself
    _import_paddle()
    return "environment: " + ", ".join(notes)


def is_prepared() -> bool:
    """Whether `prepare` has been called in this process, and has told what it did."""
    return _done


def is_launched() -> bool:
    """Whether this process is a member of a job that paddle.distributed.launch has started."""
    several = int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1
    return several and "PADDLE_TRAINER_ID" in os.environ


def is_main_process(ips: str | None = None) -> bool:
    """Whether this process writes the results of its job, which machines `ips` may share."""
    if is_launched():
        return os.environ["PADDLE_TRAINER_ID"] == "0"
    return ips is None or find_machine(ips)[1] == 0


def find_machine(ips: str) -> tuple[tuple[str, ...], int]:
    """All addresses, and the number of the one that is this machine's own.

    It is that of the environment variable POD_IP, as for Paddle's launcher, or else the one that a
    network interface has. Raises PaddlexMLError unless it is exactly one.
    """
    addresses = tuple(ips.split(","))
    wanted = os.environ.get("POD_IP")
    own = {item.address for items in psutil.net_if_addrs().values() for item in items}
    if wanted is None:
        mine = [k for k, address in enumerate(addresses) if own & resolve(address)]
    else:
        mine = [k for k, address in enumerate(addresses) if address == wanted]
    if len(mine) == 1:
        return addresses, mine[0]
    what = f"{len(mine)} of them are addresses" if mine else "none of them is an address"
    raise PaddlexMLError(
        f"Train.dist_ips is {ips}, and {what} of this machine",
        where=f"POD_IP={wanted}" if wanted else "Train.dist_ips",
        fix="name this machine by the environment variable POD_IP, one of these addresses; its "
        "network interfaces have " + ", ".join(sorted(a for a in own if a.count(".") == 3)),
    )


def resolve(address: str) -> set[str]:
    """Network addresses of a name or an address; none for an unknown one."""
    try:
        return set(socket.gethostbyname_ex(address)[2])
    except OSError:
        return set()


def share_cores(processes: int) -> None:
    """Divide the cores among processes that are about to start, unless the user has done so."""
    for name in _prepared & set(THREADS):
        os.environ[name] = str(max(1, usable_cores() // processes))


def die_with_parent() -> None:
    """End this process when the one that started it is gone: nobody would end it later."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _import_paddle() -> None:
    """Import Paddle without its remarks on ccache and thread counts, which repair nothing."""
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            importlib.import_module("paddle")
    except ModuleNotFoundError as error:
        if error.name != "paddle":
            raise
        raise PaddlexMLError(
            "PaddlePaddle is not installed",
            where=f"the environment of {sys.executable}",
            fix="pip install 'paddlepaddle>=3.3,<3.4', or for a GPU see README, section Install",
        ) from error
    if threading.current_thread() is threading.main_thread() and on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)  # Paddle puts one of its own before Python's


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
    _prepared.add(name)
    return f"{name}={value} ({reason})"


def keep_freed_memory() -> None:
    """Let the C library of Linux (glibc) keep large blocks that were freed, for the next step.

    Otherwise it gives each back to the system, and the next one is filled with zeros, page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block stands alone
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: what is free at the end stays, however much
        mallopt(-2, 2**26)  # M_TOP_PAD: grow by 64 MB
