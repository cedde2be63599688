# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from paddlex_ml.artifacts import safetensors_file, weights
from paddlex_ml.errors import PaddlexMLError

TYPES = ("float16", "float32", "float64", "int8", "int64", "uint8")


def write(path: Path, table: dict, content: bytes) -> Path:
    """A file with this table, whatever it says: the library would refuse to write most of these."""
    head = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + content)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_every_type_of_number_is_read_as_it_was_written(path):
    arrays = {name: np.arange(6, dtype=name).reshape(2, 3) for name in TYPES}
    arrays["scalar"], arrays["none"] = np.array(1.5), np.zeros((0, 2), np.float32)
    save_file(arrays, path, metadata={"format": "pd"})
    found = weights.read(path)
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert [found[name].dtype.name for name in TYPES] == list(TYPES)


def test_texts_are_read_without_the_numbers(path):
    save_file({"a": np.zeros(2)}, path, metadata={"format": "pd", "名": "蓝"})
    assert safetensors_file.read_metadata(path) == {"format": "pd", "名": "蓝"}
    save_file({"a": np.zeros(2)}, path)
    assert safetensors_file.read_metadata(path) == {}
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PaddlexMLError, match="not a safetensors file, or a damaged one"):
        safetensors_file.read_metadata(path)


def test_bfloat16_becomes_float32(path):
    values = np.array([1.0, -2.5, 3.140625], np.float32)  # exact in 8 bits of mantissa
    bits = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    write(path, {"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}, bits)
    assert weights.read(path)["a"].tolist() == values.tolist()
    assert weights.read(path)["a"].dtype == np.float32


def test_the_content_decides_and_not_the_name(path, tmp_path):
    save_file({"a": np.ones(2, np.float32)}, path)
    other = path.rename(tmp_path / "model.pdparams")
    assert safetensors_file.is_safetensors(other)
    assert weights.read(other)["a"].tolist() == [1, 1]


def test_the_suffix_may_be_left_out(path, tmp_path):
    save_file({"a": np.ones(2, np.float32)}, path)
    assert weights.locate(str(tmp_path / "model"), "Evaluate.weight_path") == path
    (tmp_path / "model.pdparams").touch()  # ours comes first
    assert weights.locate(str(tmp_path / "model"), "-").suffix == ".pdparams"


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ({"a": ONE}, bytes(7), "or a damaged one"),  # truncated
        ({"a": ONE}, bytes(9), "or a damaged one"),
        ({"a": {**ONE, "data_offsets": [0, 4]}}, bytes(4), "or a damaged one"),
        ({"a": {**ONE, "data_offsets": [-8, 0]}}, bytes(8), "or a damaged one"),
        ({"a": {**ONE, "dtype": "F33"}}, bytes(8), "or a damaged one"),
        ({"a": {**ONE, "shape": [2**62, 2**62]}}, bytes(8), "or a damaged one"),
        ({"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, bytes(2), "type BOOL"),
        ({"a": ONE}, np.array([1, np.nan], "<f4").tobytes(), "'a' holds NaN or infinite"),
        ({}, b"", "it holds no tensors"),
    ],
)
def test_what_is_damaged_is_refused_by_name(path, table, content, message):
    write(path, table, content)
    with pytest.raises(PaddlexMLError, match=message) as caught:
        weights.read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.what


def test_a_table_that_is_cut_is_refused(path):
    save_file({"a": np.ones(2, np.float32)}, path)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(PaddlexMLError, match="not a safetensors file, or a damaged one"):
        weights.read(path)
