# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.leaderboard import (
    Leaderboard,
    OtherRun,
    RankedConfiguration,
    RankedConfigurations,
    RankedList,
    RankedRun,
    Standing,
    Verdict,
)
from paddlex_ml.report import leaderboard_page
from tests.report.payloads import PAYLOADS

BEST = Standing(rank=1, verdict="best", difference=0.0)


def make_run(number: int, name: str, classes: int = 3) -> RankedRun:
    values = np.random.default_rng(number).random(classes).tolist()
    verdicts: tuple[Verdict, ...] = ("equal", "worse", "unknown")
    standing = Standing(
        rank=number + 1, verdict=verdicts[number % 3], difference=-0.01 * number, p_value=0.5
    )
    return RankedRun(
        name=name,
        path=f"/runs/{name}",
        options={"Train.learning_rate": f"0.00{number}"},
        seed="1",
        fold="",
        map=0.9 - 0.01 * number,
        interval=(0.5, 0.95) if number else None,
        weights="raw",
        epoch=3,
        epochs=4,
        seconds=61.5,
        memory_mib=2048.0,
        model_bytes=3 << 20 if number else None,
        history=[(1, 0.25), (2, 0.5), (4, 0.9 - 0.01 * number)],
        per_class=[] if number == 2 else values,
        standing=BEST if number == 0 else standing,
        evaluate="python -m paddlex_ml -c x" if number == 2 else "",
    )


def make_board(names: list[str], label_names: list[str]) -> Leaderboard:
    runs = [make_run(number, name, len(label_names)) for number, name in enumerate(names)]
    ranked = RankedList(
        digest="0123456789abcdef", images=400, label_names=label_names, runs=runs, rounds=1000
    )
    configuration = RankedConfiguration(
        options={"Train.learning_rate": "0.001"}, runs=names, seeds=2, folds=1, mean=0.8,
        deviation=None, standing=BEST,
    )  # fmt: skip
    return Leaderboard(
        lists=[ranked],
        configurations=[RankedConfigurations(digests=["0"], configurations=[configuration])],
        others=[OtherRun(name="killed", path="/runs/killed", problem="failed: full")],
        options=["Train.learning_rate"],
    )


def write(folder: Path, board: Leaderboard) -> str:
    leaderboard_page.write(folder / "leaderboard.html", board)
    return (folder / "leaderboard.html").read_text("utf-8")


def test_every_figure_and_mark_is_on_the_page(tmp_path):
    names = [f"run {number}" for number in range(8)]
    text = write(tmp_path, make_board(names, ["cat", "dog", "cow"]))
    rows = re.findall(r'<tr><th scope="row" title="/runs/.*?</tr>', text)
    assert len(rows) == 9  # and the one without a place
    assert 'data-value="0.9">0.9000' in rows[0]
    assert ">best</span>" in rows[0]
    assert 'class="holds">−0.0100 *' not in rows[0]
    assert 'class="holds">−0.0100 *' in rows[1]
    assert "−0.0200 ?" in rows[2]
    assert "−0.0300</span>" in rows[3]
    assert "Holm's correction for 28 pairs" in text
    assert "the paired bootstrap, 1,000 rounds" in text
    assert text.count('<path class="line') == 8
    assert text.count('<path class="line c') == leaderboard_page.COLOURS
    assert text.index("<title>run 7</title>") < text.index("<title>run 0</title>")  # on top
    assert "1 run left out." in text
    assert "<code>python -m paddlex_ml -c x</code>" in text
    assert "failed: full" in text
    assert "Not one ranking" not in text


def test_lists_are_told_apart(tmp_path):
    board = make_board(["a", "b"], ["cat"])
    both = replace(board, lists=[*board.lists, replace(board.lists[0], digest="f" * 64, rounds=0)])
    text = write(tmp_path, both)
    assert "Not one ranking" in text
    assert "Runs on val list 01234567" in text
    assert "Runs on val list ffffffff" in text
    assert "the paired influence of each image" in text


def test_no_text_of_a_user_is_html(tmp_path):
    board = make_board(PAYLOADS, PAYLOADS)
    problem = OtherRun(name=PAYLOADS[0], path=PAYLOADS[1], problem=PAYLOADS[2])
    text = write(tmp_path, replace(board, others=[problem], options=["Train.learning_rate"]))
    for payload in PAYLOADS:
        if "<" in payload:
            assert payload not in text
    assert text.count("<script>") == 1


def test_classes_that_differ_most_are_shown_and_the_others_counted():
    runs = [make_run(number, str(number), 3) for number in (0, 1)]
    runs[0] = replace(runs[0], per_class=[0.5, 0.9, None])
    runs[1] = replace(runs[1], per_class=[0.5, 0.1, 0.25])
    ranked = RankedList(digest="0", images=1, label_names=["a", "b", "c"], runs=runs, rounds=0)
    table = leaderboard_page.fill_classes(ranked)
    assert table is not None
    assert table.names == ["a", "b", "c"]
    assert [cells for _, cells in table.rows] == [
        [("0.50", "0.00"), ("0.90", "1.00"), ("", "0")],
        [("0.50", "0.00"), ("0.10", "0.00"), ("0.25", "0.00")],
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaderboard_page, "_MOST_COLUMNS", 1)
        few = leaderboard_page.fill_classes(ranked)
    assert few is not None
    assert (few.names, few.more_classes) == (["b"], 2)
    bare = [replace(run, per_class=[]) for run in runs]
    assert leaderboard_page.fill_classes(replace(ranked, runs=bare)) is None


def test_curves_lie_within_their_axes():
    runs = [make_run(number, str(number)) for number in range(3)]
    chart = leaderboard_page.draw_curves(runs)
    assert chart is not None
    assert [tick.text for tick in chart.up] == [f"{n / 10:.1f}" for n in range(2, 10)]
    assert [tick.text for tick in chart.across] == ["1", "2", "3", "4"]
    numbers = [float(each) for line, _, _ in chart.lines for each in re.findall(r"[\d.]+", line)]
    assert min(numbers) >= 10
    assert max(numbers) <= 690
    assert leaderboard_page.draw_curves([replace(runs[0], history=[(1, 0.5)])]) is None
