# SPDX-License-Identifier: Apache-2.0
"""Layers of transformers that training on the CPU computes faster than Paddle, with its result.

As in `layers`: each function calls the layers themselves unless the kernels apply, and evaluation,
export, mixed precision and GPUs never use the kernels. Matrix products are Paddle's. The kernels
do the rest, in one pass over a product where Paddle takes several: bias, activation and residual,
the heads of attention, softmax, LayerNorm and the gradients of all these.

    tokens [B, T, D], B batch, T tokens; heads [B * heads, T, W] with W = D / heads
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from paddlex_ml.kernels import layers

BLOCK = 32  # as in `transformer`, which only a process with numba can import

Gradients: TypeAlias = tuple[paddle.Tensor | None, ...]


def norm(layer: nn.LayerNorm, tokens: paddle.Tensor) -> paddle.Tensor:
    """`layer(tokens)`."""
    whole_rows = list(layer._normalized_shape) == tokens.shape[-1:]
    if whole_rows and _applies(layer, tokens):
        return _Norm.apply(tokens, layer.weight, layer.bias, layer._epsilon)
    return layer(tokens)


def linear_gelu(layer: nn.Linear, tokens: paddle.Tensor) -> paddle.Tensor:
    """`gelu(layer(tokens))`, the exact GELU."""
    if _applies(layer, tokens, "attention"):
        return _LinearGelu.apply(tokens, layer.weight, layer.bias)
    return F.gelu(layer(tokens))


def linear_relu(layer: nn.Linear, tokens: paddle.Tensor) -> paddle.Tensor:
    """`relu(layer(tokens))`."""
    if _applies(layer, tokens):
        return _LinearRelu.apply(tokens, layer.weight, layer.bias)
    return F.relu(layer(tokens))


def add_linear(other: paddle.Tensor, layer: nn.Linear, tokens: paddle.Tensor) -> paddle.Tensor:
    """`other + layer(tokens)`."""
    if other.dtype == tokens.dtype and _applies(layer, tokens, "attention"):
        return _AddLinear.apply(other, tokens, layer.weight, layer.bias)
    return other + layer(tokens)


def attend(layer: nn.Linear, heads: int, tokens: paddle.Tensor) -> paddle.Tensor:
    """Self-attention [B, T, D]; `layer` makes queries, keys and values of the tokens, D of each."""
    if _applies(layer, tokens, "attention"):
        return _Attention.apply(tokens, layer.weight, layer.bias, heads)
    count, width = tokens.shape[1], layer.weight.shape[1] // (3 * heads)
    qkv = layer(tokens).reshape([-1, count, 3, heads, width])  # [B, T, 3, heads, W]
    queries, keys, values = qkv.transpose([2, 0, 3, 1, 4]).unbind(0)  # [B, heads, T, W]
    scores = (queries * width**-0.5) @ keys.transpose([0, 1, 3, 2])  # [B, heads, T, T]
    mixed = F.softmax(scores, axis=-1) @ values  # [B, heads, T, W]
    return mixed.transpose([0, 2, 1, 3]).reshape([-1, count, heads * width])


def cross_attend(
    layer: nn.MultiHeadAttention, queries: paddle.Tensor, tokens: paddle.Tensor
) -> paddle.Tensor:
    """`layer(queries, tokens, tokens)`, with the same random numbers for dropout."""
    heads, width = layer.num_heads, layer.head_dim
    sources = {layer.q_proj: queries, layer.k_proj: tokens, layer.v_proj: tokens}
    if (
        type(layer) is not nn.MultiHeadAttention
        or layer.need_weights
        or layer._forward_pre_hooks
        or layer._forward_post_hooks
        or not all(_applies(inner, source) for inner, source in sources.items())
    ):
        return layer(queries, tokens, tokens)
    asked, keys, values = (
        _Heads.apply(source, inner.weight, inner.bias, heads, scale)
        for (inner, source), scale in zip(sources.items(), (width**-0.5, 1.0, 1.0), strict=True)
    )
    shares = F.softmax(paddle.matmul(asked, keys, transpose_y=True))  # [B * heads, Q, T]
    shares = F.dropout(shares, layer.dropout, training=True)
    mixed = (shares @ values).reshape([-1, heads, queries.shape[1], width])
    return layer.out_proj(mixed.transpose([0, 2, 1, 3]).flatten(2))


def _applies(layer: nn.Layer, tokens: paddle.Tensor, *more_families: str) -> bool:
    """Whether the kernels of the head apply, and of all these families."""
    return (
        layer.weight is not None
        and layer.bias is not None
        and tokens.ndim == 3
        and layers.trains_here(layer, tokens)
        and None not in [layers.kernels(family) for family in ("head", *more_families)]
    )


class _Norm(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        epsilon: float,
    ) -> paddle.Tensor:
        out, statistics = paddle.empty(tokens.shape), paddle.empty([tokens.size // len(bias), 2])
        parameters = layers._view(weight), layers._view(bias), epsilon
        _run("norm_rows", _rows(tokens), *parameters, _rows(out), layers._view(statistics))
        ctx.save_for_backward(tokens, weight, bias, statistics)
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> Gradients:
        tokens, weight, bias, statistics = ctx.saved_tensor()
        dx = paddle.empty(tokens.shape)
        arrays = _rows(tokens), _rows(dout), layers._view(weight), layers._view(statistics)
        dweight, dbias = _run_in_blocks("norm_rows_gradients", 2, *arrays, _rows(dx))
        return layers._select_gradients((tokens, dx), (weight, dweight), (bias, dbias))


class _LinearGelu(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, tokens: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor
    ) -> paddle.Tensor:
        product = tokens @ weight
        out = paddle.empty(product.shape)
        _run("gelu", _rows(product), layers._view(bias), _rows(out))
        ctx.save_for_backward(tokens, weight, bias, product)
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> Gradients:
        tokens, weight, bias, product = ctx.saved_tensor()
        dproduct = paddle.empty(product.shape)
        arrays = _rows(product), layers._view(bias), _rows(dout), _rows(dproduct)
        (dbias,) = _run_in_blocks("gelu_gradients", 1, *arrays)
        return _linear_gradients(tokens, weight, bias, dproduct, dbias)


class _LinearRelu(PyLayer):
    @staticmethod
    def forward(
        ctx: Any, tokens: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor
    ) -> paddle.Tensor:
        out = tokens @ weight
        _run("relu", _rows(out), layers._view(bias))
        ctx.save_for_backward(tokens, weight, bias, out)
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> Gradients:
        tokens, weight, bias, out = ctx.saved_tensor()
        dproduct = paddle.empty(out.shape)
        (dbias,) = _run_in_blocks("relu_gradients", 1, _rows(out), _rows(dout), _rows(dproduct))
        return _linear_gradients(tokens, weight, bias, dproduct, dbias)


class _Heads(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        tokens: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        heads: int,
        scale: float,
    ) -> paddle.Tensor:
        ctx.save_for_backward(tokens, weight, bias)
        ctx.settings = [scale], heads
        return _split(tokens @ weight, bias, heads, [scale])[0]

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> Gradients:
        tokens, weight, bias = ctx.saved_tensor()
        dproduct = _merge([dout], *ctx.settings)
        (dbias,) = _run_in_blocks("column_sums", 1, _rows(dproduct))
        return _linear_gradients(tokens, weight, bias, dproduct, dbias)


class _AddLinear(PyLayer):
    @staticmethod
    def forward(
        ctx: Any,
        other: paddle.Tensor,
        tokens: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
    ) -> paddle.Tensor:
        out = tokens @ weight
        _run("add_rows", _rows(out), layers._view(bias), _rows(other))
        ctx.save_for_backward(other, tokens, weight, bias)
        return out

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> Gradients:
        other, tokens, weight, bias = ctx.saved_tensor()
        (dbias,) = _run_in_blocks("column_sums", 1, _rows(dout))
        gradients = _linear_gradients(tokens, weight, bias, dout, dbias)
        return (*layers._select_gradients((other, dout)), *gradients)


class _Attention(PyLayer):
    """Keeps scaled queries, keys, values and softmax's output; scores are computed in place."""

    @staticmethod
    def forward(
        ctx: Any, tokens: paddle.Tensor, weight: paddle.Tensor, bias: paddle.Tensor, heads: int
    ) -> paddle.Tensor:
        width = weight.shape[1] // (3 * heads)
        scales = width**-0.5, 1.0, 1.0
        product = tokens @ weight  # [B, T, 3D]
        queries, keys, values = _split(product, bias, heads, scales)  # [B * heads, T, W]
        del product
        shares = paddle.matmul(queries, keys, transpose_y=True)  # [B * heads, T, T]
        _run("softmax_rows", _rows(shares))
        ctx.save_for_backward(tokens, weight, bias, queries, keys, values, shares)
        ctx.heads, ctx.scales = heads, scales
        return _merge([shares @ values], [1.0], heads)

    @staticmethod
    def backward(ctx: Any, dout: paddle.Tensor) -> Gradients:
        tokens, weight, bias, queries, keys, values, shares = ctx.saved_tensor()
        (dmixed,) = _split(dout, paddle.zeros([dout.shape[2]]), ctx.heads, [1.0])
        dvalues = _transposed_product(shares, dmixed)
        dscores = paddle.matmul(dmixed, values, transpose_y=True)
        _run("softmax_rows_gradient", _rows(shares), _rows(dscores))
        dkeys = _transposed_product(dscores, queries)
        dproduct = _merge([dscores @ keys, dkeys, dvalues], ctx.scales, ctx.heads)
        (dbias,) = _run_in_blocks("column_sums", 1, _rows(dproduct))
        return _linear_gradients(tokens, weight, bias, dproduct, dbias)


def _transposed_product(scores: paddle.Tensor, heads: paddle.Tensor) -> paddle.Tensor:
    """`scores^T @ heads` [B * heads, T, W] of [B * heads, T, T] and [B * heads, T, W].

    As the transpose of `heads^T @ scores`, which MKL computes faster: with its copy in 0.6 of the
    time, for 785 tokens on one thread.
    """
    return paddle.matmul(heads, scores, transpose_x=True).transpose([0, 2, 1])


def _split(
    product: paddle.Tensor, bias: paddle.Tensor, heads: int, scales: Sequence[float]
) -> list[paddle.Tensor]:
    """Heads of product + bias [B, T, parts * D], each part by its scale: [B * heads, T, W]."""
    batch, count, columns = product.shape
    width = columns // (len(scales) * heads)
    results = [paddle.empty([batch * heads, count, width]) for _ in scales]
    rows, added = _rows(product), layers._view(bias)
    for part, (scale, result) in enumerate(zip(scales, results, strict=True)):
        offset = part * heads * width
        own = added[offset : offset + heads * width]
        arrays = rows, own, offset, np.float32(scale), layers._view(result)
        _run("split_heads", *arrays, units=len(result))
    return results


def _merge(parts: Sequence[paddle.Tensor], scales: Sequence[float], heads: int) -> paddle.Tensor:
    """The way back: parts [B * heads, T, W], each by its scale -> [B, T, parts * D]."""
    both, count, width = parts[0].shape
    merged = paddle.empty([both // heads, count, len(parts) * heads * width])
    for part, (scale, tensor) in enumerate(zip(scales, parts, strict=True)):
        settings = heads, part * heads * width, np.float32(scale)
        _run("merge_heads", layers._view(tensor), _rows(merged), *settings, units=both)
    return merged


def _linear_gradients(
    tokens: paddle.Tensor,
    weight: paddle.Tensor,
    bias: paddle.Tensor,
    dproduct: paddle.Tensor,
    dbias: paddle.Tensor,
) -> Gradients:
    """Gradients of tokens @ weight + bias, those of them that are needed."""
    dtokens = dweight = None
    if not tokens.stop_gradient:
        dtokens = paddle.matmul(dproduct, weight, transpose_y=True)
    if not weight.stop_gradient:
        dweight = paddle.matmul(tokens.flatten(0, 1), dproduct.flatten(0, 1), transpose_x=True)
    return layers._select_gradients((tokens, dtokens), (weight, dweight), (bias, dbias))


def _rows(tensor: paddle.Tensor) -> np.ndarray[Any, Any]:
    """The tensor's memory as rows [N, D]."""
    return layers._view(tensor).reshape(-1, tensor.shape[-1])


def _run(name: str, rows: np.ndarray[Any, Any], *arguments: Any, units: int | None = None) -> None:
    """Run the kernel `name`; it has `units` of work, or as many as there are rows."""
    count = len(rows) if units is None else units
    # Both families are of one module, in which `_applies` has put their functions.
    layers._run_in_threads("head", name, count, None, rows, *arguments)


def _run_in_blocks(name: str, parts: int, rows: np.ndarray[Any, Any], *arguments: Any) -> Any:
    """Run the kernel `name`, which adds up over the rows; returns its sums, `parts` of [D]."""
    blocks = -(-len(rows) // BLOCK)
    sums = np.empty((blocks, parts, rows.shape[1]), np.float32)
    _run(name, rows, *arguments, sums, units=blocks)
    return [paddle.to_tensor(total) for total in sums.sum(0, dtype=np.float64).astype(np.float32)]
