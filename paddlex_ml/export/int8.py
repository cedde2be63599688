# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph whose layers compute in 8 bits, as far as a plan says, by onnxruntime's quantizer.

    int8      weights and inputs in 8 bits: fast where the processor multiplies such numbers
    weights   weights in 8 bits, which become float32 again before the layer computes
    float     as it was

(`half`, weights and computation in half precision, is what exports in fp16 have.) Weights get a
scale for every output channel, inputs one scale and one zero point, from the range that they have
on images of the user (arXiv:1712.05877). The graph has pairs of QuantizeLinear and
DequantizeLinear, which onnxruntime, OpenVINO and TensorRT read.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from paddlex_ml import onnx_runtime

Level: TypeAlias = Literal["int8", "half", "weights", "float"]
Plan: TypeAlias = Mapping[str, Level]
"""Name of a layer -> how it computes."""

KINDS = ("Conv", "MatMul", "Gemm")
"""Operators that have nearly all of a model's weights and time."""
_LARGEST = 127
_OUTSIDE = 1e-4
_SAMPLED = 1 << 17
_SMALLEST_SCALE = 1e-12  # of a channel whose weights are all zero


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with weights."""

    name: str
    kind: str
    shape: tuple[int, ...]
    """Of its weights."""
    products: int
    """Multiplications for one image."""

    @property
    def weights(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)


class Int8Graph:
    """A graph in float32 from which graphs with layers in 8 bits are made."""

    def __init__(self, path: Path) -> None:
        """Read an ONNX file of `export.onnx`, whose shapes are written down."""
        self._onnx: Any = importlib.import_module("onnx")
        onnx_runtime.load()  # before a part of it is imported
        self._quantization: Any = importlib.import_module("onnxruntime.quantization")
        self._model = self._onnx.load(path)
        self._ranges: Any = None
        for number, node in enumerate(self._model.graph.node):
            node.name = node.name or f"{node.op_type}_{number}"
        self.layers = list(self._find_layers())

    def measure_ranges(self, batches: Iterable[np.ndarray]) -> None:
        """Note the ranges of what the layers get and give, from images float32 [B, 3, S, S].

        A range leaves out the _OUTSIDE lowest and highest numbers of a batch: rare large ones would
        make the steps of all others coarse. Mean over the batches.
        """
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        wanted = {each.name for each in self.layers}
        nodes = [node for node in model.graph.node if node.name in wanted]
        names = sorted({name for node in nodes for name in (node.input[0], node.output[0])})
        there = {value.name for value in (*model.graph.output, *model.graph.input)}
        empty = self._onnx.helper.make_empty_tensor_value_info
        model.graph.output.extend(empty(name) for name in names if name not in there)
        run = onnx_runtime.open_session(model.SerializeToString()).run
        found: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for images in batches:
            outputs = [name for name in names if name != "x"]
            results = dict(zip(outputs, run(outputs, {"x": images}), strict=True)) | {"x": images}
            for name in names:
                found[name].append(np.quantile(_sample(results[name]), (_OUTSIDE, 1 - _OUTSIDE)))
        means = {name: np.mean(values, axis=0).astype(np.float32) for name, values in found.items()}
        self._ranges = self._quantization.TensorsData(
            self._quantization.CalibrationMethod.MinMax,
            {name: (low.reshape(()), high.reshape(())) for name, (low, high) in means.items()},
        )

    def build(self, plan: Plan) -> Any:
        """The model with each layer as `plan` has it; layers that it does not name stay float.

        Ranges must have been measured where a layer is `int8`.
        """
        model = self._onnx.ModelProto()
        model.CopyFrom(self._model)
        names = [name for name, level in plan.items() if level == "int8"]
        if names:
            kind = self._quantization.QuantType
            quantizer = self._quantization.QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=False,
                weight_qType=kind.QInt8,
                activation_qType=kind.QUInt8,
                tensors_range=self._ranges,
                nodes_to_quantize=names,
                nodes_to_exclude=[],
                op_types_to_quantize=KINDS,
                extra_options={"MatMulConstBOnly": True},
            )
            quantizer.quantize_model()
            model = quantizer.model.model
        self._compress(model, {name for name, level in plan.items() if level == "weights"})
        return model

    def _find_layers(self) -> Iterator[Layer]:
        graph = self._model.graph
        weights = {each.name: tuple(each.dims) for each in graph.initializer}
        shapes = {
            value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
            for value in (*graph.value_info, *graph.output)
        }
        for node in graph.node:
            if node.op_type in KINDS and node.input[1] in weights:
                shape = weights[node.input[1]]
                # Each result is a sum over the inputs of one output channel.
                rows = node.op_type == "Conv" or _is_transposed(node)
                outputs = shape[0] if rows else shape[-1]
                results = math.prod(shapes.get(node.output[0], [])[1:])
                products = results * math.prod(shape) // outputs
                yield Layer(node.name, node.op_type, shape, products)

    def _compress(self, model: Any, names: set[str]) -> None:
        """Put the weights of these layers into 8 bits, with a scale for each output channel."""
        graph, helper, arrays = model.graph, self._onnx.helper, self._onnx.numpy_helper
        kept = {each.name: each for each in graph.initializer}
        added: dict[str, Any] = {}
        for node in graph.node:
            if node.name not in names:
                continue
            name = node.input[1]
            node.input[1] = f"{name}_from_int8"
            if name in added:
                continue  # two layers share their weights
            values = arrays.to_array(kept[name])
            axis = 0 if node.op_type == "Conv" or _is_transposed(node) else values.ndim - 1
            numbers, scales = _round(values, axis)
            parts = {f"{name}_int8": numbers, f"{name}_scales": scales}
            # Without it, onnxruntime would take one zero for all channels.
            parts[f"{name}_zeros"] = np.zeros(len(scales), np.int8)
            graph.initializer.extend(arrays.from_array(v, k) for k, v in parts.items())
            added[name] = helper.make_node(
                "DequantizeLinear",
                list(parts),
                [f"{name}_from_int8"],
                f"{name}_dequantized",
                axis=axis,
            )
        nodes = [*added.values(), *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        used = {name for node in graph.node for name in node.input}
        weights = [each for each in graph.initializer if each.name in used]
        del graph.initializer[:]
        graph.initializer.extend(weights)


def _is_transposed(node: Any) -> bool:
    """Whether the weights of a Gemm are [outputs, inputs]."""
    return any(each.name == "transB" and each.i for each in node.attribute)


def _round(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers int8, and the scale float32 of each place on the axis: values = numbers x scale."""
    others = tuple(each for each in range(values.ndim) if each != axis)
    scales = np.maximum(np.abs(values).max(axis=others) / _LARGEST, _SMALLEST_SCALE)
    scales = scales.astype(np.float32)
    sides = [1] * values.ndim
    sides[axis] = -1
    numbers = np.rint(values / scales.reshape(sides))
    return np.clip(numbers, -_LARGEST, _LARGEST).astype(np.int8), scales


def _sample(values: np.ndarray) -> np.ndarray:
    """At most about _SAMPLED numbers of an array, from all over it."""
    flat = values.reshape(-1)
    return flat[:: max(1, flat.size // _SAMPLED) | 1]  # odd: not always the same channel
