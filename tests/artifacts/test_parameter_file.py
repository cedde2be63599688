# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from paddlex_ml.artifacts import parameter_file
from paddlex_ml.errors import PaddlexMLError


def tensor(description: bytes, numbers: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<IQIi", 0, 0, 0, len(description) if length is None else length)
    return head + description + numbers


FLOATS = b"\x08\x05"  # the type
TWO_BY_THREE = FLOATS + b"\x10\x02\x10\x03"
PACKED = FLOATS + b"\x12\x02\x02\x03"
TERABYTES = FLOATS + b"\x10\x80\x80\x80\x80\x80\x80\x80\x01"  # one side of 2^49
NEGATIVE = FLOATS + b"\x10" + b"\xff" * 9 + b"\x01"


@pytest.mark.parametrize("description", [TWO_BY_THREE, PACKED])
def test_both_forms_of_sides_are_read(tmp_path: Path, description: bytes) -> None:
    path = tmp_path / "inference.pdiparams"
    path.write_bytes(2 * tensor(description, bytes(24)))
    parameter_file.read_shapes(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (tensor(TWO_BY_THREE, bytes(20)), "tensor 1 of 24 bytes ends at 50, the file at 46"),
        (tensor(TERABYTES, bytes(20)), "tensor 1 of 2,251,799,813,685,248 bytes ends"),
        (tensor(NEGATIVE, b""), "a side that no weights have"),
        (tensor(b"\x08\x63\x10\x01", bytes(8)), "a type or a side"),
        (tensor(TWO_BY_THREE[:-1], bytes(24)), "a description is cut off"),
        (tensor(FLOATS + b"\x10\x82", bytes(24)), "a description is cut off"),
        (tensor(b"\x18\x01", b""), "a description has a part 24"),
        (tensor(TWO_BY_THREE, b"", 1 << 30), "tensor 1 begins as none does"),
        (tensor(TWO_BY_THREE, b"", -5), "tensor 1 begins as none does"),
        (tensor(TWO_BY_THREE, bytes(24)) + b"\0\0", "tensor 2 is cut off"),
        (b"\xff" * 64, "tensor 1 begins as none does"),
    ],
)
def test_a_file_that_does_not_hold_its_tensors_is_refused(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "inference.pdiparams"
    path.write_bytes(content)
    with pytest.raises(PaddlexMLError, match=told):
        parameter_file.read_shapes(path)


def test_the_digests_of_tensors_do_not_depend_on_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    tensors = [tensor(TWO_BY_THREE, bytes([i]) * 24) for i in range(3)]
    first.write_bytes(b"".join(tensors))
    second.write_bytes(b"".join(reversed(tensors)))
    digests = parameter_file.digest_tensors(first)
    assert len(set(digests)) == 3
    assert parameter_file.digest_tensors(second) == digests
    second.write_bytes(b"".join(tensors[:2]) + tensor(TWO_BY_THREE, b"\x07" * 24))
    assert parameter_file.digest_tensors(second) != digests
    second.write_bytes(b"")
    assert parameter_file.digest_tensors(second) == []


def test_nothing_is_read_of_a_pipe_or_of_100_gb(tmp_path: Path) -> None:
    pipe, sparse = tmp_path / "pipe", tmp_path / "sparse"
    os.mkfifo(pipe)
    with pytest.raises(PaddlexMLError, match="it is a named pipe"):
        parameter_file.read_shapes(pipe)
    sparse.touch()
    os.truncate(sparse, 100 << 30)
    with pytest.raises(PaddlexMLError, match="107,374,182,400 bytes, at most 8,589,934,592"):
        parameter_file.read_shapes(sparse)
