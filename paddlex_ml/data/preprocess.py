# SPDX-License-Identifier: Apache-2.0
"""Image -> network input: the same steps for training, evaluation and prediction.

    PIL RGB -> resize -> [H, W, 3] uint8 -> normalise -> [3, H, W] float32

The inference.yml of an exported model describes its preprocessing; `read` follows it. So models of
PaddleX and PaddleClas, with another size or another mean, get the input they were trained with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import cv2
import numpy as np
from PIL import Image

from paddlex_ml.errors import PaddlexMLError

Channels: TypeAlias = tuple[float, float, float]

MEAN: Channels = (0.485, 0.456, 0.406)  # of ImageNet, RGB, for values in 0..1
STD: Channels = (0.229, 0.224, 0.225)
MOST_PIXELS = 2048
"""Of a side of the network's input: a file that asks for 8,192 makes the network take 8 GB."""
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
    resampling: Image.Resampling = Image.Resampling.BILINEAR
    antialias: bool = True
    """True as Pillow resizes; False as OpenCV does, which reads only four pixels."""
    scale: float = 1 / 255
    mean: Channels = MEAN  # RGB, of values times scale
    std: Channels = STD

    @property
    def is_published(self) -> bool:
        """Whether images are resized as for the published models: square, by Pillow, bilinear."""
        bilinear = self.antialias and self.resampling is Image.Resampling.BILINEAR
        return bilinear and self.size[0] == self.size[1]

    @property
    def is_usable(self) -> bool:
        """Whether results are finite, and those of the darkest and the brightest value differ."""
        with np.errstate(all="ignore"):
            results = self._results
        return bool(np.isfinite(results).all() and (results[:, 0] != results[:, -1]).all())

    def __call__(self, image: Image.Image) -> np.ndarray:
        """[H0, W0] RGB of any size -> float32 [3, H, W]."""
        width, height = self.size
        array = np.empty((3, height, width), np.float32)
        self.write(self.resize(image), array)
        return array

    def resize(self, image: Image.Image) -> np.ndarray:
        """[H0, W0] RGB -> [H, W, 3] uint8; the aspect ratio is not kept, as published."""
        if self.antialias:
            return np.asarray(image.resize(self.size, self.resampling))
        across, down = image.width / self.size[0], image.height / self.size[1]
        grid = (across, 0, 0, 0, down, 0)
        # An affine map samples without averaging, with OpenCV's pixel centres.
        affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
        return np.asarray(image.transform(self.size, affine, grid, bilinear))

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """[B, H, W, 3] uint8 -> [B, 3, H, W] float32: (value * scale - mean) / std."""
        batch, height, width, _ = images.shape
        arrays = np.empty((batch, 3, height, width), np.float32)
        for image, array in zip(images, arrays, strict=True):
            self.write(image, array)
        return arrays

    def write(self, pixels: np.ndarray, array: np.ndarray) -> None:
        """Normalise [H, W, 3] uint8 into `array`, [3, H, W] float32, perhaps part of a batch."""
        for channel, plane in enumerate(cv2.split(pixels)):
            cv2.LUT(plane, self._results[channel], dst=array[channel])

    @cached_property
    def _results(self) -> np.ndarray:
        """Results for all values, [3, 256]: a look-up gives the same as the arithmetic, faster."""
        brightness = np.arange(256, dtype=np.float32)[:, None] * np.float32(self.scale)
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.ascontiguousarray(((brightness - mean) / std).T)


def standard(image_size: int) -> Preprocess:
    """Preprocessing of all published and trained models: [S, S], statistics of ImageNet."""
    return Preprocess((image_size, image_size))


def read(steps: Any, *, where: str) -> Preprocess:
    """Read `PreProcess.transform_ops`. Raises PaddlexMLError for steps that are not supported."""
    by_name = _read_steps(steps, where)
    resize, normalise = by_name["ResizeImage"], by_name["NormalizeImage"]
    backend = str(resize.get("backend") or "cv2").lower()  # PaddleClas takes OpenCV by default
    interpolation = str(resize.get("interpolation") or "bilinear").lower()
    antialias = backend == "pil" and interpolation in _PIL
    if not antialias and (backend, interpolation) != ("cv2", "bilinear"):
        raise _refuse(f"resizing by {interpolation} of {backend} is not supported", where)
    size: Any = resize.get("size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= MOST_PIXELS for side in sides):
        what = (
            f"ResizeImage.size must be one or two numbers of pixels up to {MOST_PIXELS}, it is "
            f"{size!r}"[:200]
        )
        raise _refuse(what, where)
    channels = {"mean": MEAN, "std": STD}
    for key in channels:
        if (values := normalise.get(key)) is not None:
            if not isinstance(values, list) or len(values) != 3:
                raise _refuse(f"mean and std must hold three numbers, got {values!r}", where)
            red, green, blue = (_read_number(value, where) for value in values)
            channels[key] = red, green, blue
    scale = normalise.get("scale")
    preprocess = Preprocess(
        size=(sides[0], sides[1]),
        resampling=_PIL[interpolation],
        antialias=antialias,
        scale=1 / 255 if scale is None else _read_number(scale, where),
        mean=channels["mean"],
        std=channels["std"],
    )
    if preprocess.scale <= 0 or min(preprocess.std) <= 0 or not preprocess.is_usable:
        raise PaddlexMLError(
            f"no image can be normalised with scale {preprocess.scale:g}, mean "
            f"{list(preprocess.mean)}, std {list(preprocess.std)}: scale and std must be above 0",
            where=where,
            fix=f"write the numbers of the training there (scale: 1.0/255.0, mean: {list(MEAN)}, "
            f"std: {list(STD)}), or export the model again: -o Global.mode=export",
        )
    return preprocess


def _read_steps(steps: Any, where: str) -> dict[str, Mapping[str, Any]]:
    """{step: its values}; without DecodeImage, because images arrive decoded, as RGB."""
    if not isinstance(steps, list) or not all(
        isinstance(step, dict)
        and all(values is None or isinstance(values, dict) for values in step.values())
        for step in steps
    ):
        raise _refuse("the preprocessing is not a list of steps", where)
    by_name = {name: values or {} for step in steps for name, values in step.items()}
    if by_name.pop("DecodeImage", {}).get("to_rgb", True) is not True:
        raise _refuse("the model expects BGR pixels (DecodeImage.to_rgb)", where)
    if list(by_name) != _STEPS:
        names = ", ".join(str(name)[:50] for name in [*by_name][:10]) or "none"
        raise _refuse(f"the preprocessing steps are {names}; known: {', '.join(_STEPS)}", where)
    return by_name


def _read_number(value: Any, where: str) -> float:
    """A number, or the text of one or of a fraction: PaddleClas writes 1.0/255.0."""
    number = math.nan
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    with suppress(ValueError, ZeroDivisionError, OverflowError):  # the last: 10**400 as an int
        if match:
            number = float(match[1]) / float(match[2] or 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value)
    if not math.isfinite(number):
        raise _refuse(f"{value!r} is not a finite number", where)
    return number


def _refuse(what: str, where: str) -> PaddlexMLError:
    return PaddlexMLError(what, where=where, fix="export the model again: -o Global.mode=export")
