# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import zoo
from paddlex_ml.models.head_layout import published

NAME = "PP-LCNet_x1_0_ML"


def test_an_unknown_model_is_refused_with_the_list_of_models():
    with pytest.raises(PaddlexMLError, match="no model is called 'PP-LCNet'") as caught:
        zoo.find("PP-LCNet")
    assert NAME in caught.value.fix


def test_the_start_is_decided_by_paddles_seed_alone():
    starts = []
    for seed in (7, 7, 8):
        paddle.seed(seed)
        state = zoo.build(NAME, 3).state_dict()
        starts.append(np.concatenate([value.numpy().ravel() for value in state.values()]))
    assert (starts[0] == starts[1]).all()
    assert (starts[0] != starts[2]).any()


def test_classes_are_counted_by_the_bias_of_the_head():
    weights = {"fc.group_conv.bias": np.zeros(19, np.float32)}
    assert zoo.find_layout(NAME, weights, "a.pdparams") == published(19, 19)


def test_a_bare_backbone_has_no_classes_to_count():
    with pytest.raises(PaddlexMLError, match="no classification head") as caught:
        zoo.find_layout(NAME, {"conv1.conv.weight": np.zeros(1)}, "a.pdparams")
    assert caught.value.where == "a.pdparams"


def test_the_rate_of_an_entry_is_its_parts_factor_times_its_own():
    spec = zoo.find("PP-HGNetV2-B0_ML")
    entries = [name for name, _ in zoo.build("PP-HGNetV2-B0_ML", 2).named_parameters()]
    slow = next(name for name in entries if name.endswith("lab.scale"))
    head = next(name for name in entries if name.startswith("fc."))
    plain = next(name for name in entries if not name.startswith("fc.") and "lab." not in name)
    assert [spec.lr_mult(name) for name in (slow, head, plain)] == [0.01, 1.0, 1.0]
    rates = [spec.lr_mult(name, head=0.3, backbone=0.5) for name in (slow, head, plain)]
    assert rates == pytest.approx([0.005, 0.3, 0.5])
