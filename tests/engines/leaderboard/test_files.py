# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.leaderboard import Latency, Leaderboard
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
    assert "Holm's correction for 3 pairs" in text
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
    assert "Holm's correction for 1 pair)" in lines[-1]
    assert lines[3].endswith("  learning_rate=0.001")
    assert lines[2].index("0.") == lines[3].index("0.") + 1  # a Chinese letter takes two columns


def test_a_name_steers_no_terminal(tmp_path):
    targets = draw_targets(30)
    write_run(tmp_path / "a\x1b[31m\nb", draw_scores(targets, 1, 0), targets)
    [line] = [each for each in files.render(rank(collect([tmp_path]))) if "[31m" in each]
    assert r"a\u001b[31m\nb" in line


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


def test_the_latency_has_a_column_where_a_run_was_benchmarked(board, tmp_path):
    heads = [line.split() for line in files.render(board) if line.startswith("rank")]
    assert not [head for head in heads if "latency" in head]
    fast = Latency(seconds=0.0123, export="onnx by onnxruntime", machine="cpu, A, 2 threads")
    runs = board.lists[0].runs

    def measured(*found: Latency) -> Leaderboard:
        changed = [replace(run, latency=each) for run, each in zip(runs, found, strict=False)]
        ranked = replace(board.lists[0], runs=[*changed, *runs[len(changed) :]])
        return replace(board, lists=[ranked, *board.lists[1:]])

    lines = files.render(measured(fast))
    head = next(number for number, line in enumerate(lines) if line.startswith("rank"))
    assert lines[head].endswith("  latency")
    assert lines[head + 1].endswith("  12.3 ms")
    assert "latency: median for one image by the recommended export, on cpu, A, 2 threads" in lines
    table, page = files.write(measured(fast), tmp_path / "out")
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["latency_seconds"] for row in rows[:2]] == ["0.0123", ""]
    assert rows[0]["latency_export"] == "onnx by onnxruntime"
    assert rows[0]["seed"] == runs[0].seed
    assert ">12.3</span>" in page.read_text("utf-8")
    both = measured(fast, replace(fast, machine="cpu, B, 2 threads"))
    text = "\n".join(files.render(both))
    assert "measured on 2 kinds of machines and is not comparable between them" in text
    files.write(both, tmp_path / "out")
    assert "cpu, A, 2 threads; cpu, B, 2 threads" in page.read_text("utf-8")
