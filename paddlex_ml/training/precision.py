# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: which operations run in 16 bits, in which format and layout, and the loss scale.

float16 loses gradients below 6e-8, so the loss is scaled up and the gradients down again
(Micikevicius et al. 2018, arXiv:1710.03740). bfloat16 has the range of float32 and needs no scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import paddle

from paddlex_ml.errors import PaddlexMLError

Level = Literal["OFF", "O1", "O2"]
Format = Literal["float16", "bfloat16"]


@dataclass(frozen=True)
class Precision:
    """How a training computes; the loss is in float32 in any case."""

    level: Level = "OFF"
    dtype: Format = "float16"
    channels_last: bool = False
    """Convolutions and what lies between them compute in the layout NHWC."""

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass; it does nothing where mixed precision is off."""
        if self.level == "OFF":
            return nullcontext()
        inner = paddle.amp.auto_cast(level=self.level, dtype=self.dtype)
        return _in_channels_last(inner) if self.channels_last else inner

    def scaler(self) -> paddle.amp.GradScaler:
        """Scales the loss up in float16, where small gradients would vanish; else does nothing."""
        return paddle.amp.GradScaler(enable=self.level != "OFF" and self.dtype == "float16")

    def decorate(self, model: paddle.nn.Layer, optimizer: paddle.optimizer.AdamW) -> None:
        """O2 keeps the weights in 16 bits, and a copy in 32 bits for the updates."""
        if self.level == "O2":
            paddle.amp.decorate(model, optimizer, level="O2", dtype=self.dtype, master_weight=True)


@contextmanager
def _in_channels_last(inner: AbstractContextManager[None]) -> Iterator[None]:
    """Let Paddle choose NHWC for convolutions in 16 bits (paddle.incubate.autotune.set_config).

    Weights keep their layout, and so does what the model returns. Off again behind the forward
    pass: an evaluation in float32 between two epochs would gain nothing from it.
    """
    paddle.incubate.autotune.set_config({"layout": {"enable": True}})
    try:
        with inner:
            yield
    finally:
        paddle.incubate.autotune.set_config({"layout": {"enable": False}})


def choose(
    level: Level,
    dtype: Format | Literal["auto"],
    device: str,
    channels_last: bool = False,
) -> Precision:
    """The precision asked for on the device "cpu" or "gpu:N"; `auto` takes bfloat16 if it can.

    Raises PaddlexMLError where the device cannot.
    """
    if level == "OFF":
        return Precision()
    if device == "cpu":
        raise PaddlexMLError(
            f"mixed precision ({level}) needs a GPU: on the CPU Paddle computes in float32 anyway",
            where="Train.amp",
            fix="-o Train.amp=OFF",
        )
    if dtype == "auto":
        dtype = "bfloat16" if paddle.amp.is_bfloat16_supported() else "float16"
    elif dtype == "bfloat16" and not paddle.amp.is_bfloat16_supported():
        raise PaddlexMLError(
            "this GPU has no bfloat16",
            where="Train.amp_dtype",
            fix="-o Train.amp_dtype=float16",
        )
    return Precision(level, dtype, channels_last)
