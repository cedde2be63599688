# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from paddlex_ml.report import tradeoff_chart
from paddlex_ml.report.tradeoff_chart import BOTTOM, LEFT, RIGHT, TOP, draw
from tests.results import BENCHMARKED, benchmark_row


def boxes(chart: tradeoff_chart.TradeoffChart) -> list[tuple[float, float, float, float]]:
    return [
        (float(dot.text_x), float(dot.text_y) - 13, float(dot.text_x) + 7.1 * len(dot.name),
         float(dot.text_y) + 4)
        for dot in chart.dots
    ]  # fmt: skip


def test_fast_is_left_accurate_is_up_and_the_front_joins_its_points():
    chart = draw(BENCHMARKED)
    int8, onnx, _, plain = chart.dots
    assert float(int8.x) < float(onnx.x) < float(plain.x)
    assert float(int8.y) > float(onnx.y)
    assert [dot.kind for dot in chart.dots] == ["beyond", "recommended", "other", "other"]
    assert chart.front == f"M{int8.x} {int8.y}L{onnx.x} {onnx.y}"
    assert TOP < float(chart.floor) < BOTTOM
    assert "8.0 ms, mAP 0.6100, 2.00% of the decisions changed" in int8.title


@pytest.mark.parametrize("count", [1, 2, 12])
def test_names_stay_inside_and_apart_even_where_all_points_are_one(count):
    rows = [
        benchmark_row("paddle", f"mode_{k}", 10.0, 0.5, is_on_front=k == 0) for k in range(count)
    ]
    chart = draw(msgspec.structs.replace(BENCHMARKED, rows=rows, reference="paddle by mode_0"))
    found = boxes(chart)
    for k, (left, top, right, bottom) in enumerate(found):
        assert LEFT < left < right < RIGHT
        assert TOP < top < bottom < BOTTOM
        for other in found[:k]:
            is_apart = right <= other[0] or other[2] <= left
            assert is_apart or bottom <= other[1] or other[3] <= top
    assert chart.front == ""


@pytest.mark.parametrize("times", [(1.0, 1.1), (9.0, 40.0), (0.3, 900.0)])
def test_the_axes_have_round_numbers_within_the_picture(times):
    rows = [benchmark_row("paddle", f"mode_{ms}", ms, 0.6 + ms / 1e4) for ms in times]
    chart = draw(msgspec.structs.replace(BENCHMARKED, rows=rows, reference=rows[0].name))
    for ticks, low, high in ((chart.across, LEFT, RIGHT), (chart.up, TOP, BOTTOM)):
        assert 1 <= len(ticks) <= 12
        assert all(low <= float(tick.at) <= high for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)
