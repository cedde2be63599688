# SPDX-License-Identifier: Apache-2.0
"""Whatever a user gives to predict on -> pictures, found one by one, none of them read yet.

path, URL, folder, glob pattern, text file of these, array, PIL image, {"img": ...}, lists and
iterators of all these -> Picture, Picture, ...

What is given alone must be there. In a list, what is not there is a picture that cannot be
loaded: the others are still answered.
"""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageOps

from paddlex_ml.data.transforms import SUFFIXES, decode_image, read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import folders
from paddlex_ml.inference.names import Names
from paddlex_ml.storage import fetch_image

_KINDS = (
    "a path, URL, folder, pattern, text file of these, uint8 array, PIL image, {'img': ...}, "
    "or a list or iterator of these"
)
_URL = re.compile(r"https?://", re.IGNORECASE)
_LIST = ".txt"

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


def walk(source: Any, *, skip: Path | None = None) -> Iterator[Picture]:
    """Find the pictures that `source` means while they are taken; folders in sorted order.

    Arrays are uint8: BGR [H, W, 3] as OpenCV reads, BGRA [H, W, 4], or grey [H, W]. A folder is
    searched at any depth, except for hidden files and folders, links to folders, and the folder
    `skip`. A text file (.txt) has a path, URL or pattern a line; what stands behind a tab, and
    lines that begin with #, do not count. Relative paths in it start at its own folder.

    Raises PaddlexMLError at the call for what is no image at all, and where a path, folder,
    pattern or text file that is given alone has no image. In a list or a text file, and where a
    folder within a folder cannot be read, `load` of a picture raises it.
    """
    if not _judge(source, "input", skip):
        raise _nothing()
    found = _find(source, "input", skip)
    if _is_text(_unwrap(source)):
        first = next(found)  # raises when there is none
        found = chain([first], found)
    return _name(found)


def count(source: Any, *, skip: Path | None = None) -> int:
    """How many pictures `walk` would find: a second or two for a million files.

    An iterator counts as nothing, since it can be run through only once.
    """
    source = _unwrap(source)
    if isinstance(source, list | tuple):
        return sum(count(item, skip=skip) for item in source)
    if not _is_text(source):
        return 0 if isinstance(source, Iterator) else 1
    text = os.fsdecode(source)
    if os.path.isdir(text):
        return sum(1 for _ in folders.find(text, skip=skip)) or 1
    try:
        return sum(1 for _ in _find_text(text, skip))
    except PaddlexMLError:
        return 1  # the picture that raises it


def _judge(source: Any, where: str, skip: Path | None) -> bool:
    """Whether anything is given; raises for what can be seen to be wrong without looking at disks.

    `where` is the place of `source` within the input.
    """
    match source:
        case str() | os.PathLike():
            text = os.fsdecode(source)
            if not text:  # for the system it would be the folder one stands in
                _refuse("the path is empty", where)
            _refuse_results(text, skip)
        case np.ndarray():
            _check(source, where)
        case Picture() | Image.Image():
            pass
        case list() | tuple():
            return any([_judge(item, f"{where}[{i}]", skip) for i, item in enumerate(source)])
        case Mapping() if set(source) == {"img"}:
            return _judge(source["img"], f"{where}['img']", skip)
        case Mapping():
            keys = ", ".join(map(repr, source)) or "none"
            _refuse(f"a mapping must have the key 'img' alone, it has {keys}", where)
        case Iterator() if not isinstance(source, io.IOBase):
            pass
        case _:
            _refuse(f"{type(source).__name__} is not an image", where)
    return True


def _name(found: Iterator[_Found]) -> Iterator[Picture]:
    names = Names()
    number = 0
    for number, (path, wish, load) in enumerate(found, start=1):
        yield Picture(path, names.claim(wish or f"array_{number:04d}.png"), load)
    if not number:  # an iterator without items
        raise _nothing()


def _find(source: Any, where: str, skip: Path | None) -> Iterator[_Found]:
    """Yield the images of what `_judge` has accepted; raises where it is a path without any."""
    match source:
        case Picture():
            yield source.path, source.name, source.load
        case str() | os.PathLike():
            yield from _find_text(os.fsdecode(source), skip)
        case np.ndarray():
            yield None, None, partial(_from_array, source)
        case Image.Image():
            yield None, None, partial(_from_pil, source, where)
        case Mapping():
            yield from _find(source["img"], f"{where}['img']", skip)
        case list() | tuple():
            for i, item in enumerate(source):
                yield from _find_item(item, f"{where}[{i}]", skip)
        case _:
            for i, item in enumerate(source):
                yield from _find_new(item, f"{where}[{i}]", skip)


def _find_item(item: Any, where: str, skip: Path | None) -> Iterator[_Found]:
    """Yield the images of an item of a list, or one that raises why there is none."""
    try:
        yield from _find(item, where, skip)
    except PaddlexMLError as error:
        path = _unwrap(item)
        yield _broken(os.fsdecode(path) if _is_text(path) else None, error)


def _find_new(item: Any, where: str, skip: Path | None) -> Iterator[_Found]:
    """Yield the images of an item of an iterator: nobody has judged it yet."""
    try:
        _judge(item, where, skip)
    except PaddlexMLError as error:
        yield _broken(None, error)
    else:
        yield from _find_item(item, where, skip)


def _find_text(text: str, skip: Path | None, listed_in: str | None = None) -> Iterator[_Found]:
    """Yield the images of a path, URL, folder or pattern, or of a text file that lists these."""
    if _URL.match(text):
        yield text, _name_of_url(text), partial(_from_url, text)
    elif os.path.isdir(text):
        _refuse_results(text, skip)
        found = folders.find(text, skip=skip)
        yield from _find_images(found, text, f"the folder holds no image: {text}")
    elif text.lower().endswith(_LIST) and os.path.exists(text) and listed_in is None:
        yield from _find_listed(text, skip)
    elif os.path.exists(text):
        yield text, os.path.basename(text), partial(read_image, text)
    elif folders.WILD.search(text):
        root, parts = folders.split(text)
        found = folders.find(root, parts, skip) if os.path.isdir(root or os.curdir) else iter(())
        yield from _find_images(found, root, f"the pattern finds no image: {text}")
    else:
        start = "the folder you stand in" if listed_in is None else f"the folder of {listed_in}"
        raise PaddlexMLError(
            f"no such file or folder: {text}",
            where=os.path.abspath(text),
            fix=f"correct the path; a relative one starts at {start}",
        )


def _find_images(
    found: Iterator[tuple[str, OSError | None]], root: str, complaint: str
) -> Iterator[_Found]:
    none = True
    for path, error in found:
        none = False
        if error is None:
            yield path, os.path.basename(path), partial(read_image, path)
        elif path == root:
            raise _unlisted(path, error)
        else:
            yield _broken(path, _unlisted(path, error))
    if none:
        raise PaddlexMLError(
            complaint,
            where=os.path.abspath(root),
            fix=f"name another place; files that end in {' '.join(sorted(SUFFIXES))} are found, "
            "but no hidden ones, and none behind links to folders",
        )


def _find_listed(file: str, skip: Path | None) -> Iterator[_Found]:
    """Yield the images that the lines of a text file mean."""
    none = True
    for number, text in _read_list(file):
        none = False
        path = text if _URL.match(text) else os.path.join(os.path.dirname(file), text)
        try:
            yield from _find_text(path, skip, listed_in=file)
        except PaddlexMLError as error:
            place = f"{file}:{number}"
            fix = error.fix if _is_utf8(text) else "save the text file as UTF-8"
            yield _broken(path, PaddlexMLError(f"{error.what} ({place})", where=place, fix=fix))
    if none:
        raise PaddlexMLError(
            f"the text file names no image: {file}",
            where=os.path.abspath(file),
            fix="write a path, URL, folder or pattern on each line",
        )


def _read_list(file: str) -> Iterator[tuple[int, str]]:
    """Yield number and path of the lines that count; names that are not UTF-8 stay as they are."""
    try:
        with open(file, "rb") as lines:
            if b"\0" in lines.peek(4096):
                raise PaddlexMLError(
                    f"not a text file in UTF-8: {file}",
                    where=os.path.abspath(file),
                    fix="save it as UTF-8; an image needs a name that does not end in .txt",
                )
            for number, line in enumerate(lines, start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                text = content.decode("utf-8", "surrogateescape").partition("\t")[0].strip()
                if text and not text.startswith("#"):
                    yield number, text
    except OSError as error:
        raise PaddlexMLError(
            f"the text file cannot be read: {error.strerror}",
            where=os.path.abspath(file),
            fix="give yourself permission to read it",
        ) from error


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _broken(path: str | None, error: PaddlexMLError) -> _Found:
    wish = os.path.basename(path.rstrip("/" + os.sep)) if path else None
    return path, wish, partial(_fail, error.what, error.where, error.fix)


def _fail(what: str, where: str, fix: str) -> NoReturn:
    raise PaddlexMLError(what, where=where, fix=fix)


def _unlisted(folder: str, error: OSError) -> PaddlexMLError:
    return PaddlexMLError(
        f"the folder cannot be listed: {error.strerror}",
        where=folder,
        fix="give yourself permission to read it, or name other folders",
    )


def _refuse_results(place: str, skip: Path | None) -> None:
    """Refuse a folder, or a pattern for what lies directly in a folder, of the results."""
    folder = place
    if folders.WILD.search(place) and not os.path.exists(place):
        root, parts = folders.split(place)
        folder = root if set(parts[:-1]) <= {"**"} else place
    if folders.is_same(folder, skip):
        raise PaddlexMLError(
            "the drawn pictures would overwrite the images they are drawn from",
            where=str(skip),
            fix="save into another folder: -o Predict.save_path=...",
        )


def _unwrap(source: Any) -> Any:
    while isinstance(source, Mapping):
        source = source.get("img")
    return source


def _is_text(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


def _nothing() -> PaddlexMLError:
    return PaddlexMLError("no image is given", where="input", fix=f"give {_KINDS}")


def _name_of_url(url: str) -> str:
    try:
        name = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:  # no URL: fetching it will say so
        name = ""
    return re.sub(r'[\0-\x1f\\:*?"<>|]', "_", name) or "image"


def _from_url(url: str) -> Image.Image:
    return decode_image(fetch_image.fetch(url), where=url)


def _check(array: np.ndarray, where: str) -> None:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype == np.uint8 and fits and array.size:
        return
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
