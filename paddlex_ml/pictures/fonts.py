# SPDX-License-Identifier: Apache-2.0
"""Find a font for the class names, whatever their language; nothing is downloaded.

$PADDLEX_ML_FONT -> fonts of the system that are known to hold Chinese -> the font package
"""

from __future__ import annotations

import logging
import os
import struct
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from pathlib import Path

from paddlex_ml.errors import PaddlexMLError

VARIABLE = "PADDLEX_ML_FONT"
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


def legible(text: str, font: Path) -> str:
    """`text` without empty boxes: a question mark where `font` has no glyph, a space for a tab."""
    lacking = _visible(text) - _coverage(font)
    spaced = (character if character.isprintable() else " " for character in text)
    return "".join("?" if ord(character) in lacking else character for character in spaced)


def _visible(text: str) -> set[int]:
    return {ord(character) for character in text if character.isprintable() and character != " "}


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get(VARIABLE):
        font = Path(chosen).expanduser()
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


@cache
def _system_fonts() -> tuple[Path, ...]:
    """Known fonts on this machine, best first; the files are not opened: that would take 0.1 s."""
    folders = _FOLDERS.get(sys.platform, _UNIX_FOLDERS)
    paths = [
        Path(folder, name)
        for top in folders
        for folder, _, names in os.walk(os.path.expanduser(top))
        for name in names
        if name.lower().endswith(_ENDINGS)
    ]
    return tuple(f for pattern in _KNOWN for f in paths if fnmatch(f.name.lower(), pattern))


@cache
def _packaged_font() -> Path:
    # pip unpacks wheels, so a resource is a plain file.
    return Path(str(resources.files("paperang_p2_fonts_cjk"))) / "fonts" / "wqy-microhei.ttc"


@cache
def _coverage(font: Path) -> frozenset[int]:
    """Code points that have a glyph in the first face of the file; none when it is not a font."""
    # Imported only when a picture is drawn, so that prediction of scores does not wait for it.
    from fontTools.ttLib import TTFont, TTLibError  # type: ignore[import-untyped]

    try:
        with font.open("rb") as file, TTFont(file, fontNumber=0, lazy=True) as face:
            return frozenset(face.getBestCmap() or ())
    except (OSError, TTLibError, KeyError, struct.error) as error:
        _log.debug("font %s is not usable: %s", font, error)
        return frozenset()
