# SPDX-License-Identifier: Apache-2.0
"""A graph of OpenVINO whose layers compute in 8 bits, as far as a plan says.

    int8      weights and inputs in 8 bits: what OpenVINO calls FakeQuantize
    weights   weights in 8 bits, which become float32 again before the layer computes
    float     as it was

Results of a layer are left alone: OpenVINO puts them into 8 bits only where the next layer takes
them so. Channels of an input may differ a hundredfold, and one range for all would leave few steps
for the small ones. So each channel is divided by a factor of its own before its numbers become
whole, and the weights that read it are multiplied by the same factor (SmoothQuant, arXiv:
2211.10438); a depthwise convolution, whose weights have a scale for each channel, loses nothing.
A result of one pixel has one range: OpenVINO 2026.4 computes a convolution of 1 x 1 whose result
gets a range for each channel wrong where that has one pixel and the batch one image (AVX-512).

Weights of a layer in 8 bits use seven of them: processors without VNNI add up two products in 16
bits, which would overflow with eight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml import openvino_runtime
from paddlex_ml.export import openvino
from paddlex_ml.export.int8 import Layer, Level, Plan

_KINDS = ("Convolution", "GroupConvolution", "MatMul")
_STEPS = 255  # of an input in 8 bits, without sign
_LARGEST: dict[Level, int] = {"int8": 63, "weights": 127}
_SHARE = 0.5  # of the difference between channels that the weights take over
_SMALLEST = 1e-12  # of a scale, where all numbers are zero


class OpenvinoInt8:
    """A graph in float32 from which graphs with layers in 8 bits are made."""

    def __init__(self, path: Path) -> None:
        """Read an .xml of `export.openvino`."""
        self._model = openvino.load(path)
        self._operators: Any = openvino_runtime.load("opset13")
        self._ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._means: dict[str, np.ndarray] = {}
        self._factors: dict[str, np.ndarray] = {}
        self.layers = list(self._find_layers())

    def _find_layers(self) -> Iterator[Layer]:
        for node in self._model.get_ordered_ops():
            kind = node.get_type_name()
            if kind not in _KINDS or node.input_value(1).get_node().get_type_name() != "Constant":
                continue
            shape = tuple(node.input_value(1).get_shape())
            groups, outputs = _divide(node, np.zeros(shape, bool)).shape[:2]
            sides = [side.get_length() for side in list(node.get_output_partial_shape(0))[1:]]
            products = math.prod(sides) // (groups * outputs) * math.prod(shape)
            yield Layer(node.get_friendly_name(), kind, shape, products)

    def measure_ranges(self, batches: Iterable[np.ndarray]) -> None:
        """Note the range of each channel of what the layers get, from images float32 [B, 3, S, S].

        From the lowest to the highest number of all images. A map of few pixels has few numbers of
        a channel, so that what is left out there is no rare one.
        """
        nodes = [node for _, node in self._pairs(self._model)]
        sources = {_name(node): node.input_value(0) for node in nodes}
        model = openvino_runtime.load().Model([*sources.values()], self._model.get_parameters())
        request = openvino_runtime.compile_model(model).create_infer_request()
        found: dict[str, list[np.ndarray]] = {name: [] for name in sources}
        for images in batches:
            results = request.infer({0: np.ascontiguousarray(images)})
            for number, name in enumerate(sources):
                given = np.moveaxis(results[number], 1 if results[number].ndim == 4 else -1, 0)
                rows = given.reshape(len(given), -1)
                found[name].append(
                    np.stack([each(axis=1) for each in (rows.min, rows.max, rows.mean)])
                )
        for name, batch_ends in found.items():
            lows, highs, means = np.stack(batch_ends, axis=1)
            low, high = lows.min(axis=0), highs.max(axis=0)
            self._ranges[name], self._means[name] = (low, high), means.mean(axis=0)
            largest = np.maximum(np.maximum(-low, high), _SMALLEST)
            readers = [node for node in nodes if _name(node) == name]
            is_pixel = _has_one_pixel(sources[name])
            self._factors[name] = (
                np.ones(len(largest)) if is_pixel else _choose_factors(largest, readers)
            )

    def build(self, plan: Plan) -> Any:
        """The model with each layer as `plan` has it; layers that it does not name stay float.

        Ranges must have been measured where a layer is `int8`.
        """
        model, made = self._model.clone(), dict[str, Any]()
        for layer, node in self._pairs(model):
            level = plan.get(layer.name, "float")
            if level == "float":
                continue
            weights, name = node.input_value(1).get_node().data, _name(node)
            parts = _divide(node, weights)
            means = self._means.get(name, np.zeros(len(parts) * parts.shape[2]))
            if level == "int8":
                factors = self._factors[name]
                parts, means = parts * factors.reshape(len(parts), 1, -1, 1), means / factors
                made[name] = made.get(name) or self._quantise(node.input_value(0), name)
                node.input(0).replace_source_output(made[name])
            self._quantise_weights(node, parts, weights.shape, means, _LARGEST[level])
        return model

    def _pairs(self, model: Any) -> list[tuple[Layer, Any]]:
        """The layers with their operators in this copy of the model."""
        nodes = {node.get_friendly_name(): node for node in model.get_ops()}
        return [(layer, nodes[layer.name]) for layer in self.layers]

    def _quantise(self, source: Any, name: str) -> Any:
        """The numbers of a result in 8 bits, divided by its factors."""
        (low, high), factors = self._ranges[name], self._factors[name]
        lowest = min(float((low / factors).min()), 0.0)
        highest = max(float((high / factors).max()), 0.0)
        step = max((highest - lowest) / _STEPS, _SMALLEST)
        zero = round(-lowest / step)  # a whole number: zeros, such as padding, stay exact
        ends = np.array([-zero * step, (_STEPS - zero) * step], np.float32)
        rank = len(source.get_partial_shape())
        given = [(end * factors).astype(np.float32).reshape(1, -1, 1, 1) for end in ends]
        given = given if rank == 4 else [*ends]
        return self._operators.fake_quantize(source, *given, *ends, _STEPS + 1).output(0)

    def _quantise_weights(
        self, node: Any, parts: np.ndarray, whole: Sequence[int], means: np.ndarray, most: int
    ) -> None:
        """Put weights into whole numbers; the bias behind them gets what that adds in the mean."""
        scales = np.abs(parts).max(axis=(2, 3), keepdims=True) / most
        spread = np.maximum(scales, _SMALLEST).astype(np.float32)
        numbers = np.clip(np.rint(parts / spread), -most, most).astype(np.int8)
        shape, make = list(whole), self._operators
        for axis in _input_axes(node, len(shape)):
            shape[axis] = 1
        read = make.convert(make.constant(_join(node, numbers, whole)), "f32")
        restored = make.multiply(read, make.constant(_join(node, spread, shape)))
        node.input(1).replace_source_output(restored.output(0))
        errors = (numbers * spread - parts).sum(axis=3) * means.reshape(len(parts), 1, -1)
        self._correct_bias(node, errors.sum(axis=2).reshape(-1))

    def _correct_bias(self, node: Any, errors: np.ndarray) -> None:
        """Take the mean error of each channel from the constant that is added to a result."""
        (reader, *others) = node.output(0).get_target_inputs()
        adding = reader.get_node()
        if others or adding.get_type_name() != "Add":
            return
        bias = adding.input_value(1 - reader.get_index()).get_node()
        if bias.get_type_name() == "Constant" and bias.data.size == len(errors):
            changed = (bias.data - errors.reshape(bias.data.shape)).astype(np.float32)
            adding.input(1 - reader.get_index()).replace_source_output(
                self._operators.constant(changed).output(0)
            )


def _name(node: Any) -> str:
    """Of the result that a layer gets."""
    source = node.input_value(0)
    return f"{source.get_node().get_friendly_name()}:{source.get_index()}"


def _has_one_pixel(source: Any) -> bool:
    """Whether a result is [N, C, 1, 1], as behind a pooling of the whole map."""
    sides = list(source.get_partial_shape())[2:]
    return len(sides) == 2 and all(side.is_static and side.get_length() == 1 for side in sides)


def _input_axes(node: Any, sides: int) -> Sequence[int]:
    """The axes of weights over which a result is a sum."""
    if sides == 2:
        return (1,) if _is_transposed(node) else (0,)
    return range(sides - 3, sides)  # [..., inputs, rows, columns]


def _divide(node: Any, weights: np.ndarray) -> np.ndarray:
    """Weights as [groups, outputs, inputs, places]."""
    if weights.ndim == 2:
        return (weights if _is_transposed(node) else weights.T)[None, :, :, None]
    groups = weights.shape[0] if weights.ndim == 5 else 1
    return weights.reshape(groups, *weights.shape[-4:-2], -1)


def _join(node: Any, parts: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """What `_divide` has divided, in its former shape."""
    turned = parts[0, :, :, 0].T if len(shape) == 2 and not _is_transposed(node) else parts
    return np.ascontiguousarray(turned.reshape(shape))


def _is_transposed(node: Any) -> bool:
    return bool(node.get_attributes().get("transpose_b"))


def _choose_factors(largest: np.ndarray, readers: Sequence[Any]) -> np.ndarray:
    """What each channel of a result is divided by, from the largest number of each, [channels].

    readers: the layers that get it.
    """
    taken = np.zeros(len(largest))
    if any(node.get_type_name() == "MatMul" for node in readers):
        return np.ones(len(largest))  # OpenVINO has factors only for channels that come second
    for node in readers:
        parts = np.abs(_divide(node, node.input_value(1).get_node().data))
        if parts.shape[1:3] == (1, 1):  # depthwise: its scales take all
            continue
        taken = np.maximum(taken, parts.max(axis=(1, 3)).reshape(-1))
    if not taken.any():
        return largest
    return np.asarray(largest**_SHARE / np.maximum(taken, _SMALLEST) ** (1 - _SHARE))
