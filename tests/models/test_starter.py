# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np

from paddlex_ml.artifacts import weights
from paddlex_ml.artifacts.weights import to_arrays
from paddlex_ml.config.schema import STARTER_MODEL
from paddlex_ml.models import starter, zoo
from tests.shallow import blank_models


def test_they_are_the_whole_backbone_in_half_precision_and_small() -> None:
    with blank_models():
        model = zoo.build(STARTER_MODEL, 3)
    head = zoo.find(STARTER_MODEL).head
    wanted = {
        name: value.shape
        for name, value in to_arrays(model.state_dict()).items()
        if not name.startswith(head)
    }
    entries = weights.read(starter.PATH)
    assert {name: value.shape for name, value in entries.items()} == wanted
    assert all(np.isfinite(value.astype(np.float32)).all() for value in entries.values())
    assert starter.PATH.stat().st_size <= 4e6
