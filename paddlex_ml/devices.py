# SPDX-License-Identifier: Apache-2.0
"""Which device Paddle computes on."""

from __future__ import annotations

import paddle

from paddlex_ml.errors import PaddlexMLError

_WHERE = "Global.device"


def select(device: str) -> str:
    """Make Paddle compute on `device` (`auto`, `cpu`, `gpu`, `gpu:1`); return its Paddle name.

    Raises PaddlexMLError for a GPU that is not there, and for a list of devices.
    """
    name = _resolve(device)
    paddle.set_device(name)
    return name


def _resolve(device: str) -> str:
    kind, _, numbers = device.partition(":")
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if kind == "auto":
        return "gpu:0" if gpus else "cpu"
    if "," in numbers:
        first = f"{kind}:{numbers.split(',')[0]}" if kind == "gpu" else "cpu"
        raise PaddlexMLError(
            f"several devices at once ({device}) come in a later release",
            where=_WHERE,
            fix=f"-o Global.device={first if gpus or kind == 'cpu' else 'auto'}",
        )
    if kind == "cpu":
        return "cpu"
    if not paddle.is_compiled_with_cuda():
        raise PaddlexMLError(
            f"{device} was asked for, but this Paddle is built for the CPU alone",
            where=_WHERE,
            fix="-o Global.device=cpu, or install paddlepaddle-gpu (README, section Install)",
        )
    number = int(numbers or 0)
    if number >= gpus:
        raise PaddlexMLError(
            f"{device} was asked for, but Paddle sees {gpus} GPU(s)",
            where=_WHERE,
            fix=f"-o Global.device=gpu:{gpus - 1}" if gpus else "-o Global.device=cpu",
        )
    return f"gpu:{number}"
