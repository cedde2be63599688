# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import platform
import subprocess
import sys
import types
from pathlib import Path

import pytest

from paddlex_ml import environment
from paddlex_ml.errors import PaddlexMLError

ROOT = Path(__file__).resolve().parent.parent
AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse avx avx2 sha_ni\n"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu sse avx avx2 sha_ni\n"
OLD_AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse avx\n"


@pytest.fixture
def fresh(monkeypatch):
    """An environment before Paddle's import, on an Intel machine of 6 cores."""
    names = (environment.MKL_PATH, environment.LOG_LEVEL)
    for name in (*environment.THREADS, *names):
        monkeypatch.setenv(name, "")  # monkeypatch brings the old value back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    monkeypatch.setattr(environment, "_import_paddle", lambda: None)
    monkeypatch.setattr(environment, "usable_cores", lambda: 6)
    monkeypatch.setattr(environment, "_is_amd_with_avx2", lambda: False)
    return monkeypatch


def test_threads_follow_the_usable_cores(fresh):
    note = environment.prepare()
    assert [os.environ[name] for name in environment.THREADS] == ["6", "6"]
    assert environment.MKL_PATH not in os.environ
    assert note == (
        "environment: OMP_NUM_THREADS=6 (6 usable cores), MKL_NUM_THREADS=6 (6 usable cores)"
    )


def test_on_amd_the_fast_path_of_mkl_is_chosen_and_the_reason_told(fresh):
    fresh.setattr(environment, "_is_amd_with_avx2", lambda: True)
    note = environment.prepare()
    assert os.environ[environment.MKL_PATH] == "5"
    assert note.endswith("MKL_DEBUG_CPU_TYPE=5 (fast matrix products on AMD)")


def test_what_the_user_has_set_stays(fresh):
    fresh.setattr(environment, "_is_amd_with_avx2", lambda: True)
    fresh.setenv("OMP_NUM_THREADS", "1")
    fresh.setenv("MKL_DEBUG_CPU_TYPE", "4")
    note = environment.prepare()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_DEBUG_CPU_TYPE"]) == ("1", "4")
    assert "OMP_NUM_THREADS=1 (yours)" in note
    assert "MKL_DEBUG_CPU_TYPE=4 (yours)" in note
    assert "MKL_NUM_THREADS=6 (6 usable cores)" in note


@pytest.mark.parametrize("amd", [True, False])
def test_after_paddles_import_nothing_is_set_any_more(fresh, amd):
    fresh.setattr(environment, "_is_amd_with_avx2", lambda: amd)
    fresh.setitem(sys.modules, "paddle", types.ModuleType("paddle"))
    note = environment.prepare()
    assert not any(name in os.environ for name in environment.THREADS)
    assert "Paddle was imported before paddlex_ml" in note
    assert ("set MKL_DEBUG_CPU_TYPE=5 yourself" in note) is amd


def test_a_missing_paddle_is_an_error_with_the_command_that_installs_it(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(environment.importlib, "import_module", absent)
    with pytest.raises(PaddlexMLError, match="PaddlePaddle is not installed") as caught:
        environment._import_paddle()
    assert caught.value.where == f"the environment of {sys.executable}"
    assert "pip install 'paddlepaddle>=3.3,<3.4'" in caught.value.fix


def test_a_module_missing_inside_paddle_is_not_mistaken_for_paddle(monkeypatch):
    def broken(_):
        raise ModuleNotFoundError("No module named 'google'", name="google")

    monkeypatch.setattr(environment.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="google"):
        environment._import_paddle()


@pytest.mark.parametrize(
    ("text", "found"), [(AMD, True), (INTEL, False), (OLD_AMD, False), ("", False)]
)
def test_the_processor_is_read_from_cpuinfo(tmp_path, text, found):
    (tmp_path / "cpuinfo").write_text(text)
    assert environment._is_amd_with_avx2(tmp_path / "cpuinfo") is found


def test_a_system_without_cpuinfo_is_no_amd(tmp_path):
    assert environment._is_amd_with_avx2(tmp_path / "absent") is False


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("50000 100000\n", 1), ("400000 50000\n", 8)],
)
def test_the_quota_of_cgroup_2_is_rounded_up_to_whole_cores(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(quota)
    assert environment._quota(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("100000", 1)])
def test_the_quota_of_cgroup_1_is_found_as_well(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert environment._quota(tmp_path) == cores


def test_without_a_quota_there_is_no_limit(tmp_path):
    assert environment._quota(tmp_path) == sys.maxsize
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert environment._quota(tmp_path) == sys.maxsize
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert environment._quota(tmp_path) == sys.maxsize


@pytest.mark.parametrize(("allowed", "quota", "cores"), [(8, 3, 3), (2, 16, 2), (1, 0, 1)])
def test_affinity_and_quota_both_limit_the_cores(monkeypatch, allowed, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    monkeypatch.setattr(environment, "_quota", lambda _: quota)
    assert environment.usable_cores() == cores


def test_a_system_without_affinity_counts_its_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(environment, "_quota", lambda _: sys.maxsize)
    assert environment.usable_cores() == 5


def test_importing_the_package_imports_no_paddle_and_sets_nothing():
    code = (
        "import os, sys; before = dict(os.environ); import paddlex_ml, paddlex_ml.cli; "
        "assert 'paddle' not in sys.modules; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_signal_reaches_the_programs_own_handler_after_paddles_import():
    script = """
import os, signal, sys, time
def stop(*_):
    print("mine")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
from paddlex_ml import environment
environment.prepare()
from paddlex_ml import devices
devices.select("cpu")
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(5)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr


_FAULTS = """
import resource, sys
import numpy as np
from paddlex_ml import environment
if sys.argv[1] == "keep":
    environment.keep_freed_memory()
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
