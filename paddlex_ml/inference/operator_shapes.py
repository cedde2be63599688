# SPDX-License-Identifier: Apache-2.0
"""The shape of an operator's result from the shapes of what it is given, as engines compute it.

Operators of Paddle 3, of Paddle 2, of ONNX and of OpenVINO: those that our exports have, and common
other ones.
A shape may be larger than that of the engine where nothing follows from it, never smaller. The
values of tensors are followed where they may become a shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

_KNOWN = 4096  # numbers of a tensor whose values are followed


class Batch(int):
    """A side that is the number of images, or depends on it."""


class Tensor(NamedTuple):
    """A tensor as far as it is known before the graph runs."""

    shape: tuple[int, ...]
    values: tuple[int, ...] | None = None
    """Its numbers, where they are whole, few and known."""


class UnknownSizeError(Exception):
    """A result whose size is not known before the graph runs."""


Given: TypeAlias = list[Any]
Rule: TypeAlias = Callable[[Given, Mapping[str, Any]], Sequence[Sequence[int] | Tensor]]


def values_of(tensor: Tensor | None) -> tuple[int, ...]:
    """The numbers of a tensor that decides a size. Raises UnknownSizeError."""
    if tensor is None or tensor.values is None:
        raise UnknownSizeError("makes a result whose size is not known before it runs")
    return tensor.values


def _computed(side: int, sides: Iterable[int]) -> int:
    """A side that was computed from others, which may depend on the number of images."""
    return Batch(side) if any(isinstance(each, Batch) for each in sides) else side


def _broadcast(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    shapes = [tensor.shape for tensor in given if tensor is not None]
    axis = attributes.get("axis", -1)  # of Paddle 2: where the second one is put
    if axis > 0 and len(shapes) == 2:
        shapes[1] += (1,) * (len(shapes[0]) - axis - len(shapes[1]))
    longest = max(map(len, shapes))
    aligned = [(1,) * (longest - len(shape)) + shape for shape in shapes]
    return [[0 if 0 in sides else max(sides) for sides in zip(*aligned, strict=True)]]


def arithmetic(compute: Callable[..., int]) -> Rule:
    """An operator between two tensors, whose values are followed too."""

    def rule(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
        (shape,) = _broadcast(given, attributes)
        known = [each.values for each in given if each is not None]
        values, count = None, math.prod(shape)
        if count <= _KNOWN and all(v is not None and len(v) in (1, count) for v in known):
            spread = [v * count if len(v) == 1 else v for v in known if v is not None]
            values = tuple(compute(*numbers) for numbers in zip(*spread, strict=True))
            if None in values:  # of the number of images
                values = None
        return [Tensor(tuple(shape), values)]

    return rule


def _plain(compute: Callable[[int, int], int], *, keeps_order: bool) -> Callable[..., Any]:
    """Of whole numbers; None for what is no number, or not known for all numbers of images.

    keeps_order: whether a result grows in proportion to one of two numbers, where none is negative.
    """

    def of(one: int, other: int) -> int | None:
        varying = isinstance(one, Batch) + isinstance(other, Batch)
        is_unsure = varying > 1 or (varying and (not keeps_order or min(one, other) < 0))
        if is_unsure or max(abs(one), abs(other)) > 1 << 62:
            return None
        result = compute(one, other)
        return Batch(result) if varying else result

    return of


def _equal(one: int, other: int) -> Any:
    if isinstance(one, Batch) or isinstance(other, Batch):
        return 0 if min(one, other) < 0 else None
    return int(one == other)


def _matmul(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x, y = (list(tensor.shape) for tensor in given[:2])
    x, y = x if len(x) > 1 else [1, *x], y if len(y) > 1 else [*y, 1]
    for shape, names in ((x, ("transpose_x", "trans_x")), (y, ("transpose_y", "trans_y"))):
        if any(attributes.get(name) for name in names):
            shape[-2:] = shape[:-3:-1]
    (ahead,) = _broadcast([Tensor(tuple(x[:-2])), Tensor(tuple(y[:-2]))], {})
    whole = [*ahead, x[-2], y[-1]]
    ranks = [len(tensor.shape) for tensor in given[:2]]
    drop = {len(whole) - 2} if ranks[0] < 2 else set()
    drop |= {len(whole) - 1} if ranks[1] < 2 else set()
    return [[side for number, side in enumerate(whole) if number not in drop]]


def _windows(
    x: Sequence[int], kernel: Sequence[int], attributes: Mapping[str, Any]
) -> Sequence[int]:
    """Sides of a convolution or pooling over windows of this kernel."""
    if attributes.get("data_format", attributes.get("data_layout", "NCHW")) not in ("NCHW", ""):
        raise UnknownSizeError("puts channels last, which is not read")
    count = len(kernel)
    strides = attributes.get("strides") or [1] * count
    dilations = attributes.get("dilations") or [1] * count
    pads = attributes.get("paddings") or attributes.get("pads") or [0] * count
    if min(*strides, *dilations, *kernel) < 1 or len(x) != count + 2:
        raise ValueError("windows of no size")
    if len(pads) == count:
        both = [2 * pad for pad in pads]
    elif "pads" in attributes:  # of ONNX: all that are ahead, then all that are behind
        both = [pads[n] + pads[n + count] for n in range(count)]
    else:
        both = [pads[2 * n] + pads[2 * n + 1] for n in range(count)]
    way = attributes.get("padding_algorithm", attributes.get("auto_pad", "EXPLICIT"))
    sides = []
    for n, (side, stride) in enumerate(zip(x[2:], strides, strict=True)):
        if str(way).startswith("SAME"):
            sides.append(-(-side // stride))
            continue
        left = side + (0 if way == "VALID" else both[n]) - dilations[n] * (kernel[n] - 1) - 1
        up = stride - 1 if attributes.get("ceil_mode") else 0
        sides.append(max(0, (left + up) // stride + 1))
    return sides


def _conv(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x, weight = given[0].shape, given[1].shape
    return [[x[0], weight[0], *_windows(x, weight[2:], attributes)]]


def _pool(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    if attributes.get("global_pooling"):
        return [[*x[:2], *[1] * len(x[2:])]]
    kernel = attributes.get("ksize") or attributes.get("kernel_shape") or values_of(given[1])
    if attributes.get("adaptive"):
        return [[*x[:2], *kernel]]
    return [[*x[:2], *_windows(x, kernel, attributes)]]


def _concat(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    parts = [*given]
    axis = attributes["axis"] if "axis" in attributes else values_of(parts.pop())[0]
    shapes = [part.shape for part in parts]
    shape = list(shapes[0])
    ends = [each[axis] for each in shapes]
    shape[axis] = _computed(sum(ends), ends)
    values = [part.values for part in parts if part]
    known = len(shape) == 1 and shape[0] <= _KNOWN and None not in values
    return [Tensor(tuple(shape), tuple(n for v in values if v for n in v) if known else None)]


def _stack(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    """Of Paddle: tensors along a new axis, or one of the only numbers of others ("sides")."""
    shape, values = list(given[0].shape), [part.values for part in given]
    axis = attributes.get("axis", 0)
    if axis is None:  # some of the numbers have a side of 1, others have none
        shape = [len(given)]
    else:
        shape.insert(axis if axis >= 0 else len(shape) + 1 + axis, len(given))
    known = len(shape) == 1 and shape[0] <= _KNOWN and None not in values
    return [Tensor(tuple(shape), tuple(n for v in values if v for n in v) if known else None)]


def _reshape(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    x, first = given[0].shape, given[0]
    wanted = values_of(given[1]) if len(given) > 1 and given[1] else attributes["shape"]
    copies = not attributes.get("allowzero")
    sides = [x[n] if side == 0 and copies else side for n, side in enumerate(wanted)]
    if -1 in sides:
        others = [side for side in sides if side != -1]
        whole = -(-math.prod(x) // max(1, math.prod(others)))
        is_named = any(isinstance(side, Batch) for side in others)  # the number of images
        sides[sides.index(-1)] = whole if is_named else _computed(whole, x)
    return [Tensor(tuple(sides), first.values)]


def _flatten(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    if "start_axis" not in attributes:  # of ONNX: always two sides
        axis = attributes.get("axis", 1)
        return [[_computed(math.prod(part), part) for part in (x[:axis], x[axis:])]]
    start, stop = (attributes[name] % len(x) for name in ("start_axis", "stop_axis"))
    part = x[start : stop + 1]
    return [[*x[:start], _computed(math.prod(part), part), *x[stop + 1 :]]]


def _unsqueeze(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    x, axes = (
        list(given[0].shape),
        values_of(given[1]) if len(given) > 1 else attributes.get("axes", ()),
    )
    rank = len(x) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x.insert(axis, 1)
    return [Tensor(tuple(x), given[0].values)]


def _squeeze(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    x, axes = given[0].shape, values_of(given[1]) if len(given) > 1 else attributes.get("axes", ())
    gone = {axis % len(x) for axis in axes} or {n for n, side in enumerate(x) if side == 1}
    kept = tuple(side for n, side in enumerate(x) if n not in gone)
    return [Tensor(kept, given[0].values)]


def _slice(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    x, values = list(given[0].shape), given[0].values
    names = ("starts", "ends", "axes", "steps")
    parts = {n: t.values for n, t in zip(names, given[1:], strict=False) if t}
    starts: Any = parts.get("starts") or attributes.get("starts")
    ends: Any = parts.get("ends") or attributes.get("ends")
    steps: Any = parts.get("steps")
    axes: Any = parts.get("axes") or attributes.get("axes") or [*range(len(x))]
    drop = {axis % len(x) for axis in attributes.get("decrease_axis") or ()}
    if not starts or not ends:  # of any part: no more than the whole
        values = None
        starts, ends = [0] * len(axes), [1 << 62] * len(axes)
    for n, axis in enumerate(axes):
        part = slice(starts[n], ends[n], steps[n] if steps else None)
        length = len(range(x[axis])[part])
        values = values[part] if values is not None and len(x) == 1 else None
        x[axis] = x[axis] if length == x[axis] else _computed(length, [x[axis]])
    return [Tensor(tuple(side for n, side in enumerate(x) if n not in drop), values)]


def _split(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = list(given[0].shape)
    axis = attributes.get("axis", 0)
    sizes = attributes.get("split") or (
        values_of(given[1]) if len(given) > 1 and given[1] else None
    )
    if sizes is None:
        return [x]  # parts are no larger
    return [[*x[:axis], size, *x[axis % len(x) + 1 :]] for size in sizes]


def _gather(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    x, indices = given[0].shape, given[1]
    has_axis = len(given) > 2 and given[2]  # Paddle's, as a tensor
    axis = (values_of(given[2])[0] if has_axis else attributes.get("axis", 0)) % len(x)
    shape = (*x[:axis], *indices.shape, *x[axis + 1 :])
    values, picked = given[0].values, indices.values if indices else None
    if values is not None and picked is not None and len(x) == 1:
        return [Tensor(shape, tuple(values[number] for number in picked))]
    return [shape]  # type: ignore[list-item]


def _transpose(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    order = attributes.get("perm") or attributes.get("axis") or range(len(x))[::-1]
    if sorted(order) != [*range(len(x))]:
        raise ValueError("an order of other sides")
    return [[x[number] for number in order]]


def _expand(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    wanted = values_of(given[1]) if len(given) > 1 and given[1] else attributes["shape"]
    x = (1,) * (len(wanted) - len(x)) + x
    wanted = (1,) * (len(x) - len(wanted)) + tuple(wanted)
    return [[a if b == -1 else max(a, b) for a, b in zip(x, wanted, strict=True)]]


def _tile(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    times = values_of(given[1]) if len(given) > 1 and given[1] else attributes["repeat_times"]
    longest = max(len(x), len(times))
    x, times = (1,) * (longest - len(x)) + x, (1,) * (longest - len(times)) + tuple(times)
    return [[a * b for a, b in zip(x, times, strict=True)]]


def full(given: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    """A constant: the shape is an attribute, or the values of a tensor."""
    shape = tuple(values_of(given[0]) if given and given[0] else attributes["shape"])
    value, count = attributes.get("value", 0), math.prod(shape)
    is_known = count <= _KNOWN and isinstance(value, int | float) and float(value).is_integer()
    return [Tensor(shape, (int(value),) * count if is_known else None)]


def _constant(_: Given, attributes: Mapping[str, Any]) -> Sequence[Tensor]:
    value = attributes.get("value", attributes.get("value_ints"))
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [Tensor((len(value),), tuple(value) if len(value) <= _KNOWN else None)]
    if "value_int" in attributes:
        return [Tensor((), (attributes["value_int"],))]
    return [Tensor((len(attributes.get("value_floats", [0])),))]


def _range(given: Given, _: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    (start,), (stop,), (step,) = (values_of(tensor) for tensor in given[:3])
    if any(isinstance(number, Batch) for number in (start, stop, step)) or not step:
        raise UnknownSizeError("makes a range whose length is not known before it runs")
    return [[len(range(start, stop, step))]]


def _pad(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    pads = values_of(given[1]) if len(given) > 1 and given[1] else attributes["paddings"]
    if len(pads) == 2 * len(x):
        return [[s + pads[n] + pads[n + len(x)] for n, s in enumerate(x)]]
    most = sum(max(0, pad) for pad in pads)  # in the order of Paddle: at most all at each side
    return [[*x[:2], *(side + most for side in x[2:])]]


def _resize(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    sides = [attributes.get(name, -1) for name in ("out_d", "out_h", "out_w")][-len(x[2:]) :]
    scale = attributes.get("scale") or ()
    if len(given) > 3 and given[3] and "out_h" not in attributes:  # of ONNX
        sides = [*values_of(given[3])]
        return [sides if len(sides) == len(x) else [*x[:2], *sides]]
    if any(tensor is not None for tensor in given[1:]) or (min(sides) < 1 and not scale):
        raise UnknownSizeError("resizes to a size that is not known before it runs")
    if min(sides) < 1:
        factors = [*scale] * (len(x[2:]) if len(scale) == 1 else 1)
        sides = [math.ceil(side * by) for side, by in zip(x[2:], factors, strict=True)]
    return [[*x[:2], *sides]]


def _reduce(given: Given, attributes: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    x = given[0].shape
    axes = attributes.get("axes", attributes.get("dim", attributes.get("axis")))
    if len(given) > 1 and given[1]:
        axes = values_of(given[1])
    axes = [axes] if isinstance(axes, int) else axes
    gone = {axis % len(x) for axis in axes} if axes else {*range(len(x))}
    keeps = attributes.get("keepdims", attributes.get("keepdim", attributes.get("keep_dim", 1)))
    return [[1 if n in gone else s for n, s in enumerate(x) if keeps or n not in gone]]


_ADD = arithmetic(_plain(lambda a, b: a + b, keeps_order=True))
_SUBTRACT = arithmetic(_plain(lambda a, b: a - b, keeps_order=False))
_MULTIPLY = arithmetic(_plain(lambda a, b: a * b, keeps_order=True))
_DIVIDE = arithmetic(_plain(lambda a, b: a // b, keeps_order=True))
_SAME_IN_PADDLE = (
    *("batch_norm", "batch_norm_", "dropout", "gelu", "hard_sigmoid", "hard_swish"),
    *("hardsigmoid", "hardswish", "layer_norm", "leaky_relu", "relu", "relu6", "scale"),
    *("sigmoid", "silu", "softmax", "sqrt", "square", "swish", "tanh", "exp", "fetch"),
)
_SAME_IN_ONNX = (
    *("BatchNormalization", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid"),
    *("HardSwish", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Log"),
    *("Mish", "Neg", "PRelu", "Reciprocal", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus"),
    *("Sqrt", "Tanh", "Abs", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    *("GroupNormalization", "LpNormalization", "LogSoftmax", "Not", "Floor", "Ceil", "Round"),
    *("SimplifiedLayerNormalization", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"),
)
_SAME_IN_OPENVINO = (
    *("ReLU", "HSwish", "HSigmoid", "Swish", "Clamp", "SoftMax", "MVN", "NormalizeL2", "Negative"),
    *("Ceiling", "SoftPlus", "PReLU"),
)
_SAME = (*_SAME_IN_PADDLE, *_SAME_IN_ONNX, *_SAME_IN_OPENVINO)
RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, lambda given, _: [given[0].shape]),
    **dict.fromkeys(
        ("Identity", "Cast", "cast", "assign", "share_data", "Convert"), lambda given, _: [given[0]]
    ),
    **dict.fromkeys(
        (
            *("Pow", "elementwise_pow", "Sum", "Mean", "Greater", "Less", "And", "Or"),
            *("Power", "FakeQuantize", "SquaredDifference"),
        ),
        _broadcast,
    ),
    **dict.fromkeys(("add", "Add", "elementwise_add"), _ADD),
    **dict.fromkeys(
        ("subtract", "Sub", "elementwise_sub", "Subtract"),
        _SUBTRACT,
    ),
    **dict.fromkeys(
        ("multiply", "Mul", "elementwise_mul", "Multiply"),
        _MULTIPLY,
    ),
    **dict.fromkeys(("divide", "Div", "elementwise_div", "Divide"), _DIVIDE),
    **dict.fromkeys(("Max", "Maximum"), arithmetic(_plain(max, keeps_order=True))),
    **dict.fromkeys(("Min", "Minimum"), arithmetic(_plain(min, keeps_order=True))),
    "Equal": arithmetic(_equal),
    **dict.fromkeys(
        ("Where", "Select"), arithmetic(lambda is_first, one, other: one if is_first else other)
    ),
    **dict.fromkeys(("matmul", "matmul_v2", "MatMul", "MatMulInteger"), _matmul),
    "QLinearMatMul": lambda given, attributes: _matmul([given[0], given[3]], attributes),
    "Gemm": lambda given, attributes: [
        [
            given[0].shape[1 if attributes.get("transA") else 0],
            given[1].shape[0 if attributes.get("transB") else 1],
        ]
    ],
    "mul": lambda given, attributes: [
        [
            *given[0].shape[: attributes.get("x_num_col_dims", 1)],
            *given[1].shape[attributes.get("y_num_col_dims", 1) :],
        ]
    ],
    **dict.fromkeys(("conv2d", "depthwise_conv2d", "Conv", "ConvInteger", "Convolution"), _conv),
    "GroupConvolution": lambda given, attributes: _conv(
        [given[0], Tensor((math.prod(given[1].shape[:2]), *given[1].shape[2:]))], attributes
    ),
    "QLinearConv": lambda given, attributes: _conv([given[0], given[3]], attributes),
    **dict.fromkeys(("pool2d", "MaxPool", "AveragePool", "AvgPool"), _pool),
    **dict.fromkeys(
        ("GlobalAveragePool", "GlobalMaxPool", "QLinearGlobalAveragePool"),
        lambda given, _: [[*given[0].shape[:2], *[1] * len(given[0].shape[2:])]],
    ),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), lambda given, _: _broadcast(given[0:4:3], {})),
    "QLinearConcat": lambda given, attributes: _concat(given[2::3], attributes),
    **dict.fromkeys(("concat", "Concat"), _concat),
    "sides": _stack,
    "stack": _stack,
    **dict.fromkeys(("reshape", "reshape2", "Reshape"), _reshape),
    **dict.fromkeys(("flatten", "flatten_contiguous_range", "Flatten"), _flatten),
    **dict.fromkeys(("unsqueeze", "unsqueeze2", "Unsqueeze"), _unsqueeze),
    **dict.fromkeys(("squeeze", "squeeze2", "Squeeze"), _squeeze),
    **dict.fromkeys(("slice", "Slice"), _slice),
    **dict.fromkeys(("Split", "VariadicSplit"), _split),
    "unbind": lambda given, attributes: (
        [[side for n, side in enumerate(given[0].shape) if n != attributes.get("axis", 0)]]
        * min(given[0].shape[attributes.get("axis", 0)], _KNOWN)
    ),
    **dict.fromkeys(("parts", "combine"), lambda given, _: given),
    **dict.fromkeys(
        ("shape", "shape64", "Shape", "ShapeOf"),
        lambda given, _: [Tensor((len(given[0].shape),), tuple(given[0].shape))],
    ),
    **dict.fromkeys(("gather", "Gather"), _gather),
    **dict.fromkeys(("transpose", "transpose2", "Transpose"), _transpose),
    **dict.fromkeys(("expand", "expand_v2", "Expand", "Broadcast"), _expand),
    **dict.fromkeys(("tile", "Tile"), _tile),
    **dict.fromkeys(("full", "fill_constant", "ConstantOfShape"), full),
    **dict.fromkeys(("full_int_array", "Constant"), _constant),
    **dict.fromkeys(("arange", "Range"), _range),
    **dict.fromkeys(("pad", "pad3d", "Pad"), _pad),
    **dict.fromkeys(
        (
            *("bicubic_interp", "bicubic_interp_v2", "bilinear_interp", "bilinear_interp_v2"),
            *("nearest_interp", "nearest_interp_v2", "Resize"),
        ),
        _resize,
    ),
    **dict.fromkeys(
        ("mean", "max", "sum", "reduce_mean", "ReduceMean", "ReduceSum", "ReduceMax"), _reduce
    ),
}
"""Operator -> its rule. Names of Paddle 3, of Paddle 2, of ONNX and of OpenVINO, which differ where
the operators do; `openvino_nodes` gives the few others their form in ONNX."""
