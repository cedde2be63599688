# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from paddlex_ml.artifacts.reproduction import (
    BestScore,
    ChangedCondition,
    ComparedWeights,
    Reproduction,
)
from paddlex_ml.engines.reproduce import numbers, verdict
from tests.results import ROW

BEST = BestScore(map=0.5, epoch=2, weights="ema", interval=(0.4, 0.6))
ROWS = [ROW, replace(ROW, epoch=2)]
SAME = ComparedWeights(name="best_model/best_model.pdparams", entries=9, differing=0, largest=0.0)
OTHER = replace(SAME, differing=2, largest=0.25)
NUMPY = ChangedCondition(name="numpy", before="1", now="2", decides=True, meaning="m")
GIT = ChangedCondition(name="git", before="a", now="b", decides=False, meaning="m")


def conclude(**changed: Any) -> Reproduction:
    whole = Reproduction(
        outcome="begun", run="/runs/a", run_id="1", changed=[], unknown=[], before=BEST, now=BEST,
        epochs_before=2, epochs_now=2, epochs=numbers.compare_epochs(ROWS, ROWS), weights=[SAME],
    )  # fmt: skip
    return verdict.conclude(replace(whole, **changed))


def test_equal_numbers_and_weights_are_reproduced_whatever_the_conditions() -> None:
    for changed in ([], [NUMPY], [GIT]):
        found = conclude(changed=changed)
        assert found.outcome == "reproduced"
        assert found.verdict == (
            "reproduced: every number of 2 epochs and the weights are the same, bit for bit"
        )


def test_weights_that_were_not_compared_are_told() -> None:
    found = conclude(weights=[replace(SAME, problem="gone")])
    assert found.outcome == "reproduced"
    assert found.verdict.endswith("is the same; the weights were not compared")
    assert "not compared: gone" in "\n".join(verdict.describe(found, "b"))


def test_other_numbers_under_the_same_conditions() -> None:
    epochs = numbers.compare_epochs(ROWS, [ROW, replace(ROWS[1], loss=2.25)])
    found = conclude(epochs=epochs, now=replace(BEST, map=0.25), changed=[GIT])
    assert found.outcome == "different"
    assert found.verdict == (
        "not reproduced, bit for bit: other numbers from epoch 2 on, under the same conditions; "
        "best mAP 0.5000 then, 0.2500 now"
    )
    lines = verdict.describe(found, "b")
    assert "    epoch 2: loss 2.5 then, 2.25 now" in lines
    assert "  epochs:    2 then, 2 now; 1 with the same numbers" in lines
    assert lines[-1] == f"verdict: {found.verdict}"


def test_other_numbers_under_other_conditions_name_them_and_the_interval() -> None:
    found = conclude(changed=[NUMPY], unknown=["processor"], weights=[OTHER])
    assert found.outcome == "different_conditions"
    assert "in the weights alone, under other conditions (numpy, processor unknown)" in (
        found.verdict
    )
    assert found.verdict.endswith("within the interval of the first")
    lines = verdict.describe(found, "b")
    assert "  other:     numpy: 1 then, 2 now" in lines
    assert "  unknown:   processor: not recorded by the first run" in lines
    assert (
        "  weights:   best_model/best_model.pdparams: 2 of 9 arrays differ, by 0.25 at most"
        in lines
    )
    far = conclude(changed=[NUMPY], weights=[OTHER], now=replace(BEST, map=0.7))
    assert far.verdict.endswith("outside of the interval of the first")


def test_another_number_of_epochs_is_not_the_same() -> None:
    found = conclude(epochs_now=3)
    assert found.outcome == "different"
    assert "after another number of epochs" in found.verdict


def test_long_lists_of_epochs_are_cut_and_say_so() -> None:
    rows = [replace(ROW, epoch=number) for number in range(1, 31)]
    others = [replace(row, loss=0.0, raw_map=None) for row in rows]
    found = conclude(epochs=numbers.compare_epochs(rows, others), epochs_before=30, epochs_now=30)
    lines = verdict.describe(found, "b")
    assert "    ... and 20 more: reproduction.json has all of them" in lines
    assert "    epoch 1: loss 2.5 then, 0 now; raw_map 0.5 then, none now" in lines
