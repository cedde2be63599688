# SPDX-License-Identifier: Apache-2.0
"""A sheet of heat maps: the photograph, then for each label the photograph with its map over it.

    image [H, W], maps [h, w] -> tiles of one size in rows -> canvas

The photograph below a map is grey and dim, so that all colour is the map's. The colours are those
of matplotlib's inferno: brighter is more, also for colour-blind eyes and on grey paper.

A map says which share of the attention a cell has. The scale counts in even shares, 1 / (h * w): a
map that looks everywhere alike is 1x all over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, inf, log, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from paddlex_ml.pictures.fonts import find_font, legible
from paddlex_ml.pictures.labelled import colour_of, fit

MOST = 11
"""Labels of a sheet: with the photograph twelve tiles, and more would be too small on a screen."""
AREA = 400 * 400  # pixels of a picture, whatever its shape
_LONGEST = 1600  # pixels of a side: of a panorama
_NARROWEST = 240  # pixels of a tile: room for its words
_SHAPE = 1.4  # width by height that a sheet comes near to: that of screens
_TEXT = 18  # pixels
_SMALL = 14
_GAP = 14
_FLAT = 2.0  # even shares: the least that the brightest colour stands for, lest noise should glow
_DIM = 0.9  # of the grey photograph
_HEAT = 0.6  # of the colour
_PAPER, _INK, _FAINT = (250, 250, 250), (60, 60, 60), (200, 200, 200)
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Label:
    """One label found on the image."""

    name: str
    score: float
    map: npt.NDArray[np.float32]
    """[h, w], sums to 1; its first cell lies in the upper left corner of the image."""


@dataclass(frozen=True)
class _Fonts:
    text: ImageFont.FreeTypeFont
    small: ImageFont.FreeTypeFont


def draw(image: Image.Image, labels: Sequence[Label], *, shared_by: int = 1) -> Image.Image:
    """Return a new RGB sheet: `image`, then a tile for each of the first MOST labels.

    `shared_by` classes have one map together. The lines below the tiles say so, and how many labels
    are left out.
    """
    picture = _resize(image if image.mode == "RGB" else image.convert("RGB"))
    shown = labels[:MOST]
    notes = _notes(labels, shared_by)
    fonts = _choose_fonts([*(label.name for label in shown), *notes])
    tiles = [_photograph_tile(picture, fonts)]
    tiles += [_heat_tile(picture, label, fonts) for label in shown]
    return _arrange(tiles, notes, fonts)


def top_of_scale(shares: npt.NDArray[np.float32]) -> float:
    """Even shares that the brightest colour stands for: the highest of the map, 2 at least."""
    return max(_FLAT, _peak(shares))


def _peak(shares: npt.NDArray[np.float32]) -> float:
    """How many even shares the highest cell has, from 1."""
    return float(shares.max()) * shares.size


def _resize(image: Image.Image) -> Image.Image:
    """The image with about AREA pixels, less where it is very wide or very tall."""
    factor = min(sqrt(AREA / (image.width * image.height)), _LONGEST / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    enlarged = Image.Resampling.BICUBIC if factor < 8 else Image.Resampling.NEAREST
    return image.resize(size, Image.Resampling.LANCZOS if factor < 1 else enlarged)


def _notes(labels: Sequence[Label], shared_by: int) -> list[str]:
    if not labels:
        return ["no label was found: there is nothing to show"]
    lines = ["1x: an even share of the attention. Where the model looked is no proof of why."]
    if all(_peak(label.map) < _FLAT for label in labels[:MOST]):
        lines.append("The model looked nearly everywhere alike: these maps tell little.")
    if shared_by > 1:
        lines.append(f"{shared_by} classes each share one map in this model.")
    if len(labels) > MOST:
        lines.append(f"Labels with lower scores that are left out: {len(labels) - MOST}.")
    return lines


def _choose_fonts(texts: Sequence[str]) -> _Fonts:
    font = ImageFont.truetype(str(find_font("".join(texts))), _TEXT)
    return _Fonts(font, font.font_variant(size=_SMALL))


def _photograph_tile(picture: Image.Image, fonts: _Fonts) -> Image.Image:
    tile, draw, bottom = _start_tile(picture, fonts)
    draw.text((0, bottom), "photograph", font=fonts.text, fill=_INK)
    return tile


def _heat_tile(picture: Image.Image, label: Label, fonts: _Fonts) -> Image.Image:
    tile, draw, bottom = _start_tile(_overlay(picture, label.map), fonts)
    path = Path(str(fonts.text.path))
    pad = fonts.text.size // 2
    name, score = legible(label.name, path), f" {label.score:.2f}"
    text = fit(name, score, fonts.text, tile.width - 2 * pad)
    height = round(fonts.text.size * 1.5)
    box = (0, bottom, ceil(fonts.text.getlength(text)) + 2 * pad, bottom + height)
    draw.rounded_rectangle(box, radius=height // 4, fill=colour_of(label.name))
    draw.text((pad, bottom + height / 2), text, font=fonts.text, fill=_WHITE, anchor="lm")
    _draw_scale(tile, bottom + height + _SMALL // 2, top_of_scale(label.map), fonts.small)
    return tile


def _start_tile(
    picture: Image.Image, fonts: _Fonts
) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A tile with the picture, the pen for it, and where its words begin."""
    bottom = picture.height + _SMALL // 2
    height = bottom + round(fonts.text.size * 1.5) + 2 * _SMALL
    tile = Image.new("RGB", (max(picture.width, _NARROWEST), height), _PAPER)
    tile.paste(picture, (0, 0))
    return tile, ImageDraw.Draw(tile), bottom


def _overlay(picture: Image.Image, shares: npt.NDArray[np.float32]) -> Image.Image:
    heat = Image.fromarray(np.ascontiguousarray(shares * shares.size, np.float32))
    smooth = np.asarray(heat.resize(picture.size, Image.Resampling.BILINEAR))  # [H, W]
    place = np.clip(smooth * (255 / top_of_scale(shares)), 0, 255).round().astype(np.uint8)
    coloured = Image.fromarray(place)
    coloured.putpalette(_colours().tobytes())
    grey = picture.convert("L").point(lambda value: round(_DIM * value))
    return Image.blend(grey.convert("RGB"), coloured.convert("RGB"), _HEAT)


def _draw_scale(tile: Image.Image, y: int, top: float, font: ImageFont.FreeTypeFont) -> None:
    """The colours from 0 to `top`, with both numbers beside them."""
    draw = ImageDraw.Draw(tile)
    left, right = "0", f"{top:.1f}x"
    x = ceil(font.getlength(left)) + 6
    width = min(160, tile.width - x - ceil(font.getlength(right)) - 6)
    colours = _colours()[np.linspace(0, 255, width).round().astype(int)]  # [width, 3]
    bar = np.broadcast_to(colours, (_SMALL - 4, width, 3))
    draw.text((0, y + _SMALL // 2), left, font=font, fill=_INK, anchor="lm")
    tile.paste(Image.fromarray(np.ascontiguousarray(bar)), (x, y + 2))
    draw.rectangle((x, y + 2, x + width - 1, y + _SMALL - 3), outline=_FAINT)
    draw.text((x + width + 6, y + _SMALL // 2), right, font=font, fill=_INK, anchor="lm")


def _arrange(tiles: Sequence[Image.Image], notes: Sequence[str], fonts: _Fonts) -> Image.Image:
    across, down = tiles[0].width + _GAP, tiles[0].height + _GAP
    columns = _choose_columns(len(tiles), across, down)
    rows = ceil(len(tiles) / columns)
    width = columns * across + _GAP
    lines = [line for note in notes for line in _wrap(note, fonts.small, width - 2 * _GAP)]
    step = round(_SMALL * 1.4)
    sheet = Image.new("RGB", (width, rows * down + _GAP + len(lines) * step + _GAP), _PAPER)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (_GAP + i % columns * across, _GAP + i // columns * down))
    draw = ImageDraw.Draw(sheet)
    for i, line in enumerate(lines):
        draw.text((_GAP, _GAP + rows * down + i * step), line, font=fonts.small, fill=_INK)
    return sheet


def _choose_columns(tiles: int, across: int, down: int) -> int:
    """How many columns give the sheet a shape near that of a screen."""
    best, least = 1, inf
    for columns in range(1, tiles + 1):
        distance = abs(log(columns * across / (ceil(tiles / columns) * down) / _SHAPE))
        if distance < least:
            best, least = columns, distance
    return best


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@lru_cache(maxsize=1)
def _colours() -> npt.NDArray[np.uint8]:
    """From nothing to most: [256, 3]."""
    # Here and not above: matplotlib takes 0.3 s to import, and whoever wants no map waits for none.
    from matplotlib import colormaps

    table: npt.NDArray[np.uint8] = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    return np.ascontiguousarray(table)
