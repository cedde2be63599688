# SPDX-License-Identifier: Apache-2.0
"""Which device, or devices, Paddle computes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import paddle

from paddlex_ml import program
from paddlex_ml.errors import PaddlexMLError

logger = logging.getLogger(__name__)

_WHERE = "Global.device"
_AUTO = "-o Global.device=auto, or for good in the YAML file, section Global: device: auto"


@dataclass(frozen=True)
class Devices:
    """What Global.device names on this machine."""

    kind: str
    """"cpu" or "gpu"."""
    numbers: tuple[int, ...]
    """Of the GPUs, or one for each process on the CPU."""

    @property
    def first(self) -> str:
        """Paddle's name of the first one."""
        return "cpu" if self.kind == "cpu" else f"gpu:{self.numbers[0]}"


def select(device: str) -> str:
    """Make Paddle compute on the first device of `device`; return its Paddle name.

    For the modes that work in one process. Raises PaddlexMLError for a GPU that is not there.
    """
    devices = find(device)
    if len(devices.numbers) > 1:
        logger.info("%s: only training uses several devices; this command uses the first", device)
    use(devices.first)
    return devices.first


def use(name: str) -> None:
    """Make Paddle compute on the device of this name."""
    paddle.set_device(name)


def describe(name: str) -> str:
    """What the device of this name of Paddle is: `cpu`, or the kind of GPU."""
    if name == "cpu":
        return name
    return f"gpu: {paddle.device.cuda.get_device_name(int(name.partition(':')[2] or 0))}"


def find(device: str) -> Devices:
    """What `auto`, `cpu`, `gpu`, `gpu:1`, `gpu:0,1` or `cpu:0,1` is on this machine.

    Raises PaddlexMLError for a GPU that is not there.
    """
    kind, _, text = device.partition(":")
    gpus = paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0
    if kind == "auto":
        return Devices("gpu" if gpus else "cpu", (0,))
    numbers = tuple(int(number) for number in text.split(",")) if text else (0,)
    if kind == "cpu":
        return Devices(kind, numbers)
    if not paddle.is_compiled_with_cuda():
        raise PaddlexMLError(
            f"{device} was asked for, but this Paddle is built for the CPU alone",
            where=_WHERE,
            fix=f"{_AUTO}; or install paddlepaddle-gpu: {program.GPU_PAGE} prints the command",
        )
    if max(numbers) >= gpus:
        existing = ",".join(map(str, range(gpus)))
        raise PaddlexMLError(
            f"{device} was asked for, but Paddle sees {gpus} GPU(s)",
            where=_WHERE,
            fix=f"-o Global.device=gpu:{existing}" if gpus else _AUTO,
        )
    return Devices(kind, numbers)
