# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paddlex_ml.kernels import compiler
from paddlex_ml.storage import temporary

ROOT = Path(__file__).resolve().parents[2]
NUMBA = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not NUMBA, reason="numba, an optional package, is missing")

# Every kernel of a training, at sizes that are no multiples of a vector's length.
_KERNELS = """
import hashlib, logging
import numpy as np
from paddlex_ml.kernels import compiler
logging.basicConfig()
kernels = compiler.load("paddlex_ml.kernels.convolution")
random, digest = np.random.default_rng(0), hashlib.sha256()

def normal(*shape):
    return random.standard_normal(shape, np.float32)

def add(*arrays):
    for array in arrays:
        assert np.isfinite(array).all()
        digest.update(array.tobytes())

for size, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
    x, weight = normal(3, 6, 37, 29), normal(6, 1, size, size)
    out = np.empty((3, 6, 36 // stride + 1, 28 // stride + 1), np.float32)
    kernels.depthwise(x, weight, stride, out, 0, 6)
    dx, dweight = np.empty_like(x), np.empty_like(weight)
    kernels.depthwise_gradients(x, weight, normal(*out.shape), stride, True, dx, dweight, 0, 6)
    add(out, dx, dweight)
x = normal(2, 3, 37, 29)
for size, stride in ((3, 1), (3, 2), (2, 1)):
    rows, columns = 36 // stride + 1, 28 // stride + 1
    pitch, pad, steps = columns + 2, (size - 1) // 2, range(size)
    length, wanted = 40 * pitch, (rows - 1) * pitch + columns
    distances = np.array([
        (i % stride * stride + j % stride) * length + i // stride * pitch + j // stride
        for i in steps for j in steps
    ])
    source = np.array([pad, stride, pitch, length, 0])
    target = np.array([0, 1, pitch, rows * pitch, wanted])
    weight, out = normal(2, 3, 4, size * size), np.empty((2, 8, rows, columns), np.float32)
    cuts, dweight = np.array([0, size * size]), np.empty_like(weight)
    kernels.dense(x, weight, distances, cuts, source, out, target, 0, 4)
    kernels.dense_weight_gradient(x, out, distances, source, wanted, dweight, 0, 6)
    add(out, dweight)
for activation in range(3):
    x, weight, bias = normal(3, 6, 37 * 29), normal(6), normal(6)
    affine, daffine = normal(2), normal(2, 6)
    out, dx, (mean, variance, dweight, dbias) = x.copy(), x.copy(), normal(4, 6)
    kernels.norm(x, weight, bias, 1e-5, activation, affine, out, mean, variance, 0, 6)
    kernels.norm_gradients(
        x, normal(*x.shape), weight, bias, mean, variance, 1e-5, activation, affine,
        dx, dweight, dbias, daffine, 0, 6,
    )
    add(out, mean, variance, dx, dweight, dbias, daffine)
print(digest.hexdigest())
"""


# Two functions whose last digits are others without their option.
_SMALL = """
import numpy as np
from numba import njit
from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc"}
inner = njit(fastmath=FLAGS, nogil=True, forceinline=True)

@inner
def add(x, start):
    total = np.float32(start)
    for value in x:
        total += value * value
    return total

@compiled("float32(float32[::1])", fastmath=FLAGS)
def alone(x):
    total = np.float32(0)
    for value in x:
        total += value * value
    return total

@compiled("float32(float32[::1])", fastmath=FLAGS)
def calling(x):
    return add(x, 0)

KERNELS = (alone, calling)
"""
_USE_SMALL = """
import hashlib, logging, sys
import numpy as np
from paddlex_ml.kernels import compiler
logging.basicConfig()
sys.path.insert(0, sys.argv[1])
kernels, random = compiler.load("small_kernels"), np.random.default_rng(0)
rows = random.standard_normal((100, 1009), np.float32)
results = np.array([(kernels.alone(row), kernels.calling(row)) for row in rows], np.float32)
in_order = np.array([sum((v * v for v in row), np.float32(0)) for row in rows], np.float32)
for found in results.T:
    assert np.allclose(found, in_order, rtol=1e-5)
    assert not np.array_equal(found, in_order)  # the option is in use
print(hashlib.sha256(results.tobytes()).hexdigest())
"""


def start(
    folder: Path | str, code: str = _KERNELS, argument: Path | str = "", **variables: str
) -> subprocess.Popen[str]:
    """Compute with kernels in a process of its own, whose numba keeps its code in `folder`."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(argument)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(folder), **variables},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Digest of all results, and what was logged."""
    digest, said = process.communicate()
    assert process.returncode == 0, said
    return digest, said


@pytest.mark.heavy
@pytest.mark.story
@needs_numba
def test_the_bits_are_the_same_compiled_at_once_and_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    both = [start(folder) for _ in range(2)]
    cold = {finish(process) for process in both}
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert len(stored) == 6
    assert list(tmp_path.rglob("*.tmp*")) == []
    warm = finish(start(folder))
    assert cold == {warm} == {(warm[0], "")}
    assert stored == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}


@pytest.mark.heavy
@pytest.mark.story
@needs_numba
def test_the_bits_are_the_same_where_nothing_can_be_kept(tmp_path: Path) -> None:
    """With two functions that take a second to compile: which ones they are does not matter."""
    (tmp_path / "small_kernels.py").write_text(_SMALL)
    folder = tmp_path / "kept"
    cold, warm = (finish(start(folder, _USE_SMALL, tmp_path)) for _ in range(2))
    assert cold == warm == (warm[0], "")
    for path in (indices := list(folder.rglob("*.nbi"))):  # as a power cut leaves files
        path.write_bytes(b"")
    assert len(indices) == 2
    damaged, said = finish(start(folder, _USE_SMALL, tmp_path))
    assert said.count("compiled code cannot be kept in") == 1
    # Neither beside the package, as in a read-only installation, nor in the home folder.
    only = {"NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator"}
    unkept, said = finish(start("/dev/null/nothing", _USE_SMALL, tmp_path, **only))
    assert said.count("compiled code cannot be kept in /dev/null/nothing") == 1
    assert "PADDLEX_ML_CACHE=/another/folder" in said
    assert warm[0] == damaged == unkept


@pytest.mark.parametrize("kind", [ImportError, AttributeError])
def test_a_numba_that_does_not_work_is_told_and_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    def broken(_: str) -> None:
        raise kind("Numba needs NumPy 2.2 or less")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(importlib, "import_module", broken)
    assert compiler.load("paddlex_ml.kernels.pixel_loops") is None
    assert "numba does not work here" in caplog.text


@needs_numba
def test_a_fault_of_our_own_is_not_taken_for_one_of_numba(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(importlib.import_module(small), "KERNELS")
    with pytest.raises(AttributeError, match="KERNELS"):
        compiler.load(small)


@needs_numba
def test_the_folder_is_that_of_the_user_or_below_the_cache(
    monkeypatch: pytest.MonkeyPatch, own_cache: Path, tmp_path: Path
) -> None:
    for given, expected in (("", own_cache / "numba"), (str(tmp_path), tmp_path)):
        monkeypatch.setenv("NUMBA_CACHE_DIR", given)
        compiler.load("paddlex_ml.kernels.pixel_loops")
        assert os.environ["NUMBA_CACHE_DIR"] == str(expected)


@needs_numba
@pytest.mark.parametrize(
    "fault",
    ["all may write", "all may write around it", "another's file", "a file that all may write"],
)
def test_code_that_another_user_may_have_written_is_not_run(
    monkeypatch: pytest.MonkeyPatch,
    open_folder: Path,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    folder = open_folder / "shared" / "numba"
    folder.mkdir(parents=True, mode=0o700)
    if fault == "another's file":
        if os.getuid() != 0:
            pytest.skip("only root can give a file to another user")
        (folder / "a" / "index.nbi").parent.mkdir()
        (folder / "a" / "index.nbi").write_bytes(b"")
        os.chown(folder / "a" / "index.nbi", 12345, 12345)
    elif fault == "a file that all may write":
        folder.chmod(0o755)
        folder.parent.chmod(0o755)
        (folder / "index.nbi").touch(0o666)
        (folder / "index.nbi").chmod(0o666)
    else:
        (folder if fault == "all may write" else folder.parent).chmod(0o777)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
    monkeypatch.setattr(temporary, "own_folder", lambda: open_folder / "own")
    monkeypatch.setattr(importlib, "import_module", lambda _: SimpleNamespace(KERNELS=()))
    compiler.load("paddlex_ml.kernels.pixel_loops")
    assert os.environ["NUMBA_CACHE_DIR"] == str(open_folder / "own" / "numba")
    assert (open_folder / "own" / "numba").stat().st_mode & 0o777 == 0o700
    assert f"other users may have written into {folder}" in caplog.text


_PAIR = """
from paddlex_ml.kernels.compiler import compiled

@compiled("float64(float64)")
def double(x):
    return 2.0 * x

@compiled("float64(float64)")
def square(x):
    return x * x

KERNELS = (double, square)
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Name of a module of two kernels, of which no code is stored."""
    name = f"kernels_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(_PAIR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(compiler.VARIABLE, str(tmp_path / "code"))
    (tmp_path / "code").mkdir(mode=0o700)
    return name


def watched(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Names of the functions that this process compiles; `before` each something is done."""
    names: list[str] = []
    compile = compiler.Kernel.compile

    def watch(kernel: compiler.Kernel) -> Callable[..., Any]:
        before(kernel.function.__name__)
        names.append(kernel.function.__name__)
        return compile(kernel)

    monkeypatch.setattr(compiler.Kernel, "compile", watch)
    return names


@needs_numba
def test_another_process_compiles_from_the_other_end(
    small: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stored(name: str) -> list[Path]:
        return list((tmp_path / "code").glob(f"*/{small}.{name}-*.nbi"))

    def wait_for_the_other(name: str) -> None:
        deadline = time.monotonic() + 60
        while name == "double" and not stored("square"):
            assert time.monotonic() < deadline, "no other process compiles"
            time.sleep(0.01)

    watched(monkeypatch, wait_for_the_other)
    module: Any = compiler.load(small, shares_work=True)
    assert (module.double(3.0), module.square(3.0)) == (6.0, 9.0)


@needs_numba
def test_a_process_starts_only_where_something_is_missing(
    small: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert compiler.load(small) is not None
    sys.modules.pop(small)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert compiler.load(small, shares_work=True) is not None
    # Of a file that was installed later the code may be old: another process starts, but once.
    indexes = list((tmp_path / "code").rglob("*.nbi"))
    for index in indexes:
        os.utime(index, (0, 0))
    sys.modules.pop(small)
    with pytest.raises(TypeError, match="not callable"):
        compiler.load(small, shares_work=True)
    assert compiler.load(small) is not None
    assert len(indexes) == 2
    assert all(index.stat().st_mtime > 0 for index in indexes)


@needs_numba
def test_what_another_process_compiles_is_waited_for_last(
    small: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / "code" / f"{small}.double.lock"
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"

    def let_go(name: str) -> None:
        if name == "square":
            other.communicate(b"")

    names = watched(monkeypatch, let_go)
    module: Any = compiler.load(small)
    assert names == ["square", "double"]
    assert (module.double(3.0), module.square(3.0)) == (6.0, 9.0)


_HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_kernel_that_was_not_loaded_says_so() -> None:
    with pytest.raises(RuntimeError, match="half is to be loaded first"):
        compiler.compiled("float64(float64)")(half)(1.0)


def half(x: float) -> float:
    return x / 2


@needs_numba
def test_where_the_folder_cannot_be_made_another_one_is_told_and_used(
    small: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Numba itself would put the code beside the source, and say nothing."""
    monkeypatch.setenv(compiler.VARIABLE, f"{os.devnull}/nothing")
    monkeypatch.setattr(temporary, "own_folder", lambda: tmp_path / "own")
    monkeypatch.setattr(compiler, "_warned", [])
    assert compiler.load(small) is not None
    assert "cannot be kept in /dev/null/nothing" in caplog.text
    assert len(list((tmp_path / "own" / "numba").rglob("*.nbi"))) == 2
    assert not (tmp_path / "__pycache__").exists() or not list(tmp_path.glob("__pycache__/*.nb?"))


@needs_numba
def test_a_program_that_has_imported_numba_keeps_code_in_the_folder_too(
    small: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    numba = importlib.import_module("numba")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "another"))
    assert compiler.load(small) is not None
    assert len(list((tmp_path / "code").rglob("*.nbi"))) == 2
