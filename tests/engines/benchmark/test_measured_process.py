# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from paddlex_ml.data.transforms import read_image
from paddlex_ml.engines.benchmark.measured_process import (
    BatchRequest,
    MeasuredProcess,
    Task,
)
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.static_model import StaticModel

pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def task(copy_of_run: Path, toy: Path, run: Callable[..., tuple[int, str]]) -> Task:
    assert run("export", None, copy_of_run, "Export.format=onnx")[0] == 0
    folder = copy_of_run / "best_model" / "inference_onnx"
    return Task(folder, "onnxruntime", "cpu", 1, toy / "images" / "val_0.png")


def test_a_process_answers_images_and_batches_as_the_model_does(task: Task, toy: Path):
    model = StaticModel(task.folder, "cpu", "onnxruntime")
    shown = [read_image(toy / "images" / f"val_{k}.png") for k in range(3)]
    pixels = np.stack([model.preprocess.resize(image) for image in shown])
    with MeasuredProcess(task) as process:
        pid = process._process.pid
        assert pid is not None
        assert process.loaded.run_mode == "onnxruntime"
        assert 0 < process.loaded.load_seconds < process.first_answer_seconds
        assert process.loaded.warnings == []
        answers = process.answer(pixels)
        passes = process.repeat(BatchRequest(pixels, 0.0))
        more = process.repeat(BatchRequest(pixels, 0.01))
    expected = model.run(model.preprocess.normalise(pixels))
    np.testing.assert_allclose(answers.scores, expected, atol=1e-6)
    assert len(answers.seconds) == 3
    assert min(answers.seconds) > 0
    assert passes.seconds == []
    assert sum(more.seconds) >= 0.01
    assert not psutil.pid_exists(pid)
    if process.loaded.peak_bytes is not None:  # not that of this process, which has Paddle
        assert 2e7 < process.loaded.peak_bytes < psutil.Process().memory_info().rss
        assert more.peak_bytes is not None
        assert more.peak_bytes >= process.loaded.peak_bytes


def test_what_it_cannot_load_is_raised_here(task: Task, tmp_path: Path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(PaddlexMLError, match="the folder of the static model lacks"):
        MeasuredProcess(task._replace(folder=empty))
    broken = shutil.copytree(task.folder, tmp_path / "broken")
    (broken / "inference.onnx").unlink()
    (broken / "inference.onnx").write_bytes(b"no graph")
    with pytest.raises(PaddlexMLError):
        MeasuredProcess(task._replace(folder=broken))


def test_what_fails_while_it_answers_is_raised_here(task: Task):
    with (
        MeasuredProcess(task) as process,
        pytest.raises(PaddlexMLError, match="it fails: ") as caught,
    ):
        process.answer(np.zeros((1, 7, 5, 3), np.uint8))
    assert caught.value.where == str(task.folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_a_process_that_is_killed_is_told(task: Task):
    with MeasuredProcess(task) as process:
        assert process._process.pid is not None
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(PaddlexMLError, match="was killed by the system"):
            process.answer(np.zeros((1, 32, 32, 3), np.uint8))
