# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import paddle
import pytest

from paddlex_ml import devices
from paddlex_ml.errors import PaddlexMLError


@pytest.fixture
def gpus(monkeypatch):
    """Makes Paddle report so many GPUs; None: it is built for the CPU alone."""

    def pretend(count):
        monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: count is not None)
        monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: count or 0)
        chosen = []
        monkeypatch.setattr(paddle, "set_device", chosen.append)
        return chosen

    return pretend


@pytest.mark.parametrize(
    ("device", "count", "name"),
    [
        ("auto", None, "cpu"),
        ("auto", 0, "cpu"),
        ("auto", 2, "gpu:0"),
        ("cpu", None, "cpu"),
        ("cpu", 2, "cpu"),
        ("gpu", 1, "gpu:0"),
        ("gpu:1", 2, "gpu:1"),
    ],
)
def test_the_device_is_chosen_and_named(gpus, device, count, name):
    chosen = gpus(count)
    assert devices.select(device) == name
    assert chosen == [name]


@pytest.mark.parametrize(
    ("device", "count", "message", "fix"),
    [
        ("gpu", None, "this Paddle is built for the CPU alone", "-o Global.device=auto"),
        ("gpu:0", 0, "Paddle sees 0 GPU", "-o Global.device=auto"),
        ("gpu:2", 2, r"Paddle sees 2 GPU\(s\)", "-o Global.device=gpu:0,1"),
        ("gpu:0,1", None, "this Paddle is built for the CPU alone", "-o Global.device=auto"),
        ("gpu:0,3", 2, r"Paddle sees 2 GPU\(s\)", "-o Global.device=gpu:0,1"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_the_override_that_helps(
    gpus, device, count, message, fix
):
    chosen = gpus(count)
    with pytest.raises(PaddlexMLError, match=message) as caught:
        devices.select(device)
    assert caught.value.where == "Global.device"
    assert caught.value.fix.startswith(fix)
    assert device in caught.value.what
    assert chosen == []


@pytest.mark.parametrize(
    ("device", "count", "numbers", "first"),
    [("cpu:0,1", 0, (0, 1), "cpu"), ("gpu:3,1", 4, (3, 1), "gpu:3"), ("auto", 4, (0,), "gpu:0")],
)
def test_training_takes_all_devices_and_other_modes_the_first(
    gpus, caplog, device, count, numbers, first
):
    chosen = gpus(count)
    selected = devices.find(device)
    assert (selected.numbers, selected.first) == (numbers, first)
    with caplog.at_level("INFO"):
        assert devices.select(device) == first
    assert chosen == [first]
    assert ("only training uses several devices" in caplog.text) == (len(numbers) > 1)


def test_this_machine_computes_on_what_was_selected():
    assert devices.select("cpu") == "cpu"
    assert paddle.device.get_device() == "cpu"
    assert (paddle.to_tensor([1.0]) + 1).item() == 2.0


def test_a_device_is_described_by_its_kind(monkeypatch):
    names = {0: "A GPU", 3: "Another"}
    monkeypatch.setattr(paddle.device.cuda, "get_device_name", names.get)
    described = [devices.describe(name) for name in ("cpu", "gpu:0", "gpu:3")]
    assert described == ["cpu", "gpu: A GPU", "gpu: Another"]
