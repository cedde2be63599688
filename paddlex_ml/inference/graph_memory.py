# SPDX-License-Identifier: Apache-2.0
"""How much memory a graph would take, decided from the shapes of its results before it runs.

A file of a few bytes may ask for a tensor of terabytes: by a constant, by operators that repeat,
stretch or pad, by a product of a column with a row, by a concatenation of a tensor with itself
again and again. So the shape of every result is computed here as the engine will compute it, for
the two images that a model is tried with. What a graph states itself is not believed.

Operators are those that our exports and common other ones have. Others are refused: the sizes of
loops, of branches, and of everything that depends on the values of pixels are known too late. A
size may grow with the number of images, but only in proportion to it: else it could be small for
two images and not for eight.
"""

from __future__ import annotations

import graphlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.operator_shapes import RULES, Batch, Given, Tensor, UnknownSizeError

MOST_NUMBERS = 1 << 28
"""Of one result for one image, 1 GB as float32: the largest weight of our models has 2^26, their
largest result at 448 pixels less than 2^24."""
MOST_OF_PATCHES = 64
"""Numbers of a result for each pair of patches of 16 x 16 pixels, where that is more: attention
has 12, 3.2 * 10^9 at 2048 pixels."""
MOST_TOGETHER = 32
"""All results of a graph together, in results of the largest size: ours have less than 5."""
MOST_NODES = 100_000
"""Operators of a graph: the largest of ours has 900."""
_IMAGES = 2


class Node(NamedTuple):
    """One operator; names of tensors that are not given are ""."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """The operators of a graph in their order."""

    nodes: Sequence[Node]
    inputs: Mapping[str, Sequence[Any]]
    """Name -> shape; a side that is no positive int may vary."""
    outputs: Sequence[Sequence[Any]]
    """Shapes that the file states."""
    known: dict[str, Tensor] = field(default_factory=dict)
    """Weights and constants."""


def check(graph: Graph, size: tuple[int, int], where: Path) -> None:
    """Raise PaddlexMLError for a graph that asks for more than the budgets at this size.

    size: (width, height) of its images in pixels.
    """
    patches = math.prod(-(-side // 16) for side in size)
    most = _IMAGES * max(MOST_NUMBERS, MOST_OF_PATCHES * patches**2)
    found, total, lists = dict(graph.known), 0, dict[str, list[Tensor]]()
    sides = (Batch(_IMAGES), 3, size[1], size[0])
    for name, shape in graph.inputs.items():
        whole = [s if type(s) is int and s > 0 else o for s, o in zip(shape, sides, strict=False)]
        found[name] = Tensor(tuple(whole) if shape else sides)
    try:
        if len(graph.nodes) > MOST_NODES:
            raise _OverBudgetError(f"has {len(graph.nodes):,} operators", MOST_NODES)
        for tensor in graph.known.values():
            _count(tensor.shape, "a weight", most)
        for node in _in_order(graph, found):
            given: Given = []
            for name in node.inputs:
                given += lists.get(name, [found.get(name)])
            results = _apply(node, given)
            total += sum(_count(result.shape, node.kind, most) for result in results)
            if total > MOST_TOGETHER * most:
                raise _OverBudgetError(f"asks for {total:,} numbers in all", MOST_TOGETHER * most)
            if node.kind in ("combine", "unbind") and len(node.outputs) == 1:
                lists[node.outputs[0]] = results
            found.update(zip(node.outputs, results, strict=False))
    except (UnknownSizeError, _OverBudgetError) as error:
        raise PaddlexMLError(
            f"the graph {error}",
            where=str(where),
            fix="do not use this file; get the model from a source that you trust, or export it "
            "again: -o Global.mode=export",
        ) from error


def _in_order(graph: Graph, known: Mapping[str, Tensor]) -> Sequence[Node]:
    """The operators, each behind those whose results it takes; onnxruntime needs no order."""
    seen = {"", *known}
    for node in graph.nodes:
        if not seen.issuperset(node.inputs):
            break
        seen.update(node.outputs)
    else:
        return graph.nodes
    makers = {name: n for n, node in enumerate(graph.nodes) for name in node.outputs}
    needs = {
        n: {makers[name] for name in node.inputs if name in makers}
        for n, node in enumerate(graph.nodes)
    }
    try:
        return [graph.nodes[n] for n in graphlib.TopologicalSorter(needs).static_order()]
    except graphlib.CycleError as error:
        raise UnknownSizeError("has operators that wait for each other") from error


class _OverBudgetError(Exception):
    def __init__(self, asked: str, most: int) -> None:
        super().__init__(f"{asked}, at most {most:,} are allowed")


def _count(shape: Sequence[int], kind: str, most: int) -> int:
    count = math.prod(shape)
    if sum(isinstance(side, Batch) for side in shape) > 1:
        raise UnknownSizeError(f"has a result ({kind}) that grows faster than the number of images")
    if count > most or max(shape, default=0) > most:
        sides = " x ".join(map(str, shape))[:80]
        raise _OverBudgetError(f"asks for a tensor of {count:,} numbers ({kind}: {sides})", most)
    return count


def _apply(node: Node, given: Given) -> list[Tensor]:
    """The results of an operator. Raises UnknownSizeError."""
    rule = RULES.get(node.kind)
    if rule is None:
        raise UnknownSizeError(
            f"uses the operator {node.kind[:60]!r}, the size of whose result is not known before "
            "it runs"
        )
    try:
        results = rule(given, node.attributes)
    except UnknownSizeError as error:
        raise UnknownSizeError(f"has an operator {node.kind} that {error}") from None
    except Exception as error:  # an operator that no engine runs either
        raise UnknownSizeError(
            f"uses the operator {node.kind} with inputs that do not fit it ({error})"
        ) from error
    made = [r if isinstance(r, Tensor) else Tensor(tuple(r)) for r in results]
    if any(side < 0 for tensor in made for side in tensor.shape):
        raise UnknownSizeError(f"uses the operator {node.kind} with inputs that do not fit it")
    # Further results, such as means and masks, are no larger than the first.
    return made + [Tensor(made[0].shape)] * (len(node.outputs) - len(made))
