# SPDX-License-Identifier: Apache-2.0
"""Mixed precision as far as a CPU can show it: what is chosen, and what is refused."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import paddle
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.precision import Precision, choose


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Says whether the pretended GPU has bfloat16."""

    def pretend(there: bool) -> None:
        monkeypatch.setattr(paddle.amp, "is_bfloat16_supported", lambda: there)

    return pretend


@pytest.mark.parametrize(
    ("there", "wanted", "dtype"),
    [
        (True, "auto", "bfloat16"),
        (False, "auto", "float16"),
        (True, "float16", "float16"),
        (True, "bfloat16", "bfloat16"),
    ],
)
def test_the_format_is_what_was_asked_for_or_what_the_device_has(
    bfloat16: Any, monkeypatch: pytest.MonkeyPatch, there: bool, wanted: Any, dtype: str
) -> None:
    bfloat16(there)
    chosen = choose("O1", wanted, "gpu:0")
    assert chosen == Precision("O1", dtype)  # type: ignore[arg-type]
    # The real one is never enabled without a GPU.
    monkeypatch.setattr(paddle.amp, "GradScaler", lambda *, enable: enable)
    assert chosen.scaler() == (dtype == "float16")  # bfloat16 loses no small gradient


def test_channels_last_is_on_in_the_forward_pass_alone(
    bfloat16: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paddle for CPUs takes the setting and changes nothing, so what it is told is looked at."""
    bfloat16(True)
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **_: nullcontext())  # warns on a CPU
    told: list[Any] = []
    monkeypatch.setattr(paddle.incubate.autotune, "set_config", told.append)
    with choose("O1", "auto", "gpu:0").autocast():
        assert not told
    chosen = choose("O1", "auto", "gpu:0", channels_last=True)
    with chosen.autocast():
        assert told == [{"layout": {"enable": True}}]
    with pytest.raises(RuntimeError), chosen.autocast():
        raise RuntimeError
    assert told == [{"layout": {"enable": on}} for on in (True, False, True, False)]


def test_the_layout_that_paddle_may_choose_changes_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As far as a CPU shows it: the setting is taken, and weights keep their layout."""
    monkeypatch.setattr(paddle.amp, "auto_cast", lambda **_: nullcontext())  # warns on a CPU
    paddle.seed(0)
    model = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    images, gradients = paddle.randn([2, 3, 8, 8]), []
    for channels_last in (False, True):
        with Precision("O1", "bfloat16", channels_last).autocast():
            outputs = model(images)
        assert outputs.shape == [2, 4, 6, 6]
        outputs.astype("float32").square().sum().backward()
        gradients.append(model[0].weight.grad.numpy())
        model.clear_gradients()
    assert (gradients[0] == gradients[1]).all()


def test_bfloat16_is_refused_where_the_gpu_has_none(bfloat16: Any) -> None:
    bfloat16(False)
    with pytest.raises(PaddlexMLError, match="this GPU has no bfloat16") as caught:
        choose("O2", "bfloat16", "gpu:0")
    assert caught.value.fix == "-o Train.amp_dtype=float16"


def test_the_cpu_refuses_mixed_precision_and_needs_none() -> None:
    with pytest.raises(PaddlexMLError, match="needs a GPU") as caught:
        choose("O1", "auto", "cpu")
    assert caught.value.fix == "-o Train.amp=OFF"
    off = choose("OFF", "auto", "cpu")
    assert isinstance(off.autocast(), nullcontext)
    assert not off.scaler().is_enable()


def test_the_loss_stays_in_float32() -> None:
    logits = paddle.to_tensor([[0.5, -20.0]], dtype="bfloat16")
    loss = asymmetric_loss(logits, paddle.to_tensor([[1.0, 1.0]]))
    assert loss.dtype == paddle.float32
    assert float(loss) == pytest.approx(0.474077 + 18.420681, abs=1e-4)  # -log(1e-8) is the most


def test_the_training_keeps_the_weights_in_16_bits_only_where_asked() -> None:
    model = paddle.nn.Linear(2, 1)
    optimizer = paddle.optimizer.AdamW(parameters=model.parameters())
    Precision("O1", "bfloat16").decorate(model, optimizer)
    assert model.weight.dtype == paddle.float32
