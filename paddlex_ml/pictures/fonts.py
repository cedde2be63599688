# SPDX-License-Identifier: Apache-2.0
"""Find a font for a class name, whatever its language; nothing is downloaded.

$PADDLEX_ML_FONT -> fonts of the system that are known to hold Chinese -> the font package
-> DejaVu Sans of matplotlib, for Arabic, Hebrew and symbols -> other fonts of the system

What no font can draw is written in other characters: an emoji by its name, "[dog face]", letters
by their script and code points, "[Thai 0e41 0e21 0e27]". A name is never cut or boxed in silence.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib import resources, util
from itertools import groupby
from pathlib import Path

from paddlex_ml.errors import PaddlexMLError

VARIABLE = "PADDLEX_ML_FONT"
_RIGHT_TO_LEFT = ("R", "AL")
# Variation selectors, skin tones, the frame of a keycap.
_LOOK = re.compile("[\ufe00-\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0100-\U000e01ef]")
_FLAG = 0x1F1E6  # the first of the 26 letters that make flags
_ENDINGS = (".ttf", ".ttc", ".otf", ".otc")
_KNOWN = (  # best first; no variable fonts, because their default weight is often very thin
    "notosanscjk*-regular.*",
    "notosanssc-regular.*",
    "sourcehansans*-regular.*",
    "pingfang.ttc",
    "hiragino sans gb.ttc",
    "msyh.tt[cf]",
    "wqy-microhei.tt[cf]",
    "wqy-zenhei.tt[cf]",
    "droidsansfallback*.ttf",
    "stheiti*.ttc",
    "simhei.ttf",
    "simsun.tt[cf]",
    "arial unicode.ttf",
)
_WIDE = (  # with the writing of many languages, or symbols
    *("segoeui.ttf", "arial.ttf", "tahoma.ttf", "nirmala.*", "leelawui.ttf", "seguisym.ttf"),
    *("seguiemj.ttf", "geezapro.ttc", "arialhb.ttc", "notosans-regular.*", "notosans*-regular.*"),
    *("notoemoji-regular.*", "freesans.*", "unifont*"),
)
_STYLED = re.compile("(?i)bold|italic|oblique|condensed|light|thin|black|medium|mono|serif")
_MOST_OPENED = 200
_SIZE_TO_OPEN = 16  # pixels: whether FreeType takes the font depends on no size
_FOLDERS = {
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts", "~/AppData/Local/Microsoft/Windows/Fonts"),
}
_UNIX_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts")

_log = logging.getLogger(__name__)


def find_font(text: str) -> Path:
    """The first font with a glyph for every character of `text`, else the one that lacks fewest.

    Raises PaddlexMLError when $PADDLEX_ML_FONT is set to a file that is not a font.
    """
    needed = _visible(text)
    best, fewest = Path(), sys.maxsize
    for font in _candidates():
        covered = _coverage(font)
        lacking = len(needed - covered)
        if covered and lacking < fewest:
            best, fewest = font, lacking
        if not fewest:
            break
    return best


def legible(text: str, font: Path, *, shapes: bool = True) -> str:
    """`text` without empty boxes: what `font` cannot draw is written in other characters.

    Without `shapes` the library that draws knows no writing from right to left: Arabic and Hebrew
    are written in code points too. Tabs and line ends become spaces.
    """
    lacking = _find_lacking(text, font, shapes)
    parts = []
    for is_lacking, group in groupby(_clean(text, shapes), lambda c: ord(c) in lacking):
        characters = "".join(group)
        parts.append(_describe(characters) if is_lacking else characters)
    return "".join(parts)


def lacks_letters(text: str, font: Path, *, shapes: bool = True) -> bool:
    """Whether `legible` would write letters of the text in code points."""
    return any(unicodedata.category(chr(c))[0] in "LMN" for c in _find_lacking(text, font, shapes))


def _find_lacking(text: str, font: Path, shapes: bool) -> set[int]:
    needed = _visible(text)
    lacking = needed - _coverage(font)
    if not shapes:
        lacking |= {c for c in needed if unicodedata.bidirectional(chr(c)) in _RIGHT_TO_LEFT}
    return lacking


def _visible(text: str) -> set[int]:
    """Characters that need a glyph: neither spaces, nor control and format characters, nor signs
    that only change the look of the emoji before them."""
    return {
        ord(character)
        for character in text
        if unicodedata.category(character) not in ("Cc", "Cf", "Zs", "Zl", "Zp")
        and not _LOOK.match(character)
    }


def _clean(text: str, shapes: bool) -> Iterator[str]:
    joins = shapes and any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text)
    for character in text:
        category = unicodedata.category(character)
        if category in ("Cc", "Zs", "Zl", "Zp"):
            yield " "
        elif character in "\u200c\u200d" and joins:
            yield character  # whether Arabic letters join
        elif category != "Cf" and not _LOOK.match(character):
            yield character


def _describe(characters: str) -> str:
    """Characters that have no glyph, in brackets: names of emoji, code points of letters."""
    words: list[str] = []
    for kind, group in groupby(characters, _tell_kind):
        same = list(group)
        if kind == "flag":
            words.append("flag " + "".join(chr(ord("A") + ord(c) - _FLAG) for c in same))
        elif kind == "sign":
            words += [unicodedata.name(c).lower() for c in same]
        else:
            words.append(" ".join([kind, *(f"{ord(c):04x}" for c in same)]).strip())
    return f"[{', '.join(words)}]"


def _tell_kind(character: str) -> str:
    """The name of its script, for a letter."""
    if _FLAG <= ord(character) < _FLAG + 26:
        return "flag"
    if unicodedata.category(character)[0] not in "LMNC":
        return "sign"
    script = unicodedata.name(character, "").partition(" ")[0]
    return "Chinese" if script == "CJK" else script.capitalize()


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get(VARIABLE):
        font = Path(os.path.expanduser(chosen))
        if not font.is_file() or not _coverage(font):
            what = "is not a font that can be read" if font.exists() else "does not exist"
            raise PaddlexMLError(
                f"the font file {what}",
                where=f"environment variable {VARIABLE}={font}",
                fix=f"name a .ttf, .otf or .ttc file, or unset {VARIABLE}: the package has a font",
            )
        yield font
    yield from _system_fonts()
    yield _packaged_font()
    yield from _other_fonts()


@cache
def _system_fonts() -> tuple[Path, ...]:
    """Known fonts on this machine, best first; the files are not opened: that would take 0.1 s."""
    paths = _list_fonts()
    return tuple(f for pattern in _KNOWN for f in paths if fnmatch(f.name.lower(), pattern))


@cache
def _other_fonts() -> tuple[Path, ...]:
    """Fonts for what those with Chinese lack; opening them takes a second, once."""
    found = util.find_spec("matplotlib")  # without importing it: that takes 0.2 s
    folders = list(found.submodule_search_locations or ()) if found else []
    ours = [Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf") for folder in folders]
    plain = sorted(
        path for path in _list_fonts() if not _STYLED.search(path.stem) and "Color" not in path.stem
    )
    known = [f for pattern in _WIDE for f in plain if fnmatch(f.name.lower(), pattern)]
    return tuple(dict.fromkeys([*ours, *known, *plain[:_MOST_OPENED]]))


def _list_fonts() -> tuple[Path, ...]:
    folders = _FOLDERS.get(sys.platform, _UNIX_FOLDERS)
    return tuple(
        Path(folder, name)
        for top in folders
        for folder, _, names in os.walk(os.path.expanduser(top))
        for name in names
        if name.lower().endswith(_ENDINGS)
    )


@cache
def _packaged_font() -> Path:
    # pip unpacks wheels, so a resource is a plain file.
    return Path(str(resources.files("paperang_p2_fonts_cjk"))) / "fonts" / "wqy-microhei.ttc"


@cache
def _coverage(font: Path) -> frozenset[int]:
    """Code points with an outline in the first face of the file; none when it is not a font that
    Pillow can draw with."""
    # Imported only when a picture is drawn, so that prediction of scores does not wait for it.
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
    from PIL import ImageFont

    try:
        ImageFont.truetype(str(font), _SIZE_TO_OPEN)
        with font.open("rb") as file, TTFont(file, fontNumber=0, lazy=True) as face:
            if not {"glyf", "CFF ", "CFF2"} & set(face.keys()):
                return frozenset()  # pictures of one size only, as some fonts of emoji have
            return frozenset(face.getBestCmap() or ())
    except Exception as error:  # fontTools raises nearly anything for a damaged font
        _log.debug("font %s is not usable: %s", font, error)
        return frozenset()
