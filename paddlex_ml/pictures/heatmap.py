# SPDX-License-Identifier: Apache-2.0
"""A sheet of heatmaps: the photograph, then for each label the photograph with its map over it.

    image [H, W], maps [h, w] -> tiles of one size in rows -> canvas

Where the canvas would be larger than its limit, tiles are smaller, and then fewer.

The photograph below a map is grey and dim, so that all colour comes from the map. The colours are
those of matplotlib's inferno: brighter is more, also for colour-blind eyes and on grey paper.

A map holds the share of the attention of each cell. The scale counts in even shares, 1 / (h * w):
a map of equal shares is 1x everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log, sqrt

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from paddlex_ml.pictures.fonts import find_font
from paddlex_ml.pictures.labelled import LONGEST_SIDE, check_limit, colour_of, fit, spell
from paddlex_ml.wording import count

MOST = 11
"""Labels of a sheet: twelve tiles with the photograph; more would be too small on a screen."""
AREA = 400 * 400  # pixels of a picture, whatever its shape
_LONGEST = 1600  # pixels of the longer side, for panoramas
_LEAST = 160  # pixels of the longer side of a picture, before fewer are shown
_NARROWEST = 240  # pixels of a tile: room for its text
_SHAPE = 1.4  # width by height that a sheet should have, as screens do
_TEXT = 18  # pixels
_SMALL = 14
_STEP = 20  # from line to line of the notes: round(1.4 * _SMALL)
_GAP = 14
_FLAT = (
    2.0  # even shares: the brightest colour means at least this, so noise is not shown as bright
)
_DIM = 0.9  # of the grey photograph
_COLOUR = 0.6  # of the colours of the map
_PAPER, _INK, _FAINT = (250, 250, 250), (60, 60, 60), (200, 200, 200)
_WHITE = (255, 255, 255)


@dataclass(frozen=True)
class Label:
    """One predicted label of the image."""

    name: str
    score: float
    map: npt.NDArray[np.float32]
    """[h, w], sums to 1; its first cell lies in the upper left corner of the image."""


@dataclass(frozen=True)
class _Fonts:
    text: ImageFont.FreeTypeFont
    small: ImageFont.FreeTypeFont


@dataclass(frozen=True)
class _Plan:
    """Where things are on a sheet: tiles in rows, then lines of text."""

    columns: int
    lines: Sequence[str]
    size: tuple[int, int]


def draw_heatmaps(
    image: Image.Image,
    labels: Sequence[Label],
    *,
    shared_by: int = 1,
    longest_side: int = LONGEST_SIDE,
) -> Image.Image:
    """Return a new RGB sheet: `image`, then a tile for each of the first MOST labels.

    `shared_by` classes have one map together. The lines below the tiles state this, and how many
    labels are left out. No side has more than `longest_side` pixels, 640 at least.
    """
    check_limit(longest_side)
    count = min(len(labels), MOST)
    size = _size(image)
    while True:
        notes = _notes(labels, shared_by, count)
        font = ImageFont.truetype(str(find_font("".join(notes))), _TEXT)
        fonts = _Fonts(font, font.font_variant(size=_SMALL))
        if max(_plan(_tile_size(size, fonts), count + 1, notes, fonts).size) <= longest_side:
            break
        if max(size) > _LEAST:
            size = max(1, round(size[0] * 0.95)), max(1, round(size[1] * 0.95))
        else:
            count -= 1
    picture = _resize(image, size)
    photograph, draw, bottom = _start_tile(picture, fonts)
    draw.text((0, bottom), "photograph", font=fonts.text, fill=_INK)
    tiles = [photograph, *(_draw_tile(picture, label, fonts) for label in labels[:count])]
    return _arrange(tiles, notes, fonts)


def top_of_scale(shares: npt.NDArray[np.float32]) -> float:
    """Even shares of the brightest colour: those of the highest cell, 2 at least."""
    return max(_FLAT, float(shares.max()) * shares.size)


def _size(image: Image.Image) -> tuple[int, int]:
    """About AREA pixels, less where the image is very wide or very tall."""
    factor = min(sqrt(AREA / (image.width * image.height)), _LONGEST / max(image.size))
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    factor = max(size) / max(image.size)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if factor < 1:
        return rgb.resize(size, Image.Resampling.LANCZOS)
    return rgb.resize(size, Image.Resampling.BICUBIC if factor < 8 else Image.Resampling.NEAREST)


def _notes(labels: Sequence[Label], shared_by: int, shown: int = MOST) -> list[str]:
    if not labels:
        return ["no label was predicted: there is nothing to show"]
    lines = ["1x: an even share of the attention. A map shows where the model looked, not why."]
    if all(float(label.map.max()) * label.map.size < _FLAT for label in labels[:shown]):
        lines.append("The attention is nearly even everywhere: these maps mean little.")
    if shared_by > 1:
        lines.append(f"{count(shared_by, 'class', 'classes')} each share one map in this model.")
    if len(labels) > shown:
        lines.append(f"Labels with lower scores that are left out: {len(labels) - shown}.")
    return lines


def _draw_tile(picture: Image.Image, label: Label, fonts: _Fonts) -> Image.Image:
    tile, draw, bottom = _start_tile(_overlay(picture, label.map), fonts)
    font = ImageFont.truetype(str(find_font(label.name)), _TEXT)
    pad = _TEXT // 2
    text, _ = fit(spell(label.name, font), f" {label.score:.2f}", font, tile.width - 2 * pad)
    height = round(_TEXT * 1.5)
    box = (0, bottom, ceil(font.getlength(text)) + 2 * pad, bottom + height)
    draw.rounded_rectangle(box, radius=height // 4, fill=colour_of(label.name))
    draw.text((pad, bottom + height / 2), text, font=font, fill=_WHITE, anchor="lm")
    _draw_scale(tile, bottom + height + _SMALL // 2, top_of_scale(label.map), fonts.small)
    return tile


def _start_tile(
    picture: Image.Image, fonts: _Fonts
) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A tile with the picture, the object that draws on it, and the y at which its text begins."""
    tile = Image.new("RGB", _tile_size(picture.size, fonts), _PAPER)
    tile.paste(picture, (0, 0))
    return tile, ImageDraw.Draw(tile), picture.height + _SMALL // 2


def _tile_size(picture: tuple[int, int], fonts: _Fonts) -> tuple[int, int]:
    text = round(fonts.text.size * 1.5) + 2 * _SMALL
    return max(picture[0], _NARROWEST), picture[1] + _SMALL // 2 + text


def _overlay(picture: Image.Image, shares: npt.NDArray[np.float32]) -> Image.Image:
    heatmap = Image.fromarray(np.ascontiguousarray(shares * shares.size, np.float32))
    smooth = np.asarray(heatmap.resize(picture.size, Image.Resampling.BILINEAR))  # [H, W]
    levels = np.clip(smooth * (255 / top_of_scale(shares)), 0, 255).round().astype(np.uint8)
    coloured = Image.fromarray(levels)
    coloured.putpalette(_colours().tobytes())
    grey = picture.convert("L").point(lambda value: round(_DIM * value))
    return Image.blend(grey.convert("RGB"), coloured.convert("RGB"), _COLOUR)


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


def _plan(tile: tuple[int, int], count: int, notes: Sequence[str], fonts: _Fonts) -> _Plan:
    """Tiles in rows, so that the sheet has about the shape of a screen, and the notes below."""
    across, down = tile[0] + _GAP, tile[1] + _GAP
    shapes = [n * across / (ceil(count / n) * down) for n in range(1, count + 1)]
    columns = 1 + min(range(count), key=lambda n: abs(log(shapes[n] / _SHAPE)))
    width = columns * across + _GAP
    lines: list[str] = []
    for note in notes:
        line = ""
        for word in note.split():
            longer = f"{line} {word}" if line else word
            if line and fonts.small.getlength(longer) > width - 2 * _GAP:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    height = ceil(count / columns) * down + _GAP + len(lines) * _STEP + _GAP
    return _Plan(columns, lines, (width, height))


def _arrange(tiles: Sequence[Image.Image], notes: Sequence[str], fonts: _Fonts) -> Image.Image:
    plan = _plan(tiles[0].size, len(tiles), notes, fonts)
    across, down = tiles[0].width + _GAP, tiles[0].height + _GAP
    sheet = Image.new("RGB", plan.size, _PAPER)
    for i, tile in enumerate(tiles):
        sheet.paste(tile, (_GAP + i % plan.columns * across, _GAP + i // plan.columns * down))
    draw = ImageDraw.Draw(sheet)
    top = _GAP + ceil(len(tiles) / plan.columns) * down
    for i, line in enumerate(plan.lines):
        draw.text((_GAP, top + i * _STEP), line, font=fonts.small, fill=_INK)
    return sheet


@lru_cache(maxsize=1)
def _colours() -> npt.NDArray[np.uint8]:
    """Colours of the values 0 to 255: [256, 3]."""
    # Imported only here: it takes 0.3 s, which predictions without maps should not wait for.
    from matplotlib import colormaps

    table: npt.NDArray[np.uint8] = colormaps["inferno"](np.arange(256), bytes=True)[:, :3]
    return np.ascontiguousarray(table)
