# SPDX-License-Identifier: Apache-2.0
"""An image with its label names below it: coloured chips on a strip of their own.

image [H, W] -> canvas: the image (enlarged if tiny, reduced if large, never covered), then rows of
chips. No side of the canvas is longer than a limit, whatever the shape of the image and the labels.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.pictures.fonts import find_font, legible

Colour = tuple[int, int, int]

LONGEST_SIDE = 1600
"""Pixels of the longer side of a drawn picture, unless another limit is given."""
SMALLEST_LIMIT = 640
"""The lowest limit: less has no room for text."""
_SMALLEST = 320  # longer side in pixels below which an image is enlarged
_TEXT_SHARE = 0.026  # text height as a share of the canvas: readable when a screen shows it whole
_UPRIGHT_SHARE = 0.75  # of the height, counted as width: screens show upright images smaller
_TEXT_SMALLEST = 16
_NARROWEST = 20  # text heights: a long label may widen the canvas to this
_STEEPEST = 2.5  # height of the canvas by its width, where labels take more than a third of it
_LARGEST = 2  # height of the labels by the longer side of the picture, where text can be smaller
_LEAST = 0.6  # share of its height that the image keeps, however many labels there are
_MOST_KEPT = 1 << 15  # texts whose lengths, and their letters in a font, are kept
_LONGEST = 200  # characters of a name: measuring a very long text would take seconds
_PAPER: Colour = (250, 250, 250)
_GREY: Colour = (110, 110, 110)
_WHITE: Colour = (255, 255, 255)
_NO_LABEL = "(no label)"


@dataclass(frozen=True)
class _Chip:
    text: str
    font: ImageFont.FreeTypeFont
    colour: Colour
    width: int


class _Strip:
    """Rows of chips below a picture."""

    def __init__(self, text_size: int, picture: tuple[int, int], longest_side: int) -> None:
        self.text_size = text_size
        self.margin, self.gap = round(text_size * 0.6), round(text_size * 0.3)
        self.chip_height = round(text_size * 1.6)
        self.step = self.chip_height + self.gap
        self.width = max(picture[0], _SMALLEST)
        self.rows: list[list[_Chip]] = []
        self._above, self._longest_side = picture[1], longest_side

    @property
    def height(self) -> int:
        return 2 * self.margin + len(self.rows) * self.step - self.gap

    def arrange(self, chips: Sequence[_Chip]) -> None:
        """Set the rows, and the width where that of the picture is not enough.

        Many labels below a narrow picture would be a tower, in which none can be read when a
        screen shows it as a whole.
        """
        self.width = max(self.width, *(chip.width + 2 * self.margin for chip in chips))
        while True:
            self.rows, used = [[]], 0
            for chip in chips:
                if self.rows[-1] and used + self.gap + chip.width > self.width - 2 * self.margin:
                    self.rows.append([])
                    used = 0
                used += chip.width + (self.gap if self.rows[-1] else 0)
                self.rows[-1].append(chip)
            height, total = self.height, self._above + self.height
            is_flat = height <= self._above / 2 or total <= _STEEPEST * self.width
            fits = height <= self._longest_side - _LEAST * self._above
            if self.width >= self._longest_side or (is_flat and fits):
                return
            self.width = min(self._longest_side, self.width + self.width // 8)

    def cut(self, height: int) -> None:
        """Leave out the last chips, so that the strip is no higher; a grey one counts them."""
        total = sum(map(len, self.rows))
        while len(self.rows) > 1 and self.height > height:
            self.rows.pop()
        row = self.rows[-1]
        while left := total - sum(map(len, self.rows)):
            text, font = f"and {left:,} more", row[-1].font
            length = _measure(text, str(font.path), font.size)
            more = _Chip(text, font, _GREY, ceil(length + font.size))
            used = sum(chip.width + self.gap for chip in row)
            if used + more.width <= self.width - 2 * self.margin:
                row.append(more)
                return
            row.pop()


def draw_labels(
    image: Image.Image,
    labels: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    longest_side: int = LONGEST_SIDE,
) -> Image.Image:
    """Return a new RGB picture: `image` above, one chip per label below, in the order given.

    The colour of a chip depends only on its key (the label itself without `keys`), so that a class
    keeps its colour from picture to picture although its score, part of the label, changes. When a
    label is too long, its key is shortened and the rest stays. No side has more than
    `longest_side` pixels, 640 at least: larger images are reduced, and labels for which there is
    no room are counted in the last chip.
    """
    check_limit(longest_side)
    size, strip = _lay_out(labels, labels if keys is None else keys, image.size, longest_side)
    picture = _resize(image, size)
    canvas = Image.new("RGB", (strip.width, picture.height + strip.height), _PAPER)
    canvas.paste(picture, ((strip.width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    y = picture.height + strip.margin
    for row in strip.rows:
        x = strip.margin
        for chip in row:
            box = (x, y, x + chip.width, y + strip.chip_height)
            draw.rounded_rectangle(box, radius=strip.chip_height // 4, fill=chip.colour)
            middle = (x + chip.width / 2, y + strip.chip_height / 2)
            draw.text(middle, chip.text, font=chip.font, fill=_WHITE, anchor="mm")
            x += chip.width + strip.gap
        y += strip.step
    return canvas


@lru_cache(maxsize=4096)
def colour_of(key: str) -> Colour:
    """The colour of a class: always the same for the same key, dark enough for white text."""
    mixed = hashlib.blake2b(key.encode("utf-8"), digest_size=3).digest()  # hash() changes per run
    hue = int.from_bytes(mixed[:2], "big") / 0x10000
    saturation = (0.55, 0.75, 0.95)[mixed[2] % 3]
    value = 0.85
    while True:
        red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
        shares = [c / 255 for c in (red, green, blue)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        if 1.05 / (0.05 + luminance) >= 4.6:  # contrast with white; WCAG 2 asks 4.5 of small text
            return red, green, blue
        value -= 0.02


def check_limit(longest_side: int) -> None:
    """Raise PaddlexMLError for a limit of a picture's sides that has no room for text."""
    if longest_side < SMALLEST_LIMIT:
        raise PaddlexMLError(
            f"a picture of {longest_side} pixels has no room for text",
            where="longest_side",
            fix=f"give {SMALLEST_LIMIT} or more",
        )


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image as RGB; one that has this size already is not copied."""
    factor = max(size) / max(image.size)
    if factor < 1:  # before the conversion, which needs memory
        if image.mode in ("P", "1"):  # Pillow does not average them
            image = image.convert("RGB")
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    picture = image if image.mode == "RGB" else image.convert("RGB")
    if picture.size == size:
        return picture
    enlarged = Image.Resampling.BICUBIC if factor < 8 else Image.Resampling.NEAREST
    return picture.resize(size, enlarged)


def _scale(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _lay_out(
    labels: Sequence[str], keys: Sequence[str], size: tuple[int, int], longest_side: int
) -> tuple[tuple[int, int], _Strip]:
    """Size of the image in the picture, and the strip below it: together within the limit."""
    longer = max(size)
    if longer < _SMALLEST:  # a whole number keeps every pixel square
        longer *= -(-_SMALLEST // longer)
    whole = _scale(size, min(longer, longest_side) / max(size))
    least = _scale(whole, _LEAST)
    within, text_size = whole, 10**9
    paths = [find_font(label) for label in labels] or [find_font(_NO_LABEL)]
    while True:
        strip = _fill_strip(labels, keys, paths, within, longest_side, text_size)
        text_size = strip.text_size
        room = longest_side - strip.height
        if within[1] <= room:
            return within, strip
        if within == least:
            strip.cut(longest_side - within[1])
            return within, strip
        smaller = _scale(whole, min(room, within[1] - 1) / whole[1])
        within = smaller if smaller[1] > least[1] else least


def _fill_strip(
    labels: Sequence[str],
    keys: Sequence[str],
    paths: Sequence[Path],
    size: tuple[int, int],
    longest_side: int,
    largest_text: int,
) -> _Strip:
    """Chips in text that suits a picture of `size`, or in smaller text when there are many.

    paths: the font of each label, or that of the text in place of none.
    """
    side = max(size[0], round(_UPRIGHT_SHARE * size[1]))
    text_size = min(largest_text, max(_TEXT_SMALLEST, round(_TEXT_SHARE * side)))
    highest = min(_LARGEST * max(size), longest_side - _LEAST * size[1])
    while True:
        fonts = {path: _open_font(str(path), text_size) for path in dict.fromkeys(paths)}
        strip = _Strip(text_size, size, longest_side)
        room = max(size[0], round(_NARROWEST * text_size)) - 2 * strip.margin
        strip.arrange(_build_chips(labels, keys, [fonts[path] for path in paths], room))
        if strip.height <= highest or text_size == _TEXT_SMALLEST:
            return strip
        text_size = max(_TEXT_SMALLEST, round(text_size * 0.75))


def _build_chips(
    labels: Sequence[str],
    keys: Sequence[str],
    fonts: Sequence[ImageFont.FreeTypeFont],
    room: int,
) -> list[_Chip]:
    """Chips that are no wider than `room`, in pixels."""
    named = [(label, key, colour_of(key)) for label, key in zip(labels, keys, strict=True)]
    chips = []
    for (label, key, colour), font in zip(named or [(_NO_LABEL, "", _GREY)], fonts, strict=True):
        name, rest = (key, label[len(key) :]) if label.startswith(key) else (label, "")
        room_of_text = room - round(font.size)
        text, length = fit(spell(name, font), spell(rest, font), font, room_of_text)
        chips.append(_Chip(text, font, colour, ceil(length + font.size)))
    return chips


def spell(text: str, font: ImageFont.FreeTypeFont) -> str:
    """`text` in characters that Pillow can draw with this font."""
    return _spell(text[: _LONGEST + 1], str(font.path), bool(features.check("raqm")))


@lru_cache(maxsize=_MOST_KEPT)
def _spell(text: str, font: str, shapes: bool) -> str:
    return legible(text, Path(font), shapes=shapes)


def fit(name: str, rest: str, font: ImageFont.FreeTypeFont, room: float) -> tuple[str, float]:
    """Name and rest, with the name shortened to what fits into `room` pixels, and their length."""
    path, size = str(font.path), font.size
    if len(name) <= _LONGEST:
        length = _measure(name, path, size) + _measure(rest, path, size)
        if length <= room:
            return name + rest, length
    fits, above = 0, min(len(name), _LONGEST) + 1
    while above - fits > 1:
        middle = (fits + above) // 2
        if _measure(f"{name[:middle]}...{rest}", path, size) <= room:
            fits = middle
        else:
            above = middle
    text = f"{name[:fits]}...{rest}"
    return text, _measure(text, path, size)


@lru_cache(maxsize=_MOST_KEPT)
def _measure(text: str, path: str, size: float) -> float:
    """Pixels of a text, kept: it takes most of the time of a picture with hundreds of labels."""
    return _open_font(path, size).getlength(text)


@lru_cache(maxsize=64)
def _open_font(path: str, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
