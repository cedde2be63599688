# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from paddlex_ml.pictures import plots

LONG = "a very long label name that nobody would ever write down, really"


def counts(number: int) -> list[int]:
    return [max(0, 1000 - 30 * i) for i in range(number)]


def sized(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.width, picture.height


@pytest.mark.parametrize("number", [1, 5, 33, 80, 100])
def test_each_class_has_a_row_of_at_least_twenty_pixels(tmp_path: Path, number: int) -> None:
    names = [f"class {i} 猫" for i in range(number - 1)] + [LONG]
    plots.histogram(tmp_path / "h.png", names, counts(number), counts(number))
    width, height = sized(tmp_path / "h.png")
    columns = {1: 1, 5: 1, 33: 1, 80: 2, 100: 3}[number]
    assert height >= 20 * number / columns
    assert width >= 780 * columns


def test_bars_are_sorted_by_train_count_and_classes_without_images_come_last_in_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    plots.histogram(tmp_path / "h.png", ["a", "$b$", "c"], [5, 0, 9], [1, 2, 3])
    (axes,) = drawn[0].axes
    labels = axes.get_yticklabels()
    assert [label.get_text() for label in labels] == ["c", "a", r"\$b\$"]
    assert [label.get_color() for label in labels] == [plots._INK, plots._INK, plots._ALARM]
    assert [text.get_text() for text in axes.texts] == ["9", "3", "5", "1", "0", "2"]


@pytest.mark.parametrize("number", [101, 5000, 50_000])
def test_more_than_a_hundred_classes_are_a_curve_of_one_size_with_named_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    drawn: list[Figure] = []
    save = plots._save
    monkeypatch.setattr(plots, "_save", lambda *given: (drawn.append(given[0]), save(*given)))
    names = [f"class {i} 猫" for i in range(number)]
    plots.histogram(tmp_path / "h.png", names, counts(number), [1] * number)
    assert sized(tmp_path / "h.png") == (1560, 1200)
    head, tail, curve = drawn[0].axes
    assert [label.get_text() for label in head.get_yticklabels()] == names[:20]
    assert [label.get_text() for label in tail.get_yticklabels()] == names[-20:]
    assert [np.size(line.get_ydata()) for line in curve.lines] == [number, number]
    absent = f"{number - 34:,} without an image in train"
    assert curve.get_title("left") == f"Images of each class ({absent})"


def test_names_in_any_writing_are_drawn_and_those_without_a_font_are_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    monkeypatch.setattr(plots, "_SHAPES", True)
    names = ["قطة", "חתול", "dog 🦖", "\U0001e900\U0001e901", "猫 🐱"]
    plots.histogram(tmp_path / "h.png", names, [5, 4, 3, 2, 1], [1] * 5)
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["قطة", "חתול", "dog [t-rex]", "[class 3]", "猫 [cat face]"]
    assert "label.txt" in drawn[0].get_supxlabel()
    monkeypatch.setattr(plots, "_SHAPES", False)  # matplotlib before 3.11
    plots.histogram(tmp_path / "h.png", names, [5, 4, 3, 2, 1], [1] * 5)
    labels = [label.get_text() for label in drawn[1].axes[0].get_yticklabels()]
    assert labels[:2] == ["[class 0]", "[class 1]"]


def test_a_set_without_any_label_can_be_drawn(tmp_path: Path) -> None:
    plots.histogram(tmp_path / "h.png", ["a"], [0], [0])
    assert sized(tmp_path / "h.png")[0] > 700


def epoch(number: int, raw: float | None, ema: float | None) -> dict[str, float | int | None]:
    return {"epoch": number, "loss": 9.0 / number, "raw_map": raw, "ema_map": ema, "lr": 1e-3}


def test_curves_name_the_best_epoch_and_whose_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    history = [epoch(1, 0.5, 0.4), epoch(2, None, None), epoch(3, 0.7, 0.8), epoch(4, 0.6, 0.7)]
    plots.curves(tmp_path / "c.png", history)
    assert drawn[0].axes[0].get_title("right") == "best: 0.8000, EMA weights, epoch 3"


@pytest.mark.parametrize(
    "history", [[epoch(1, 0.5, None)], [epoch(1, None, None)], [epoch(i, 0.5, 0.5) for i in (1, 2)]]
)
def test_short_runs_can_be_drawn(tmp_path: Path, history: list[dict[str, float | None]]) -> None:
    plots.curves(tmp_path / "c.png", history)
    assert sized(tmp_path / "c.png") == (960, 840)


def test_the_backend_of_the_user_is_left_alone(tmp_path: Path) -> None:
    before = matplotlib.rcParams._get_backend_or_none()  # type: ignore[attr-defined]
    plots.histogram(tmp_path / "h.png", ["a"], [1], [1])
    assert matplotlib.rcParams._get_backend_or_none() == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(("epochs", "marker"), [(60, "o"), (61, "None")])
def test_points_are_marked_while_they_stand_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int, marker: str
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    plots.curves(tmp_path / "c.png", [epoch(i, 0.5, 0.6) for i in range(1, epochs + 1)])
    above, below = drawn[0].axes[:2]
    assert [line.get_marker() for line in (*above.lines, *below.lines)] == [marker] * 2 + [
        "*",
        marker,
    ]


def test_the_rate_of_a_single_epoch_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(plots, "_save", lambda figure, _path: drawn.append(figure))
    plots.curves(tmp_path / "c.png", [epoch(1, 0.5, 0.6)])
    assert [line.get_marker() for line in drawn[0].axes[2].lines] == ["_"]


def test_settings_of_the_working_folder_do_not_count(tmp_path: Path) -> None:
    settings = {"text.usetex": True, "font.size": 40.0, "axes.facecolor": "red"}
    plots.histogram(tmp_path / "plain.png", ["a_b", "c"], [1, 2], [3, 4])
    with matplotlib.rc_context(cast("Any", settings)):
        plots.histogram(tmp_path / "h.png", ["a_b", "c"], [1, 2], [3, 4])
        plots.curves(
            tmp_path / "c.png",
            [{"epoch": 1, "loss": 1.0, "lr": 0.1, "raw_map": 0.5, "ema_map": None}],
        )
        assert {name: cast("Any", matplotlib.rcParams)[name] for name in settings} == settings
    assert (tmp_path / "h.png").read_bytes() == (tmp_path / "plain.png").read_bytes()
