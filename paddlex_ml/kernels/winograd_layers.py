# SPDX-License-Identifier: Apache-2.0
"""Dense 3 x 3 convolutions that training on the CPU computes by Winograd's algorithm.

As in `layers`: `convolve` leaves to that module what it does not do, and evaluation, export, mixed
precision and GPUs never use it. `winograd` says what is computed; the products are Paddle's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from paddlex_ml.kernels import layers

LEAST_CHANNELS, LEAST_SIZE = 48, 28
"""Of convolutions and maps: with fewer the transforms take longer than the products save."""
NUMBERS = 2**20
"""Of the transformed tiles that are worked on at once: they stay in the cache."""
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_WEIGHT = np.einsum("ai,bj->abij", _G, _G).reshape(16, 9)  # G w G^T, of numbers in one dimension


def convolve(layer: nn.Conv2D, features: paddle.Tensor) -> paddle.Tensor:
    """Output of `layer` for [B, D, H, W], as `layers.convolve`."""
    if (
        list(layer._kernel_size) == [3, 3]
        and list(layer._stride) == [1, 1]
        and layer._groups == 1
        and layers.is_plain(layer)
        and min(layer._in_channels, layer._out_channels) >= LEAST_CHANNELS
        and min(features.shape[2:]) >= LEAST_SIZE
        and layers.trains_here(layer, features)
        and layers.kernels("winograd") is not None
    ):
        return _Winograd.apply(features, layer.weight)
    return layers.convolve(layer, features)


class _Winograd(PyLayer):
    @staticmethod
    def forward(ctx: Any, features: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
        ctx.save_for_backward(features, weight)
        return _convolve(features, weight)

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        features, weight = ctx.saved_tensor()
        dx = dweight = None
        if not features.stop_gradient:
            dx = _convolve(dout, weight.transpose([1, 0, 2, 3]).flip([2, 3]))
        if not weight.stop_gradient:
            dweight = _weight_gradient(features, dout)
        return layers._select_gradients((features, dx), (weight, dweight))


def _convolve(features: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """Maps [B, O, H, W] of features [B, I, H, W] and a weight [O, I, 3, 3]."""
    outputs, inputs = weight.shape[:2]
    out = paddle.empty([features.shape[0], outputs, *features.shape[2:]])
    factors = weight.reshape([-1, 9]) @ paddle.to_tensor(_WEIGHT.T.copy())  # [O * I, 16]
    factors = factors.t().reshape([16, outputs, inputs]).contiguous()  # once, not for each part
    for image, top, bottom in _parts(features.shape, outputs):
        products = factors @ _tiles("tile_inputs", features, image, top, bottom)  # [16, O, P]
        _run("join_outputs", out, image, products, top, bottom)
    return out


def _weight_gradient(features: paddle.Tensor, dout: paddle.Tensor) -> paddle.Tensor:
    """Gradient [O, I, 3, 3] of the weight."""
    inputs, outputs = features.shape[1], dout.shape[1]
    total = paddle.zeros([16, outputs, inputs])
    for part in _parts(features.shape, outputs):
        found = _tiles("tile_inputs", features, *part)
        given = _tiles("tile_gradients", dout, *part)
        total.add_(paddle.matmul(given, found, transpose_y=True))
    return (total.flatten(1).t() @ paddle.to_tensor(_WEIGHT)).reshape([outputs, inputs, 3, 3])


def _parts(shape: list[int], outputs: int) -> Iterator[tuple[int, int, int]]:
    """Number of an image, and of its rows of tiles the first and the one after the last."""
    batch, inputs, height, width = shape
    rows, numbers = (height + 1) // 2, 16 * max(inputs, outputs) * ((width + 1) // 2)
    count = min(rows, -(-rows * numbers // NUMBERS))
    for image in range(batch):
        for k in range(count):
            yield image, rows * k // count, rows * (k + 1) // count


def _tiles(name: str, maps: paddle.Tensor, image: int, top: int, bottom: int) -> paddle.Tensor:
    """Transformed tiles [16, D, P] of maps [B, D, H, W]; `name` says how."""
    count = (maps.shape[3] + 1) // 2
    tiles = paddle.empty([16, maps.shape[1], (bottom - top) * count])
    _run(name, maps, image, tiles, top, bottom)
    return tiles


def _run(
    name: str, maps: paddle.Tensor, image: int, tiles: paddle.Tensor, top: int, bottom: int
) -> None:
    """Run a kernel for all channels of one image."""
    arrays = layers._view(maps)[image], layers._view(tiles), top, bottom
    room = 4 * maps.shape[3] + 16
    layers._run_in_threads("winograd", name, maps.shape[1], lambda *_: (room,), *arrays)
