# SPDX-License-Identifier: Apache-2.0
"""train.txt, val.txt and label.txt: the only code that reads or writes them.

    label.txt            <id> <name>             ids 0..C-1, each once
    train.txt, val.txt   <path><tab><values>    path relative to the data set; values: target_lines
                         <path><tab><values><tab><weight>           soft_targets: both in train.txt

N images, C classes. Text is UTF-8, with or without a byte order mark; lines end in LF or CRLF.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlex_ml import systems
from paddlex_ml.data import (
    inventory,
    journal,
    label_file,
    list_line,
    lost_images,
    missing_lists,
    soft_targets,
    target_lines,
    targets,
)
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import Guess, ImageFinder, ImageProblem
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import UTF8, TextLines, read_lines
from paddlex_ml.data.list_line import Line
from paddlex_ml.data.lost_images import leave_out
from paddlex_ml.data.soft_targets import SoftCells, Weights
from paddlex_ml.data.targets import Mask, Rows, Targets
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import named
from paddlex_ml.storage import files
from paddlex_ml.wording import count

logger = logging.getLogger(__name__)

LISTS = ("train", "val")
LABEL_FILE, TRAIN_FILE = inventory.LABEL_FILE, inventory.TRAIN_FILE
VAL_FILE = inventory.VAL_FILE


@dataclass(frozen=True)
class ImageList:
    """The images of one list: `paths` as written, relative to `root`, and what they show."""

    root: Path
    paths: list[str]
    values: Targets
    """What the lines say, [N, C]: 1, 0 or UNKNOWN; an array, or sparse. Of a soft value the hard
    form."""
    soft: SoftCells | None = None
    """The values between 0 and 1; None where there are none."""
    weights: Weights | None = None
    """How much each image counts in the loss, [N]; None: all the same."""

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self.paths)

    def path(self, index: int) -> Path:
        """Where image `index` lies on the disk."""
        return self.root / self.paths[index]

    @property
    def targets(self) -> np.ndarray:
        """`values` as an array, int8 [N, C]: large where they are sparse."""
        return targets.dense(self.values)

    def take(self, rows: Rows) -> ImageList:
        """The images of some numbers, or of a mask [N], in that order."""
        numbers = np.arange(len(self))[np.asarray(rows, None if len(rows) else np.int64)]
        return ImageList(
            self.root,
            [self.paths[i] for i in numbers],
            targets.take(self.values, numbers),
            None if self.soft is None else self.soft.take(numbers),
            None if self.weights is None else self.weights[numbers],
        )

    def line_key(self, index: int) -> bytes:
        """Equal for images of this list, and of others, with the same labels and weight."""
        cells, weight = targets.row(self.values, index), b""
        if self.soft is not None:
            filled = self.soft.fill(cells, index)
            weight += filled.tobytes() if (filled != cells).any() else b""
        if self.weights is not None and self.weights[index] != 1:
            weight += b"w" + self.weights[index].tobytes()
        return cells.tobytes() + weight

    def text(self) -> str:
        """Content of the list, as `list_text`."""
        return list_text(self.paths, self.values, self.soft, self.weights)


@dataclass(frozen=True)
class MLClsDataset:
    """A data set on disk: class names by id, and its two lists."""

    root: Path
    label_names: list[str]
    train: ImageList
    val: ImageList


class LineChange(NamedTuple):
    """A line of a list that is written in another way, or left out."""

    where: str
    """As the list was: "train.txt:7"."""
    path: str
    """The image, as written there."""
    why: str
    """"missing", "duplicates", ..., or how the image was found: "with other capitals"."""
    found: str = ""
    """The path that is written instead; "" where the line is left out."""

    @property
    def kind(self) -> str:
        """The change without its particulars."""
        return self.why.partition(" (")[0]


@dataclass(frozen=True)
class Parsed:
    """Everything in the text files, right or wrong.

    `dataset` has only the sound lines. `lines` has, for each list, every image file that exists
    and the number of the line that names it, also where the values of that line are wrong: so one
    check can inspect all images. Its paths are normalised (`normalise_path`). `changes` are the
    lines that the caller has allowed to repair or to leave out.
    """

    dataset: MLClsDataset
    lines: dict[str, dict[str, int]]
    faults: list[DatasetFault]
    changes: list[LineChange] = field(default_factory=list)


def read(
    dataset_dir: Path, lists: Sequence[str] = LISTS, *, soft_labels: bool = False
) -> MLClsDataset:
    """Read the lists asked for; one left out is empty [0, C]. All faults come in one error.
    `soft_labels` as `parse`."""
    parsed = parse(dataset_dir, lists, soft_labels=soft_labels)
    if parsed.faults:
        raise combine(parsed.faults, Path(dataset_dir))
    return parsed.dataset


def read_labels(path: Path) -> list[str]:
    """Class names by id. Raises one PaddlexMLError with every fault of the file."""
    journal.finish_interrupted(path.parent)
    names, faults = _parse_labels(path)
    if faults:
        raise combine(faults, path.parent)
    return names


@named("reading the lists")
def parse(
    dataset_dir: Path,
    lists: Sequence[str] = LISTS,
    *,
    repair: bool = False,
    drop: Collection[str] = (),
    soft_labels: bool = False,
) -> Parsed:
    """Read the text files of a data set and collect every fault instead of stopping at the first.

    Images are looked for, not opened. With `repair`, an image that is not where its line says is
    taken from where `ImageFinder` finds the only file that may be meant. `drop` leaves lines out
    whose image is "missing", and among its "duplicates" those that name an image of an earlier
    line of their list with the same labels. Without `soft_labels`, values between 0 and 1 are
    faults; in val.txt they always are.
    """
    root = Path(dataset_dir)
    if fault := missing_lists.find_folder_fault(root):
        empty = ImageList(root, [], np.zeros((0, 0), np.int8))
        return Parsed(MLClsDataset(root, [], empty, empty), {}, [fault])
    journal.finish_interrupted(root)
    names, faults = _parse_labels(root / LABEL_FILE)
    # A damaged label.txt does not give the number of classes: the lists are then compared with
    # their own first line, so that the same run still finds their faults.
    reader = _ListReader(root, None if faults else len(names), repair, frozenset(drop), soft_labels)
    opened = [reader.open(root / f"{name}.txt") for name in LISTS if name in lists]
    # A guess must not take an image that any line names as it is written: so these come first.
    for listed in opened:
        reader.resolve(listed)
    images = {listed.name: reader.close(listed) for listed in opened}
    empty = ImageList(root, [], np.zeros((0, len(names)), np.int8))
    dataset = MLClsDataset(root, names, images.get("train", empty), images.get("val", empty))
    return Parsed(dataset, reader.lines, faults + reader.faults, reader.changes)


def digest(images: ImageList) -> str:
    """SHA-256 of a list: equal for the same images, labels and weights in the same order."""
    text = "\0".join(images.paths).encode("utf-8", "surrogateescape")
    for array in () if images.soft is None else vars(images.soft).values():
        text += b"\0\0soft" + array.tobytes()
    if images.weights is not None and (images.weights != 1).any():
        text += b"\0\0weights" + images.weights.tobytes()
    return targets.digest(images.values, text)


def list_text(
    paths: Sequence[str],
    values: Targets,
    soft: SoftCells | None = None,
    weights: Weights | None = None,
) -> str:
    """Content of a list, `values` [N, C]. Raises PaddlexMLError for paths with tab or line end."""
    for name in paths:
        if not name or re.search(r"[\t\r\n]|\A\ufeff", name):
            raise PaddlexMLError(
                f"the image path {name!r} cannot be written to a list: "
                "it is empty, begins with a byte order mark, or has a tab or a line end",
                where=f"list of {count(len(paths), 'image')}",
                fix="rename the image file",
            )
    lines = zip(paths, soft_targets.texts(values, soft), strict=True)
    if weights is None:
        return "".join([f"{name}\t{text}\n" for name, text in lines])
    columns = [f"\t{w:.9g}" * (w != 1) for w in weights.astype(np.str_).astype(float).tolist()]
    return "".join([f"{n}\t{t}{w}\n" for (n, t), w in zip(lines, columns, strict=True)])


def write_list(path: Path, paths: Sequence[str], values: Targets) -> None:
    """Write a new list, as `list_text`, atomically."""
    files.write_text(path, list_text(paths, values))


def write_labels(path: Path, names: Sequence[str]) -> None:
    """Write a new label.txt, as `label_file.labels_text`, atomically."""
    files.write_text(path, label_file.labels_text(names))


def normalise_path(path: str) -> str:
    """One spelling for one file: `./a.jpg` and `x/../a.jpg` are `a.jpg` (and case on Windows)."""
    return os.path.normcase(os.path.normpath(path))


@dataclass
class _Listed:
    """One list while it is read."""

    name: str
    """Without its ending: train."""
    lines: list[Line]
    reachable: Mask
    """Which lines name an image file that exists, inside the data set, for the first time."""
    unfound: list[int] = field(default_factory=list)
    """Lines that name no image file of the data set as they are written."""
    repeated: list[tuple[int, int]] = field(default_factory=list)
    """Lines that name an image again, and the first line that does."""
    first: dict[str, int] = field(default_factory=dict)
    """Normalised path -> the first line that names it."""
    repaired: dict[str, int] = field(default_factory=dict)
    """Normalised path of an image that was found by a guess -> number of its line."""

    def where(self, index: int) -> str:
        """The position of a line in faults."""
        return f"{self.name}.txt:{self.lines[index].number}"


class _ListReader:
    """Reads the lists of one data set; keeps what both share: faults, class count, folders seen."""

    def __init__(
        self,
        root: Path,
        num_classes: int | None,
        repair: bool,
        drop: frozenset[str],
        soft_labels: bool,
    ) -> None:
        self.faults: list[DatasetFault] = []
        self.changes: list[LineChange] = []
        self.lines: dict[str, dict[str, int]] = {}
        self._root = root
        self._num_classes = num_classes
        self._repair, self._drop, self._soft_labels = repair, drop, soft_labels
        self._expected = f"label.txt names {num_classes} class{'es' * (num_classes != 1)}"
        self._folders: dict[str, set[str]] = {}
        self._guessed: dict[str, tuple[str, str]] = {}  # file -> name that led there, and where

    @cached_property
    def _finder(self) -> ImageFinder:
        return ImageFinder(self._root, Inventory(self._root))

    def open(self, file: Path) -> _Listed:
        """Parse the lines of a list, and look for their images as they are written."""
        texts, faults, encoding = _read_lines(file)
        if not texts and not faults:
            what, fix = "the list names no image", list_line.LAYOUT
            faults = [DatasetFault("empty list", file.name, what, fix)]
        self.faults += faults
        lines = []
        for number, text in enumerate(texts, 1):
            if text is None:
                continue  # reported where the file was decoded
            texts[number - 1] = (
                None  # the parts are enough: the values of a list may take gigabytes
            )
            line = list_line.parse(text, number, file, encoding)
            if isinstance(line, DatasetFault):
                self.faults.append(line)
            else:
                lines.append(line)
        listed = _Listed(file.stem, lines, np.zeros(len(lines), np.bool_))
        self._find_images(listed)
        return listed

    def _find_images(self, listed: _Listed) -> None:
        existing = self.lines.setdefault(listed.name, {})
        for i, (number, path, *_) in enumerate(listed.lines):
            key = normalise_path(path)
            if (j := listed.first.setdefault(key, i)) != i:
                listed.repeated.append((i, j))
            elif _is_outside(path, key) or not self._exists(key):
                listed.unfound.append(i)
            else:
                existing[key] = number
                listed.reachable[i] = True

    def resolve(self, listed: _Listed) -> None:
        """Find the images that are not where their lines say, or keep a fault for each."""
        for i in listed.unfound:
            path, where = listed.lines[i].path, listed.where(i)
            guess = self._guess(path, where)
            key = normalise_path(guess.path if isinstance(guess, Guess) else path)
            if (j := listed.first.setdefault(key, i)) != i:
                listed.repeated.append((i, j))  # the same file in another spelling
            elif isinstance(guess, Guess) and self._repair:
                self.changes.append(LineChange(where, path, f"found {guess.how}", guess.path))
                listed.lines[i] = listed.lines[i]._replace(path=guess.path)
                listed.repaired[key] = listed.lines[i].number
                listed.reachable[i] = True
            elif self._may_leave_out(path, guess):
                why = "missing"
                if isinstance(guess, Guess):
                    why = f"missing, but repair.enable=true finds them (as {guess.path})"
                self.changes.append(LineChange(where, path, why))
            else:
                is_outside = _is_outside(path, normalise_path(path))
                fault = lost_images.explain(self._root, path, where, guess, is_outside)
                self.faults.append(fault)

    def _guess(self, path: str, where: str) -> Guess | ImageProblem | None:
        """The only image that a line may mean; a problem where it is of another line already."""
        guess = lost_images.guess(self._finder, path)
        if not isinstance(guess, Guess) or guess.how in lost_images.EXACT:
            return guess
        key = normalise_path(guess.path)
        named = [f"{name}.txt:{lines[key]}" for name, lines in self.lines.items() if key in lines]
        other, place = self._guessed.setdefault(key, (path, where))
        if other != path:
            named.append(place)
        if not named:
            return guess
        text = f"{path} does not exist; {guess.path}, which is like it, is named in {named[0]}"
        fix = f"restore the image, or leave such lines out: {leave_out('missing')}"
        return ImageProblem("image missing", text, fix)

    def _may_leave_out(self, path: str, guess: Guess | ImageProblem | None) -> bool:
        is_missing = "missing" in self._drop and not os.path.isfile(self._root / path)
        # One of two files that may be meant is the image: which one, only the user knows.
        is_open = isinstance(guess, ImageProblem) and guess.kind == "image ambiguous"
        return is_missing and not (is_open and self._repair)

    def close(self, listed: _Listed) -> ImageList:
        """Parse the values of a list, and return the images of its sound lines."""
        self.lines[listed.name] |= listed.repaired
        images, right = self._parse_values(listed)
        for i, j in listed.repeated:
            path, where = listed.lines[i].path, listed.where(i)
            if "missing" in self._drop and not listed.reachable[j]:
                self.changes.append(LineChange(where, path, "missing"))
                continue
            same = right[i] and right[j] and images.line_key(i) == images.line_key(j)
            if same and "duplicates" in self._drop:
                self.changes.append(LineChange(where, path, "duplicates"))
                continue
            first = listed.lines[j]
            text = f"{path} is already in line {first.number}"
            text += f" as {first.path}" * (first.path != path)
            text += "" if same else ", with other labels"
            text += " or another weight" * (not same and images.weights is not None)
            fix = "correct one of the lines, and remove the other"
            fix = f"leave such lines out: {leave_out('duplicates')}" if same else fix
            self.faults.append(DatasetFault("path named twice", where, text, fix))
        return images.take(listed.reachable & right)

    def _exists(self, path: str) -> bool:
        # One listing per folder is many times cheaper than one question per image, above all on
        # network disks. Only names that a listing spells in another way are looked up one by one.
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                with os.scandir(self._root / folder) as entries:
                    names = {os.path.normcase(entry.name) for entry in entries if entry.is_file()}
            except (OSError, ValueError):  # ValueError: a name that no file system has
                names = set()
            self._folders[folder] = names
        return name in self._folders[folder] or os.path.isfile(self._root / path)

    def _parse_values(self, listed: _Listed) -> tuple[ImageList, Mask]:
        """Values of all lines -> a list of N images, and which of them are right."""
        texts = [line.values for line in listed.lines]
        dense = next((i for i, text in enumerate(texts) if not target_lines.is_sparse(text)), None)
        if self._num_classes is None and dense is not None:
            self._num_classes = texts[dense].count(",") + 1
            self._expected = f"line {listed.lines[dense].number} of {listed.name}.txt has "
            self._expected += str(self._num_classes)
        # Without a number of classes the ids of sparse lines cannot be wrong.
        num_classes = (
            target_lines.count_classes(texts) if self._num_classes is None else self._num_classes
        )
        is_train = listed.name == "train"
        refusal = soft_targets.OPTION_FIX if is_train else soft_targets.VAL_FIX
        refusal *= not (is_train and self._soft_labels)
        values, soft, faults = soft_targets.parse(texts, num_classes, self._expected, refusal)
        columns = [line.weight for line in listed.lines]
        weights, wrong = soft_targets.parse_weights(columns, is_train=is_train)
        faults += wrong
        if weights is not None and not is_train:
            logger.warning(
                "the weights in %s.txt have no effect: scores count each image once", listed.name
            )
        right = np.ones(len(texts), np.bool_)
        for fault in faults:
            right[fault.line] = False
            where, fix = listed.where(fault.line), fault.fix
            if columns[fault.line] and fault.kind == target_lines.WRONG_NUMBER:
                fix += f"; {columns[fault.line]!r} behind the second tab is the weight of the image"
            self.faults.append(DatasetFault(fault.kind, where, fault.what, fix))
        paths = [line.path for line in listed.lines]
        return ImageList(self._root, paths, values, soft, weights), right


def _is_outside(path: str, key: str) -> bool:
    """Whether a path, and its normalised form, is none below the data set."""
    return systems.is_anchored(path) or key.split(os.sep, 1)[0] == os.pardir


def _parse_labels(path: Path) -> tuple[list[str], list[DatasetFault]]:
    texts, faults, _ = _read_lines(path)
    names, more = label_file.parse(texts, path.name, is_read=not faults)
    return names, faults + more


def _read_lines(path: Path) -> TextLines:
    text = read_lines(path)
    if text.encoding != UTF8:
        logger.warning("%s is read as %s, not as UTF-8", path.name, text.encoding)
    return text
