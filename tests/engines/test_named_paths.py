# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paddlex_ml import cli
from paddlex_ml.config import load, shipped
from paddlex_ml.data import journal, missing_lists
from paddlex_ml.engines import named_paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_paddle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with the names of a data set, where Paddle's import would be seen."""

    def prepare(meanwhile: object) -> str:
        raise AssertionError("Paddle would be imported")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paddlex_ml.paddle_runtime.prepare", prepare)
    Path("data").mkdir()
    for name in ("label.txt", "train.txt", "val.txt"):
        Path("data", name).touch()


def run(mode: str, *overrides: str) -> int:
    words = [f"Global.mode={mode}", "Global.dataset_dir=data", *overrides]
    return cli.main(["-c", "PP-LCNet_x1_0_ML", "-o", *words])


@pytest.mark.parametrize(
    ("mode", "overrides", "where", "what"),
    [
        ("train", "Train.pretrain_weight_path=a.pdparams", "", "no such weight file: a.pdparams"),
        ("plan", "Train.pretrain_weight_path=a.pdparams", "", "no such weight file: a.pdparams"),
        ("train", "Train.resume_path=output/latst", "", "no checkpoint there: output/latst"),
        ("train", "Train.pretrain_weight_path=null Train.teacher=a", "Train.teacher", "no such"),
        ("evaluate", "Evaluate.weight_path=a", "", "no such weight file: a"),
        ("evaluate", "Evaluate.weight_path=null", "", "no trained model there: "),
        ("evaluate", "Evaluate.weight_path=w Evaluate.compare_with=b", "", "nothing to compare"),
        ("export", "Export.weight_path=a", "", "no such weight file: a"),
        ("evaluate", f"Evaluate.weight_path={'a' * 300}", "", "no such weight file: a"),
        ("evaluate", f"Global.dataset_dir={'a' * 300}", "aaa", "does not exist"),
        ("benchmark", "Export.weight_path=null", "", "no trained model there: "),
        ("train", "Global.dataset_dir=dta", "dta", "the data set folder dta does not exist"),
        ("evaluate", "Global.dataset_dir=.", ".", "has no lists: they are in data"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_before_paddle_is_imported(
    mode: str, overrides: str, where: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("w.pdparams").touch()
    assert run(mode, *overrides.split()) == 2
    err = capsys.readouterr().err
    assert what in err
    assert (where or overrides.split()[-1].partition("=")[0]) in err


def test_the_training_nearby_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("demo", "my output", "best_model")
    folder.mkdir(parents=True)
    for path in (folder.parent / "config.yaml", folder.parent / "run.json"):
        path.touch()
    assert run("evaluate") == 2
    assert "holds a training" not in capsys.readouterr().err
    (folder / "best_model.pdparams").touch()
    assert run("evaluate") == 2
    assert "fix:   -o 'Global.output=demo/my output' holds a" in capsys.readouterr().err


def test_a_source_that_is_not_there_is_refused_before_paddle_is_imported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for source, what in (("a.csv", "a.csv does not exist"), ("a.zip", "a.zip is an archive")):
        Path("a.zip").touch()
        assert cli.main(["--data", source, "-o", "Global.mode=train"]) == 2
        assert what in capsys.readouterr().err


def test_a_sweep_refuses_weights_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["Global.mode=train", "Global.dataset_dir=data"]
    sweep = ["--sweep", "Train.pretrain_weight_path=a,null"]
    assert cli.main(["-c", "PP-LCNet_x1_0_ML", "-o", *words, *sweep]) == 2
    assert "no such weight file: a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "overrides", "made"),
    [
        ("train", "Train.pretrain_weight_path=starter", ""),
        ("train", "Train.pretrain_weight_path=https://a.example/a.pdparams", ""),
        ("train", "Train.pretrain_weight_path=a", "a.safetensors"),
        ("train", "Train.pretrain_weight_path=gone Train.resume_path=auto", "output/run.json"),
        ("train", "Train.resume_path=output/latest", "output/latest/latest.pdstates"),
        ("train", "Train.resume_path=output/latest", "output/.latest.old/latest.pdstates"),
        ("train", "Train.resume_path=output/latest", "output.old/latest/latest.pdstates"),
        ("evaluate", "Evaluate.weight_path=exported", "exported/inference.yml"),
        ("evaluate", "Evaluate.weight_path=w Evaluate.compare_with=raw", "w.pdparams"),
        ("evaluate", "", "output/.best_model.old/best_model.pdparams"),
        ("benchmark", "", "output/best_model/inference/inference.yml"),
    ],
)
def test_what_may_be_there_is_left_to_the_engine(mode: str, overrides: str, made: str) -> None:
    if made:
        Path(made).parent.mkdir(parents=True, exist_ok=True)
        Path(made).touch()
    words = [f"Global.mode={mode}", "Global.dataset_dir=data", *overrides.split()]
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    named_paths.check(load.load(path, words).config)


def test_lists_that_a_killed_conversion_has_set_aside_are_brought_back_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Path("data", "val.txt")
    path.unlink()
    monkeypatch.setattr(journal, "finish_interrupted", lambda root: path.touch())
    missing_lists.refuse(Path("data"), ["label.txt", "val.txt"])


def test_the_check_needs_neither_numpy_nor_paddle() -> None:
    code = "import sys, paddlex_ml.engines.named_paths; print({'numpy', 'paddle'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n"
