# SPDX-License-Identifier: Apache-2.0
"""The models with few blocks: every layer type, name and option, at a tenth of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from paddlex_ml.models import clip_vit, pp_hgnet_v2, resnet


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
