# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph as other tools need it: weights as initializers, all shapes known, no arithmetic
that does not depend on the images.

paddle2onnx writes every weight as a node `Constant`, in which tools for quantisation find no
weights, and computes shapes while the model runs, which OpenCV and others cannot import. Here

- constants become initializers, and nodes that compute from constants alone are computed once,
- batch norm and the bias of a convolution are folded into the convolution,
- shapes that depend on nothing, or on the batch size alone, become constants: 0 stands for "as in
  the input" in a Reshape,
- a constant that is repeated for every image of the batch is left to broadcasting.

Each step leaves a node as it is where its conditions do not hold, so that any graph stays valid.
"""

from __future__ import annotations

import copy
import importlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np

from paddlex_ml import onnx_runtime

BATCH = "batch"
"""Name of the open first axis."""
_TRIED = (5, 7)  # batch sizes: a number of a shape that is 5, then 7, is the batch size
_SMALL = 64  # numbers; a constant with more is a weight, whose values no shape depends on
_GROWTH = 8  # a result that needs more times the bytes of its inputs is left to the runtime
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow")
_COMPUTED = {
    *_ELEMENTWISE,
    *("Cast", "Concat", "Expand", "Floor", "Gather", "LayerNormalization", "MatMul", "Max", "Min"),
    *("Neg", "Range", "ReduceMean", "Reshape", "Resize", "Shape", "Slice", "Sqrt", "Squeeze"),
    *("Transpose", "Unsqueeze"),
}
"""Operators that give the same numbers each time: not those that draw random ones."""

Shape: TypeAlias = tuple[int | str | None, ...]
"""Of a result: numbers, BATCH, and None for what depends on the batch size in another way."""
Arrays: TypeAlias = dict[str, np.ndarray]


def simplify(model: Any, batch_size: int | None) -> Any:
    """A model with the same scores, whose first axis is `batch_size`, or open where it is None.

    `value_info` has the shapes of all intermediate results. `model` is changed and must not be
    used any more. Raises onnx's InferenceError for a graph that contradicts itself.
    """
    graph = _Graph(model, batch_size)
    graph.fix_shapes()
    graph.compute_constants("Expand")
    graph.drop_unused()  # such as what computed the shapes
    graph.leave_to_broadcasting()
    graph.compute_constants()
    graph.fold_into_convolutions()
    graph.drop_unused()
    return graph.build()


class _Graph:
    """The nodes of a model in their order, and its constants as arrays."""

    def __init__(self, model: Any, batch_size: int | None) -> None:
        self._onnx: Any = importlib.import_module("onnx")
        self._runtime = onnx_runtime.load()
        self._model, self._batch_size = model, batch_size
        self._outputs = {value.name for value in model.graph.output}
        self._shapes: dict[str, Shape] = {}
        to_array = self._onnx.numpy_helper.to_array
        self._constants: Arrays = {entry.name: to_array(entry) for entry in model.graph.initializer}
        self._inputs = [v for v in model.graph.input if v.name not in self._constants]
        self._nodes: list[Any] = []
        renamed: dict[str, str] = {}
        for node in model.graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = to_array(node.attribute[0].t)
            elif node.op_type == "Identity" and node.output[0] not in self._outputs:
                renamed[node.output[0]] = node.input[0]
            else:
                self._nodes.append(node)

    def fix_shapes(self) -> None:
        """Make the shapes that Reshape and Expand get constants, where that is possible."""
        self._shapes = self._find_shapes()
        for node in self._nodes.copy():
            if node.op_type not in ("Reshape", "Expand"):
                continue
            shape = self._shapes.get(node.output[0], (None,))
            is_first_kept = shape[:1] == self._shapes.get(node.input[0], ())[:1] != ()
            if node.op_type == "Reshape" and is_first_kept:
                shape = (0, *shape[1:])  # as in the input
            # 0 has another meaning where there are results without any number.
            if all(isinstance(number, int) for number in shape) and 0 not in shape[1:]:
                name = f"{node.output[0]}.shape"
                self._constants[name] = np.array(shape, np.int64)
                node.input[1] = name
                del node.attribute[:]  # "allowzero", which says so
            elif (
                node.op_type == "Expand" and shape[0] == BATCH and {*map(type, shape[1:])} == {int}
            ):
                self._expand_for_each_image(node, shape[1:])

    def _expand_for_each_image(self, node: Any, rest: Shape) -> None:
        """Let the shape of an Expand be the batch size of the images, and `rest`.

        Tools that infer shapes follow these operators, not all of those that paddle2onnx writes.
        """
        make, name = self._onnx.helper.make_node, f"{node.output[0]}.shape"
        self._constants[f"{name}.rest"] = np.array(rest, np.int64)
        self._constants[f"{name}.first"] = np.array([0], np.int64)
        self._nodes[:0] = [
            make("Shape", [self._inputs[0].name], [f"{name}.images"]),
            make("Gather", [f"{name}.images", f"{name}.first"], [f"{name}.batch"], axis=0),
            make("Concat", [f"{name}.batch", f"{name}.rest"], [name], axis=0),
        ]
        node.input[1] = name

    def _find_shapes(self) -> dict[str, Shape]:
        """The shapes of all results, as far as they are known."""
        sizes = (self._batch_size,) if self._batch_size else _TRIED
        found = [self._compute_small(size) for size in sizes]
        return {
            name: _unite(sizes, [shapes[name] for shapes in found])
            for name in found[0]
            if all(name in shapes for shapes in found)
        }

    def _compute_small(self, batch_size: int) -> dict[str, tuple[int, ...]]:
        """The shapes of all results for a batch size; some need the values of small results."""
        values = {name: array for name, array in self._constants.items() if array.size <= _SMALL}
        while True:
            graph = self._infer_shapes(batch_size, values)
            shapes = {
                name: array.shape for name, array in (*self._constants.items(), *values.items())
            }
            for value in (*graph.input, *graph.value_info, *graph.output):
                tensor = value.type.tensor_type
                is_known = all(axis.HasField("dim_value") for axis in tensor.shape.dim)
                if tensor.HasField("shape") and is_known:
                    shapes[value.name] = tuple(axis.dim_value for axis in tensor.shape.dim)
            before = len(values)
            for node in self._nodes:
                output = node.output[0]
                if output in values or node.op_type not in _COMPUTED:
                    continue
                if node.op_type == "Shape" and not node.attribute and node.input[0] in shapes:
                    values[output] = np.array(shapes[node.input[0]], np.int64)
                elif all(name in values for name in node.input if name):
                    result = self._run(node, values)
                    if result is not None and result.size <= _SMALL:
                        values[output] = result
            if len(values) == before:
                return shapes

    def _infer_shapes(self, batch_size: int | str, values: Arrays) -> Any:
        """A graph with the shapes of all results, in which weights are inputs; slow with them.

        values: what is known of small results; nodes that compute them are left out.
        """
        helper, to_tensor = self._onnx.helper, self._onnx.numpy_helper.from_array
        kind = helper.np_dtype_to_tensor_dtype
        known = {**self._constants, **values}
        graph = helper.make_graph(
            [node for node in self._nodes if node.output[0] not in values],
            "shapes",
            [
                *_with_batch(self._inputs, batch_size),
                *(
                    helper.make_tensor_value_info(name, kind(array.dtype), array.shape)
                    for name, array in known.items()
                    if name not in values
                ),
            ],
            _with_batch(self._model.graph.output, batch_size),
            [to_tensor(array, name) for name, array in values.items()],
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        infer = self._onnx.shape_inference.infer_shapes
        return infer(model, strict_mode=True, data_prop=True).graph

    def compute_constants(self, *excluded: str) -> None:
        """Compute nodes whose inputs are all constants, and take them out.

        excluded: operators that stay.
        """
        kept = []
        for node in self._nodes:
            output, inputs = node.output[0], {name for name in node.input if name}
            if (
                node.op_type in _COMPUTED - {*excluded}
                and inputs <= self._constants.keys()
                and output not in self._outputs
            ):
                result = self._run(node, self._constants)
                size = sum(self._constants[name].nbytes for name in inputs)
                if result is not None and result.nbytes <= _GROWTH * size:
                    self._constants[output], self._shapes[output] = result, result.shape
                    continue
            kept.append(node)
        self._nodes = kept

    def _run(self, node: Any, values: Arrays) -> np.ndarray | None:
        """What a node gives for constants, the first of its results; None where it has to stay."""
        helper = self._onnx.helper
        known = {name: values[name] for name in node.input if name}
        given = {name: array for name, array in known.items() if array.size > _SMALL}
        graph = helper.make_graph(
            [node],
            "node",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for name, array in given.items()
            ],
            [helper.make_empty_tensor_value_info(node.output[0])],
            [
                self._onnx.numpy_helper.from_array(array, name)
                for name, array in known.items()
                if name not in given  # shapes, whose values other checks need
            ],
        )
        model = helper.make_model_gen_version(graph, opset_imports=self._model.opset_import)
        options = self._runtime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        try:
            session = self._runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return np.asarray(session.run(None, given)[0])
        except Exception:  # an operator without an implementation for this type
            return None

    def leave_to_broadcasting(self) -> None:
        """Take out each Expand that repeats a constant for every image, where nothing needs it."""
        for node in self._nodes.copy():
            data = self._constants.get(node.input[0]) if node.op_type == "Expand" else None
            if data is None or not data.ndim or len(data) != 1:
                continue
            first = self._batch_size or BATCH
            if self._shapes.get(node.output[0]) != (first, *data.shape[1:]):
                continue
            if self._is_broadcast(node.output[0], first):
                self._nodes.remove(node)
                for other in self._nodes:
                    other.input[:] = [
                        node.input[0] if name == node.output[0] else name for name in other.input
                    ]
                self._shapes = self._find_shapes()

    def _is_broadcast(self, repeated: str, first: int | str) -> bool:
        """Whether a result may have one row in place of one per image: no score changes."""
        single = {repeated}
        for node in self._nodes:
            if not single & {*node.input}:
                continue
            others = [name for name in node.input if name and name not in single]
            rank = len(self._shapes.get(node.output[0], ()))
            shapes = [self._shapes.get(name, (None,)) for name in others]
            same_rank = [shape for shape in shapes if len(shape) == rank]
            is_binary = node.op_type in _ELEMENTWISE or (node.op_type == "MatMul" and rank > 2)
            if is_binary and any(shape[0] == first for shape in same_rank):
                continue  # the result has a row per image again
            if self._outputs & {*node.output} or any(n not in self._constants for n in others):
                return False
            if not rank:  # of unknown shape
                return False
            if is_binary and any(shape[0] != 1 for shape in same_rank):
                return False
            if not self._keeps_rows_apart(node, others, rank):
                return False
            single.add(node.output[0])
        return True

    def _keeps_rows_apart(self, node: Any, constants: list[str], rank: int) -> bool:
        """Whether row i of the result depends on row i of the other input alone."""
        given = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        match node.op_type:
            case "MatMul":
                return rank > 2 and node.input[0] not in constants
            case "Reshape":
                return bool(self._constants[node.input[1]][0] == 0) and not given.get("allowzero")
            case "Transpose":
                return bool(given["perm"][0] == 0)
            case "LayerNormalization":
                return bool(given.get("axis", -1) % rank != 0)
            case "ReduceMean":
                axes = self._constants[constants[0]] if constants else given.get("axes", [0])
                return all(axis % rank != 0 for axis in axes)
            case _:
                return node.op_type in (*_ELEMENTWISE, "Sqrt")

    def fold_into_convolutions(self) -> None:
        """Take batch norm, and the addition of a bias, into the convolution before them."""
        users = Counter(name for node in self._nodes for name in node.input)
        makers = {node.output[0]: node for node in self._nodes}
        kept = []
        for node in self._nodes:
            source = next((n for n in node.input if n in makers and n not in self._constants), "")
            conv = makers.get(source)
            is_alone = users[source] == 1 and source not in self._outputs
            if conv is None or conv.op_type != "Conv" or not is_alone:
                kept.append(node)
                continue
            folded = self._fold(conv, node)
            if folded is None:
                kept.append(node)
                continue
            output = node.output[0]
            names = f"{output}.weight", f"{output}.bias"
            self._constants.update(zip(names, folded, strict=True))
            conv.input[:] = [conv.input[0], *names]
            conv.output[0] = output
            makers[output] = conv
        self._nodes = kept

    def _fold(self, conv: Any, node: Any) -> tuple[np.ndarray, np.ndarray] | None:
        """Weight and bias of a convolution that does the work of `node` too, or None."""
        arrays = [self._constants.get(name) for name in (*conv.input[1:], *node.input)]
        weight, *bias = arrays[: len(conv.input) - 1]
        given = [array for array in arrays[len(conv.input) - 1 :] if array is not None]
        if weight is None or any(array is None for array in bias):
            return None
        channels = len(weight)
        start = bias[0].astype(np.float64) if bias and bias[0] is not None else np.zeros(channels)
        if node.op_type == "Add" and len(given) == 1:
            shape = (1,) * (weight.ndim - given[0].ndim) + given[0].shape
            if shape != (1, channels, *(1,) * (weight.ndim - 2)):
                return None
            return weight, (start + given[0].reshape(-1)).astype(weight.dtype)
        if node.op_type == "BatchNormalization" and len(given) == 4 and len(node.output) == 1:
            attributes = {a.name: a for a in node.attribute}
            if "training_mode" in attributes and attributes["training_mode"].i:
                return None
            epsilon = attributes["epsilon"].f if "epsilon" in attributes else 1e-5
            scale, shift, mean, variance = (array.astype(np.float64) for array in given)
            factor = scale / np.sqrt(variance + epsilon)
            changed = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
            shifted = (start - mean) * factor + shift
            return changed.astype(weight.dtype), shifted.astype(weight.dtype)
        return None

    def drop_unused(self) -> None:
        """Take out the nodes and constants that no output of the graph needs."""
        needed, kept = set(self._outputs), []
        for node in reversed(self._nodes):
            if needed & {*node.output}:
                needed |= {*node.input}
                kept.append(node)
        self._nodes = kept[::-1]
        self._constants = {n: array for n, array in self._constants.items() if n in needed}

    def build(self) -> Any:
        """The model of what is left."""
        graph, size = self._model.graph, self._batch_size or BATCH
        shapes = self._find_shapes()
        small = {name: array for name, array in self._constants.items() if array.size <= _SMALL}
        from_array = self._onnx.numpy_helper.from_array
        made = self._onnx.helper.make_graph(
            self._nodes,
            graph.name,
            _with_batch(self._inputs, size),
            _with_batch(graph.output, size),
            [from_array(array, name) for name, array in self._constants.items()],
            value_info=[
                self._onnx.helper.make_tensor_value_info(
                    value.name, value.type.tensor_type.elem_type, shapes.get(value.name)
                )
                for value in self._infer_shapes(size, small).value_info
            ],
        )
        self._model.graph.CopyFrom(made)
        self._model.ir_version = self._onnx.helper.find_min_ir_version_for(self._model.opset_import)
        return self._model


def _unite(sizes: tuple[int, ...], found: list[tuple[int, ...]]) -> Shape:
    """One shape for the shapes that were found for these batch sizes."""
    if len(sizes) == 1:
        return found[0]
    return tuple(
        numbers[0] if len({*numbers}) == 1 else BATCH if numbers == sizes else None
        for numbers in zip(*found, strict=True)
    )


def _with_batch(values: Iterable[Any], size: int | str) -> list[Any]:
    """Copies of inputs or outputs of a graph with this number, or name, of their first axis."""
    copies = copy.deepcopy([*values])
    for value in copies:
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        setattr(axis, "dim_param" if isinstance(size, str) else "dim_value", size)
    return copies
