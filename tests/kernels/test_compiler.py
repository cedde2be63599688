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
from paddlex_ml.kernels.taps import Grid
logging.basicConfig()
norms, pooling, kernels = (
    compiler.load(f"paddlex_ml.kernels.{name}") for name in ("batch_norm", "pooling", "convolution")
)
random, digest = np.random.default_rng(0), hashlib.sha256()

def normal(*shape):
    return random.standard_normal(shape, np.float32)

def add(*arrays):
    for array in arrays:
        assert np.isfinite(array).all()
        digest.update(array.tobytes())

def convolve(function, weight, x, shape, taps, settings, last):
    out, rooms = np.empty(shape, np.float32), np.zeros((2, 10**5), np.float32)
    weight = weight(len(taps.places))
    function(x.ravel(), weight.ravel(), *taps[1:], *settings, out.reshape(-1), 0, last, *rooms)
    add(out)
    return out

for size, stride in ((3, 1), (3, 2), (5, 1), (5, 2)):
    x, grid = normal(3, 6, 37, 29), Grid.of((37, 29), size, stride)
    shape, lengths = (3, 6, *grid.after), (9, 5)
    weight = lambda taps: normal(6, 1, taps)
    taps = grid.forward(lengths)
    out = convolve(kernels.depthwise, weight, x, shape, taps, grid.settings(6), 6)
    back = grid.backward(lengths), grid.settings_back(6)
    convolve(kernels.depthwise, weight, out, x.shape, *back, 6)
    distances = np.resize(taps.distances, 27)
    dweight, rooms = np.zeros((6, 27), np.float32), np.zeros((2, 10**5), np.float32)
    arrays = x.ravel(), out.ravel(), distances, *grid.settings(6), dweight.ravel()
    kernels.depthwise_weight_gradient(*arrays, 0, 6, *rooms)
    add(dweight)
for size, stride in ((3, 1), (3, 2), (2, 1)):
    x, grid = normal(2, 4, 37, 29), Grid.of((37, 29), size, stride)
    taps, shape = grid.forward(()), (2, 8, *grid.after)
    weight = lambda taps: normal(2, 4, 4, taps)
    out = convolve(kernels.dense, weight, x, shape, taps, grid.settings(4), 4)
    weight, back = lambda taps: normal(1, 8, 4, taps), grid.backward(())
    convolve(kernels.dense, weight, out, x.shape, back, grid.settings_back(8), 2)
    dweight, rooms = np.zeros((2, 4, 4, 9), np.float32), np.zeros((2, 10**5), np.float32)
    arrays = x.ravel(), out.ravel(), np.resize(taps.distances, 9), *grid.settings(4)
    kernels.dense_weight_gradient(*arrays, dweight.reshape(-1), 0, 8, *rooms)
    add(dweight)
for activation in range(3):
    x, weight, bias = normal(3 * 6 * 37 * 29), normal(6), normal(6)
    affine, daffine = normal(2), normal(12)
    out, dx, (mean, variance, dweight, dbias) = x.copy(), x.copy(), normal(4, 6)
    norms.norm(x, weight, bias, 1e-5, activation, affine, out, mean, variance, 3, 0, 6)
    norms.norm_gradients(
        x, normal(x.size), weight, bias, mean, variance, 1e-5, activation, affine,
        dx, dweight, dbias, daffine, 3, 0, 6,
    )
    add(out, mean, variance, dx, dweight, dbias, daffine)
sizes, out, places = (37, 29, 19, 15, 3, 2, 1, 1), normal(18 * 19 * 15), np.empty(5130, np.uint8)
x, dx, offsets = normal(18 * 37 * 29), np.zeros(18 * 37 * 29, np.float32), np.arange(9)
pooling.pool(x, sizes, out, places, 0, 18)
pooling.pool_gradient(out, places, sizes, offsets // 3 * 29 + offsets % 3, dx, 0, 18)
add(out, places, dx)
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
    assert len(stored) == 8
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
def test_what_is_to_be_compiled_is_known_without_numba(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "code").mkdir(mode=0o700)
    monkeypatch.setenv(compiler.VARIABLE, str(tmp_path / "code"))
    names = [f"paddlex_ml.kernels.pooling.{name}" for name in ("pool", "pool_gradient")]
    assert compiler.missing(names) == names
    with compiler.assisted(names[1:]):
        assert compiler.load("paddlex_ml.kernels.pooling", ["pool"]) is not None
        assert len(compiler._helpers) == 1
        deadline = time.monotonic() + 120
        while compiler.missing(names):
            assert time.monotonic() < deadline, "the other process compiles nothing"
            time.sleep(0.05)
    assert compiler._helpers == []
    code = f"import sys\nfrom paddlex_ml.kernels import compiler\nprint(compiler.missing({names}))"
    code += "\nprint({'numba', 'numpy'} & set(sys.modules))"
    told = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert told == "[]\nset()\n"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv(compiler.VARIABLE, str(tmp_path / "other"))
    assert compiler.missing(names) == []


@needs_numba
def test_a_process_whose_parent_is_gone_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(compiler.VARIABLE, str(tmp_path / "code"))
    names = ["paddlex_ml.kernels.pooling.pool"]
    assert compiler.missing(names) == names
    compiler.assist(names, parent=os.getpid())  # not that of this process
    assert compiler.missing(names) == names


@needs_numba
def test_a_process_that_was_started_before_is_the_only_one(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with compiler.assisted([f"{small}.square"]):
        monkeypatch.setattr(subprocess, "Popen", None)
        module: Any = compiler.load(small, shares_work=True)
    assert (module.double(3.0), module.square(3.0)) == (6.0, 9.0)


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
