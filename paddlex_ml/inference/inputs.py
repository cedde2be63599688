# SPDX-License-Identifier: Apache-2.0
"""Whatever a user gives to predict on -> a list of pictures, none of them read yet.

path, URL, folder, glob pattern, array, PIL image, {"img": ...}, nested lists -> [Picture, ...]
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageOps

from paddlex_ml.data.transforms import SUFFIXES, decode_image, read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import download

_KINDS = "a path, URL, folder, pattern, uint8 array, PIL image, {'img': ...}, or a list of these"
_URL = re.compile(r"https?://", re.IGNORECASE)
_WILD = re.compile(r"[*?\[]")
_STEM_BYTES = 160  # file systems allow 255 for a name; suffixes and temporary names need some

Load = Callable[[], Image.Image]
_Found = tuple[str | None, str | None, Load]  # path, file name, both None for what is in memory


@dataclass(frozen=True)
class Picture:
    """One image to predict on."""

    path: str | None
    """Path or URL; None for an image that was given in memory."""
    name: str
    """File name for what is made of it: its stem is that of no other picture of the run."""
    load: Load
    """Reads and decodes it, RGB; a URL is fetched each time."""


def expand(source: Any) -> list[Picture]:
    """List the pictures that `source` means; folders in the order of their sorted paths.

    Arrays are uint8: BGR [H, W, 3] as OpenCV reads, BGRA [H, W, 4], or grey [H, W]. Raises
    PaddlexMLError for what does not exist, and for a folder or pattern without images.
    """
    names = _Names()
    pictures = [
        Picture(path, names.claim(wish or f"array_{number:04d}.png"), load)
        for number, (path, wish, load) in enumerate(_walk(source, "input"), start=1)
    ]
    if not pictures:
        raise PaddlexMLError("no image is given", where="input", fix=f"give {_KINDS}")
    return pictures


class _Names:
    """Hands out file names whose stems differ, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def claim(self, wish: str) -> str:
        stem, suffix = os.path.splitext(wish)
        while len(os.fsencode(stem)) > _STEM_BYTES:
            stem = stem[:-1]
        key, free = stem.lower(), stem
        while free.lower() in self._taken:
            self._last[key] = self._last.get(key, 1) + 1
            free = f"{stem}_{self._last[key]}"
        self._taken.add(free.lower())
        return free + suffix


def _walk(source: Any, where: str) -> Iterator[_Found]:
    """Yield the images of `source`; `where` is its place within the input."""
    match source:
        case Picture():
            yield source.path, source.name, source.load
        case str() | os.PathLike():
            yield from _walk_text(os.fspath(source), where)
        case np.ndarray():
            yield None, None, partial(_from_array, _checked(source, where))
        case Image.Image():
            yield None, None, partial(_from_pil, source, where)
        case list() | tuple():
            for i, item in enumerate(source):
                yield from _walk(item, f"{where}[{i}]")
        case Mapping() if set(source) == {"img"}:
            yield from _walk(source["img"], f"{where}['img']")
        case Mapping():
            keys = ", ".join(map(repr, source)) or "none"
            _refuse(f"a mapping must have the key 'img' alone, it has {keys}", where)
        case _:
            _refuse(f"{type(source).__name__} is not an image", where)


def _walk_text(text: str, where: str) -> Iterator[_Found]:
    if not text:  # for the system it would be the folder one stands in
        _refuse("the path is empty", where)
    if _URL.match(text):
        yield text, _name_of_url(text), partial(_from_url, text)
        return
    for path in _find(text):
        yield path, os.path.basename(path), partial(read_image, path)


def _find(text: str) -> list[str]:
    """Paths of the images that a path, folder or pattern means, sorted."""
    if os.path.isdir(text):
        return _only_images(_files_below(text), f"the folder holds no image: {text}")
    if os.path.exists(text):
        return [text]
    if _WILD.search(text):
        found = [path for path in glob.glob(text, recursive=True) if os.path.isfile(path)]
        return _only_images(found, f"the pattern finds no image: {text}")
    raise PaddlexMLError(
        f"no such file or folder: {text}",
        where=os.path.abspath(text),
        fix="correct the path; a relative one starts at the folder you stand in",
    )


def _files_below(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_explain):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(place, name) for name in files if not name.startswith("."))


def _explain(error: OSError) -> NoReturn:
    raise PaddlexMLError(
        f"the folder cannot be listed: {error.strerror}",
        where=str(error.filename),
        fix="give yourself permission to read it, or name other folders",
    ) from error


def _only_images(paths: Iterator[str] | list[str], complaint: str) -> list[str]:
    images = sorted(p for p in paths if os.path.splitext(p)[1].lower() in SUFFIXES)
    if images:
        return images
    raise PaddlexMLError(
        complaint,
        where="input",
        fix=f"name another place; files that end in {' '.join(sorted(SUFFIXES))} are found",
    )


def _name_of_url(url: str) -> str:
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    return re.sub(r'[\0-\x1f\\:*?"<>|]', "_", name) or "image"


def _from_url(url: str) -> Image.Image:
    return decode_image(download.fetch(url), where=url)


def _checked(array: np.ndarray, where: str) -> np.ndarray:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype == np.uint8 and fits and array.size:
        return array
    fix = "give uint8 [H, W, 3] in the order BGR, as cv2.imread does"
    if array.ndim == 4:
        fix = "give a batch as a list of images: list(images)"
    raise PaddlexMLError(f"{array.dtype} {list(array.shape)} is not an image", where=where, fix=fix)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 2 or array.shape[2] == 1:
        return Image.fromarray(array.reshape(array.shape[:2])).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(array[:, :, 2::-1]))  # BGR(A) -> RGB


def _from_pil(image: Image.Image, where: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow would clip, not scale
        raise PaddlexMLError(
            f"a PIL image of mode {image.mode} has no defined brightness range",
            where=where,
            fix="give the path of the file, or an image of 8 bits per channel",
        )
    try:
        return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:  # opened, but never read to its end
        raise PaddlexMLError(
            f"the image cannot be decoded: {error}", where=where, fix="give an intact image"
        ) from error


def _refuse(what: str, where: str) -> NoReturn:
    raise PaddlexMLError(what, where=where, fix=f"give {_KINDS}")
