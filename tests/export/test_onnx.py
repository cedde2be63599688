# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import paddle
import pytest

from paddlex_ml import program
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import onnx, parity, static
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo
from tests.shallow import narrow_models, shallow_models

Once = Callable[[Path], AbstractContextManager[None]]
CLIP = "CLIP_vit_base_patch16_448_ML"
LIGHT = "PP-HGNetV2-B0_ML"
FILES = ["inference.onnx", "inference.yml"]


def need_packages() -> None:
    for name in ("onnx", "onnxruntime", "paddle2onnx"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'paddlex-ml[onnx]'")


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    return np.asarray(found)


def score(model: paddle.nn.Layer, images: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        found: np.ndarray = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(found, axis=0).max() > 0.005
    return found


@contextmanager
def printed_into(path: Path) -> Iterator[None]:
    """Put what this process and its children print, from Python and from C++, into a file."""
    with path.open("w") as file, redirect_stdout(file), redirect_stderr(file):
        kept = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in kept:
                os.dup2(file.fileno(), number)
            yield
        finally:
            for number, before in kept.items():
                os.dup2(before, number)
                os.close(before)


class Watched(NamedTuple):
    """An export, and what happened on the way."""

    folder: Path
    converted: Path
    """What paddle2onnx made."""
    printed: str
    calls: list[list[str]]
    """Commands of `subprocess.run`."""


@pytest.fixture(scope="module")
def watched(
    model: paddle.nn.Layer,
    info: ModelInfo,
    converted_once: Once,
    tmp_path_factory: pytest.TempPathFactory,
) -> Watched:
    need_packages()
    notes = tmp_path_factory.mktemp("notes")
    folder = tmp_path_factory.mktemp("onnx") / "inference_onnx"
    calls, start = [], subprocess.run

    def noted(words: list[str], **keys: Any) -> Any:
        calls.append(words)
        return start(words, **keys)

    with pytest.MonkeyPatch.context() as patch, converted_once(notes / "converted.onnx"):
        patch.setattr(subprocess, "run", noted)
        with printed_into(notes / "printed.txt"):
            difference = save_onnx(model, info, folder, 17)
    assert 0 <= difference < 1e-5
    printed = (notes / "printed.txt").read_text("utf-8")
    return Watched(folder, notes / "converted.onnx", printed, calls)


@pytest.fixture(scope="module")
def exported(watched: Watched) -> Path:
    return watched.folder


def test_the_folder_describes_itself_and_nothing_is_left_beside_it(exported: Path) -> None:
    assert sorted(os.listdir(exported)) == FILES
    assert {*os.listdir(exported.parent)} == {"inference_onnx", ".paddlex_ml.lock"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_scores_are_the_models_for_any_batch_size(
    exported: Path, images: np.ndarray, scores: np.ndarray, count: int
) -> None:
    found = answer(exported / "inference.onnx", images[:count])
    assert found.shape == (count, 3)
    assert np.abs(found - scores[:count]).max() < 1e-5


def test_names_axes_and_metadata_say_what_the_model_is(exported: Path) -> None:
    content = importlib.import_module("onnx").load(exported / "inference.onnx")

    def axes(value: Any) -> list[Any]:
        return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]

    assert [(v.name, axes(v)) for v in content.graph.input] == [("x", ["batch", 3, 64, 64])]
    assert [(v.name, axes(v)) for v in content.graph.output] == [("scores", ["batch", 3])]
    assert [(item.domain, item.version) for item in content.opset_import] == [("", 17)]
    assert {item.key: item.value for item in content.metadata_props} == {
        "model_name": "PP-LCNet_x1_0_ML",
        "label_names": '["red square", "green", "蓝"]',
        "image_size": "64",
        "scale": "0.00392156862745098",
        "mean": "[0.485, 0.456, 0.406]",
        "std": "[0.229, 0.224, 0.225]",
        "threshold": "0.5",
        "thresholds": "[0.5, 0.5, 0.5]",
    }


@pytest.mark.parametrize(
    "opset", [11, *(pytest.param(opset, marks=pytest.mark.heavy) for opset in (13, 21))]
)
def test_the_version_of_the_operators_is_the_one_asked_for(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path, opset: int
) -> None:
    need_packages()
    assert save_onnx(model, info, tmp_path / "onnx", opset) < 1e-5
    content = importlib.import_module("onnx").load(tmp_path / "onnx" / "inference.onnx")
    assert content.opset_import[0].version == opset


@pytest.mark.parametrize(
    ("name", "tokens", "size", "opset"),
    [
        *(
            pytest.param(name, None, 64, 17, marks=[] if name == LIGHT else [pytest.mark.heavy])
            for name in zoo.MODEL_SPECS
            if name not in ("PP-LCNet_x1_0_ML", CLIP)
        ),
    ],
)
def test_each_model_converts(
    build: Callable[[ModelInfo], paddle.nn.Layer],
    tmp_path: Path,
    name: str,
    tokens: str | None,
    size: int,
    opset: int,
) -> None:
    need_packages()
    info = ModelInfo(name, ["a", "b", "c"], size, tokens)
    with nullcontext() if name == LIGHT else narrow_models():  # which have all layers
        model = build(info)
    assert save_onnx(model, info, tmp_path / "onnx", opset) < 1e-5
    images = np.random.default_rng(1).standard_normal((3, 3, size, size), np.float32)
    found = answer(tmp_path / "onnx" / "inference.onnx", images)
    assert np.abs(found - score(model, images)).max() < 1e-5


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("tokens", "size", "opset"),
    [
        *(("all_patches", 448, 17), ("first_patch", 224, 17)),
        *(("all_patches", 96, 11), ("first_patch", 96, 21)),
    ],
)
def test_clip_converts_with_other_tokens_sizes_and_operators(
    build: Callable[[ModelInfo], paddle.nn.Layer],
    tmp_path: Path,
    tokens: str,
    size: int,
    opset: int,
) -> None:
    with shallow_models():  # its twelve blocks are alike
        test_each_model_converts(build, tmp_path, CLIP, tokens, size, opset)


def test_nothing_is_printed(watched: Watched) -> None:
    assert watched.printed == ""


def test_what_is_printed_would_be_seen(tmp_path: Path) -> None:
    with printed_into(tmp_path / "printed.txt"):
        print("a")
        os.write(1, b"b")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'c')"], check=True)
    assert sorted((tmp_path / "printed.txt").read_text()) == ["\n", "a", "b", "c"]


def test_no_package_is_installed_on_the_way(watched: Watched) -> None:
    ((_, _, program, *words),) = watched.calls
    assert program == "paddle2onnx.command"
    assert words[words.index("--optimize_tool") + 1] == "None"
    assert "POLYGRAPHY_AUTOINSTALL_DEPS" not in os.environ


@pytest.mark.parametrize("missing", [["onnxruntime"], ["paddle2onnx", "onnx", "onnxruntime"]])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    model: paddle.nn.Layer,
    info: ModelInfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: list[str],
) -> None:
    need_packages()
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(PaddlexMLError) as caught:
        save_onnx(model, info, tmp_path / "onnx", 17)
    assert caught.value.what == (
        f"an export to ONNX needs {', '.join(missing)}, not installed here"
    )
    assert caught.value.fix.startswith(program.pip_install("paddlex-ml[onnx]"))
    assert os.listdir(tmp_path) == []


def test_a_python_without_the_converter_is_told_which_one_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx, "_NO_WHEEL", sys.version_info[:2])
    monkeypatch.setitem(sys.modules, "paddle2onnx", None)
    with pytest.raises(PaddlexMLError, match="no package for this Python 3") as caught:
        onnx.require()
    install = f"onnx/bin/python -m pip install {program.own_package('cpu,onnx')}; "
    assert f"python3.12 -m venv onnx && {install}" in caught.value.fix
    assert "all else works here" in caught.value.fix


def test_the_extra_names_what_the_error_names() -> None:
    pytest.importorskip("paddle2onnx")  # else the error names a Python that has it
    text = (Path(__file__).parents[2] / "setup.cfg").read_text("utf-8")
    extra = re.search(r"^onnx =\n((?:    .+\n)+)", text, re.MULTILINE)
    assert extra is not None
    lines = [line for line in extra[1].splitlines() if " onnx>=" not in line]  # paddle2onnx has it
    assert len(lines) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(PaddlexMLError) as caught:
            onnx.require()
    assert all(f"'{line.partition(';')[0].strip()}'" in caught.value.fix for line in lines)


def test_what_the_converter_says_is_told_when_it_aborts(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path
) -> None:
    need_packages()
    with pytest.raises(PaddlexMLError) as caught:
        save_onnx(model, info, tmp_path / "onnx", 22)
    assert caught.value.what == (
        "paddle2onnx cannot convert the model: The Opset Version must be between 7 and 21. "
        "Due to opset version, the model exporting is aborted."
    )
    assert caught.value.where == "Export.format=onnx, Export.opset=22"
    assert os.listdir(tmp_path) == [".paddlex_ml.lock"]


class Unsupported(paddle.nn.Layer):
    """Uses an operator that ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.head = paddle.nn.Linear(3, 5)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return paddle.digamma(self.head(images.mean([2, 3])).abs() + 1)


def test_an_operator_that_onnx_lacks_is_refused(info: ModelInfo, tmp_path: Path) -> None:
    need_packages()
    with pytest.raises(PaddlexMLError, match="model: Due to the unsupported operators, the"):
        save_onnx(Unsupported(), info, tmp_path / "onnx", 17)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "it printed nothing"),
        (
            "\x1b[0;31m12:00 [ERROR]\tFailed to convert the model: bad.\x1b[0m\nNone\n",
            "Failed to convert the model: bad.",
        ),
        (
            "[Paddle2ONNX] Start parsing\n\x1b[0;31mTraceback\x1b[0m\nValueError: no\n\n",
            "ValueError: no",
        ),
    ],
)
def test_other_failures_tell_their_error_or_the_last_line(
    model: paddle.nn.Layer,
    info: ModelInfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    reason: str,
) -> None:
    need_packages()
    done = subprocess.CompletedProcess([], 1, output)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(static, "write_graph", lambda *_: None)  # the converter would read it
    with pytest.raises(PaddlexMLError, match=f"cannot convert the model: {reason}\n"):
        save_onnx(model, info, tmp_path / "onnx", 17)


def test_a_disk_that_fills_up_in_the_converter_is_told_as_such(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_packages()
    output = f"OSError: [Errno 28] {os.strerror(errno.ENOSPC)}: 'inference.onnx'\n"
    done = subprocess.CompletedProcess([], 1, output)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(static, "write_graph", lambda *_: None)  # the converter would read it
    with pytest.raises(OSError, match="No space left") as caught:
        save_onnx(model, info, tmp_path / "onnx", 17)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == [".paddlex_ml.lock"]


@pytest.mark.parametrize("size", [10**6, 10**20])
def test_a_batch_that_no_memory_holds_is_refused_at_once(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path, size: int
) -> None:
    need_packages()
    with pytest.raises(PaddlexMLError, match="the memory is not enough") as caught:
        save_onnx(model, info, tmp_path / "large", 17, size)
    assert caught.value.where == f"Export.batch_size={size}"
    assert caught.value.fix == "-o Export.batch_size=1"
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Failed to allocate memory for x")])
def test_memory_that_ends_during_the_comparison_is_told(
    model: paddle.nn.Layer,
    info: ModelInfo,
    watched: Watched,
    converted_once: Once,
    tmp_path: Path,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> float:
        raise error

    monkeypatch.setattr(parity, "measure", fail)
    raises = pytest.raises(PaddlexMLError, match="the memory is not enough")
    with converted_once(watched.converted), raises as caught:
        save_onnx(model, info, tmp_path / "large", 17, 2)
    assert caught.value.fix == "-o Export.batch_size=1"


def test_a_head_of_groups_gives_the_scores_of_the_model(
    grouped: tuple[paddle.nn.Layer, ModelInfo], images: np.ndarray, tmp_path: Path
) -> None:
    need_packages()
    model, info = grouped
    save_onnx(model, info, tmp_path / "inference", 17)
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(expected, axis=0).max() > 0.005
    for count in (1, 3):
        found = StaticModel(tmp_path / "inference", "cpu").run(images[:count])
        assert np.abs(found - expected[:count]).max() < 1e-5
