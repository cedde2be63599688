# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paddlex_ml import terminal
from paddlex_ml.tools import runs
from tests.finished_runs import draw_scores, draw_targets, write_run


def call(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["runs", *arguments])
        return terminal.run_script(runs.main)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    targets = draw_targets(60)
    for name, distance in (("good", 2.5), ("bad", 0.5)):
        write_run(tmp_path / "runs" / name, draw_scores(targets, distance, 1), targets)
    return tmp_path / "runs"


def test_the_table_is_printed_and_written_into_the_first_folder(root, capsys):
    assert call(str(root), str(root / "bad")) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("60 images, 4 classes, 2 runs")
    assert said[-2:] == [f"table:  {root}/leaderboard.csv", f"report: {root}/leaderboard.html"]
    assert (root / "leaderboard.csv").is_file()
    assert (root / "leaderboard.html").is_file()


def test_another_folder_may_be_named(root, tmp_path, capsys):
    assert call(str(root), "--output", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "leaderboard.csv").is_file()
    assert not (root / "leaderboard.csv").exists()


def test_bad_input_is_one_clear_error(root, tmp_path, capsys):
    assert call(str(tmp_path / "none")) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert call() == 2
    assert "runs --help\n" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert call(str(root), "--output", str(tmp_path / "file")) == 2
    assert "choose another folder: --output FOLDER" in capsys.readouterr().err


def test_runs_that_take_long_to_read_and_to_compare_are_told(root, capsys, monkeypatch):
    monkeypatch.setattr("paddlex_ml.progress.PATIENCE", 0.0)
    assert call(str(root)) == 0
    err = capsys.readouterr().err
    assert "reading the runs ..." in err
    assert "comparing the runs ..." in err
