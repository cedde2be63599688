# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import graph_shapes
from paddlex_ml.inference.graph_shapes import GraphShapes

WHERE = Path("model") / "inference.json"


def check(inputs: list, outputs: list) -> None:
    graph_shapes.check(GraphShapes(inputs, outputs), size=(96, 64), classes=3, where=WHERE)


@pytest.mark.parametrize("sides", [[3, 64, 96], [-1, -1, -1], ["c", None, "w"], [3, -1, 96]])
def test_sides_that_fit_or_are_open_are_taken(sides: list) -> None:
    check([["batch", *sides]], [["batch", 3]])
    check([[1, *sides]], [[-1, "classes"]])


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ([[-1, 3, 96, 64]], "images of 3 x 96 x 64 .* makes 3 x 64 x 96"),
        ([[-1, 1, -1, -1]], "images of 1 x any x any"),
        ([[-1, 3]], "images of 3 "),
        ([[-1, 3, 64, 96], [-1, 2]], "takes 2 inputs"),
    ],
)
def test_another_input_is_refused(inputs: list, told: str) -> None:
    with pytest.raises(PaddlexMLError, match=told):
        check(inputs, [[-1, 3]])


def test_another_number_of_outputs_is_refused() -> None:
    with pytest.raises(PaddlexMLError, match="3 class names are listed, the network gives 4"):
        check([[-1, 3, 64, 96]], [[-1, 4]])


def test_further_outputs_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check([[-1, 3, 64, 96]], [[-1, 3], [-1, 7]])
    assert "gives 2 outputs: the first is used" in caplog.text
