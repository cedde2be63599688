# SPDX-License-Identifier: Apache-2.0
"""Whatever a user gives to predict on -> pictures, one by one, none of them read yet.

path, URL, folder, glob pattern, text file of these, array, tensor, PIL image, bytes, open file,
{"img": ...}, lists and iterators of all these -> Picture, Picture, ...

A path that is given alone must exist. In a list, a path that does not exist becomes a picture whose
`load` raises the error, so that the other pictures still get results.
"""

from __future__ import annotations

import codecs
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote, urlsplit

from PIL import Image

from paddlex_ml.data.file_kinds import FileKind
from paddlex_ml.data.image_finder import fold
from paddlex_ml.data.transforms import SUFFIXES, decode_image, read_image
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.inference import frames, image_paths, pixels
from paddlex_ml.inference.pixels import BGR, ArrayOrder
from paddlex_ml.storage import fetch_image, near_names
from paddlex_ml.wording import first_names

_KINDS = (
    "a path, URL, folder, pattern, text file of these, array, tensor, PIL image, the bytes of an "
    "image file, {'img': ...}, or a list or iterator of these"
)
_URL = re.compile(r"https?://", re.IGNORECASE)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that "surrogateescape" has kept
_LIST = ".txt"
_STEM_BYTES = 160  # file systems allow 255 for a name; suffixes and temporary names need some

_log = logging.getLogger(__name__)

Load = Callable[[], Image.Image]


class _Image(NamedTuple):
    path: str | None
    wish: str | None
    """File name; both are None in memory."""
    load: Load
    frame: int | None = None


@dataclass(frozen=True)
class FoundFile:
    """Reads a file that was found, but does not have the name of an image that can be read here.

    That it cannot be read is told, and is no failure.
    """

    path: str
    kind: FileKind | None
    """What it is, if not an image."""

    def __call__(self) -> Image.Image:
        """Read the image. Raises PaddlexMLError that begins with "not answered"."""
        if self.kind is not None:
            _refuse(f"not answered: {self.kind.what}", self.path, self.kind.fix)
        try:
            return read_image(self.path)
        except PaddlexMLError as error:
            _refuse(f"not answered: {error.what}", self.path, Lines(error.fix))


@dataclass(frozen=True)
class Picture:
    """One image to predict on."""

    path: str | None
    """Path or URL; None for an image that was given in memory."""
    name: str
    """File name for the results of this image: no other picture of the run has its stem."""
    load: Load
    """Reads and decodes it, RGB; a URL is fetched each time."""
    frame: int | None = None
    """Its number, from 0, in a file of several frames, where these were asked for."""

    @property
    def is_remote(self) -> bool:
        """Whether it is fetched from the web."""
        return self.path is not None and _URL.match(self.path) is not None

    @property
    def is_optional(self) -> bool:
        """Whether it was found without the name of an image: an error is then no failure."""
        return isinstance(self.load, FoundFile)


@dataclass(frozen=True)
class _Reading:
    """How a source is read."""

    skip: Path | None = None
    order: ArrayOrder = BGR
    frames: int | None = None


def walk(
    source: Any,
    *,
    skip: Path | None = None,
    order: ArrayOrder = BGR,
    frames: int | None = None,
) -> Iterator[Picture]:
    """Find the pictures of `source` one by one, as the iterator is consumed; folders sorted.

    Arrays and tensors are in `order`; see `pixels`. A folder is searched at any depth, except for
    hidden files and folders, links to folders, and the folder `skip`. A text file (.txt) has a
    path, URL or pattern a line; what follows a tab, and lines that begin with #, do not count.
    Relative paths in it start at its own folder. An open file is read at the call where it is given
    alone, else when its turn comes.

    frames: of a video or an image of several frames, every so many are pictures, from the first on.
        None: only the first frame of an image, and no videos.

    Raises PaddlexMLError at the call for what is no image at all, and where a path, folder,
    pattern or text file that is given alone has no image. In a list or a text file, and where a
    folder within a folder cannot be read, `load` of a picture raises it.
    """
    how = _Reading(skip, order, frames)
    if not _check(source, "input", how):
        _refuse("no image is given", "input")
    images = _find(source, "input", how)
    alone = _unwrap(source)
    if isinstance(alone, str | os.PathLike) or hasattr(alone, "read"):
        first = next(images)  # raises when there is none
        images = chain([first], images)
    return _name(images)


def count(source: Any, *, skip: Path | None = None) -> int:
    """How many pictures `walk` would find: a second or two for a million files.

    An iterator counts as nothing, since it can be consumed only once.
    """
    source = _unwrap(source)
    if isinstance(source, list | tuple):
        return sum(count(item, skip=skip) for item in source)
    if not isinstance(source, str | os.PathLike):
        return 0 if isinstance(source, Iterator) else 1
    path = os.fsdecode(source)
    if os.path.isdir(path):
        return sum(1 for _ in image_paths.find(path, skip=skip)) or 1
    try:
        return sum(1 for _ in _find_path(path, _Reading(skip)))
    except PaddlexMLError:
        return 1  # the picture that raises it


def name_images(paths: Iterable[str | None]) -> Iterator[str]:
    """The file names that `walk` gives to images of these paths and URLs, found in this order."""
    images = (_Image(path, _wish(path), partial(_refuse, "", "")) for path in paths)
    for picture in _name(images, may_be_none=True):
        yield picture.name


def _wish(path: str | None) -> str | None:
    if path and _URL.match(path):
        return _name_of_url(path)
    return os.path.basename(path.rstrip("/" + os.sep)) if path else None


def _check(source: Any, where: str, how: _Reading) -> bool:
    """Whether anything is given; raises for what is wrong and can be seen without the disk.

    `where` is the position of `source` within the input.
    """
    match source:
        case str() | os.PathLike():
            path = os.fsdecode(source)
            if not path:  # for the system it would be the current folder
                _refuse("the path is empty", where)
            _refuse_results(path, how.skip)
        case Picture() | Image.Image():
            pass
        case _ if pixels.is_encoded(source) or hasattr(source, "read"):
            pass
        case _ if pixels.is_array(source):
            pixels.check_array(source, where, how.order)
        case list() | tuple():
            return any([_check(item, f"{where}[{i}]", how) for i, item in enumerate(source)])
        case Mapping() if set(source) == {"img"}:
            return _check(source["img"], f"{where}['img']", how)
        case Mapping():
            keys = ", ".join(map(repr, source)) or "none"
            _refuse(f"a mapping must have only the key 'img', it has {keys}", where)
        case Iterator():
            pass
        case _:
            _refuse(f"{type(source).__name__} is not an image", where)
    return True


def _name(images: Iterator[_Image], *, may_be_none: bool = False) -> Iterator[Picture]:
    """Give every image a file name whose stem is unique, also where case is ignored."""
    numbers: dict[str, int] = {}  # folded stem -> number of the last one that is like it
    position = 0
    for position, image in enumerate(images, start=1):
        if image.wish and isinstance(image.load, FoundFile) and image.load.kind is not None:
            # Without result: it takes no name from an image.
            yield Picture(image.path, image.wish, image.load)
            continue
        stem, suffix = os.path.splitext(image.wish or f"array_{position:04d}.png")
        while len(os.fsencode(stem)) > _STEM_BYTES:
            stem = stem[:-1]
        unique, number = stem, numbers.get(fold(stem), 1)
        while fold(unique) in numbers:
            number += 1
            unique = f"{stem}_{number}"
        numbers[fold(unique)] = 1
        numbers[fold(stem)] = number
        yield Picture(image.path, unique + suffix, image.load, image.frame)
    if not (position or may_be_none):  # an iterator without items
        _refuse("no image is given", "input")


def _find(source: Any, where: str, how: _Reading) -> Iterator[_Image]:
    """Yield the images of what `_check` has accepted; raises where it is a path without any.

    An item of a list or iterator that has none is yielded as an image that raises the reason.
    """
    match source:
        case Picture():
            yield _Image(source.path, source.name, source.load, source.frame)
        case str() | os.PathLike():
            yield from _find_path(os.fsdecode(source), how)
        case Image.Image():
            yield _Image(None, None, partial(pixels.from_pil, source, where))
        case _ if pixels.is_encoded(source):
            if isinstance(source, bytes):
                pixels.refuse_text(source[:4096].decode("ascii", "replace"), where)
            yield from _read_content(pixels.read_encoded(source, where), where, how)
        case _ if hasattr(source, "read"):
            yield from _read_content(pixels.read_open(source, where), where, how)
        case _ if pixels.is_array(source):
            yield _Image(None, None, partial(pixels.from_array, source, where, how.order))
        case Mapping():
            yield from _find(source["img"], f"{where}['img']", how)
        case _:
            is_checked = isinstance(source, list | tuple)  # items of an iterator are not, yet
            for i, item in enumerate(source):
                path: Any = None
                try:
                    if not is_checked:
                        _check(item, f"{where}[{i}]", how)
                    path = _unwrap(item)
                    yield from _find(item, f"{where}[{i}]", how)
                except PaddlexMLError as error:
                    yield _broken(
                        os.fsdecode(path) if isinstance(path, str | os.PathLike) else None, error
                    )


def _find_path(path: str, how: _Reading, listed_in: str | None = None) -> Iterator[_Image]:
    """Yield the images of a path, URL, folder or pattern, or of a text file that lists these."""
    if _URL.match(path):
        if how.frames is None:
            yield _Image(path, _name_of_url(path), partial(_fetch, path))
        else:
            yield from _read_content(fetch_image.fetch(path), path, how, path)
    elif os.path.isdir(path):
        _refuse_results(path, how.skip)
        seen = image_paths.LeftOut()
        files = image_paths.find(path, skip=how.skip, left_out=seen)
        yield from _find_images(files, path, f"the folder holds no image: {path}", how, seen)
    elif path.lower().endswith(_LIST) and os.path.exists(path) and listed_in is None:
        yield from _find_listed(path, how)
    elif os.path.exists(path):
        yield from _read_file(path, how)
    elif image_paths.WILD.search(path):
        root, parts = image_paths.split(path)
        is_folder = os.path.isdir(root or os.curdir)
        seen = image_paths.LeftOut()
        files = image_paths.find(root, parts, how.skip, seen) if is_folder else iter(())
        yield from _find_images(
            files, root, f"the pattern finds no image: {pixels.shorten(path)}", how, seen
        )
    else:
        pixels.refuse_text(path)
        start = "the current folder" if listed_in is None else f"the folder of {listed_in}"
        near = near_names.find(Path(path))
        guess = f"{pixels.shorten(str(near))} is there: " if near else ""
        raise PaddlexMLError(
            f"no such file or folder: {pixels.shorten(path)}",
            where=pixels.shorten(os.path.abspath(path)),
            fix=f"{guess}correct the path; a relative one starts at {start}",
        )


def _fetch(url: str) -> Image.Image:
    return decode_image(fetch_image.fetch(url), where=url)


def _read_file(path: str, how: _Reading) -> Iterator[_Image]:
    """Yield the image of a file, or its frames where they are asked for and there are several."""
    if how.frames is None or not frames.has_several(path):
        yield _Image(path, os.path.basename(path), partial(read_image, path))
    else:
        yield from _sample(path, path, how.frames, path)


def _read_content(
    content: bytes, where: str, how: _Reading, url: str | None = None
) -> Iterator[_Image]:
    """Yield the image, or the frames, of the content of a file, which a `url` may have given."""
    if how.frames is None or not frames.has_several(content):
        wish = None if url is None else _name_of_url(url)
        yield _Image(url, wish, partial(decode_image, content, where=where))
    else:
        yield from _sample(content, where, how.frames, url)


def _sample(source: str | bytes, where: str, every: int, path: str | None) -> Iterator[_Image]:
    name = "array" if path is None else _name_of_url(path)
    stem = os.path.splitext(name if isinstance(source, bytes) else os.path.basename(source))[0]
    try:
        for frame in frames.sample(source, every, where=where):
            yield _Image(path, f"{stem}_{frame.number:06d}.jpg", frame, frame.number)
    except PaddlexMLError as error:  # what comes after it still has its turn
        yield _broken(path, error)


def _find_images(
    found: Iterator[image_paths.Found],
    root: str,
    complaint: str,
    how: _Reading,
    left_out: image_paths.LeftOut,
) -> Iterator[_Image]:
    """Yield the images of `image_paths.find`; raises `complaint` where there is none."""
    is_empty = True
    waiting: list[_Image] = []  # files that are no images, until there is an image
    images: Iterable[_Image]
    for path, error, has_image_name, kind in found:
        if error is not None:
            unlisted = PaddlexMLError(
                f"the folder cannot be listed: {error.strerror}",
                where=path,
                fix="give yourself permission to read it, or name other folders",
            )
            if path == root:
                raise unlisted
            images = [_broken(path, unlisted)]
        elif (has_image_name and kind is None) or (how.frames and frames.is_video(path)):
            images = _read_file(path, how)
        else:
            images = [_Image(path, os.path.basename(path), FoundFile(path, kind))]
            if is_empty and kind is not None:
                waiting += images
                continue
        is_empty = False
        yield from waiting
        waiting.clear()
        yield from images
    _tell_left_out(root, left_out)
    if is_empty:
        others = [f"{image.wish} ({image.load.kind.what})" for image in waiting
                  if isinstance(image.load, FoundFile) and image.load.kind]  # fmt: skip
        raise PaddlexMLError(
            f"{complaint}, but {first_names(others, 3)}" if others else complaint,
            where=os.path.abspath(root),
            fix=f"name another folder; files that end in {' '.join(sorted(SUFFIXES))} are found, "
            "and others by their content, except hidden ones and those behind links to folders",
        )


def _tell_left_out(root: str, left_out: image_paths.LeftOut) -> None:
    """Log what is in a folder beside its images."""
    where = root or os.curdir
    if left_out.endings:
        most = left_out.endings.most_common()
        counts = [f"{count:,} {ending or 'without ending'}" for ending, count in most]
        _log.info("%s: texts and backups are no images: %s", where, first_names(counts))
    if left_out.hidden:
        _log.info("%s: %d hidden files and folders are left out", where, left_out.hidden)
    if left_out.special:
        _log.warning("%s: %d pipes and devices are left out", where, left_out.special)
    if left_out.num_links:
        names = ", ".join(left_out.links)
        more = " and more" if left_out.num_links > len(left_out.links) else ""
        _log.warning(
            "%s: links to folders are not followed: %s%s; name them too, if you want their images",
            where,
            names,
            more,
        )


def _find_listed(file: str, how: _Reading) -> Iterator[_Image]:
    """Yield the images that the lines of a text file name."""
    is_empty = True
    for number, text in _read_list(file):
        is_empty = False
        path = text if _URL.match(text) else os.path.join(os.path.dirname(file), text)
        try:
            yield from _find_path(path, how, listed_in=file)
        except PaddlexMLError as error:
            line = f"{file}:{number}"
            fix = "save the text file as UTF-8" if _NOT_UTF8.search(text) else error.fix
            yield _broken(path, PaddlexMLError(f"{error.what} ({line})", where=line, fix=fix))
    if is_empty:
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


def _broken(path: str | None, error: PaddlexMLError) -> _Image:
    """An image whose reader raises the error, each time a new one."""
    return _Image(
        path, _wish(path), partial(_refuse, Lines(error.what), error.where, Lines(error.fix))
    )


def _refuse_results(path: str, skip: Path | None) -> None:
    """Refuse the folder of the results, and a pattern for the files directly in it."""
    folder = path
    if image_paths.WILD.search(path) and not os.path.exists(path):
        root, parts = image_paths.split(path)
        folder = root if set(parts[:-1]) <= {"**"} else path
    if image_paths.is_same(folder, skip):
        raise PaddlexMLError(
            "the drawn pictures would overwrite the images they are drawn from",
            where=str(skip),
            fix="save into another folder: -o Predict.save_path=predictions",
        )


def _unwrap(source: Any) -> Any:
    while isinstance(source, Mapping):
        source = source.get("img")
    return source


def _name_of_url(url: str) -> str:
    try:
        name = unquote(urlsplit(url).path).rpartition("/")[2]
    except ValueError:  # no URL: fetching it raises the error
        name = ""
    return re.sub(r'[\0-\x1f\\:*?"<>|]', "_", name) or "image"


def _refuse(what: str, where: str, fix: str = f"give {_KINDS}") -> NoReturn:
    raise PaddlexMLError(what, where=where, fix=fix)
