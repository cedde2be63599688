# SPDX-License-Identifier: Apache-2.0
"""What a graph says of its input and outputs, compared with what inference.yml says.

A convolutional network runs at any size of image, with other scores than at its own: nothing else
would tell that graph and description are of two exports.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddlex_ml.artifacts.run_folder import INFERENCE_YML
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GraphShapes:
    """The shapes of a graph's inputs and outputs; a side that is no positive int may vary."""

    inputs: Sequence[Sequence[Any]]
    outputs: Sequence[Sequence[Any]]


def check(shapes: GraphShapes, *, size: tuple[int, int], classes: int, where: Path) -> None:
    """Compare with (width, height) and the number of classes of inference.yml.

    Raises PaddlexMLError for a graph with several inputs, or with another input or another number
    of classes. Of several outputs the first one counts, with a line in the log.
    """
    again = "or export the model again: -o Global.mode=export"
    if len(shapes.inputs) != 1:
        raise PaddlexMLError(
            f"the graph takes {len(shapes.inputs)} inputs instead of one batch of images",
            where=str(where),
            fix="name the folder of a multi-label model, " + again,
        )
    if len(shapes.outputs) > 1:
        _log.warning("%s gives %d outputs: the first is used", where, len(shapes.outputs))
    (asked,), width, height = shapes.inputs, *size
    # Nothing at all is said of an input without sides.
    if asked and (len(asked) != 4 or not all(map(_fits, asked[1:], (3, height, width)))):
        sides = " x ".join(str(side) if _is_fixed(side) else "any" for side in asked[1:])
        raise PaddlexMLError(
            f"the graph takes images of {sides} (channels x height x width), {INFERENCE_YML} "
            f"makes 3 x {height} x {width}",
            where=str(where),
            fix=f"take graph and {INFERENCE_YML} of one export, " + again,
        )
    for given in shapes.outputs[:1]:
        if len(given) == 2 and not _fits(given[1], classes):
            raise PaddlexMLError(
                f"{count(classes, 'class name is', 'class names are')} listed, the network "
                f"gives {count(given[1], 'score')} per image",
                where=str(where.with_name(INFERENCE_YML)),
                fix=f"list one name per output, or take graph and {INFERENCE_YML} of one export",
            )


def _is_fixed(side: Any) -> bool:
    return isinstance(side, int) and side > 0


def _fits(side: Any, expected: int) -> bool:
    return side == expected or not _is_fixed(side)
