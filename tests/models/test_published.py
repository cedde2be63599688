# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from paddlex_ml.config import shipped
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import published, zoo
from tests.shallow import blank_models

ROOT = Path(__file__).resolve().parents[2]


def test_every_model_is_published_under_its_name():
    assert set(published.MODELS) <= set(shipped.MODELS)
    assert len({published.weights_url(model) for model in published.MODELS}) == 6
    assert published.weights_url("ResNet50_ML") == (
        "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_pretrained_model/"
        "ResNet50_ML_pretrained.pdparams"
    )
    assert published.static_url("ResNet50_ML") == (
        "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_inference_model/"
        "paddle3.0rc0/ResNet50_ML_infer.tar"
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.heavy] if "B6" in name or "CLIP" in name else [])
        for name in published.MODELS
    ],
)
def test_parameters_and_multiply_adds_are_those_of_the_models(name):
    with blank_models():
        model = zoo.build(name, 80)
    entry = published.TABLE[name]
    assert entry.parameters == sum(
        value.size for key, value in model.state_dict().items() if "._" not in key
    )
    script = runpy.run_path(str(ROOT / "benchmarks" / "model_table.py"))
    assert entry.gflops == pytest.approx(script["multiply_adds"](model, 448) / 1e9, abs=0.005)


@pytest.mark.parametrize(
    ("name", "fix"), [("ResNet50", "write ResNet50_ML"), ("../x", "choose from PP-LCNet_x1_0_ML, ")]
)
def test_another_name_is_refused_with_the_nearest(name, fix):
    with pytest.raises(PaddlexMLError, match="no model is published under the name") as caught:
        published.static_url(name)
    assert caught.value.fix.startswith(fix)
