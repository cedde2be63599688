# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.inference import paddle_engine, verified_engines
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.storage import cache


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes for which a network was built."""
    modes: list[str] = []
    build = paddle_engine._build

    def watched(config, mode):
        modes.append(mode)
        return build(config, mode)

    monkeypatch.setattr(paddle_engine, "_build", watched)
    return modes


def test_onednn_is_compared_with_plain_paddle_once(exported: Path, built: list[str]):
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    scores = [StaticModel(exported, "cpu").run(images) for _ in range(3)]
    assert built == ["paddle", "mkldnn", "mkldnn", "mkldnn"]
    assert np.array_equal(scores[0], scores[1])
    assert len(list((cache.folder() / "proofs").iterdir())) == 1


def test_other_weights_another_graph_or_other_threads_are_compared_anew(
    exported: Path, built: list[str], tmp_path: Path
):
    folder = shutil.copytree(exported, tmp_path / "copy")
    StaticModel(folder, "cpu")
    os.utime(folder / "inference.pdiparams", (1, 1))
    StaticModel(folder, "cpu")
    StaticModel(folder, "cpu", cpu_threads=1)
    graph = folder / "inference.json"
    graph.write_bytes(graph.read_bytes() + b"\n")
    StaticModel(folder, "cpu")
    assert built == ["paddle", "mkldnn"] * 4


def test_weights_of_the_same_length_and_time_are_compared_anew(
    exported: Path, built: list[str], tmp_path: Path
):
    folder = shutil.copytree(exported, tmp_path / "copy")
    StaticModel(folder, "cpu")
    other = shutil.copy2(folder / "inference.pdiparams", tmp_path)
    os.replace(other, folder / "inference.pdiparams")
    StaticModel(folder, "cpu")
    assert built == ["paddle", "mkldnn"] * 2


def test_a_failure_is_never_remembered(exported: Path, built: list[str], monkeypatch):
    monkeypatch.setitem(paddle_engine.TOLERANCE, "mkldnn", -1.0)
    for _ in range(2):
        assert StaticModel(exported, "cpu").run_mode == "paddle"
    assert built == ["paddle", "mkldnn"] * 2
    assert not (cache.folder() / "proofs").exists()


def test_a_network_that_fails_in_spite_of_its_proof_is_left(exported: Path, monkeypatch):
    assert StaticModel(exported, "cpu").run_mode == "mkldnn"
    build = paddle_engine._build

    def refuse(config, mode):
        if mode == "mkldnn":
            raise RuntimeError("no memory for it today")
        return build(config, mode)

    monkeypatch.setattr(paddle_engine, "_build", refuse)
    assert StaticModel(exported, "cpu").run_mode == "paddle"


def test_without_a_place_to_write_every_load_compares(
    exported: Path, built: list[str], monkeypatch
):
    monkeypatch.setenv("PADDLEX_ML_CACHE", f"{os.devnull}/cache")
    for _ in range(2):
        assert StaticModel(exported, "cpu").run_mode == "mkldnn"
    assert built == ["paddle", "mkldnn"] * 2


def test_a_proof_names_the_processor():
    assert len(verified_engines.name_processor()) > 4


def test_a_record_that_another_user_may_have_made_does_not_count(open_folder: Path):
    record = open_folder / "record"
    assert not verified_engines.is_there(record)
    record.write_bytes(b"")
    assert verified_engines.is_there(record)
    record.chmod(0o666)
    assert not verified_engines.is_there(record)
