# SPDX-License-Identifier: Apache-2.0
"""Layers that training on the CPU runs with faster kernels than Paddle's, with the same result.

Each function calls the layer itself unless the kernels apply: training on the CPU, float32, dynamic
graph, no mixed precision, and numba installed. Evaluation, export and GPUs never use the kernels.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddlex_ml.cores import usable_cores
from paddlex_ml.storage import cache

logger = logging.getLogger(__name__)

Activation: TypeAlias = Callable[[paddle.Tensor], paddle.Tensor]


def identity(features: paddle.Tensor) -> paddle.Tensor:
    """Activation of a block that has none."""
    return features


ACTIVATIONS: dict[Activation, int] = {identity: 0, F.relu: 1, F.hardswish: 2}


def convolve(layer: nn.Conv2D, features: paddle.Tensor) -> paddle.Tensor:
    """Output of `layer` for [B, D, H, W]; fast where it is depthwise or pointwise."""
    if not _applies(layer, features):
        return layer(features)
    kernel, stride, groups = list(layer._kernel_size), list(layer._stride), layer._groups
    padding = kernel[0] // 2
    is_plain = (
        layer.bias is None
        and layer._padding in (padding, [padding, padding])
        and layer._padding_mode == "zeros"
        and layer._dilation in (1, [1, 1])
        and layer._data_format == "NCHW"
    )
    is_depthwise = groups == layer._in_channels == layer._out_channels
    if is_plain and is_depthwise and kernel in ([3, 3], [5, 5]) and stride in ([1, 1], [2, 2]):
        return _Depthwise.apply(features, layer.weight, stride[0])
    if is_plain and groups == 1 and kernel == stride == [1, 1]:
        return _Pointwise.apply(features, layer.weight)
    return layer(features)


def norm_activate(
    layer: nn.BatchNorm2D, activation: Activation, features: paddle.Tensor
) -> paddle.Tensor:
    """`activation(layer(features))` of [B, D, H, W], in one step."""
    if (
        type(layer) is not nn.BatchNorm2D
        or activation not in ACTIVATIONS
        or layer._use_global_stats
        or layer.weight is None
        or layer.bias is None
        or not _applies(layer, features)
    ):
        return activation(layer(features))
    return _Norm.apply(features, layer.weight, layer.bias, layer, ACTIVATIONS[activation])


def _applies(layer: nn.Layer, features: paddle.Tensor) -> bool:
    return (
        layer.training
        and paddle.in_dynamic_mode()
        and features.place.is_cpu_place()
        and paddle.device.get_device() == "cpu"
        and features.dtype == paddle.float32 == layer.weight.dtype
        and features.ndim == 4
        and features.size > 0
        and not paddle.amp.is_autocast_enabled()
        and not (layer._forward_pre_hooks or layer._forward_post_hooks)
        and kernels() is not None
    )


@functools.cache
def kernels() -> ModuleType | None:
    """The compiled kernels; None without numba. The first call comes when a training starts.

    Also lets this process keep the memory that it frees, which every training step asks for again.
    """
    keep_freed_memory()
    if importlib.util.find_spec("numba") is None:
        logger.info("numba is not installed: convolutions train with Paddle's own, slower kernels")
        return None
    cache.give_to_library("NUMBA_CACHE_DIR", "numba")
    begin = time.perf_counter()
    try:
        module = importlib.import_module("paddlex_ml.kernels.convolution")
    except (ImportError, RuntimeError, OSError) as fault:  # for example an unsuitable numpy
        logger.warning("numba does not work here; training is slower without it: %s", fault)
        return None
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


class _Norm(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        features: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        layer: nn.BatchNorm2D,
        activation: int,
    ) -> paddle.Tensor:
        out = paddle.empty(features.shape)
        mean, variance = np.empty((2, features.shape[1]), np.float32)
        settings = layer._epsilon, activation
        arrays = _view_maps(features), _view(weight), _view(bias), *settings, _view_maps(out)
        _run_in_threads("norm", len(mean), *arrays, mean, variance)
        for running, now in ((layer._mean, mean), (layer._variance, variance)):
            average = _view(running)
            average *= np.float32(layer._momentum)
            average += np.float32(1 - layer._momentum) * now
        ctx.save_for_backward(features, weight, bias)
        ctx.statistics, ctx.settings = (mean, variance), settings
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight, bias = ctx.saved_tensor()
        dx, dweight, dbias = (paddle.empty(x.shape) for x in (features, weight, bias))
        arrays = _view_maps(features), _view_maps(dout), _view(weight), _view(bias), *ctx.statistics
        results = _view_maps(dx), _view(dweight), _view(dbias)
        arrays = *arrays, *ctx.settings, *results
        _run_in_threads("norm_gradients", weight.shape[0], *arrays)
        return _select_gradients((features, dx), (weight, dweight), (bias, dbias))


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
    kernel: Callable[..., None] = getattr(kernels(), name)
    threads = min(_threads(), channels)
    cuts = [channels * k // threads for k in range(threads + 1)]
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
