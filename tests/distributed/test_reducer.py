# SPDX-License-Identifier: Apache-2.0
"""The exchange within the backward pass; tests/training/test_passes.py compares its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.devices import Devices
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import PeerLost
from paddlex_ml.distributed.reducer import Reducer
from paddlex_ml.errors import PaddlexMLError
from tests.ranks import Lesson, learn, lose

TWO = Devices("cpu", (0, 1))


@pytest.mark.story
def test_a_process_that_dies_within_the_backward_pass_is_named() -> None:
    with pytest.raises(PaddlexMLError) as caught:
        launch.run(lose, None, TWO)
    assert caught.value.what.startswith("process 1 (cpu:1) ")
    assert "resume_path=auto" in caught.value.fix


@pytest.mark.story
def test_a_resume_goes_on_with_the_same_numbers(toy: Path, tmp_path: Path) -> None:
    lesson = Lesson(toy, tmp_path / "whole", overlaps=True, sync_bn=True)
    whole = launch.run(learn, lesson, TWO)
    resumed = lesson._replace(output=tmp_path / "resumed", goes_on=True)
    (tmp_path / "resumed").mkdir()
    checkpoint.duplicate(tmp_path / "whole" / "epoch_1", tmp_path / "resumed" / "latest")
    again = launch.run(learn, resumed, TWO)
    assert again["history"] == whole["history"]
    for kind in ("weights", "ema"):
        assert all((again[kind][k] == value).all() for k, value in whole[kind].items())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[gloo] Connection closed by peer", PeerLost),
        ("ResourceExhausted: out of memory", RuntimeError),
        ("in ncclAllReduce\nError Message Summary:\nResourceExhausted: memory", RuntimeError),
        ("in Backward\nError Message Summary:\nUnavailable: reset by peer", PeerLost),
    ],
)
def test_only_errors_of_the_network_mean_a_lost_peer(text: str, expected: type) -> None:
    class Loss:
        def backward(self) -> None:
            raise RuntimeError(text)

    loss: Any = Loss()
    with pytest.raises(expected, match=r"peer|memory"):
        Reducer.backward(object.__new__(Reducer), loss)
