# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import pytest

from paddlex_ml.artifacts.leaderboard import Leaderboard
from paddlex_ml.engines.leaderboard import files
from paddlex_ml.engines.leaderboard.collect import collect
from paddlex_ml.engines.leaderboard.rank import rank
from paddlex_ml.storage import files as storage
from tests.finished_runs import NAMES, draw_scores, draw_targets, write_run


@pytest.fixture
def board(tmp_path: Path) -> Leaderboard:
    for size in (200, 100):
        targets = draw_targets(size)
        for rate, seed in ((0.001, 1), (0.001, 2), (0.002, 1)):
            options = {"Train.learning_rate": rate, "Global.seed": seed}
            scores = draw_scores(targets, 2 - 800 * (rate - 0.001), seed)
            write_run(
                tmp_path / f"{size}_{rate}_{seed}", scores, targets, options,
                seconds=3725, keeps_scores=size == 200,
            )  # fmt: skip
    storage.write_json(tmp_path / "killed" / "run.json", {})
    return rank(collect([tmp_path]))


def test_the_lines_for_a_terminal(board):
    lines = files.render(board)
    text = "\n".join(lines)
    assert lines[0].startswith("the runs were scored on 2 different lists of images")
    assert ": 200 images, 4 classes, 3 runs" in text
    rows = {line.split()[1]: line for line in lines if line[:4].strip().isdigit()}
    best = rows["200_0.001_1"].split()
    assert best[0] in "12"
    assert "1:02:05" in best
    assert rows["200_0.002_1"].split()[4].startswith("-0.")
    assert " * " in rows["200_0.002_1"]
    assert " ? " in rows["100_0.002_1"]
    assert not rows["200_0.001_1"].endswith("learning_rate=0.001")  # its name tells it
    assert "Holm's correction for all 3 pairs" in text
    assert "no scores of val.txt are kept for 3 of the runs" in text
    assert "1 without a place in the table:" in lines
    assert lines[-1] == "  killed: it has not come to its end"
    heads = [line for line in lines if line.startswith("rank")]
    assert len(heads) == 4  # two lists, and their configurations


def test_options_are_shown_where_names_do_not_tell_them(tmp_path):
    targets = draw_targets(50)
    for name, rate in (("一", 0.001), ("b", 0.002)):
        scores = draw_scores(targets, 1, 0)
        write_run(tmp_path / name, scores, targets, {"Train.learning_rate": rate})
    lines = files.render(rank(collect([tmp_path])))
    assert lines[2].endswith("  learning_rate=0.002")
    assert lines[3].endswith("  learning_rate=0.001")
    assert lines[2].index("0.") == lines[3].index("0.") + 1  # a Chinese letter takes two columns


def test_long_tables_are_cut_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST", 2)
    targets = draw_targets(30)
    for seed in range(4):
        write_run(tmp_path / str(seed), draw_scores(targets, 1, seed), targets)
    lines = files.render(rank(collect([tmp_path])))
    assert "... and 2 more: leaderboard.csv has all of them" in lines


def test_the_csv_has_every_run_and_figure(board, tmp_path):
    table, page = files.write(board, tmp_path / "out")
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "1", "2", "3", ""]
    assert len({row["list"] for row in rows[:6]}) == 2
    run = board.lists[0].runs[0]
    assert float(rows[0]["mAP"]) == run.map
    assert rows[0]["run"] == run.name
    assert [rows[0][f"AP {name}"] for name in NAMES] == [repr(value) for value in run.per_class]
    assert rows[0]["Train.learning_rate"] == "0.001"
    assert rows[2]["verdict"] == "worse"
    assert rows[6]["verdict"] == "it has not come to its end"
    assert page.read_text("utf-8").startswith("<!doctype html>")
