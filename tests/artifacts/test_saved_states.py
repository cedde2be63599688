# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from paddlex_ml.artifacts import saved_states
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import Best
from paddlex_ml.errors import PaddlexMLError

STATES = {"progress": {"ema_updates": 1}, "settings": {}, "use_ema": False}


def test_a_new_training_is_valid() -> None:
    progress = {**msgspec.to_builtins(Progress()), "ema_updates": 0}
    saved_states.validate_states({**STATES, "progress": progress}, Path("latest.pdstates"))


@pytest.mark.parametrize("epochs", [["x/../../victim"], [0], [3], [1, 1], [1.5], "12", None])
def test_a_kept_epoch_is_one_of_the_finished_ones(epochs: Any) -> None:
    progress = {"epoch": 2, "saved_epochs": epochs}
    with pytest.raises(PaddlexMLError, match="saved_epochs") as caught:
        saved_states.validate_states({**STATES, "progress": progress}, Path("a.pdstates"))
    assert caught.value.where == "a.pdstates"


def test_a_perfect_score_that_rounding_lifted_above_one_is_valid() -> None:
    above = 1.0000000000000002
    best = Best(score=above, weights="raw", epoch=1, interval=(1.0, above))
    progress = {**msgspec.to_builtins(Progress(epoch=1, best=best)), "ema_updates": 1}
    saved_states.validate_states({**STATES, "progress": progress}, Path("latest.pdstates"))


@pytest.mark.parametrize(
    ("value", "is_valid"), [(1.0, True), (1e300, False), (float("nan"), False)]
)
def test_raw_weights_are_finite_as_the_model_holds_them(value: float, is_valid: bool) -> None:
    states = {**STATES, "use_ema": True, "raw_weights": {"w": np.array([value], np.float64)}}
    with nullcontext() if is_valid else pytest.raises(PaddlexMLError, match="raw_weights"):
        saved_states.validate_states(states, Path("best_model.pdstates"))
