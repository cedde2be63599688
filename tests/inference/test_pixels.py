# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.inputs import walk
from paddlex_ml.inference.pixels import ArrayOrder


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_mean_the_same_in_a_file_an_array_and_a_pil_image(tmp_path: Path, suffix):
    samples = np.linspace(0, 65535, 12).astype(np.uint16).reshape(3, 4)
    file = tmp_path / f"deep{suffix}"
    Image.fromarray(samples).save(file)
    found = [np.asarray(picture.load()) for picture in walk([file, samples, Image.open(file)])]
    expected = np.repeat((samples >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert all(np.array_equal(each, expected) for each in found)


def test_a_pil_image_without_a_range_is_refused():
    [picture] = walk(Image.fromarray(np.full((2, 2), -1, np.int32)))
    with pytest.raises(PaddlexMLError, match="samples from -1 to -1 have no defined brightness"):
        picture.load()


COLOUR = np.array([[[10, 20, 30], [40, 50, 160]]], np.uint8)  # one row of two pixels, RGB


def load(source: Any, **order: Any) -> np.ndarray:
    [picture] = walk(source, order=ArrayOrder(**order))
    return np.asarray(picture.load())


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float16, np.int64])
@pytest.mark.parametrize("library", ["numpy", "paddle", "strided"])
def test_arrays_of_every_order_type_and_library_are_the_same_image(
    alpha, rgb, layout, kind, library
):
    array: Any = COLOUR if rgb else COLOUR[:, :, ::-1]
    if alpha:
        array = np.concatenate([array, np.zeros_like(array[:, :, :1])], axis=2)
    if kind == np.uint16:
        array = array.astype(kind) << 8 | 3  # the high byte counts
    elif kind in (np.float32, np.float16):
        array = array.astype(kind) / kind(255)
    else:
        array = array.astype(kind)
    if layout == "CHW":
        array = array.transpose(2, 0, 1)
    if library == "paddle":
        if kind == np.uint16:
            pytest.skip("Paddle has no such type")
        array = paddle.to_tensor(np.ascontiguousarray(array))
    elif library == "strided":
        array = np.repeat(array, 2, axis=1)[:, ::2]
    assert np.array_equal(load(array, rgb=rgb, layout=layout), COLOUR)


def encode(suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).resize((60, 40), Image.Resampling.NEAREST).save(buffer, suffix)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["PNG", "BMP", "WEBP", "TIFF"])
@pytest.mark.parametrize("form", ["[N]", "[N, 1]", "[1, N]", "tensor"])
def test_encoded_arrays_of_every_form_are_read_as_files(suffix: str, form: str):
    content = encode(suffix)
    array: Any = np.frombuffer(content, np.uint8)
    if form == "tensor":
        array = paddle.to_tensor(array)
    elif form != "[N]":
        array = array.reshape((-1, 1) if form == "[N, 1]" else (1, -1))
    assert np.array_equal(load(array), load(content))


def test_a_grey_column_is_no_file():
    column = np.arange(100, dtype=np.uint8)[:, None]
    assert load(column).shape == (100, 1, 3)


class Tensor:
    """As torch has it: numpy() only of what is detached, on the CPU, and of a type of numpy."""

    def __init__(self, values: np.ndarray, dtype: str, steps: tuple[str, ...] = ()) -> None:
        self.values, self.dtype, self.steps = values, dtype, steps
        self.shape = values.shape

    def __array__(self) -> np.ndarray:
        return self.numpy()

    def _after(self, step: str) -> Tensor:
        dtype = "torch.float32" if step == "float" else self.dtype
        return Tensor(self.values, dtype, (*self.steps, step))

    def detach(self) -> Tensor:
        return self._after("detach")

    def cpu(self) -> Tensor:
        return self._after("cpu")

    def float(self) -> Tensor:
        return self._after("float")

    def numpy(self) -> np.ndarray:
        if not {"detach", "cpu"} <= {*self.steps} or "bfloat16" in self.dtype:
            raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse cpu()")
        return self.values


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.bfloat16"])
def test_a_tensor_on_another_device_is_fetched(dtype: str):
    values = COLOUR.transpose(2, 0, 1).astype(np.float32) / 255
    assert np.array_equal(load(Tensor(values, dtype), rgb=True, layout="CHW"), COLOUR)
    assert "torch" not in sys.modules


def test_bfloat16_of_paddle_is_not_read_as_its_bits():
    tensor = paddle.full([2, 2, 3], 0.5, "bfloat16")
    assert np.array_equal(load(tensor), np.full((2, 2, 3), 128, np.uint8))


class Stuck(Tensor):
    """It stays where it is."""

    def detach(self) -> Tensor:
        return self


def test_a_tensor_that_cannot_be_read_is_one_clear_line():
    tensor = Stuck(np.zeros((2, 2, 3), np.float32), "torch.float32")
    with pytest.raises(PaddlexMLError, match=r"cannot be read: can't convert cuda:0(.)* numpy\.\n"):
        load(tensor)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((2, 2, 3), 127.5, np.float32), r"from 127\.5 to 127\.5 have no defined"),
        (np.full((2, 2, 3), -0.5, np.float32), r"from -0\.5 to -0\.5(.|\n)*floats from 0 to 1"),
        (np.full((2, 2, 3), np.nan), "float64 samples that are not numbers"),
        (np.full((2, 2, 3), 70_000), "int64 samples from 70000 to 70000"),
    ],
)
def test_values_without_a_range_are_refused(array, message):
    with pytest.raises(PaddlexMLError, match=message):
        load(array)


ENCODINGS = {
    "bytes": lambda content: content,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "BytesIO": io.BytesIO,
    "array": lambda content: np.frombuffer(content, np.uint8),
    "mapping": lambda content: {"img": content},
}


@pytest.mark.parametrize("how", ENCODINGS)
def test_the_content_of_a_file_is_its_image(photos: Path, how: str):
    content = (photos / "b.png").read_bytes()
    expected = np.asarray(Image.open(photos / "b.png"))
    assert np.array_equal(load(ENCODINGS[how](content)), expected)
    [picture, other] = walk([ENCODINGS[how](content), photos / "a.jpg"])
    assert (picture.path, picture.name) == (None, "array_0001.png")
    for _ in range(2):  # drawing loads it again
        assert np.array_equal(np.asarray(picture.load()), expected)
    assert other.path == str(photos / "a.jpg")


def test_an_open_file_is_read_once_and_at_once(photos: Path):
    expected = np.asarray(Image.open(photos / "b.png"))
    with (photos / "b.png").open("rb") as file:
        pictures = walk(file)
    [picture] = pictures  # after the file is closed
    assert np.array_equal(np.asarray(picture.load()), expected)
    written = io.BytesIO()
    Image.open(photos / "b.png").save(written, "PNG")  # its position is the end
    with tempfile.SpooledTemporaryFile() as spooled:  # as web servers have uploads
        spooled.write(written.getvalue())
        for each in (written, spooled):
            assert np.array_equal(load(each), expected)


class Upload:
    """As web frameworks have it."""

    async def read(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (io.StringIO("text"), r'gives str instead of bytes(.|\n)*open it with "rb"'),
        (Upload(), r"gives coroutine instead of bytes(.|\n)*await file\.read\(\)"),
    ],
)
def test_a_file_that_gives_no_bytes_is_refused(file, message):
    with pytest.raises(PaddlexMLError, match=message):
        walk(file)


def test_a_closed_file_is_told_and_the_rest_is_answered(photos: Path):
    with (photos / "a.jpg").open("rb") as file:
        pass
    with pytest.raises(PaddlexMLError, match=r"cannot be read: .*closed(.|\n)*file\.read\(\)"):
        walk(file)
    broken, sound = walk([file, photos / "b.png"])
    assert sound.load().size == (60, 40)
    with pytest.raises(PaddlexMLError, match="closed"):
        broken.load()


@pytest.mark.parametrize("content", [b"", b"abc", np.zeros(9, np.uint8)])
def test_content_that_is_no_image_is_told_with_its_place(content):
    [_, picture] = walk([COLOUR, content])
    with pytest.raises(PaddlexMLError, match=r"where: input\[1\]"):
        picture.load()
