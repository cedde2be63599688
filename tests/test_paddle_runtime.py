# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml import paddle_runtime, systems
from paddlex_ml.errors import PaddlexMLError

ROOT = Path(__file__).resolve().parent.parent
AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse avx avx2 sha_ni\n"
INTEL = "vendor_id\t: GenuineIntel\nflags\t\t: fpu sse avx avx2 sha_ni\n"
OLD_AMD = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu sse avx\n"


@pytest.fixture
def fresh(monkeypatch):
    """An environment before Paddle's import, on an Intel machine of 6 cores."""
    names = (paddle_runtime.MKL_PATH, paddle_runtime.LOG_LEVEL)
    for name in (*paddle_runtime.THREADS, *paddle_runtime.WAITING, *names):
        monkeypatch.setenv(name, "")  # monkeypatch brings the old value back
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "paddle", raising=False)
    monkeypatch.setattr(paddle_runtime, "_import_paddle", lambda: None)
    monkeypatch.setattr(paddle_runtime, "usable_cores", lambda: 6)
    monkeypatch.setattr(paddle_runtime, "_is_amd_with_avx2", lambda: False)
    return monkeypatch


def test_threads_follow_the_usable_cores(fresh):
    note = paddle_runtime.prepare()
    assert [os.environ[name] for name in paddle_runtime.THREADS] == ["6", "6"]
    assert paddle_runtime.MKL_PATH not in os.environ
    assert note == (
        "for speed: one thread for each of 6 usable cores (OMP_NUM_THREADS, MKL_NUM_THREADS), "
        "threads without work sleep (KMP_BLOCKTIME=1)"
    )
    assert os.environ["KMP_BLOCKTIME"] == "1"


def test_what_starts_meanwhile_has_the_threads_and_no_paddle(fresh):
    seen = []
    fresh.setattr(paddle_runtime, "_import_paddle", lambda: seen.append("import"))
    paddle_runtime.prepare(lambda: seen.append(os.environ[paddle_runtime.THREADS[0]]))
    assert seen == ["6", "import"]


def test_on_amd_the_fast_path_of_mkl_is_chosen_and_the_reason_named(fresh):
    fresh.setattr(paddle_runtime, "_is_amd_with_avx2", lambda: True)
    note = paddle_runtime.prepare()
    assert os.environ[paddle_runtime.MKL_PATH] == "5"
    assert ", fast matrix products on AMD (MKL_DEBUG_CPU_TYPE=5), " in note


def test_what_the_user_has_set_stays(fresh):
    fresh.setattr(paddle_runtime, "_is_amd_with_avx2", lambda: True)
    fresh.setenv("OMP_NUM_THREADS", "1")
    fresh.setenv("MKL_DEBUG_CPU_TYPE", "4")
    note = paddle_runtime.prepare()
    assert (os.environ["OMP_NUM_THREADS"], os.environ["MKL_DEBUG_CPU_TYPE"]) == ("1", "4")
    assert "OMP_NUM_THREADS=1 as you have set it" in note
    assert "MKL_DEBUG_CPU_TYPE=4 as you have set it" in note
    assert "one thread for each of 6 usable cores (MKL_NUM_THREADS)" in note


@pytest.mark.parametrize(
    ("name", "value"), [("KMP_BLOCKTIME", "200"), ("OMP_WAIT_POLICY", "ACTIVE")]
)
def test_how_threads_wait_is_left_to_a_user_who_says_it_by_either_name(fresh, name, value):
    fresh.setenv(name, value)
    note = paddle_runtime.prepare()
    found = {key: os.environ.get(key) for key in paddle_runtime.WAITING}
    assert found == dict.fromkeys(paddle_runtime.WAITING) | {name: value}
    assert note.endswith(f"{name}={value} as you have set it")


@pytest.mark.parametrize("amd", [True, False])
def test_after_paddles_import_nothing_is_set_any_more(fresh, amd):
    fresh.setattr(paddle_runtime, "_is_amd_with_avx2", lambda: amd)
    fresh.setitem(sys.modules, "paddle", types.ModuleType("paddle"))
    note = paddle_runtime.prepare()
    assert not any(name in os.environ for name in paddle_runtime.THREADS)
    assert "Paddle was imported before paddlex_ml" in note
    assert ("set MKL_DEBUG_CPU_TYPE=5 yourself" in note) is amd


def test_a_missing_paddle_is_an_error_with_the_command_that_installs_it(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(PaddlexMLError, match="PaddlePaddle is not installed") as caught:
        paddle_runtime._import_paddle()
    assert caught.value.where == f"the environment of {sys.executable}"
    assert "pip install 'paddlepaddle>=3.3,<3.4'" in caught.value.fix


def test_a_module_missing_inside_paddle_is_not_mistaken_for_paddle(monkeypatch):
    def broken(_):
        raise ModuleNotFoundError("No module named 'google'", name="google")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="google"):
        paddle_runtime._import_paddle()


@pytest.mark.parametrize(
    ("text", "expected"), [(AMD, True), (INTEL, False), (OLD_AMD, False), ("", False)]
)
def test_the_processor_is_read_from_cpuinfo(tmp_path, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    assert paddle_runtime._is_amd_with_avx2(tmp_path / "cpuinfo") is expected


def test_a_system_without_cpuinfo_is_no_amd(tmp_path):
    assert paddle_runtime._is_amd_with_avx2(tmp_path / "absent") is False


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
from paddlex_ml import paddle_runtime, systems
paddle_runtime.prepare()
from paddlex_ml import devices
devices.select("cpu")
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(5)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "mine\n"), done.stderr


def test_threads_of_a_static_model_do_not_change_the_numbers_of_a_training():
    import paddle

    rng = np.random.default_rng(0)
    left, right = (
        paddle.to_tensor(rng.standard_normal(shape).astype(np.float32))
        for shape in ((333, 2777), (2777, 257))
    )
    paddle_runtime.use_own_threads()
    expected = (left @ right).numpy()
    paddle.base.core.set_num_threads(1)  # as a predictor with cpu_threads=1 does
    paddle_runtime.use_own_threads()
    assert np.array_equal((left @ right).numpy(), expected)


def test_paddle_finds_a_folder_by_a_plain_path_on_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, chinese, plain = Path.cwd(), tmp_path / "小胖", tmp_path / "plain"
    chinese.mkdir()
    with paddle_runtime.near(chinese) as place:
        assert (place, Path.cwd()) == (chinese, before)
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    with paddle_runtime.near(plain) as place:
        assert (place, Path.cwd()) == (plain, before)
    with pytest.raises(ValueError), paddle_runtime.near(chinese) as place:  # noqa: PT011, PT012
        assert str(place / "inference.json") == "inference.json"
        assert Path.cwd() == chinese
        raise ValueError
    assert Path.cwd() == before
