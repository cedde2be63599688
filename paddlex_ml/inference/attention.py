# SPDX-License-Identifier: Apache-2.0
"""Where a model looks: the cross-attention of its ML-Decoder head, one map per class.

    attention [B, heads, Q, T] -> mean over the heads [B, Q, T] -> maps [h, w], h * w = T

B batch, Q queries, T tokens, C classes. Tokens are the cells of the feature map, row by row; the
attention of a query over them sums to 1. Each query serves G = ceil(C / Q) classes, query c // G
serves class c, or the one that inference.yml names, so that with Q < C several classes share a map.

The attention is the result of the last softmax of a graph: earlier ones belong to the backbone, and
later layers have none. It is no output of a static model, so a second network is loaded from the
same files for it; scores still come from the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

_STRIDES = (32, 16, *range(4, 65))  # pixels of a cell: convolutions, vision transformers, others
_ROUNDED = 0.02  # by which an attention may miss the sum of 1, in a graph of half precision

# Images float32 [B, 3, H, W] -> attention float32 [B, heads, Q, T]
Network: TypeAlias = Callable[[np.ndarray], np.ndarray]


ClassIds: TypeAlias = Sequence[int] | np.ndarray
Maps: TypeAlias = dict[int, np.ndarray]
"""Class id -> map float32 [h, w], which sums to 1."""


class Attention:
    """A network that gives the attention, and how to make maps from it."""

    def __init__(
        self, network: Network, query_of_class: Sequence[int], grid: tuple[int, int]
    ) -> None:
        """`grid` are the rows and columns of the feature map."""
        self._network = network
        self._query_of_class = query_of_class
        self._grid = grid
        self.classes_per_map = max(Counter(query_of_class).values())
        """At most; 1 where each class has a map of its own."""

    def __call__(self, images: np.ndarray, wanted: Sequence[ClassIds]) -> list[Maps]:
        """Images float32 [B, 3, H, W] and, for each, class ids -> the maps of these classes."""
        if not any(map(len, wanted)):
            return [{} for _ in wanted]
        mean = self._network(images).astype(np.float32).mean(axis=1)  # [B, Q, T]
        maps = mean.reshape(*mean.shape[:2], *self._grid)  # [B, Q, h, w]
        return [
            # Copies: a view of one map would keep those of all classes in memory.
            {int(c): maps[i, self._query_of_class[int(c)]].copy() for c in class_ids}
            for i, class_ids in enumerate(wanted)
        ]


def open_network(
    load: Callable[[np.ndarray], tuple[Network, np.ndarray] | None],
    probe: np.ndarray,
    *,
    classes: int,
    where: str,
    class_queries: Sequence[int] | None = None,
) -> Attention:
    """Load the network and check its result for `probe`, images float32 [B, 3, H, W].

    class_queries: the query of each class; None: in order, ceil(C / Q) classes each.

    Raises PaddlexMLError where that is not the attention of an ML-Decoder over several tokens.
    """
    loaded = load(probe)
    if loaded is None:
        raise _no_map("its graph has no attention (no softmax)", where)
    network, values = loaded
    height, width = probe.shape[2:]
    is_attention = values.ndim == 4 and len(values) == len(probe) and (values >= 0).all()
    if not is_attention or not (np.abs(values.sum(axis=-1) - 1) < _ROUNDED).all():
        shape = " x ".join(map(str, values.shape))
        raise _no_map(f"the last softmax of its graph, {shape}, is no attention", where)
    queries, tokens = values.shape[2:]
    if queries > classes:
        raise _no_map(
            f"its last attention has {count(queries, 'query', 'queries')} for "
            f"{count(classes, 'class', 'classes')}",
            where,
        )
    if tokens == 1 and max(width, height) > 2 * min(_STRIDES[:2]):
        refuse_one_token("first_patch", where)
    if tokens == 1:
        raise PaddlexMLError(
            f"there is no map of what the model looks at: {width} x {height} pixels are one token",
            where=where,
            fix="train with larger images (-o Train.image_size=448), or predict without explain",
        )
    grid = find_grid(tokens, width, height)
    if grid is None:
        raise _no_map(f"its {tokens} tokens are no grid over {width} x {height} pixels", where)
    of_class = class_queries or [c // -(-classes // queries) for c in range(classes)]
    if max(of_class) >= queries:
        raise _no_map(
            f"it has {count(queries, 'query', 'queries')}, and class_queries names {max(of_class)}",
            where,
        )
    return Attention(network, of_class, grid)


def find_grid(tokens: int, width: int, height: int) -> tuple[int, int] | None:
    """Rows and columns of square cells, `tokens` of them, that cover so many pixels; or None."""
    for stride in _STRIDES:
        rows, columns = -(-height // stride), -(-width // stride)
        if rows * columns == tokens:
            return rows, columns
    return None


def refuse_one_token(decoder_tokens: str | None, where: str) -> None:
    """Raise PaddlexMLError for a model whose head sees only one patch of the image."""
    if decoder_tokens == "first_patch":
        raise PaddlexMLError(
            "there is no map of what the model looks at: its head sees one token, the first patch "
            "of the image, and so every label has all of its attention there",
            where=where,
            fix="train it again with -o Train.decoder_tokens=all_patches, or predict without "
            "explain",
        )


def _no_map(why: str, where: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"there is no map of what the model looks at: {why}",
        where=where,
        fix="name a model with an ML-Decoder head, such as -o Global.mode=export makes, or predict "
        "without explain",
    )
