# SPDX-License-Identifier: Apache-2.0
"""Models of few weights, with every layer type, name and option of the whole ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import paddle
import pytest
from paddle import nn

from paddlex_ml.models import clip_vit, ml_decoder, pp_hgnet_v2, pp_lcnet, resnet
from tests.small_main import SMALL

MODULES = {"ml_decoder": ml_decoder, "pp_lcnet": pp_lcnet}
WHOLE = {
    module: {name: getattr(MODULES[module], name) for name in sizes}
    for module, sizes in SMALL.items()
}


@contextmanager
def shallow_models() -> Iterator[None]:
    """Let `zoo.build` make each model with one block a stage (HGNet, ResNet) or two (CLIP)."""
    with pytest.MonkeyPatch.context() as patch:
        shapes = {}
        for size, shape in pp_hgnet_v2.SHAPES.items():
            one, two, three, four = (s._replace(blocks=1, layers=2) for s in shape.stages)
            shapes[size] = shape._replace(stages=(one, two, three, four))
        patch.setattr(pp_hgnet_v2, "SHAPES", shapes)
        patch.setattr(resnet, "STAGES", [(1, *stage[1:]) for stage in resnet.STAGES])
        patch.setattr(clip_vit, "BLOCKS", 2)
        yield


@contextmanager
def narrow_models() -> Iterator[None]:
    """Let `zoo.build` make HGNets, ResNet and CLIP with all their layers, of fewer channels."""
    with pytest.MonkeyPatch.context() as patch:
        shapes = {}
        for size, shape in pp_hgnet_v2.SHAPES.items():
            stem = shape.stem[0] // 4, shape.stem[1] // 4
            one, two, three, four = (
                s._replace(
                    channels=s.channels // 4, width=s.width // 4, out_channels=s.out_channels // 4
                )
                for s in shape.stages
            )
            shapes[size] = shape._replace(stem=stem, stages=(one, two, three, four))
        patch.setattr(pp_hgnet_v2, "SHAPES", shapes)
        first, *between, last = resnet.STAGES
        narrow = [(blocks, width // 4, stride) for blocks, width, stride in between]
        patch.setattr(resnet, "STAGES", [first, *narrow, last])  # the head needs the last
        patch.setattr(clip_vit, "MLP_WIDTH", clip_vit.MLP_WIDTH // 4)
        yield


@contextmanager
def blank_models() -> Iterator[None]:
    """Let models be made whole, of zeros: to draw their random values takes most of the time."""
    zeros = nn.initializer.Constant(0.0)

    def fill(_: object, parameter: paddle.Tensor, block: Any = None) -> Any:
        return zeros.forward(parameter, block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paddle.nn.initializer.Initializer.__call__", fill)
        yield


def small_models() -> AbstractContextManager[None]:
    """Let `zoo.build` make each model with the sizes of tests/small_main.py."""
    return _sizes(SMALL)


def whole_models() -> AbstractContextManager[None]:
    """Let `zoo.build` make whole models again."""
    return _sizes(WHOLE)


@contextmanager
def _sizes(of_modules: dict[str, dict[str, Any]]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, sizes in of_modules.items():
            for name, value in sizes.items():
                patch.setattr(MODULES[module], name, value)
        yield
