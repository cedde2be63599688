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


def test_the_root_logger_of_the_program_stays_as_it_was(exported: Path):
    code = f"""
import logging, numpy as np
root = logging.getLogger()
before = root.level, [*root.handlers]
import paddlex_ml
print((root.level, root.handlers) == before)
model = paddlex_ml.create_model("PP-LCNet_x1_0_ML", {str(exported)!r}, device="cpu")
list(model.predict(np.zeros((9, 9, 3), np.uint8)))
print((root.level, root.handlers) == before)
logging.basicConfig(level=logging.ERROR, format="mine %(message)s")
root.error("told")
"""
    done = run_python(code)
    assert done.stdout == "True\nTrue\n", done.stderr
    assert done.stderr.splitlines()[-1] == "mine told"


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


def test_what_paddlex_takes_is_accepted(exported: Path, caplog):
    model = paddlex_ml.create_model(
        model_name="PP-LCNet_x1_0_ML",
        model_dir=str(exported),
        device=None,
        batch_size=2,
        use_hpip=False,
        pp_option=None,
        hpi_config=None,
    )
    assert caplog.messages == []
    assert model.batch_size == 2
    images = [np.zeros((9, 9, 3), np.uint8)] * 3
    assert len(list(model.predict(images, batch_size=None, threshold=None))) == 3


def test_what_has_no_meaning_here_is_told_in_one_line(exported: Path, caplog):
    paddlex_ml.create_model("PP-LCNet_x1_0_ML", exported, device="cpu", use_hpip=True)
    assert caplog.messages == [
        "use_hpip has no meaning here; device, run_mode and cpu_threads have one"
    ]
    with pytest.raises(paddlex_ml.PaddlexMLError, match="create_model has no option 'treshold'"):
        paddlex_ml.create_model("PP-LCNet_x1_0_ML", exported, treshold=1)


@pytest.mark.parametrize("device", ["CPU", " cpu", "cpu:0", None, "auto"])
def test_a_device_may_be_written_in_several_ways(exported: Path, device):
    assert paddlex_ml.create_model("PP-LCNet_x1_0_ML", exported, device=device).model.device


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:1"}, r"no device is called 'cuda:1'(.|\n)*device=\"gpu:1\""),
        ({"device": "tpu"}, r"no device is called 'tpu'(.|\n)*device=\"cpu\""),
        ({"device": 0}, "no device is called 0"),
        ({"device": "gpu:x"}, r"no device is called 'gpu:x'"),
        ({"cpu_threads": 0}, "cpu_threads must be a whole number from 1, it is 0"),
        ({"cpu_threads": -1}, "cpu_threads must be a whole number from 1, it is -1"),
        ({"cpu_threads": "2"}, "cpu_threads must be a whole number from 1, it is '2'"),
        ({"cpu_threads": True}, "cpu_threads must be a whole number from 1, it is True"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1, it is 0"),
    ],
)
def test_options_of_create_model_are_checked(exported: Path, options, message):
    with pytest.raises(paddlex_ml.PaddlexMLError, match=message):
        paddlex_ml.create_model("PP-LCNet_x1_0_ML", exported, **options)


def test_numbers_of_numpy_are_numbers(exported: Path):
    model = paddlex_ml.create_model(
        "PP-LCNet_x1_0_ML",
        exported,
        threshold=np.float32(0.5),
        cpu_threads=np.int64(1),
        batch_size=np.int32(2),
    )
    images = [np.zeros((9, 9, 3), np.uint8)] * 3
    for threshold in (np.float32(0), np.float64(0), np.array(0.0), np.int64(0), np.zeros(2)):
        results = model.predict(
            images, np.int64(4), threshold, max_labels=np.int64(1), min_labels=np.uint8(0)
        )
        assert [len(result.class_ids) for result in results] == [1, 1, 1]


def test_a_misspelt_option_of_predict_is_told(exported: Path):
    model = paddlex_ml.create_model("PP-LCNet_x1_0_ML", exported, device="cpu")
    with pytest.raises(paddlex_ml.PaddlexMLError, match=r"'max_label'(.|\n)*write max_labels="):
        model.predict(np.zeros((9, 9, 3), np.uint8), max_label=1)


def test_a_name_that_is_not_published_is_refused_without_a_request():
    with pytest.raises(
        paddlex_ml.PaddlexMLError, match=r"no model is published.*\n.*\n.*write PP-H"
    ):
        paddlex_ml.create_model("PP-HGNetV2-B1_ML")
