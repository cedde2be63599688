# SPDX-License-Identifier: Apache-2.0
"""Which layers may compute in 8 bits, so that the scores of the model stay within a budget.

First all layers compute in 8 bits. Where that changes too much, those that matter most to the
scores leave: small ones stay in float32 as a whole, large ones keep only their weights in 8 bits,
for the size of the file. If that is not enough, large ones stay in float32, too. Each time as few
as possible leave, found by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from paddlex_ml.export.int8 import Layer, Level, Plan

Measured = TypeVar("Measured")

SMALL = 0.005
"""Share of all weights up to which a layer is small."""


@dataclass(frozen=True)
class Trial(Generic[Measured]):
    """A plan that was tried."""

    plan: dict[str, Level]
    measured: Measured

    def count(self, level: Level) -> int:
        """How many layers are at this level."""
        return sum(each == level for each in self.plan.values())


def order_by_effect(layers: Sequence[Layer], effects: Mapping[str, float]) -> list[str]:
    """Names of the layers, those first that move the scores most.

    effects: how far the scores move where this layer alone is in 8 bits, at least 0.
    """
    return [each.name for each in sorted(layers, key=lambda each: -effects[each.name])]


def search(
    layers: Sequence[Layer],
    effects: Mapping[str, float],
    effects_of_weights: Callable[[], Mapping[str, float]],
    measure: Callable[[Plan], Measured],
    holds: Callable[[Measured], bool],
) -> tuple[Trial[Measured] | None, list[Trial[Measured]]]:
    """The plan with the most layers in 8 bits that keeps to the budget, and all that were tried.

    None: no plan with a layer in 8 bits does. effects_of_weights: as `effects`, where only weights
    are in 8 bits; asked for only where it is needed.
    """
    total = sum(each.weights for each in layers)
    small = {each.name for each in layers if each.weights <= SMALL * total}
    if len(small) == len(layers):
        small = set()  # else no layer would have anything in 8 bits
    order = order_by_effect(layers, effects)
    tried: list[Trial[Measured]] = []

    def attempt(leaving: Sequence[str], others: Level, level: Level) -> bool:
        plan: dict[str, Level] = dict.fromkeys(order, others)
        plan |= {name: level for name in leaving}
        plan |= {name: "float" for name in small if plan[name] == "weights"}
        tried.append(Trial(plan, measure(plan)))
        return holds(tried[-1].measured)

    def halve(names: Sequence[str], others: Level, level: Level) -> Trial[Measured] | None:
        """The first names of the order leave: `names` are enough, none is not."""
        few, many, found = 0, len(names), tried[-1]
        while many - few > 1:
            middle = (few + many) // 2
            if attempt(names[:middle], others, level):
                many, found = middle, tried[-1]
            else:
                few = middle
        return found

    if attempt([], "int8", "int8"):
        return tried[-1], tried
    if attempt(order, "int8", "weights"):
        return halve(order, "int8", "weights"), tried
    large = [each for each in layers if each.name not in small]
    names = order_by_effect(large, effects_of_weights())[:-1]  # one at least stays
    if names and attempt(names, "weights", "float"):
        return halve(names, "weights", "float"), tried
    return None, tried
