# SPDX-License-Identifier: Apache-2.0
"""Mode benchmark, by the command."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml import cli, program, run_modes
from paddlex_ml.engines.benchmark import turns
from paddlex_ml.engines.leaderboard import collect

pytest.importorskip("paddle2onnx")
pytest.importorskip("onnxruntime")

Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few starts, and no pauses."""
    monkeypatch.setattr(turns, "STARTS", 2)
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    monkeypatch.setattr(turns, "PASSES_SECONDS", 0.01)
    monkeypatch.setattr(turns, "MORE_ROUNDS", 0)


@pytest.fixture
def onnx_run(copy_of_run: Path, run: Run) -> Path:
    """A run of which only the ONNX export is left: its processes start fast."""
    assert run("export", None, copy_of_run, "Export.format=onnx")[0] == 0
    shutil.rmtree(copy_of_run / "best_model" / "inference")
    (copy_of_run / "best_model" / "best_model.pdparams").unlink()
    return copy_of_run


def read(output: Path) -> dict:
    return json.loads((output / "benchmark_result.json").read_text())


def test_a_trained_run_needs_no_option(
    toy: Path, copy_of_run: Path, run: Run, command, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(os.listdir(copy_of_run / "best_model"))
    capsys.readouterr()
    assert cli.main(command("benchmark", toy, copy_of_run)) == 0
    shown = capsys.readouterr()
    found = read(copy_of_run)
    assert found["done_flag"] is True
    assert (found["images"], found["val_images"], found["classes"]) == (12, 12, 3)
    trained = json.loads((copy_of_run / "train_result.json").read_text())
    assert found["run"] == trained["run"]
    assert found["epoch"] == trained["models"]["best"]["epoch"]
    [ranked] = collect.collect([copy_of_run])
    best = next(row for row in found["rows"] if row["is_recommended"])
    assert ranked.latency is not None
    assert ranked.latency.seconds == best["latency_p50"]
    names = {(row["format"], row["run_mode"]): row for row in found["rows"]}
    assert {("paddle", "paddle"), ("paddle", "mkldnn"), ("onnx", "onnxruntime")} <= names.keys()
    assert found["reference"] == "paddle by paddle"
    for row in found["rows"]:
        assert row["changed_decisions"] <= 1 / 36
        # A processor with bfloat16 runs two modes more, with eight binary digits.
        bound = 0.05 if row["run_mode"].endswith("_bf16") else 1e-3
        assert row["largest_movement"] < bound
        assert (row["folder"] is None) == (row["format"] == "onnx")
        assert [speed["batch_size"] for speed in row["speeds"]] == [1, 8, 32]
        assert 0 < row["latency_p50"] <= row["latency_p95"]
        assert 0 < row["load_seconds"] < row["first_answer_seconds"]
    assert sum(row["is_recommended"] for row in found["rows"]) == 1
    missing = {each["format"]: each for each in found["unmeasured"] if not each["run_mode"]}
    assert {"pdmodel", "onnx fp16", "onnx int8"} <= missing.keys()
    # Nothing is left of what was exported for it alone.
    assert sorted(os.listdir(copy_of_run / "best_model")) == before
    assert sorted(os.listdir(copy_of_run / "benchmark")) == ["benchmark.csv", "report.html"]
    with (copy_of_run / "benchmark" / "benchmark.csv").open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == len(found["rows"])
    lines = shown.out.splitlines()
    assert lines[0].startswith("export by run mode")
    assert any(line.startswith("not measured: onnx int8: not exported: ") for line in lines)
    assert f"report: {copy_of_run / 'benchmark' / 'report.html'}" in lines
    assert lines[-1].startswith("next: ")


def test_the_next_command_uses_the_winner(
    toy: Path,
    onnx_run: Path,
    run: Run,
    command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(run_modes.MODES_OF, "onnx", ("onnxruntime",))
    keys = ("Benchmark.images=10", "Benchmark.batch_sizes=2")
    assert cli.main(command("benchmark", toy, onnx_run, *keys)) == 0
    last = capsys.readouterr().out.splitlines()[-1].removeprefix("next: ")
    folder = onnx_run / "best_model" / "inference_onnx"
    assert "-o Global.mode=predict" in last
    assert f"-o Predict.model_dir={folder} " in last
    assert "-o Predict.kernel_option.run_mode=onnxruntime" in last
    (row,) = read(onnx_run)["rows"]
    assert [speed["batch_size"] for speed in row["speeds"]] == [1, 2]
    assert read(onnx_run)["images"] == 10
    words = shlex.split(last.removeprefix(program.command()))
    assert cli.main(words) == 0
    assert json.loads((onnx_run / "predict_result.json").read_text())["num_images"] == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no run", "no trained model there"),
        ("no data", "Global.dataset_dir is not set"),
        ("no val.txt", "val.txt"),
        ("empty val.txt", "val.txt"),
        ("other classes", "the classes of the data set are not those of the model"),
        ("broken image", "val_3.png"),
        ("broken export", "no export"),
    ],
)
def test_what_cannot_be_measured_is_one_error_and_leaves_nothing(
    toy: Path, onnx_run: Path, tmp_path: Path, run: Run, fault: str, message: str
) -> None:
    data: Path | None = shutil.copytree(toy, tmp_path / "set")
    assert data is not None
    graph = onnx_run / "best_model" / "inference_onnx" / "inference.onnx"
    match fault:
        case "no run":
            shutil.rmtree(onnx_run / "best_model")
        case "no val.txt":
            (data / "val.txt").unlink()
        case "empty val.txt":
            (data / "val.txt").write_text("")
        case "other classes":
            (data / "label.txt").write_text("0 red\n1 green\n2 yellow\n")
        case "broken image":
            (data / "images" / "val_3.png").write_bytes(b"no image")
        case "broken export":
            content = graph.read_bytes()
            graph.unlink()
            graph.write_bytes(content[: len(content) // 2])
    code, err = run("benchmark", None if fault == "no data" else data, onnx_run)
    assert code == 2, err
    assert "Traceback" not in err
    assert err.count("error: ") == 1
    assert message in err.partition("error: ")[2]
    assert "  fix:   " in err
    assert not (onnx_run / "benchmark").exists()
    if fault != "no data":
        assert read(onnx_run)["done_flag"] is False
