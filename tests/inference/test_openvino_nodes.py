# SPDX-License-Identifier: Apache-2.0
"""What a stranger may write into the files of OpenVINO."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import graph_memory, openvino_nodes

BROADCAST = """
<net name="m" version="11">
<layers>
<layer id="0" name="x" type="Parameter" version="opset1">
<data shape="?,3,8,8" element_type="f32"/>
<output><port id="0"><dim>-1</dim><dim>3</dim><dim>8</dim><dim>8</dim></port></output>
</layer>
<layer id="1" name="c" type="Const" version="opset1">
<data element_type="{kind}" shape="{shape}" offset="{offset}" size="{size}"/>
<output><port id="0" precision="I64"><dim>4</dim></port></output>
</layer>
<layer id="2" name="b" type="{operator}" version="opset3">
<data {data}/>
<input><port id="0"><dim>1</dim></port><port id="1"><dim>4</dim></port></input>
<output><port id="2" precision="FP32"><dim>1</dim></port></output>
</layer>
<layer id="3" name="scores" type="Result" version="opset1">
<input><port id="0"><dim>-1</dim><dim>2</dim></port></input>
</layer>
</layers>
<edges>
<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
<edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
<edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
</edges>
</net>
"""
USUAL = {
    **{"kind": "i64", "shape": "4", "offset": "0", "size": "32"},
    **{"operator": "Broadcast", "data": 'mode="numpy"'},
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model that stretches images to a shape, which is a constant."""

    def make(shape: tuple[int, ...] = (2, 3, 8, 8), text: str = BROADCAST, **changes: str) -> Path:
        numbers = b"".join(side.to_bytes(8, "little", signed=True) for side in shape)
        (tmp_path / "m.bin").write_bytes(numbers)
        path = tmp_path / "m.xml"
        path.write_text(text.format(**USUAL | changes).strip())
        return path

    return make


def check(path: Path) -> None:
    graph_memory.check(openvino_nodes.read(path), (8, 8), path)


def test_operators_shapes_and_constants_are_read(write: Callable[..., Path]) -> None:
    graph = openvino_nodes.read(write())
    assert [node.kind for node in graph.nodes] == ["Broadcast"]
    assert graph.nodes[0].inputs == ["0:0", "1:0"]
    assert graph.inputs == {"0:0": [-1, 3, 8, 8]}
    assert graph.outputs == [[-1, 2]]
    assert graph.known["1:0"].values == (2, 3, 8, 8)
    check(write())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"shape": (1 << 40, 3, 8, 8)}, "asks for a tensor of .* numbers \\(Broadcast"),
        ({"shape": (2, 3, 1 << 20, 1 << 20)}, "asks for a tensor of"),
        ({"operator": "Tile", "shape": (1, 1 << 40, 1, 1)}, "asks for a tensor of"),
        ({"operator": "Loop"}, "uses the operator 'Loop'"),
        ({"operator": "If"}, "uses the operator 'If'"),
        ({"operator": "RandomUniform"}, "uses the operator 'RandomUniform'"),
    ],
)
def test_graphs_that_ask_for_too_much_are_refused(write, change, what) -> None:
    with pytest.raises(PaddlexMLError, match=what) as error:
        check(write(**change))
    assert "a source that you trust" in error.value.fix


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"shape": (2, 3)}, "does not lie within the 16 bytes"),
        ({"offset": "-8"}, "does not lie within"),
        ({"offset": "9000000000000000000000"}, "does not lie within"),
        ({"size": "8"}, "does not lie within"),
        ({"shape": (2, 3, 8, 8), "kind": "string"}, "of the type string"),
        ({"data": 'mode="explicit"'}, "aligns its inputs in another way"),
    ],
)
def test_constants_that_are_not_there_are_refused(write, change, what) -> None:
    with pytest.raises(PaddlexMLError, match=what):
        openvino_nodes.read(write(**change))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("<net ", '<!DOCTYPE net [<!ENTITY a "a">]><net ', "DOCTYPE"),
        ("<layers>", '<layers xmlns="urn:other">', "name spaces"),
        ("<edges>", "<layers></layers><edges>", "not one list of layers"),
        ('version="11"', 'version="10"', "version 11"),
        ("<edges>", "<edges><edge/>", "damaged"),
        ('id="2" name="b"', 'id="1" name="b"', "two layers have one number"),
        (
            "</edges>",
            '<edge from-layer="0" from-port="0" to-layer="2" to-port="1"/></edges>',
            "an input has two sources",
        ),
        ("</net>", "", "no element found"),
        ("<input><port", "<input></input><input><port", "two descriptions"),
        ('type="Const"', 'type="Constant"', "a Constant, has no input or no numbers"),
        ('type="Broadcast"', 'type="Constant"', "a Constant, has no input or no numbers"),
        ('type="Const"', 'type="Range"', "a Range, has no input or no numbers"),
    ],
)
def test_what_parsers_may_understand_differently_is_refused(write, old, new, what) -> None:
    text = BROADCAST.replace("{operator}", "Broadcast")
    assert old in text
    with pytest.raises(PaddlexMLError, match=what) as error:
        openvino_nodes.read(write(text=text.replace(old, new, 1)))
    assert "m.xml and m.bin" in error.value.fix


def test_pipes_and_sparse_giants_are_refused(write: Callable[..., Path]) -> None:
    path = write()
    weights = path.with_suffix(".bin")
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(PaddlexMLError, match="a named pipe"):
        openvino_nodes.read(path)
    weights.unlink()
    with pytest.raises(PaddlexMLError, match="No such file"):
        openvino_nodes.read(path)
    with path.open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(PaddlexMLError, match="at most 33,554,432 are read"):
        openvino_nodes.read(path)


def test_the_graph_of_an_export_fits_the_one_of_onnx(openvino_folder: Path, onnx_folder: Path):
    path = openvino_folder / "inference.xml"
    graph = openvino_nodes.read(path)
    graph_memory.check(graph, (64, 64), path)
    assert [*graph.inputs.values()] == [[-1, 3, 64, 64]]
    assert graph.outputs == [[-1, 5]]
    onnx = openvino_nodes.read(onnx_folder / "inference.onnx")
    counts = [
        sum(re.match("(Group)?Conv", node.kind) is not None for node in each.nodes)
        for each in (graph, onnx)
    ]
    assert counts[0] == counts[1] > 10


def test_an_onnx_file_with_weights_outside_is_refused(onnx_folder: Path, tmp_path: Path) -> None:
    onnx: Any = importlib.import_module("onnx")
    model = onnx.load(onnx_folder / "inference.onnx")
    path = tmp_path / "inference.onnx"
    outside = {"location": "weights.bin", "size_threshold": 1024, "convert_attribute": True}
    onnx.save(model, path, save_as_external_data=True, **outside)
    with pytest.raises(PaddlexMLError, match="its weights are in other files"):
        openvino_nodes.read(path)
