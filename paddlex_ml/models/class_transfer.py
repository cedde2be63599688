# SPDX-License-Identifier: Apache-2.0
"""What a head has learned about classes, brought into a head with another list of classes, by name.

A class keeps its score when it keeps its row of the read-out and reads the decoded vector of the
same query. Queries do not learn and do not see each other (the self-attention of ML-Decoder is the
identity), so a copy of a query gives the same vector, in any place. So classes of one query stay
together where they fit, or each part of them gets a copy of the query; new classes take free
outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models.head_layout import BIAS, QUERIES, READ_OUT, SLOTS, HeadLayout


@dataclass(frozen=True)
class ClassTransfer:
    """Where everything of the new head comes from."""

    layout: HeadLayout
    """Of the new head."""
    outputs: Mapping[int, int]
    """Output of the new head -> output of the old one; others are new or have no class."""
    queries: Mapping[int, int]
    """Query of the new head -> query of the old one; others are new."""
    kept: list[str]
    """Classes that both heads have, in the order of the new list."""
    new: list[str]
    dropped: list[str]


def plan(
    before: HeadLayout,
    names_before: Sequence[str],
    names: Sequence[str],
    queries: int,
    *,
    may_add: bool,
) -> ClassTransfer:
    """Plan a head of `queries` queries for the classes `names`; names compare exactly.

    may_add: whether it may have more queries, where the kept classes come from more of them. Groups
    are as small as possible. Raises PaddlexMLError where the kept classes need more queries.
    """
    old = {name: c for c, name in enumerate(names_before)}
    slots_before = before.slots or range(before.classes)
    sources = {c: slots_before[old[name]] for c, name in enumerate(names) if name in old}
    sharing: dict[int, list[int]] = {}  # query of the old head -> classes of the new one
    for c, slot in sources.items():
        sharing.setdefault(slot // before.group_size, []).append(c)
    if len(sharing) > queries:
        if not may_add:
            raise PaddlexMLError(
                f"the {len(sources)} classes that the weights know come from {len(sharing)} "
                f"queries: with {queries} they would not keep what was learned about them",
                where="Train.num_queries",
                fix="-o Train.num_queries=auto takes as many as they need, "
                "-o Train.pretrain_weight_path=null begins without them",
            )
        queries = len(sharing)
    group = -(-len(names) // queries)
    while sum(-(-len(members) // group) for members in sharing.values()) > queries:
        group += 1
    slots, of_query = _place(sharing, len(names), queries, group)
    is_published = slots == [*range(len(names))] and group == -(-len(names) // queries)
    known = set(names)
    return ClassTransfer(
        layout=HeadLayout(len(names), queries, group, None if is_published else tuple(slots)),
        outputs={slots[c]: slot for c, slot in sources.items()},
        queries=of_query,
        kept=[names[c] for c in sources],
        new=[name for name in names if name not in old],
        dropped=[name for name in names_before if name not in known],
    )


def _place(
    sharing: Mapping[int, list[int]], classes: int, queries: int, group: int
) -> tuple[list[int], dict[int, int]]:
    """Output of each class of the new head, and query of the new head -> of the old one."""
    if group == 1:  # every class has its query: no order has to be kept
        return list(range(classes)), {c: q for q, members in sharing.items() for c in members}
    slots = [-1] * classes
    of_query: dict[int, int] = {}
    for query, members in sharing.items():
        for first in range(0, len(members), group):
            own = len(of_query)
            of_query[own] = query
            for i, c in enumerate(members[first : first + group]):
                slots[c] = own * group + i
    # The queries with the fewest classes first, so that new classes spread over all of them.
    free = sorted({*range(queries * group)} - {*slots}, key=lambda slot: (slot % group, slot))
    for c, slot in zip((c for c, slot in enumerate(slots) if slot < 0), free, strict=False):
        slots[c] = slot
    return slots, of_query


def move(
    transfer: ClassTransfer,
    weights: Mapping[str, np.ndarray],
    fresh: Mapping[str, np.ndarray],
    head: str,
) -> dict[str, np.ndarray]:
    """The entries of a weight file with the head of the plan in place of theirs.

    fresh: the state_dict of a new model of the planned layout, whose random values new classes and
    queries take. head: prefix of the head's entries.
    """
    moved = {name: value for name, value in weights.items() if name != f"{head}{SLOTS}"}
    own = (QUERIES, transfer.queries), (READ_OUT, transfer.outputs), (BIAS, transfer.outputs)
    for name, rows in own:
        entry = f"{head}{name}"
        if not rows:  # nothing of the head is kept
            del moved[entry]
            continue
        value = fresh[entry].copy()
        value[[*rows.keys()]] = weights[entry][[*rows.values()]]
        moved[entry] = value
    if transfer.layout.slots is not None:
        moved[f"{head}{SLOTS}"] = np.array(transfer.layout.slots, np.float32)
    return moved
