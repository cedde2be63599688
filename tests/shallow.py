# SPDX-License-Identifier: Apache-2.0
"""Models of few weights, with every layer type, name and option of the whole ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

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
