# SPDX-License-Identifier: Apache-2.0
"""The small files of a stranger's run folder, through the commands that go on from the folder: no
command waits, fills the memory or ends in a traceback."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml import cli

pytestmark = pytest.mark.usefixtures("alarm")

Run = Callable[..., tuple[int, str]]

SMALL_FILES = (
    *("run.json", "config.yaml", "label_dict.txt", "metrics.csv", "train.log", "train_result.json"),
    *("evaluate_result.json", "predict_result.json", "export_result.json", ".train.json"),
    *(".evaluate.json", ".train_result.json.old", "predict/predictions.json"),
    *("val_scores.npz", "evaluate/val_scores.npz", "reproduction.json"),
    *("predict/predictions.csv", "evaluate/per_class.csv", ".train.lock", ".evaluate.lock"),
    *("curves.png", "events", "best_model/.paddlex_ml.lock", ".paddlex_ml.lock"),
)


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 30)


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


KINDS: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "100 GB that were never written": make_sparse,
    "a folder": Path.mkdir,
    "deep JSON": raw(b"[" * 100_000),
    "other JSON": raw(b'{"id": 5, "pid": [], "done_flag": [true], "metrics": "x"}'),
    "a number of 5,000 digits": raw(b'{"pid": ' + b"9" * 5000 + b"}"),
    "numbers that are none": raw(b'{"best_map": NaN, "pid": 1e999}'),
    "an odd table": raw(b"epoch,raw_map,ema_map,picture\n1e999,nan," + b"x" * 300_000 + b'\n"'),
    "zeros": raw(bytes(1000)),
    "text that is none": raw(b"\xff\xfe\xff"),
}


def plant(folder: Path, kind: str) -> None:
    for name in SMALL_FILES:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            continue
        path.unlink(missing_ok=True)
        KINDS[kind](path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["train", "auto", "overwrite", "evaluate", "export", "predict"])
def test_odd_small_files_end_no_command_in_a_traceback(
    kind: str, mode: str, run: Run, toy: Path, copy_of_run: Path
) -> None:
    plant(copy_of_run, kind)
    words = {
        "auto": ("Train.resume_path=auto",),
        "overwrite": ("Global.overwrite=true", "Train.epochs_iters=1"),
        "predict": (f"Predict.input={toy / 'images' / 'val_0.png'}",),
        "evaluate": ("Evaluate.report=false",),
    }.get(mode, ())
    command = "train" if mode in ("auto", "overwrite") else mode
    code, err = run(command, toy, copy_of_run, *words)
    assert code in (0, 2), err
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", KINDS)
def test_odd_small_files_end_no_reproduction_in_a_traceback(
    kind: str, copy_of_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (copy_of_run / "config.yaml").read_bytes()
    plant(copy_of_run, kind)
    path = copy_of_run / "config.yaml"
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.write_bytes(config)
    assert cli.main(["--reproduce", str(copy_of_run), "--anyway"]) == 2
    said = capsys.readouterr().err
    assert "this run has not come to its end" in said
    assert "Traceback" not in said
