# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import paddlex_ml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export.static import save_static
from paddlex_ml.models import zoo

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api") / "inference"
    info = ModelInfo("PP-LCNet_x1_0_ML", ["cat", "dog"], 64)
    save_static(zoo.build("PP-LCNet_x1_0_ML", 2), info, folder)
    return folder


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_importing_the_package_does_not_import_paddle():
    done = run_python("import sys, paddlex_ml; print('paddle' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_the_environment_is_prepared_before_paddle_is_imported(exported: Path):
    code = f"""
import os, sys, paddlex_ml
from paddlex_ml import paddle_runtime
os.environ.pop("OMP_NUM_THREADS", None)
prepare = paddle_runtime.prepare
def watched():
    print("paddle" in sys.modules)
    return prepare()
paddle_runtime.prepare = watched
paddlex_ml.create_model("PP-LCNet_x1_0_ML", {str(exported)!r}, device="cpu")
print("paddle" in sys.modules, "OMP_NUM_THREADS" in os.environ)
"""
    done = run_python(code)
    assert done.stdout.splitlines() == ["False", "True True"], done.stderr


def test_a_folder_that_is_not_there_is_told_before_paddle_is_imported():
    code = """
import sys, paddlex_ml
try:
    paddlex_ml.create_model("PP-LCNet_x1_0_ML", "no such folder")
except paddlex_ml.PaddlexMLError as error:
    print("paddle" in sys.modules, error.what)
"""
    done = run_python(code)
    assert done.stdout == "False the folder of the static model does not exist\n", done.stderr


def test_the_version_is_a_release_number():
    assert re.fullmatch(r"\d+\.\d+\.\d+", paddlex_ml.__version__)


def test_the_example_of_the_document_runs(exported: Path, tmp_path: Path):
    model = paddlex_ml.create_model(model_name="PP-LCNet_x1_0_ML", model_dir=exported, device="cpu")
    image = np.zeros((30, 40, 3), np.uint8)
    output = model.predict(input=image, batch_size=1, threshold={"default": 0.0, 1: 0.0, "cat": 0})
    for res in output:
        res.print()
        res.save_to_img(f"{tmp_path}/output/")
        res.save_to_json(f"{tmp_path}/output/res.json")
    names = sorted(path.name for path in (tmp_path / "output").iterdir())
    assert names == ["array_0001.png", "res.json"]


def test_the_threshold_of_create_model_counts(exported: Path):
    model = paddlex_ml.create_model("PP-LCNet_x1_0_ML", exported, threshold=[1.0, 0.0])
    assert next(model.predict(np.zeros((9, 9, 3), np.uint8))).label_names == ["dog"]


def test_a_name_that_is_not_published_is_refused_without_a_request():
    with pytest.raises(
        paddlex_ml.PaddlexMLError, match=r"no model is published.*\n.*\n.*write PP-H"
    ):
        paddlex_ml.create_model("PP-HGNetV2-B1_ML")
