# SPDX-License-Identifier: Apache-2.0
"""Layers that training on the CPU runs with faster kernels than Paddle's, with the same result.

Each function calls the layer itself unless the kernels apply: training on the CPU, float32, dynamic
graph, no mixed precision, and numba installed. Evaluation, export and GPUs never use the kernels.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddlex_ml.cores import usable_cores
from paddlex_ml.kernels import compiler, families, freed_memory
from paddlex_ml.kernels.taps import Grid, Taps
from paddlex_ml.progress import named

logger = logging.getLogger(__name__)

MOST_CHANNELS = 64
"""Dense convolutions with more channels are faster as Paddle's matrix products."""
LEAST_SIZE = 28
"""So are those to smaller maps."""
SMALL_MAP, LEAST_NUMBERS = 0.4, 2**15
"""Pointwise convolutions take all images at once where the map of one, before and after, has at
most this share of the numbers of the weight, and the weight at least so many."""
MOST_POOLED = 15
"""Largest kernel of a max pooling: a byte names the place of a value in the window."""

Activation: TypeAlias = Callable[[paddle.Tensor], paddle.Tensor]


def identity(features: paddle.Tensor) -> paddle.Tensor:
    """Activation of a block that has none."""
    return features


ACTIVATIONS: dict[Activation, int] = {identity: 0, F.relu: 1, F.hardswish: 2}


def convolve(layer: nn.Conv2D, features: paddle.Tensor) -> paddle.Tensor:
    """Output of `layer` for [B, D, H, W]; fast where it is depthwise, pointwise or narrow."""
    if not (_is_plain_training(layer, features) and is_plain(layer)):
        return layer(features)
    kernel, stride, groups = list(layer._kernel_size), list(layer._stride), layer._groups
    is_depthwise = kernel[0] in (3, 5) and groups == layer._in_channels == layer._out_channels
    if is_depthwise and kernels("depthwise"):
        return _Convolution.apply(features, layer.weight, stride[0], "depthwise")
    if groups == 1 and kernel == stride == [1, 1] and kernels("norm"):
        kind = _PointwiseRows if _has_small_maps(features, layer.weight) else _Pointwise
        return kind.apply(features, layer.weight)
    is_dense = groups == 1 and (kernel[0] % 2 == 1 or layer._padding == "SAME")
    if is_dense and _suits_dense(layer, features) and kernels("dense"):
        return _Convolution.apply(features, layer.weight, stride[0], "dense")
    return layer(features)


def is_plain(layer: nn.Conv2D) -> bool:
    """Whether a convolution is one of the kernels' kind: square, without bias and dilation, with
    half of its size of zeros around the maps, and a stride of 1 or 2."""
    kernel, stride = list(layer._kernel_size), list(layer._stride)
    keeps_size = layer._padding == "SAME" and stride == [1, 1]  # a row more after than before
    return (
        layer.bias is None
        and (layer._padding in (kernel[0] // 2, [kernel[0] // 2] * 2) or keeps_size)
        and layer._padding_mode == "zeros"
        and layer._dilation in (1, [1, 1])
        and layer._data_format == "NCHW"
        and kernel[0] == kernel[1]
        and stride in ([1, 1], [2, 2])
    )


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
        or not _is_plain_training(layer, features)
        or features.size
        == features.shape[1]  # one value of each channel, which Paddle leaves alone
        or kernels("norm") is None
    ):
        result = activation(layer(features))
        return result if affine is None else affine[0] * result + affine[1]
    kind = ACTIVATIONS[activation]
    if affine is None or activation is not F.relu:
        result = _Norm.apply(features, layer.weight, layer.bias, None, None, layer, kind)
        return result if affine is None else affine[0] * result + affine[1]
    return _Norm.apply(features, layer.weight, layer.bias, *affine, layer, kind)


def max_pool(layer: nn.MaxPool2D, features: paddle.Tensor) -> paddle.Tensor:
    """Output of `layer` for [B, D, H, W]."""
    kernel, stride, padding = layer.ksize, layer.stride, layer.padding
    if (
        not isinstance(kernel, int)
        or kernel > MOST_POOLED
        or stride not in (1, 2)
        or not (padding == "SAME" or (isinstance(padding, int) and padding < kernel))
        or layer.return_mask
        or layer.data_format != "NCHW"
        or not _is_plain_training(layer, features)
        or min(features.shape[2:]) < kernel
        or kernels("pool") is None
    ):
        return layer(features)
    sizes = [*features.shape[2:]]
    if padding == "SAME":  # what is missing, half of it before the first row
        after = [(size - 1) // stride + 1 for size in sizes]
        missing = [(n - 1) * stride + kernel - m for n, m in zip(after, sizes, strict=True)]
        before = [max(0, number) // 2 for number in missing]
    else:
        more = 2 * padding - kernel + (stride - 1 if layer.ceil_mode else 0)
        after, before = [(size + more) // stride + 1 for size in sizes], [padding, padding]
    return _MaxPool.apply(features, (*sizes, *after, kernel, stride, *before))


def _is_plain_training(layer: nn.Layer, features: paddle.Tensor) -> bool:
    return features.ndim == 4 and trains_here(layer, features)


def trains_here(layer: nn.Layer, features: paddle.Tensor) -> bool:
    """Whether kernels may compute `layer`: in a training on the CPU, in float32, without hooks."""
    weight = getattr(layer, "weight", features)
    return (
        layer.training
        and paddle.in_dynamic_mode()
        and features.place.is_cpu_place()
        and paddle.device.get_device() == "cpu"
        and features.dtype == paddle.float32 == weight.dtype
        and features.size > 0
        and not paddle.amp.is_autocast_enabled()
        and not (layer._forward_pre_hooks or layer._forward_post_hooks)
    )


_loading = threading.RLock()
"""Held by a thread that loads kernels, so that another one waits for them."""


def load_ahead(names: Sequence[str]) -> None:
    """Load what families hold in a thread, while this one waits for the first images.

    Only what is compiled already: this process could not end while it compiles.
    """

    def load() -> None:
        for name in names:
            kernels(name)

    if not compiler.missing(families.names(names)):
        threading.Thread(target=load, name="kernels").start()


@functools.cache
def kernels(family: str) -> ModuleType | None:
    """The module with the compiled kernels of a family; None without numba.

    The first call comes when a training starts. It also lets this process keep the memory that it
    frees, which every training step asks for again.
    """
    with _loading:
        freed_memory.keep()
        if importlib.util.find_spec("numba") is None:
            _say_slower()
            return None
        name, forward, backward = families.FAMILIES[family]
        with named("waiting for kernels that are compiled for this processor"):
            return compiler.load(name, (*forward, *backward), shares_work=_threads() > 1)


@functools.cache
def _say_slower() -> None:
    logger.info("numba is not installed: the model trains with Paddle's own, slower kernels")


def _has_small_maps(features: paddle.Tensor, weight: paddle.Tensor) -> bool:
    """Whether the weight of a pointwise convolution is much larger than the map of an image.

    A product for each image would then read the weight again for few columns, and write a gradient
    of its size. A fixed rule, from times on two cores.
    """
    outputs, inputs = weight.shape[:2]
    numbers = outputs * inputs
    cells = math.prod(features.shape[2:])
    return numbers >= LEAST_NUMBERS and cells * (outputs + inputs) <= SMALL_MAP * numbers


class _PointwiseRows(PyLayer):
    """One product for all images, of rows [D, B * HW]: for small maps."""

    @staticmethod
    def forward(ctx: Any, features: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
        rows = _to_rows(features)
        ctx.save_for_backward(rows, weight)
        ctx.shape, ctx.is_frozen = features.shape, features.stop_gradient
        return _to_maps(paddle.matmul(weight.flatten(1), rows), features.shape)

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        rows, weight = ctx.saved_tensor()
        dout = _to_rows(dout)
        dx = dweight = None
        if not ctx.is_frozen:
            dx = _to_maps(paddle.matmul(weight.flatten(1), dout, transpose_x=True), ctx.shape)
        if not weight.stop_gradient:
            dweight = paddle.matmul(dout, rows, transpose_y=True).reshape(weight.shape)
        return dx, dweight


def _to_rows(features: paddle.Tensor) -> paddle.Tensor:
    """[B, D, H, W] as [D, B * H * W]."""
    return features.transpose([1, 0, 2, 3]).reshape([features.shape[1], -1])


def _to_maps(rows: paddle.Tensor, shape: Sequence[int]) -> paddle.Tensor:
    """[D, B * H * W] as [B, D, H, W]; `shape` has B, H and W."""
    batch, _, height, width = shape
    return rows.reshape([-1, batch, height, width]).transpose([1, 0, 2, 3])


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


class _Convolution(PyLayer):
    """Depthwise or dense; `family` says which."""

    @staticmethod
    def forward(
        ctx: Any, features: paddle.Tensor, weight: paddle.Tensor, stride: int, family: str
    ) -> paddle.Tensor:
        grid = Grid.of(features.shape[2:], weight.shape[2], stride)
        out = paddle.empty([features.shape[0], weight.shape[0], *grid.after])
        taps, settings = grid.forward(_LENGTHS[family]), grid.settings(features.shape[1])
        _convolve(family, features, _arrange(family, _view(weight), taps), taps, settings, out)
        ctx.save_for_backward(features, weight)
        ctx.settings = grid, family
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight = ctx.saved_tensor()
        grid, family = ctx.settings
        dx = dweight = None
        if not weight.stop_gradient:
            dweight = _weight_gradient(family, features, weight.shape, dout, grid)
        if not features.stop_gradient:
            dx = paddle.empty(features.shape)
            taps, settings = grid.backward(_LENGTHS[family]), grid.settings_back(dout.shape[1])
            turned = _view(weight) if family == "depthwise" else _view(weight).swapaxes(0, 1)
            _convolve(family, dout, _arrange(family, turned, taps), taps, settings, dx)
        return _select_gradients((features, dx), (weight, dweight))


_LENGTHS = {"depthwise": (9, 5), "dense": ()}
"""Numbers of taps that a kernel takes at once, besides 1, 2 and 3."""


def _convolve(
    family: str,
    features: paddle.Tensor,
    weight: np.ndarray[Any, Any],
    taps: Taps,
    settings: tuple[tuple[int, ...], tuple[int, ...]],
    out: paddle.Tensor,
) -> None:
    """Fill out."""
    (*_, stride, _, size, margin, _), (*_, stride_out, _, size_out, _) = settings
    lengths = margin + stride * stride * size, stride_out * stride_out * size_out
    parts = out.shape[1]
    if family == "dense":
        lengths = features.shape[1] * lengths[0], 4 * lengths[1]
        parts = features.shape[0] * out.shape[1] // 4
    arrays = _flat(features), weight.ravel(), *taps[1:], *settings, _flat(out)
    _run_in_threads(family, family, parts, lambda first, last: lengths, *arrays)


def _weight_gradient(
    family: str, features: paddle.Tensor, shape: Sequence[int], dout: paddle.Tensor, grid: Grid
) -> paddle.Tensor:
    """Gradient of a convolution by its weight of this shape."""
    distances = grid.forward(()).distances
    count, threes = len(distances), -(-len(distances) // 3) * 3
    distances = np.append(distances, distances[-1:].repeat(threes - count))
    source, target = grid.settings(features.shape[1])
    phases, row = grid.stride**2 * grid.size, grid.length + grid.pitch
    name, channels = f"{family}_weight_gradient", features.shape[1]
    arranged = np.zeros((shape[0] // 4, channels, 4, threes), np.float32)
    parts = shape[0] // 4 * channels
    if family == "depthwise":
        arranged, parts = np.zeros((shape[0], 1, 1, threes), np.float32), shape[0]

    def lengths(first: int, last: int) -> tuple[int, int]:
        if family == "depthwise":
            return phases, row
        return channels * phases, ((last - 1) // channels + 1 - first // channels) * 4 * row

    arrays = _flat(features), _flat(dout), distances, source, target, arranged.ravel()
    _run_in_threads(family, name, parts, lengths, *arrays)
    return paddle.to_tensor(arranged[..., :count].swapaxes(1, 2).reshape(shape))


def _arrange(family: str, weight: np.ndarray[Any, Any], taps: Taps) -> np.ndarray[Any, Any]:
    """Weight [O, I, K, K] as [O / 4, I, 4, taps]; [D, 1, K, K] as [D, 1, taps]."""
    rows, columns = zip(*taps.places, strict=True)
    chosen = weight[:, :, rows, columns]
    if family == "depthwise":
        return np.ascontiguousarray(chosen)
    return np.ascontiguousarray(chosen.reshape(-1, 4, *chosen.shape[1:]).swapaxes(1, 2))


class _MaxPool(PyLayer):
    @staticmethod
    def forward(ctx: Any, features: paddle.Tensor, sizes: tuple[int, ...]) -> paddle.Tensor:
        out = paddle.empty([*features.shape[:2], *sizes[2:4]])
        places = np.empty(out.size, np.uint8)
        planes = features.shape[0] * features.shape[1]
        arrays = _flat(features), sizes, _flat(out), places
        _run_in_threads("pool", "pool", planes, None, *arrays)
        ctx.settings = features.shape, sizes, places
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> paddle.Tensor:
        shape, sizes, places = ctx.settings
        steps, width = np.arange(sizes[4]), sizes[1]
        offsets = (steps[:, None] * width + steps).ravel()
        dx = paddle.empty(shape)
        arrays = _flat(dout), places, sizes, offsets, _flat(dx)
        _run_in_threads("pool", "pool_gradient", shape[0] * shape[1], None, *arrays)
        return dx


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
        settings, batch = (layer._epsilon, activation, affine), features.shape[0]
        arrays = _flat(features), _view(weight), _view(bias), *settings, _flat(out)
        _run_in_threads("norm", "norm", len(mean), None, *arrays, mean, variance, batch)
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
        arrays = _flat(features), _flat(dout), _view(weight), _view(bias), *ctx.statistics
        results = _flat(dx), _view(dweight), _view(dbias), daffine.ravel(), features.shape[0]
        arrays = *arrays, *ctx.settings, *results
        _run_in_threads("norm", "norm_gradients", weight.shape[0], None, *arrays)
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


def _flat(tensor: paddle.Tensor) -> np.ndarray[Any, Any]:
    """The same in one dimension."""
    return _view(tensor).reshape(-1)


def _run_in_threads(
    family: str,
    name: str,
    parts: int,
    lengths: Callable[[int, int], tuple[int, ...]] | None,
    *arguments: Any,
) -> None:
    """Run the kernel `name` on all parts (channels, rows, ...), an equal share in every thread.

    lengths: of arrays of zeros that the kernel needs for parts first..last, to work in.
    """
    kernel: Callable[..., None] = getattr(kernels(family), name)

    def run(first: int, last: int) -> None:
        rooms = () if lengths is None else [np.zeros(n, np.float32) for n in lengths(first, last)]
        kernel(*arguments, first, last, *rooms)

    threads = min(_threads(), parts)
    cuts = [parts * k // threads for k in range(threads + 1)]
    pool = _pool(os.getpid())
    jobs = [pool.submit(run, *cuts[k : k + 2]) for k in range(1, threads)]
    run(*cuts[:2])
    for job in jobs:
        job.result()


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process: a forked process has none of its parent's threads."""
    return ThreadPoolExecutor(max(1, _threads() - 1), thread_name_prefix="kernels")


@functools.cache
def _threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdecimal() and asked != "0" else usable_cores()
