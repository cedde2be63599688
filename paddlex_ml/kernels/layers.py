# SPDX-License-Identifier: Apache-2.0
"""Layers that training on the CPU runs with faster kernels than Paddle's, with the same result.

Each function calls the layer itself unless the kernels apply: training on the CPU, float32, dynamic
graph, no mixed precision, and numba installed. Evaluation, export and GPUs never use the kernels.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddlex_ml.cores import usable_cores
from paddlex_ml.kernels import compiler

logger = logging.getLogger(__name__)

MOST_CHANNELS = 64
"""Dense convolutions with more channels are faster as Paddle's matrix products."""
LEAST_SIZE = 28
"""So are those to smaller maps."""

Activation: TypeAlias = Callable[[paddle.Tensor], paddle.Tensor]


def identity(features: paddle.Tensor) -> paddle.Tensor:
    """Activation of a block that has none."""
    return features


ACTIVATIONS: dict[Activation, int] = {identity: 0, F.relu: 1, F.hardswish: 2}


def convolve(layer: nn.Conv2D, features: paddle.Tensor) -> paddle.Tensor:
    """Output of `layer` for [B, D, H, W]; fast where it is depthwise, pointwise or narrow."""
    if not _applies(layer, features):
        return layer(features)
    kernel, stride, groups = list(layer._kernel_size), list(layer._stride), layer._groups
    keeps_size = layer._padding == "SAME" and stride == [1, 1]  # a row more after than before
    is_plain = (
        layer.bias is None
        and (layer._padding in (kernel[0] // 2, [kernel[0] // 2] * 2) or keeps_size)
        and layer._padding_mode == "zeros"
        and layer._dilation in (1, [1, 1])
        and layer._data_format == "NCHW"
        and kernel[0] == kernel[1]
        and stride in ([1, 1], [2, 2])
    )
    is_odd, is_depthwise = kernel[0] % 2 == 1, groups == layer._in_channels == layer._out_channels
    if is_plain and is_odd and is_depthwise and kernel[0] in (3, 5):
        return _Depthwise.apply(features, layer.weight, stride[0])
    if is_plain and groups == 1 and kernel == stride == [1, 1]:
        return _Pointwise.apply(features, layer.weight)
    if is_plain and (is_odd or keeps_size) and groups == 1 and _suits_dense(layer, features):
        return _Dense.apply(features, layer.weight, stride[0])
    return layer(features)


def _suits_dense(layer: nn.Conv2D, features: paddle.Tensor) -> bool:
    """Whether the kernels for dense convolutions can do it and are faster: a fixed rule."""
    return (
        layer._kernel_size[0] > 1
        and layer._out_channels % 4 == 0
        and (layer._in_channels % 4 == 0 or features.stop_gradient)
        and max(layer._in_channels, layer._out_channels) <= MOST_CHANNELS
        and min(features.shape[2:]) >= LEAST_SIZE * layer._stride[0]
    )


def norm_activate(
    layer: nn.BatchNorm2D,
    activation: Activation,
    features: paddle.Tensor,
    affine: tuple[paddle.Tensor, paddle.Tensor] | None = None,
) -> paddle.Tensor:
    """`activation(layer(features))` of [B, D, H, W], in one step.

    affine: scale and bias, both [1], that are applied last.
    """
    if (
        type(layer) is not nn.BatchNorm2D
        or activation not in ACTIVATIONS
        or layer._use_global_stats
        or layer.weight is None
        or layer.bias is None
        or layer._data_format != "NCHW"
        or not _applies(layer, features)
        or features.size
        == features.shape[1]  # one value of each channel, which Paddle leaves alone
    ):
        result = activation(layer(features))
        return result if affine is None else affine[0] * result + affine[1]
    kind = ACTIVATIONS[activation]
    if affine is None or activation is not F.relu:
        result = _Norm.apply(features, layer.weight, layer.bias, None, None, layer, kind)
        return result if affine is None else affine[0] * result + affine[1]
    return _Norm.apply(features, layer.weight, layer.bias, *affine, layer, kind)


def _applies(layer: nn.Layer, features: paddle.Tensor) -> bool:
    return features.ndim == 4 and trains_here(layer, features) and kernels() is not None


def trains_here(layer: nn.Layer, features: paddle.Tensor) -> bool:
    """Whether kernels may compute `layer`: in a training on the CPU, in float32, without hooks."""
    return (
        layer.training
        and paddle.in_dynamic_mode()
        and features.place.is_cpu_place()
        and paddle.device.get_device() == "cpu"
        and features.dtype == paddle.float32 == layer.weight.dtype
        and features.size > 0
        and not paddle.amp.is_autocast_enabled()
        and not (layer._forward_pre_hooks or layer._forward_post_hooks)
    )


@functools.cache
def kernels() -> ModuleType | None:
    """The compiled kernels; None without numba. The first call comes when a training starts."""
    return load_kernels("convolution", "convolutions")


def load_kernels(name: str, layer_kind: str) -> ModuleType | None:
    """Load the module `name` of this room, which has kernels for layers of this kind.

    Also lets this process keep the memory that it frees, which every training step asks for again.
    """
    keep_freed_memory()
    if importlib.util.find_spec("numba") is None:
        logger.info(
            "numba is not installed: %s train with Paddle's own, slower kernels", layer_kind
        )
        return None
    begin = time.perf_counter()
    module = compiler.load(f"paddlex_ml.kernels.{name}", shares_work=_threads() > 1)
    if (seconds := time.perf_counter() - begin) > 2:
        logger.info("compiled the kernels for this processor in %.0f s", seconds)
    return module


class _Depthwise(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, features: paddle.Tensor, weight: paddle.Tensor, stride: int
    ) -> paddle.Tensor:
        batch, channels, *size = features.shape
        out = paddle.empty([batch, channels, *((n - 1) // stride + 1 for n in size)])
        arrays = _view(features), _view(weight), stride, _view(out)
        _run_in_threads("depthwise", channels, *arrays)
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight = ctx.saved_tensor()
        needs_dx = not features.stop_gradient
        dx = paddle.empty_like(features) if needs_dx else paddle.empty([1, 1, 1, 1])
        dweight = paddle.empty_like(weight)
        arrays = _view(features), _view(weight), _view(dout)
        results = _view(dx), _view(dweight)
        settings = ctx.stride, needs_dx
        _run_in_threads("depthwise_gradients", weight.shape[0], *arrays, *settings, *results)
        return _select_gradients((features, dx), (weight, dweight))


class _Pointwise(PyLayer):
    @staticmethod
    def forward(ctx: Any, features: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(features, weight)
        batch, _, height, width = features.shape
        out = paddle.matmul(weight.flatten(1), features.flatten(2))  # [B, E, HW]
        return out.reshape([batch, -1, height, width])

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight = ctx.saved_tensor()
        dout = dout.flatten(2)  # [B, E, HW]
        dx = dweight = None
        if not features.stop_gradient:
            dx = paddle.matmul(weight.flatten(1), dout, transpose_x=True).reshape(features.shape)
        if not weight.stop_gradient:
            products = paddle.matmul(dout, features.flatten(2), transpose_y=True)  # [B, E, D]
            dweight = products.sum(0).reshape(weight.shape)
        return _select_gradients((features, dx), (weight, dweight))


class _Grid(NamedTuple):
    """How the kernels for dense convolutions see a map: phases with rows of one pitch."""

    kernel: int
    stride: int
    pad: int
    """Rows of zeros before the first one."""
    pitch: int
    size: int
    """Length of a phase."""
    length: int
    """That of an output at this pitch."""

    @classmethod
    def of(cls, features: paddle.Tensor, out: paddle.Tensor, kernel: int, stride: int) -> _Grid:
        pad = (kernel - 1) // 2
        rows, pitch = (
            (max((after - 1) * stride + kernel, before + pad) + stride - 1) // stride
            for before, after in zip(features.shape[2:], out.shape[2:], strict=True)
        )
        length = (out.shape[2] - 1) * pitch + out.shape[3]
        return cls(kernel, stride, pad, pitch, rows * pitch + kernel, length)

    def taps(self, a: int, b: int, step: int) -> list[tuple[int, int]]:
        """Row and column of the taps from (a, b) on."""
        return [(i, j) for i in range(a, self.kernel, step) for j in range(b, self.kernel, step)]


class _Dense(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, features: paddle.Tensor, weight: paddle.Tensor, stride: int
    ) -> paddle.Tensor:
        batch, _, *size = features.shape
        out = paddle.empty([batch, weight.shape[0], *((n - 1) // stride + 1 for n in size)])
        grid = _Grid.of(features, out, weight.shape[2], stride)
        taps = grid.taps(0, 0, 1)
        phases = [i % stride * stride + j % stride for i, j in taps]
        distances = np.array(
            [
                phase * grid.size + i // stride * grid.pitch + j // stride
                for phase, (i, j) in zip(phases, taps, strict=True)
            ]
        )
        weights = _arrange(_view(weight), taps)
        source = np.array([grid.pad, stride, grid.pitch, grid.size, 0])
        target = np.array([0, 1, grid.pitch, out.shape[2] * grid.pitch, grid.length])
        arrays = _view(features), weights, distances, np.array([0, len(taps)]), source
        _run_in_threads("dense", batch * len(weights), *arrays, _view(out), target)
        ctx.save_for_backward(features, weight)
        ctx.settings = grid, distances, source
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight = ctx.saved_tensor()
        grid, distances, source = ctx.settings
        dx = dweight = None
        if not weight.stop_gradient:
            groups, channels = weight.shape[0] // 4, weight.shape[1]
            arranged = np.empty((groups, channels, 4, len(distances)), np.float32)
            arrays = _view(features), _view(dout), distances, source, grid.length, arranged
            _run_in_threads("dense_weight_gradient", groups * channels, *arrays)
            dweight = paddle.to_tensor(arranged.swapaxes(1, 2).reshape(weight.shape))
        if not features.stop_gradient:
            dx = _Dense.input_gradient(dout, weight, grid, paddle.empty(features.shape))
        return _select_gradients((features, dx), (weight, dweight))

    @staticmethod
    def input_gradient(
        dout: paddle.Tensor, weight: paddle.Tensor, grid: _Grid, dx: paddle.Tensor
    ) -> paddle.Tensor:
        """Fill dx: for each phase of the input, the taps that read it, and from which output."""
        stride, pitch, size = grid.stride, grid.pitch, grid.size
        phases = [grid.taps(a, b, stride) for a in range(stride) for b in range(stride)]
        taps = [tap for phase in phases for tap in phase]
        cuts = np.cumsum([0, *(len(phase) for phase in phases)])
        margin = (grid.kernel // stride + 1) * (pitch + 1)
        distances = np.array([margin - i // stride * pitch - j // stride for i, j in taps])
        weights = _arrange(_view(weight).swapaxes(0, 1), taps)
        source = np.array([0, 1, pitch, size, margin])
        target = np.array([grid.pad, stride, pitch, size, size])
        arrays = _view(dout), weights, distances, cuts, source, _view(dx), target
        _run_in_threads("dense", len(dx) * len(weights), *arrays)
        return dx


def _arrange(weight: np.ndarray[Any, Any], taps: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """Weight [O, I, K, K] as [O / 4, I, 4, taps]."""
    rows, columns = zip(*taps, strict=True)
    chosen = weight[:, :, rows, columns]
    return np.ascontiguousarray(chosen.reshape(-1, 4, *chosen.shape[1:]).swapaxes(1, 2))


class _Norm(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        features: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        gain: paddle.Tensor | None,
        offset: paddle.Tensor | None,
        layer: nn.BatchNorm2D,
        activation: int,
    ) -> paddle.Tensor:
        out = paddle.empty(features.shape)
        mean, variance = np.empty((2, features.shape[1]), np.float32)
        affine = np.array([1.0, 0.0], np.float32)
        if gain is not None and offset is not None:
            affine[:] = _view(gain)[0], _view(offset)[0]
        settings = layer._epsilon, activation, affine
        arrays = _view_maps(features), _view(weight), _view(bias), *settings, _view_maps(out)
        _run_in_threads("norm", len(mean), *arrays, mean, variance)
        for running, now in ((layer._mean, mean), (layer._variance, variance)):
            average = _view(running)
            average *= np.float32(layer._momentum)
            average += np.float32(1 - layer._momentum) * now
        ctx.save_for_backward(features, weight, bias, gain, offset)
        ctx.statistics, ctx.settings = (mean, variance), settings
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight, bias, *affine = ctx.saved_tensor()
        dx, dweight, dbias = (paddle.empty(x.shape) for x in (features, weight, bias))
        daffine = np.empty((2, len(weight)), np.float32)
        arrays = _view_maps(features), _view_maps(dout), _view(weight), _view(bias), *ctx.statistics
        results = _view_maps(dx), _view(dweight), _view(dbias), daffine
        arrays = *arrays, *ctx.settings, *results
        _run_in_threads("norm_gradients", weight.shape[0], *arrays)
        pairs = [(features, dx), (weight, dweight), (bias, dbias)]
        sums = daffine.sum(1, dtype=np.float64).astype(np.float32)
        pairs += [
            (tensor, paddle.to_tensor(sums[k : k + 1]))
            for k, tensor in enumerate(affine)
            if tensor is not None
        ]
        return _select_gradients(*pairs)


def _select_gradients(
    *pairs: tuple[paddle.Tensor, paddle.Tensor | None],
) -> tuple[paddle.Tensor | None, ...]:
    """Gradients of the inputs that need one; Paddle requires None for the others."""
    return tuple(None if tensor.stop_gradient else gradient for tensor, gradient in pairs)


def _view(tensor: paddle.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's memory as an array: no copy where it is contiguous."""
    return np.from_dlpack(tensor.detach().contiguous())


def _view_maps(tensor: paddle.Tensor) -> np.ndarray[Any, Any]:
    """The same for [B, D, H, W], as [B, D, HW]."""
    array = _view(tensor)
    return array.reshape(*array.shape[:2], -1)


def _run_in_threads(name: str, channels: int, *arguments: Any) -> None:
    """Run the kernel `name` on all channels, an equal part of them in every thread."""
    run_in_threads(getattr(kernels(), name), channels, *arguments)


def run_in_threads(kernel: Callable[..., None], units: int, *arguments: Any) -> None:
    """Run `kernel` on all units of its work, an equal part of them in every thread."""
    threads = min(_threads(), units)
    cuts = [units * k // threads for k in range(threads + 1)]
    pool = _pool(os.getpid())
    jobs = [pool.submit(kernel, *arguments, *cuts[k : k + 2]) for k in range(1, threads)]
    kernel(*arguments, *cuts[:2])
    for job in jobs:
        job.result()


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process: a forked process has none of its parent's threads."""
    return ThreadPoolExecutor(max(1, _threads() - 1), thread_name_prefix="kernels")


@functools.cache
def _threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdigit() and asked != "0" else usable_cores()


def keep_freed_memory() -> None:
    """Let the C library of Linux (glibc) keep large blocks that were freed, for the next step.

    Otherwise each goes back to the system, which fills the next one with zeros, page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block has a mapping of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: free memory at the end of the heap stays
        mallopt(-2, 2**26)  # M_TOP_PAD: grow by 64 MB
