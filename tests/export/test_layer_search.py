# SPDX-License-Identifier: Apache-2.0
"""The cost of a plan is the sum of what its layers cost, so that the best plan is known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from paddlex_ml.export import layer_search
from paddlex_ml.export.int8 import Layer, Plan
from paddlex_ml.export.layer_search import Trial

LAYERS = [Layer(f"layer {n}", "Conv", (10, 10), 100) for n in range(10)]
EFFECTS = {layer.name: float(2**n) for n, layer in enumerate(LAYERS)}
ROUNDING = {name: effect / 64 for name, effect in EFFECTS.items()}


def search(
    budget: float, rounding: Mapping[str, float] = ROUNDING
) -> tuple[Trial[float] | None, list[Trial[float]]]:
    def measure(plan: Plan) -> float:
        costs = {"int8": EFFECTS, "weights": rounding, "float": dict.fromkeys(EFFECTS, 0.0)}
        return sum(costs[level][name] for name, level in plan.items())

    return layer_search.search(
        LAYERS, EFFECTS, lambda: rounding, measure, lambda cost: cost <= budget
    )


@pytest.mark.parametrize(
    ("budget", "int8", "weights"),
    [(1023, 10, 0), (1022, 9, 1), (520, 9, 1), (100, 6, 4), (17, 1, 9), (16.9, 0, 10)],
)
def test_as_few_layers_as_possible_leave(budget: float, int8: int, weights: int) -> None:
    chosen, tried = search(budget)
    assert chosen is not None
    assert chosen.measured <= budget
    assert (chosen.count("int8"), chosen.count("weights"), chosen.count("float")) == (
        *(int8, weights),
        0,
    )
    # Those with the largest effects left.
    assert [name for name, level in chosen.plan.items() if level == "weights"] == [
        layer.name for layer in reversed(LAYERS)
    ][:weights]
    assert chosen in tried
    assert len(tried) <= 2 + 4


def test_the_budget_that_one_layer_more_would_miss_is_found_exactly() -> None:
    for budget in range(16, 1024, 17):
        chosen, _ = search(budget)
        assert chosen is not None
        left = chosen.count("weights")
        one_less = sum(EFFECTS[layer.name] for layer in LAYERS[: 10 - left + 1]) + sum(
            ROUNDING[layer.name] for layer in LAYERS[10 - left + 1 :]
        )
        assert chosen.measured <= budget
        assert left == 0 or one_less > budget


def test_where_weights_alone_miss_the_budget_layers_stay_in_float32() -> None:
    chosen, tried = search(10)
    assert chosen is not None
    # 8 + 4 + 2 + 1 + ... of 1/64 of the effects: 15.98 with all, 7.98 without the largest.
    assert (chosen.count("weights"), chosen.count("float")) == (9, 1)
    assert chosen.plan["layer 9"] == "float"
    assert chosen in tried


def test_a_plan_without_any_layer_in_8_bits_is_no_answer() -> None:
    chosen, tried = search(0)
    assert chosen is None
    assert min(trial.measured for trial in tried) == ROUNDING["layer 0"]


def test_small_layers_stay_in_float32_as_a_whole() -> None:
    layers = [Layer("small", "Conv", (16, 3, 3, 3), 9), Layer("large", "MatMul", (900, 900), 9)]
    effects = {"small": 5.0, "large": 1.0}

    def measure(plan: Plan) -> float:
        return sum(effects[name] for name, level in plan.items() if level == "int8")

    chosen, _ = layer_search.search(
        layers, effects, lambda: effects, measure, lambda cost: cost <= 1
    )
    assert chosen is not None
    assert chosen.plan == {"small": "float", "large": "int8"}


def test_where_all_layers_are_small_some_keep_their_weights_in_8_bits() -> None:
    layers = [Layer(f"layer {n}", "Conv", (2, 2), 9) for n in range(300)]
    effects = {layer.name: 1.0 for layer in layers}

    def measure(plan: Plan) -> float:
        return sum(effects[name] for name, level in plan.items() if level == "int8")

    chosen, _ = layer_search.search(
        layers, effects, lambda: effects, measure, lambda cost: cost <= 0
    )
    assert chosen is not None
    assert chosen.count("weights") == 300
