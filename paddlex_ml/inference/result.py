# SPDX-License-Identifier: Apache-2.0
"""The prediction for one image: printed, saved as JSON or CSV, or drawn, with heatmaps."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import saved_files, table
from paddlex_ml.inference.attention import Maps
from paddlex_ml.inference.inputs import Picture
from paddlex_ml.pictures import heatmap
from paddlex_ml.pictures.labelled import LONGEST_SIDE, draw_labels
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import csv_text, files

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_Text: TypeAlias = str
_LOSSY = {".jpg": 92, ".jpeg": 92, ".webp": 92}  # quality, 1..100
_serials = count(uuid4().int)
"""Numbers that no result of another process has, which may be sent here."""
_VERSION = re.compile(r"\.v?\d+", re.IGNORECASE)  # at the end of a folder's name

Drawing = Literal["labels", "explain"]
"""The image with its labels below, or the sheet with a map of each label."""


@dataclass(frozen=True)
class Seen:
    """What the model looked at in one image."""

    maps: Maps
    """One map per label."""
    shared_by: int
    """Classes that share a map; 1 where each class has its own."""


class _Res(dict[str, Any]):
    """A dict, as the results of PaddleX are; apart, since its `str` would hide the type."""

    @property
    def json(self) -> dict[_Text, dict[_Text, Any]]:
        """{"res": {input_path, class_ids, scores, label_names}}, ready for the json module.

        With `frame` and `all_scores` where they were asked for, and with `error`, a text, where
        there is one.
        """
        return {"res": dict(self)}

    @property
    def str(self) -> _Text:
        """`json` as the text that `print(format_json=False)` prints."""
        return f"{self.json}"


class MultiLabelResult(_Res):
    """The labels of one image, by falling score; or the error of an image that has none.

    As a dict it holds what `json` has within "res": `result["label_names"]`, `dict(result)`.
    """

    def __init__(
        self,
        picture: Picture,
        classes: Sequence[str],
        scores: np.ndarray | None = None,
        chosen: np.ndarray | Sequence[int] = (),
        *,
        with_all_scores: bool = False,
        image: Image.Image | None = None,
        error: PaddlexMLError | None = None,
        seen: Seen | None = None,
    ) -> None:
        """`classes` are all class names, `scores` [C] theirs, `chosen` the ids of the labels.

        `image` saves reading the picture again, until `forget_image`. `seen`: with explain=True.
        """
        super().__init__()
        self.input_path = picture.path
        """Path or URL of the image; None when it was given in memory."""
        self.frame = picture.frame
        """Its number, from 0, in a file of several frames, where these were asked for."""
        self.class_ids = [int(i) for i in chosen]
        self.scores = [] if scores is None else _rounded(scores[self.class_ids])
        self.label_names = [classes[i] for i in self.class_ids]
        self.all_scores = _rounded(scores) if with_all_scores and scores is not None else None
        """Of every class, by class id, where they were asked for."""
        self.error = error
        """Why the image could not be read; None where it could."""
        self.maps = None if seen is None else seen.maps
        """{class id: float32 [h, w] that sums to 1}, one map per label, with explain=True.

        The first cell is the upper left corner of the image; the map covers all of it."""
        self._seen = seen
        self._classes = classes
        self._picture = picture
        self._image = image
        self._serial = next(_serials)
        self._given: dict[int, int] = {}  # of `saved_files.Saver`
        # What is printed and saved; the attribute is what was given.
        self["input_path"] = picture.path and without_secrets(picture.path)
        if self.frame is not None:
            self["frame"] = self.frame
        self["class_ids"], self["scores"] = self.class_ids, self.scores
        self["label_names"] = self.label_names
        if self.all_scores is not None:
            self["all_scores"] = self.all_scores
        if error is not None:
            self["error"] = error.what

    @property
    def is_unanswered(self) -> bool:
        """Whether it is of a file in a folder that is no image, or whose format is not read here.

        `error` says what it is. An image that is damaged is none of these.
        """
        return self.error is not None and self._picture.is_optional

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)})"

    @property
    def img(self) -> dict[str, Image.Image]:
        """{"res": the image with a chip such as `cat 0.98` below it for each label}.

        With "explain", a sheet with the map of each label over the image, where maps were asked
        for. Raises the error of an image that could not be read.
        """
        drawn = {"res": self.draw("labels")}
        if self._seen is not None:
            drawn["explain"] = self.draw("explain")
        return drawn

    def draw(self, what: Drawing, longest_side: int = LONGEST_SIDE) -> Image.Image:
        """One of the pictures of `img`, whose sides have at most `longest_side` pixels.

        Raises the error of an image that could not be read, and PaddlexMLError for maps that were
        not asked for.
        """
        if self.error is not None:
            raise self.error
        seen = self._seen
        if what == "explain" and seen is None:
            raise PaddlexMLError(
                "this result holds no maps of what the model looked at",
                where="save_explain_to_img",
                fix="ask for them: model.predict(..., explain=True)",
            )
        image = self._image or self._picture.load()
        rows = zip(self.class_ids, self.label_names, self.scores, strict=True)
        if what == "explain" and seen is not None:
            labels = [heatmap.Label(name, score, seen.maps[i]) for i, name, score in rows]
            return heatmap.draw_heatmaps(
                image, labels, shared_by=seen.shared_by, longest_side=longest_side
            )
        texts = [f"{name} {score:.2f}" for _, name, score in rows]
        return draw_labels(image, texts, keys=self.label_names, longest_side=longest_side)

    def print(self, format_json: bool = True, indent: int = 4, ensure_ascii: bool = False) -> None:
        """Print the result: as JSON, or as a dict on one line."""
        text = self.str
        if format_json:
            text = json.dumps(self.json, indent=indent, ensure_ascii=ensure_ascii)
        encoding = sys.stdout.encoding or "utf-8"  # may be unable to write Chinese
        # Flushed, so that a reader of a pipe gets every result at once.
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)

    def save_to_json(
        self, save_path: str | os.PathLike[str], indent: int = 4, ensure_ascii: bool = False
    ) -> Path:
        """Write the result to a file, or to `<name of the image>.json` in a folder.

        A folder is what exists as one, ends with a separator, or has no suffix but a number, such
        as `results_v1.0` or `2026.07.01`. Results of this process never replace each other: a
        second one of the same name gets a number, and a file that several are saved to becomes a
        list of them. Returns the path of the file.
        """
        target, is_named = self._target(save_path, ".json")
        # File names that are not UTF-8 become \udc.. escapes, which json reads back as they were.
        text = json.dumps(self.json, indent=indent, ensure_ascii=ensure_ascii) + "\n"
        content = text.encode("utf-8", "backslashreplace")
        return self._save_text(target, "json", content, is_named)

    def save_to_csv(self, save_path: str | os.PathLike[str]) -> Path:
        """Write a table of one row to a file, or to `<name of the image>.csv` in a folder.

        See `table` for its columns. A file that several results are saved to has a row for each.
        Returns the path of the file.
        """
        target, is_named = self._target(save_path, ".csv")
        header = table.header(self._classes, with_all_scores=self.all_scores is not None)
        text = table.write([header, table.row(self.json["res"], self._classes)])
        return self._save_text(target, "csv", csv_text.encode(text), is_named)

    def save_to_img(
        self, save_path: str | os.PathLike[str], longest_side: int = LONGEST_SIDE
    ) -> Path:
        """Write the drawn image to a file, or under the name of the image to a folder.

        In a folder an image whose format cannot be written becomes a .png. Where the name has a
        picture of another result of this process, or one that no result has drawn, such as a
        photograph, this one gets a number. Returns the path of the file. Raises PaddlexMLError for
        an unknown suffix, for a file that is the input itself, and for an image that could not be
        read.
        """
        return self._save_img(save_path, "labels", longest_side)

    def save_explain_to_img(
        self, save_path: str | os.PathLike[str], longest_side: int = LONGEST_SIDE
    ) -> Path:
        """Write the sheet with the map of each label, to a file or into a folder.

        Names are those of `save_to_img`, so it needs a folder of its own. Raises PaddlexMLError as
        `save_to_img`, and for a result without maps.
        """
        return self._save_img(save_path, "explain", longest_side)

    @property
    def picture_name(self) -> str:
        """File name of its pictures in a folder."""
        return name_picture(self._picture.name)

    def write_drawing(self, target: Path, what: Drawing, longest_side: int = LONGEST_SIDE) -> None:
        """Draw and write a picture; a file that is there is replaced. Raises as `save_to_img`."""
        suffix = target.suffix.lower()
        if suffix not in WRITABLE:
            raise PaddlexMLError(
                f"pictures cannot be written as {target.suffix}",
                where=str(target),
                fix=f"end the name with one of {' '.join(WRITABLE)}",
            )
        drawn = self.draw(what, longest_side)
        options: dict[str, Any] = {"quality": _LOSSY[suffix]} if suffix in _LOSSY else {}
        with files.replacing(target) as temporary:
            drawn.save(temporary, **options, **_mark(suffix))

    def forget_image(self) -> None:
        """Free the pixels, so that a list of results stays small; `img` reads the picture again."""
        self._image = None

    def _save_text(
        self, target: Path, kind: Literal["json", "csv"], content: bytes, is_named: bool
    ) -> Path:
        saver = self._saver(kind)
        if is_named:
            return saved_files.collect(target, saver, kind, content)
        with saved_files.reserve(target, saver) as path:
            files.write_bytes(path, content)
        return path

    def _save_img(
        self, save_path: str | os.PathLike[str], what: Drawing, longest_side: int
    ) -> Path:
        target, _ = self._target(save_path, Path(self.picture_name).suffix)
        with saved_files.reserve(target, self._saver(what)) as path:
            self.write_drawing(path, what, longest_side)
        return path

    def _saver(self, kind: str) -> saved_files.Saver:
        return saved_files.Saver(hash((self._serial, kind)), self.input_path, self._given)

    def _target(self, save_path: str | os.PathLike[str], suffix: str) -> tuple[Path, bool]:
        """The file, and whether `save_path` names it; refuses the image itself."""
        text, target = os.fspath(save_path), Path(save_path)
        is_bare = not target.suffix or (_VERSION.fullmatch(target.suffix) and not target.is_file())
        is_named = not (target.is_dir() or text.endswith(("/", os.sep)) or is_bare)
        if not is_named:
            target = target / Path(self._picture.name).with_suffix(suffix).name
        self.refuse_own_image(target)
        return target, is_named

    def refuse_own_image(self, target: Path) -> None:
        """Raise PaddlexMLError where a file for this result is the image itself."""
        path = self.input_path
        if path and target.exists() and os.path.exists(path) and os.path.samefile(target, path):
            raise PaddlexMLError(
                "the result would overwrite the image that it describes",
                where=str(target),
                fix="save into another folder, or under another name",
            )


def name_picture(image: str) -> str:
    """File name of the picture of an image: that of the image where its format can be written."""
    is_writable = Path(image).suffix.lower() in WRITABLE
    return image if is_writable else Path(image).with_suffix(".png").name


def _mark(suffix: str) -> dict[str, Any]:
    """Options of Pillow that write `saved_files.MARK` into a picture; a .bmp cannot hold it."""
    exif, chunks = Image.Exif(), PngInfo()
    exif[ExifTags.Base.Software] = saved_files.MARK
    chunks.add_text("Software", saved_files.MARK)
    match suffix:
        case ".jpg" | ".jpeg":
            return {"comment": saved_files.MARK}
        case ".png":
            return {"pnginfo": chunks}
        case ".tif" | ".tiff":
            return {"software": saved_files.MARK}
        case ".webp":
            return {"exif": exif}
    return {}


def _rounded(scores: np.ndarray) -> list[float]:
    return [round(float(score), 5) for score in scores]


def _renew_serials() -> None:
    """A forked process would go on with the numbers of its parent."""
    global _serials
    _serials = count(uuid4().int)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_serials)
