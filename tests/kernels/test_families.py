# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import importlib.util
import logging
import time

import paddle
import pytest

from paddlex_ml import cli, progress
from paddlex_ml.config import load, shipped
from paddlex_ml.kernels import compiler, families, layers
from paddlex_ml.models import published, zoo
from paddlex_ml.training.optimizer import build_optimizer
from tests.shallow import shallow_models

NUMBA = importlib.util.find_spec("numba") is not None


@pytest.mark.parametrize("name", published.MODELS)
def test_a_model_trains_with_the_families_that_are_compiled_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = set()
    monkeypatch.setattr(layers, "kernels", asked.add)  # which has none of them
    with shallow_models():
        model = zoo.build(name, 2)
    model.train()
    size = 448 if name.startswith("CLIP") else 128
    model(paddle.randn([1, 3, size, size])).sum().backward()
    build_optimizer(model, weight_decay=0.1).step()
    assert asked == set(published.TABLE[name].kernels)


@pytest.mark.skipif(not NUMBA, reason="numba, an optional package, is missing")
def test_the_names_are_those_of_all_kernels() -> None:
    names = families.names(tuple(families.FAMILIES))
    modules = {name.rpartition(".")[0] for name in names}
    kernels = [
        f"{module}.{kernel.name}"
        for module in modules
        for kernel in importlib.import_module(module).KERNELS
    ]
    assert sorted(names) == sorted(kernels)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["Global.device=cpu"], ["updates", "dense", "norm", "depthwise", "head"]),
        (["Global.device=cpu:0,1"], ["updates", "dense", "norm", "depthwise", "head"]),
        (
            ["Global.device=cpu", "Global.model=ResNet50_ML"],
            ["updates", "dense", "winograd", "norm", "pool", "head"],
        ),
        (["Global.device=gpu"], None),
        (["Global.device=cpu", "Train.amp=O1"], None),
        (["Global.device=cpu", "Train.compile=true"], None),
    ],
)
def test_a_training_on_the_cpu_compiles_ahead_what_its_model_needs(
    overrides: list[str], expected: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    settings = ["Global.mode=train", "Global.dataset_dir=data", *overrides]
    config = load.load(path, settings, to_run=False).config
    for cores in (1, 2):
        monkeypatch.setattr(cli, "usable_cores", lambda cores=cores: cores)
        monkeypatch.setattr(compiler, "missing", lambda names: asked.append([*names]))
        with cli._compiling_ahead(config):
            assert compiler._helpers == []  # nothing is missing
    assert asked == ([] if expected is None else [families.names(expected)])


def test_a_wait_for_the_kernels_of_a_family_is_told_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def wait(*_: object, **__: object) -> None:
        time.sleep(0.2)
        told.extend(caplog.messages)

    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    monkeypatch.setattr(compiler, "load", wait)
    with caplog.at_level(logging.INFO):
        layers.kernels.__wrapped__("norm")
    assert "waiting for kernels that are compiled for this processor ..." in told
