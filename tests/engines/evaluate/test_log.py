# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from typing import Any

import pytest

from paddlex_ml.engines.evaluate import log


def told(method: str, before: float | None, held_out: float | None) -> dict[str, Any]:
    unknown = {"CP": None, "CR": None}
    return {
        "method": method, "target": 0.9, "saved": [], "unreached": [],
        "before": {"macro_f1": before, **unknown}, "tuned": {"macro_f1": 0.9, **unknown},
        "held_out": {"macro_f1": held_out, **unknown},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "before", "held_out", "is_proposed"),
    [
        ("f1", 0.7, 0.8, True),
        ("f1", 0.7, 0.702, False),
        ("f1", 0.7, 0.6, False),
        ("f1", 1.0, None, False),
        ("precision", 0.7, 0.6, True),
    ],
)
def test_saving_is_proposed_where_it_helps_new_images(
    caplog: pytest.LogCaptureFixture,
    method: str,
    before: float | None,
    held_out: float | None,
    is_proposed: bool,
) -> None:
    caplog.set_level(logging.INFO)
    log.tell_thresholds(told(method, before, held_out))
    assert ("Evaluate.save_threshold=true" in caplog.text) is is_proposed
    assert "with the thresholds in use" in caplog.text
