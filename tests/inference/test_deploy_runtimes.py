# SPDX-License-Identifier: Apache-2.0
"""docs/deploy.md: an ONNX file in OpenVINO, OpenCV and C++ gives the scores of this project."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.artifacts import onnx_metadata
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo

pytestmark = pytest.mark.story

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ROOT / "docs" / "deploy"
LABELS = ["cat", "dog", "猫", "7", "red square"]
BROKEN = ["truncated.jpg", "empty.jpg", "garbage.jpg"]


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def openvino_script() -> Any:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    return load("openvino_predict")


@pytest.fixture(scope="module")
def opencv_script() -> Any:
    return load("opencv_predict")


@pytest.fixture
def ours(both: tuple[Path, Path], pictures: list[str]) -> np.ndarray:
    """Scores of the pictures as mode predict gives them, rounded to 5 decimals: [N, C]."""
    results = list(Predictor(StaticModel(both[0], "cpu"), 0.0).predict(pictures))
    scores = [dict(zip(r.class_ids, r.scores, strict=True)) for r in results]
    found = np.array([[row[i] for i in range(len(LABELS))] for row in scores])
    assert np.ptp(found, axis=0).max() > 0.1
    return found


def run(*command: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",  # a reader may show bytes of a damaged file
        check=False,
        env=os.environ | more,
    )


def test_openvino_gives_our_scores(
    both: tuple[Path, Path], openvino_script: Any, pictures: list[str], ours: np.ndarray
) -> None:
    model = openvino_script.Model(both[1] / "inference.onnx", threads=1)
    assert np.abs(model.scores(pictures) - ours).max() < 2e-5


def test_openvino_runs_a_fixed_batch(
    refdata: ModuleType, openvino_script: Any, pictures: list[str], tmp_path: Path
) -> None:
    model = zoo.build("PP-LCNet_x1_0_ML", len(LABELS))
    refdata.fill_layer(model, "PP-LCNet_x1_0_ML")
    save_onnx(model, ModelInfo("PP-LCNet_x1_0_ML", LABELS, 96, None), tmp_path / "four", 17, 4)
    graph = tmp_path / "four" / "inference.onnx"
    assert len(pictures) % 4
    expected = load("onnx_predict").Model(graph, threads=1).scores(pictures)
    assert np.ptp(expected, axis=0).max() > 0.1
    assert np.abs(openvino_script.Model(graph).scores(pictures) - expected).max() < 1e-5


def test_opencv_gives_our_scores(
    both: tuple[Path, Path], opencv_script: Any, pictures: list[str], ours: np.ndarray
) -> None:
    model = opencv_script.Model(str(both[1] / "inference.onnx"))
    refused = set()
    for picture, expected in zip(pictures, ours, strict=True):
        try:
            scores = model.scores(picture)
        except OSError:
            refused.add(Path(picture).name)
            continue
        # docs/deploy.md: OpenCV has another formula for CMYK.
        allowed = 0.01 if picture.endswith("cmyk.jpg") else 2e-5
        assert np.abs(scores - expected).max() < allowed, picture
    assert refused <= {"whole.tif", "floats.tif", "floats_of_255.tif"}


def test_opencv_script_resizes_to_the_pixels_of_pillow(opencv_script: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows, columns, height, width = map(int, rng.integers(1, 200, 4))
        pixels = rng.integers(0, 256, (rows, columns, 3), np.uint8)
        expected = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        assert np.array_equal(opencv_script.resize(pixels, width, height), np.asarray(expected))


@pytest.mark.parametrize("name", ["openvino_predict", "opencv_predict"])
def test_a_script_prints_labels_and_names_what_it_cannot_read(
    both: tuple[Path, Path], name: str, pictures: list[str], shared: Path, tmp_path: Path
) -> None:
    if name == "openvino_predict":
        pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    folder = shared / "reference" / "transforms" / "images"
    broken = [str(folder / file) for file in BROKEN] + [str(tmp_path / "gone.jpg")]
    graph = both[1] / "inference.onnx"
    done = run(sys.executable, FILES / f"{name}.py", graph, pictures[0], *broken, pictures[1])
    mine = list(Predictor(StaticModel(both[0], "cpu")).predict(pictures[:2]))
    for line, result in zip(done.stdout.splitlines(), mine, strict=True):
        told = json.loads(line)
        assert told["photo"] == result.input_path
        assert list(told["labels"]) == result.label_names
        near = 0.01 if told["photo"].endswith("cmyk.jpg") else 2e-5
        assert list(told["labels"].values()) == pytest.approx(result.scores, abs=near)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in errors] == broken
    assert done.returncode == 2


def strip_metadata(graph: Path, target: Path) -> Path:
    path = Path(shutil.copy(graph, target / "a.onnx"))
    onnx_metadata.replace(path, {"mean": "[0, 0, 0]"})
    return path


@pytest.mark.parametrize("name", ["openvino_predict", "opencv_predict"])
def test_a_script_refuses_a_file_that_it_cannot_use(
    both: tuple[Path, Path], name: str, tmp_path: Path
) -> None:
    if name == "openvino_predict":
        pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    bare = strip_metadata(both[1] / "inference.onnx", tmp_path)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes((both[1] / "inference.onnx").read_bytes()[:-1000])
    for path, text in ((bare, "lacks image_size"), (damaged, ""), (tmp_path / "none.onnx", "")):
        done = run(sys.executable, FILES / f"{name}.py", path, "a.jpg")
        assert done.returncode == 1
        assert re.search(rf"^error: .*{text}", done.stderr, re.MULTILINE)
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs docs/deploy/cpp/onnx_predict.cpp, compiled with the headers and libraries found here."""
    compiler = shutil.which("g++")
    include = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    if compiler is None:
        pytest.skip("needs g++")
    if not (include / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("needs ONNX Runtime's C++ headers in $ONNXRUNTIME_INCLUDE: .ci/deploy_packages")
    spec = importlib.util.find_spec("onnxruntime")
    root = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    found = [*root.glob("capi/libonnxruntime.so.1.*")]
    if not found:
        pytest.skip("needs the library of the Python package onnxruntime for Linux")
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "libonnxruntime.so.1").symlink_to(found[0])
    program = folder / "onnx_predict"
    for header in ("jpeglib.h", "png.h"):
        text = f"#include <cstdio>\n#include <{header}>\n"
        asked = [compiler, "-x", "c++", "-fsyntax-only", "-"]
        if subprocess.run(
            asked, input=text, text=True, capture_output=True, check=False
        ).returncode:
            pytest.skip(f"needs {header}: apt-get install libjpeg-dev libpng-dev")
    done = run(
        *(compiler, "-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{include}"),
        *(FILES / "cpp" / "onnx_predict.cpp", "-o", program, folder / "libonnxruntime.so.1"),
        *("-ljpeg", "-lpng"),
    )
    assert done.returncode == 0, done.stderr
    return lambda *arguments: run(program, *arguments, LD_LIBRARY_PATH=str(folder))


def test_cpp_gives_our_scores(
    both: tuple[Path, Path],
    compiled: Callable[..., Any],
    pictures: list[str],
    ours: np.ndarray,
    tmp_path: Path,
) -> None:
    # Every score is printed where no class has a threshold; and names are JSON in the file.
    names = ['c"at\\ \t', "dog", "猫", "7", "red square"]
    graph = Path(shutil.copy(both[1] / "inference.onnx", tmp_path))
    told = json.dumps(names, ensure_ascii=False)
    texts = {"thresholds": "[0, 0.0, 0, 0e0, 0]", "label_names": told}
    onnx_metadata.replace(graph, onnx_metadata.read(graph) | texts)
    expected = dict(zip(pictures, ours, strict=True))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("jpg", "png"):
            path = tmp_path / f"{orientation}.{kind}"
            Image.open(next(p for p in pictures if p.endswith("coco.jpg"))).save(path, exif=exif)
            result = next(iter(Predictor(StaticModel(both[0], "cpu"), 0.0).predict([str(path)])))
            by_id = dict(zip(result.class_ids, result.scores, strict=True))
            expected[str(path)] = np.array([by_id[i] for i in range(len(LABELS))])
    done = compiled(graph, *expected)
    lines = {line.partition("\t")[0]: line for line in done.stdout.splitlines()}
    for path, line in lines.items():
        found = [float(line.partition(f"\t{name} ")[2].partition("\t")[0]) for name in names]
        assert found == pytest.approx(expected[path].tolist(), abs=2e-5)
    refused = expected.keys() - lines.keys()
    assert {line.split(": ")[1] for line in done.stderr.splitlines()} == refused
    kept = [path for path in expected if Path(path).suffix in (".jpg", ".png")]
    deep = {"cmyk.jpg", "gray16.png", "12_bits.png"}
    assert {Path(path).name for path in refused if path in kept} == deep
    assert len(lines) == len(kept) - len(deep) > 20
    assert done.returncode == 2


def test_cpp_prints_labels_above_the_thresholds_and_names_broken_files(
    both: tuple[Path, Path], compiled: Callable[..., Any], shared: Path, tmp_path: Path
) -> None:
    folder = shared / "reference" / "transforms" / "images"
    broken = [folder / name for name in BROKEN] + [tmp_path / "gone.jpg"]
    cut = tmp_path / "cut.png"
    cut.write_bytes((folder / "rgb.png").read_bytes()[:3000])
    done = compiled(both[1] / "inference.onnx", folder / "coco.jpg", *broken, cut)
    result = next(iter(Predictor(StaticModel(both[0], "cpu")).predict([str(folder / "coco.jpg")])))
    photo, *labels = done.stdout.removesuffix("\n").split("\t")
    assert photo == str(folder / "coco.jpg")
    assert [label.rpartition(" ")[0] for label in labels] == result.label_names
    unread = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert unread == [*map(str, broken), str(cut)]
    bare = strip_metadata(both[1] / "inference.onnx", tmp_path)
    for path, text in ((bare, "lacks image_size"), (cut, ""), (tmp_path / "none.onnx", "")):
        done = compiled(path, "a.jpg")
        assert done.returncode == 2
        assert re.match(rf"error: {re.escape(str(path))}: .*{text}", done.stderr)
