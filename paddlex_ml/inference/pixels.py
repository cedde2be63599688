# SPDX-License-Identifier: Apache-2.0
"""Images in memory -> RGB images: arrays, tensors, PIL images, and files that are open or read.

Arrays and tensors are [H, W, 3] in the order BGR, as OpenCV reads, with a fourth channel that is
dropped, or grey: [H, W], [H, W, 1]. `ArrayOrder` tells of other orders. Samples are uint8; others
are scaled as those of files (`data.deep_samples`): whole numbers of 16 bits, floats from 0 to 1.
No library of tensors is imported.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from PIL import Image, ImageFile

from paddlex_ml.data import decode_header, decode_memory, deep_samples, file_kinds, transforms
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import without_secrets

_BASE64 = re.compile(
    r"\s*(/9j/|_9j_|iVBORw0KGgo|R0lGOD|UklGR|Qk[0-3]|SUkqAA|TU0AK|AAAA)[\w+/-]{20}"
)
"""How JPEG, PNG, GIF, WebP, BMP, TIFF and AVIF begin in base64."""
_LONG_TEXT = 100  # characters; the smallest images have about as many
_LONG_PATH = 400  # characters
_CHANNELS = (1, 3, 4)
_FIX = "give uint8 [H, W, 3] in the order BGR, as cv2.imread does, or floats from 0 to 1"


@dataclass(frozen=True)
class ArrayOrder:
    """How arrays and tensors are laid out; files and PIL images know it of themselves."""

    rgb: bool = False
    """Whether the channels are RGB, RGBA; else BGR, BGRA."""
    layout: Literal["HWC", "CHW"] = "HWC"
    """Whether channels come last or first."""

    def __post_init__(self) -> None:
        if self.layout not in ("HWC", "CHW"):
            raise PaddlexMLError(
                f"no layout of arrays is called {self.layout!r}",
                where="layout",
                fix='write layout="HWC" or layout="CHW"',
            )


BGR: Final = ArrayOrder()
"""As OpenCV reads."""


def is_array(source: Any) -> bool:
    """Whether it is an array or a tensor, of any library."""
    return isinstance(source, np.ndarray) or (
        hasattr(source, "shape") and hasattr(source, "dtype") and hasattr(source, "__array__")
    )


def is_encoded(source: Any) -> bool:
    """Whether it is the content of an image file: bytes, or an array or tensor uint8 [N].

    OpenCV before 4.5 encodes to [N, 1], which counts where it begins as image files do.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return True
    if not is_array(source) or str(source.dtype).rpartition(".")[2] != "uint8":
        return False
    shape = tuple(source.shape)
    is_column = isinstance(source, np.ndarray) and len(shape) == 2 and 1 in shape
    return len(shape) == 1 or (is_column and file_kinds.is_image(source.ravel()[:64].tobytes()))


def read_encoded(source: Any, where: str) -> bytes:
    """The content of what `is_encoded`."""
    return _to_numpy(source, where).tobytes() if is_array(source) else bytes(source)


def refuse_text(text: str, where: str = "input") -> None:
    """Raise PaddlexMLError for an image file as base64, which web handlers get, in place of a path.

    Also behind the start of a data URL.
    """
    begin, comma, rest = text.partition(",") if text.startswith("data:") else ("", "", text)
    if comma or (len(rest) > _LONG_TEXT and _BASE64.match(rest)):
        raise PaddlexMLError(
            f"the text of an image is no path, and must be decoded first: {shorten(text)}",
            where=where,
            fix="give its bytes: base64.b64decode(text"
            + (f"[{len(begin) + 1}:])" if comma else ")"),
        )


def shorten(text: str) -> str:
    """The text, or the two ends of a long one: of a URL that is still whole, without secrets."""
    text = without_secrets(text)
    return text if len(text) <= _LONG_PATH else " ".join(f"{text[:60]}...{text[-30:]}".split())


def check_array(array: Any, where: str, order: ArrayOrder) -> None:
    """Raise PaddlexMLError for the array or tensor of a shape or type that is no image."""
    shape, kind = tuple(array.shape), str(array.dtype).rpartition(".")[2]
    channels = shape[-1 if order.layout == "HWC" else 0] if len(shape) == 3 else 1
    is_number = kind.startswith(("uint", "int", "float", "bfloat"))
    if is_number and 0 not in shape and len(shape) in (2, 3) and channels in _CHANNELS:
        return
    other = "CHW" if order.layout == "HWC" else "HWC"
    fix = _FIX
    if len(shape) == 4:
        fix = "give a batch as a list of images: list(images)"
    elif is_number and len(shape) == 3 and shape[0 if other == "CHW" else 2] in _CHANNELS:
        fix = f'write layout="{other}" if the channels come {"first" if other == "CHW" else "last"}'
    raise PaddlexMLError(f"{kind} {list(shape)} is not an image", where=where, fix=fix)


def from_array(source: Any, where: str, order: ArrayOrder) -> Image.Image:
    """The image of an array or tensor that `check_array` accepts.

    Raises PaddlexMLError for values without a brightness range, and for a tensor that cannot be
    read.
    """
    array = _to_numpy(source, where)
    if array.ndim == 3 and order.layout == "CHW":
        array = array.transpose(1, 2, 0)
    if array.ndim == 3:
        colours = slice(0, 3) if order.rgb else slice(2, None, -1)
        array = array[:, :, 0] if array.shape[2] == 1 else array[:, :, colours]
    if array.dtype != np.uint8:
        array, _ = deep_samples.to_eight_bits(array, array.itemsize * 8, where, _FIX)
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def from_pil(image: Image.Image, where: str) -> Image.Image:
    """The image upright and RGB. Raises PaddlexMLError where it cannot be decoded or scaled."""
    with decode_memory.reading():
        try:
            _check_unread(image, where)
            image.load()
            upright = transforms.turned(image, decode_header.orientation(image))
            if not image.mode.startswith(("I", "F")):
                return upright.convert("RGB")
            samples = np.asarray(upright)
        except PaddlexMLError:
            raise
        except Exception as error:  # opened, but not read yet: whatever a decoder raises
            raise PaddlexMLError(
                f"the image cannot be decoded: {error}", where=where, fix="give an intact image"
            ) from error
        eight, _ = deep_samples.to_eight_bits(samples, samples.itemsize * 8, where, _FIX)
        return Image.fromarray(eight).convert("RGB")


def _check_unread(image: Image.Image, where: str) -> None:
    """Refuse an image that is open and not read yet, in another format or too large for memory."""
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None:
        return
    if image.format not in decode_header.FORMATS:
        known = ", ".join(sorted(decode_header.FORMATS))
        raise PaddlexMLError(
            f"images in {image.format} are not decoded", where=where, fix=f"give one of {known}"
        )
    is_deep = deep_samples.is_deep(image)
    decode_header.make_room(image, 0, is_deep=is_deep, where=where, may_reduce=False)


def read_open(file: Any, where: str) -> bytes:
    """What an open file holds: from its position on, or all of it where that is the end.

    Raises PaddlexMLError for a file that is closed, empty, or opened as text.
    """
    try:
        content = file.read()
        if not content and hasattr(file, "seek"):
            file.seek(0)
            content = file.read()
    except (OSError, ValueError) as error:  # closed, or not readable
        raise PaddlexMLError(
            f"the open file cannot be read: {error}",
            where=where,
            fix="take the results before it is closed, or give its content: file.read()",
        ) from error
    if inspect.iscoroutine(content):
        content.close()
        fix = "give its content: await file.read()"
    elif isinstance(content, str):
        fix = 'open it with "rb"'
    else:
        return bytes(content)
    kind = type(content).__name__
    raise PaddlexMLError(f"the open file gives {kind} instead of bytes", where=where, fix=fix)


def _to_numpy(source: Any, where: str) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return source
    tensor, kind = source, str(source.dtype)
    try:
        if "bfloat16" in kind:  # numpy has no such type, and Paddle would give its bits
            tensor = tensor.float() if hasattr(tensor, "float") else tensor.astype("float32")
        for step in ("detach", "cpu", "numpy"):
            tensor = getattr(tensor, step)() if hasattr(tensor, step) else tensor
        return np.asarray(tensor)
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise PaddlexMLError(
            f"the tensor cannot be read: {lines[0][:200]}", where=where, fix="give a numpy array"
        ) from error
