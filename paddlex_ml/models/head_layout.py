# SPDX-License-Identifier: Apache-2.0
"""Which query of an ML-Decoder head predicts which class (arXiv:2111.12933, group decoding).

Q queries have G outputs each, so that a head has Q * G outputs for C classes. In the paper, and in
all published weights, G is ceil(C / Q) and class c is output c: query c // G predicts it, and the
last outputs may have no class. A head that began with classes of another one may have them in
another order: then `slots` says which output is class c. The state_dict holds it as the entry
`class_slots`, so that no file of weights can be read with the classes mixed up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

MOST_AUTO = 100
"""Queries that `auto` gives at most, as in the paper: they decide the time of a step."""
SLOTS = "class_slots"
"""Entry of the head's state_dict, int [C]; only in a head of another layout than the paper's."""
QUERIES, READ_OUT, BIAS = "query_pos_embed.weight", "group_conv.weight", "group_conv.bias"
"""Entries of the head whose shapes follow from its layout: [Q, E], [Q * G, E, 1, 1], [Q * G]."""


@dataclass(frozen=True)
class HeadLayout:
    """The shape of a head, and the output of every class."""

    classes: int
    """C."""
    queries: int
    """Q."""
    group_size: int
    """G, the outputs of a query."""
    slots: tuple[int, ...] | None = None
    """Output of class c, 0..Q*G-1; None: c, and G is ceil(C / Q), as in the paper."""

    @property
    def class_queries(self) -> tuple[int, ...] | None:
        """Query of class c; None: c // G, as in the paper."""
        return self.slots and tuple(slot // self.group_size for slot in self.slots)

    def fits(self, classes: int) -> bool:
        """Whether a head of these shapes may have so many classes."""
        if self.slots is not None:
            return classes == len(self.slots)
        return classes >= self.queries and self.group_size == -(-classes // self.queries)


def count_queries(classes: int, wanted: int | Literal["auto"]) -> int:
    """The number that Train.num_queries means for a new head."""
    return min(classes, MOST_AUTO) if wanted == "auto" else wanted


def published(classes: int, queries: int) -> HeadLayout:
    """The layout of the paper, for 1..C queries."""
    return HeadLayout(classes, queries, -(-classes // queries))


def read(weights: Mapping[str, np.ndarray], head: str) -> HeadLayout | None:
    """The layout of the head in a weight file; `head` is the prefix of its entries.

    Its number of classes is the number of outputs where the file does not tell, although the last
    ones may have no class. None where the shapes or the order contradict each other.
    """
    entries = [weights.get(f"{head}{name}") for name in (QUERIES, READ_OUT, BIAS)]
    shapes = [entry.shape for entry in entries if entry is not None and entry.size]
    if len(shapes) < 3 or not shapes[0][0] or shapes[1][0] != shapes[2][0]:
        return None
    queries, outputs = shapes[0][0], shapes[2][0]
    if outputs % queries:
        return None
    found = weights.get(f"{head}{SLOTS}")
    if found is None:
        return HeadLayout(outputs, queries, outputs // queries)
    slots = tuple(int(slot) for slot in found.reshape(-1))
    is_order = (found == np.array(slots).reshape(found.shape)).all() and found.ndim == 1
    if not slots or not is_order or len({*slots}) < len(slots):
        return None
    if min(slots) < 0 or max(slots) >= outputs:
        return None
    return HeadLayout(len(slots), queries, outputs // queries, slots)
