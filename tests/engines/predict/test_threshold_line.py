# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from paddlex_ml.engines.predict import threshold_line
from paddlex_ml.errors import PaddlexMLError

MODEL = cast(
    Any,
    SimpleNamespace(
        folder=Path("out/inference"), label_names=["cat", "狗", "bird"], threshold=[0.4, 0.25, 0.4]
    ),
)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (None, "0.4, but 狗 0.25 (of out/inference)"),
        ({"default": 0.5, "cat": 0.1}, "0.5, but cat 0.1 (of Predict.threshold)"),
        (0.3, "0.3 for every class (of Predict.threshold)"),
    ],
)
def test_the_thresholds_in_use_are_said_with_their_place(
    caplog: pytest.LogCaptureFixture, wanted: Any, text: str
) -> None:
    caplog.set_level("INFO")
    threshold_line.tell(wanted, MODEL)
    assert caplog.messages == [f"thresholds in use: {text}"]


def test_impossible_thresholds_name_the_key() -> None:
    with pytest.raises(PaddlexMLError, match=r"where: Predict\.threshold"):
        threshold_line.tell({"default": 0.5, "cow": 0.1}, MODEL)
