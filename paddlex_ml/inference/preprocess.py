# SPDX-License-Identifier: Apache-2.0
"""Image -> network input, by the steps that inference.yml lists.

    PIL RGB -> ResizeImage [H, W, 3] uint8 -> NormalizeImage float32 -> ToCHWImage [3, H, W]

Read from the file and never from a recipe, so that models of PaddleX and PaddleClas, with a size
or a spread of their own, see what they saw in training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from paddlex_ml.data.transforms import MEAN, STD
from paddlex_ml.errors import PaddlexMLError

_STEPS = ["ResizeImage", "NormalizeImage", "ToCHWImage"]
_PIL = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "lanczos": Image.Resampling.LANCZOS,
    "hamming": Image.Resampling.HAMMING,
}
_FRACTION = re.compile(r"\s*([0-9.eE+-]+)\s*(?:/\s*([0-9.eE+-]+)\s*)?")


@dataclass(frozen=True)
class Preprocess:
    """The steps with their numbers; call it with an RGB image to get float32 [3, H, W]."""

    size: tuple[int, int]
    """Width and height in pixels."""
    resampling: Image.Resampling
    antialias: bool
    """True as Pillow resizes; False as OpenCV does, which looks at four pixels only."""
    scale: np.float32
    mean: np.ndarray  # [3], RGB
    std: np.ndarray

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[H0, W0] RGB of any size -> float32 [3, H, W]; the aspect ratio is not kept."""
        pixels = np.asarray(self._resize(image), np.uint8).astype(np.float32) * self.scale
        return np.ascontiguousarray(((pixels - self.mean) / self.std).transpose(2, 0, 1))

    def _resize(self, image: Image.Image) -> Image.Image:
        if self.antialias:
            return image.resize(self.size, self.resampling)
        across, down = image.width / self.size[0], image.height / self.size[1]
        grid = (across, 0, 0, 0, down, 0)
        # An affine map samples without averaging, with OpenCV's pixel centres.
        return image.transform(self.size, Image.Transform.AFFINE, grid, Image.Resampling.BILINEAR)


def read(steps: Any, *, where: str) -> Preprocess:
    """Read `PreProcess.transform_ops`. Raises PaddlexMLError for steps that cannot be followed."""
    named = _by_name(steps, where)
    resize, normalise = named["ResizeImage"], named["NormalizeImage"]
    resampling, antialias = _read_resampling(resize, where)
    scale = normalise.get("scale")
    return Preprocess(
        size=_read_size(resize.get("size"), where),
        resampling=resampling,
        antialias=antialias,
        scale=np.float32(1 / 255 if scale is None else _read_number(scale, where)),
        mean=_read_channels(normalise.get("mean"), MEAN, where),
        std=_read_channels(normalise.get("std"), STD, where),
    )


def _by_name(steps: Any, where: str) -> dict[str, Mapping[str, Any]]:
    """{step: its values}; DecodeImage is left out because images arrive decoded, as RGB."""
    if not isinstance(steps, list) or not all(_is_step(step) for step in steps):
        raise _refuse("the preprocessing is not a list of steps", where)
    named = {name: values or {} for step in steps for name, values in step.items()}
    if named.pop("DecodeImage", {}).get("to_rgb", True) is not True:
        raise _refuse("the model wants BGR pixels (DecodeImage.to_rgb)", where)
    if list(named) != _STEPS:
        listed = ", ".join(named) or "none"
        raise _refuse(f"the preprocessing steps are {listed}; known: {', '.join(_STEPS)}", where)
    return named


def _is_step(step: Any) -> bool:
    return isinstance(step, dict) and all(
        values is None or isinstance(values, dict) for values in step.values()
    )


def _read_resampling(resize: Mapping[str, Any], where: str) -> tuple[Image.Resampling, bool]:
    backend = str(resize.get("backend") or "cv2").lower()  # PaddleClas takes OpenCV by default
    name = str(resize.get("interpolation") or "bilinear").lower()
    if backend == "pil" and name in _PIL:
        return _PIL[name], True
    if backend == "cv2" and name == "bilinear":
        return Image.Resampling.BILINEAR, False
    raise _refuse(f"resizing by {name} of {backend} is not supported", where)


def _read_size(size: Any, where: str) -> tuple[int, int]:
    pair = size if isinstance(size, list) else [size, size]
    if len(pair) == 2 and all(type(side) is int and 0 < side <= 8192 for side in pair):
        return pair[0], pair[1]
    raise _refuse(f"ResizeImage.size must be one or two numbers of pixels, it is {size!r}", where)


def _read_channels(values: Any, default: np.ndarray, where: str) -> np.ndarray:
    if values is None:
        return default
    if not isinstance(values, list) or len(values) != 3:
        raise _refuse(f"mean and std must hold three numbers, got {values!r}", where)
    return np.array([_read_number(value, where) for value in values], np.float32)


def _read_number(value: Any, where: str) -> float:
    """A number, or the text of one or of a fraction: PaddleClas writes 1.0/255.0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match:
        try:
            return float(match[1]) / float(match[2] or 1)
        except (ValueError, ZeroDivisionError):
            pass
    raise _refuse(f"{value!r} is not a number", where)


def _refuse(what: str, where: str) -> PaddlexMLError:
    return PaddlexMLError(what, where=where, fix="export the model again: -o Global.mode=export")
