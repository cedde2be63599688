# SPDX-License-Identifier: Apache-2.0
"""The published lists of NUS-WIDE: class names, names of images, and labels.

    Concepts81.txt                                         class names, a line each
    TrainImagelist.txt, TestImagelist.txt                  actor\\0001_2124494179.jpg, a line each
    Labels_<class>_Train.txt, Labels_<class>_Test.txt      0 or 1 for every image of the list
    Labels_<class>.txt, Imagelist.txt                      the same for all images, in another order

They are found by name, in whatever folders of the archives, or of where these were unpacked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlex_ml.data.annotation import Targets
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import judge_name
from paddlex_ml.storage import archives
from paddlex_ml.storage.archives import Archive

PARTS = {"train": "Train", "val": "Test"}
"""Our lists, and the word for them in the names of the files."""

_SITE = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide"
_IMAGE_LIST = Archive("ImageList.zip", f"{_SITE}/ImageList.zip", "--image-list")
_GROUNDTRUTH = Archive("Groundtruth.zip", f"{_SITE}/Groundtruth.zip", "--groundtruth")
_CONCEPTS = Archive("ConceptsList.zip", f"{_SITE}/ConceptsList.zip", "--concepts")
ARCHIVES = (_IMAGE_LIST, _GROUNDTRUTH, _CONCEPTS)
_CLASSES = 81
_SIZES = {"train": 161_789, "val": 107_859}
_SOUND = {b"0", b"1"}
_WANTED = re.compile(r"Concepts81\.txt|(Train|Test)?Imagelist\.txt|Labels_.+\.txt")
_LARGEST = 64 * 2**20  # bytes, held in memory; the largest, Imagelist.txt, has about 10 MB
_RESTORE = "restore the file from its archive"


@dataclass
class Lists:
    """What the files say, by "train" and "val", and what is wrong with them."""

    label_names: list[str]
    images: dict[str, list[str]]
    targets: dict[str, Targets]
    """For each list [N, C], 0 or 1."""
    faults: list[DatasetFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def locate(archive: Archive, given: str | None, folder: Path | None, *, any_size: bool) -> Path:
    """Path of an archive: as `archives.locate`, but a folder with the unpacked files serves too."""
    if given is not None and os.path.isdir(given):
        return Path(given)
    if given is None and folder is not None and not (folder / archive.name).exists():
        return folder
    return archives.locate(archive, given, folder, any_size=any_size)


def read(sources: Sequence[Path], *, any_size: bool) -> Lists:
    """Read the files of archives and folders; faults of their content are returned, not raised.

    Raises PaddlexMLError for a file that is missing, and for another number of classes or images
    than published, unless `any_size`.
    """
    texts = _Texts(list(dict.fromkeys(sources)))
    names = texts.lines("Concepts81.txt")
    images = {name: texts.lines(f"{part}Imagelist.txt") for name, part in PARTS.items()}
    if not any_size:
        _refuse_other_size(texts, names, images)
    lists = Lists(names, images, {}, _judge_names(names))
    for name in PARTS:
        lists.targets[name] = _read_labels(texts, lists, name)
    return lists


def _refuse_other_size(texts: _Texts, names: list[str], images: dict[str, list[str]]) -> None:
    sizes = [("Concepts81.txt", "classes", len(names), _CLASSES)]
    sizes += [
        (f"{part}Imagelist.txt", "images", len(images[name]), _SIZES[name])
        for name, part in PARTS.items()
    ]
    for file, what, found, expected in sizes:
        if found != expected:
            raise PaddlexMLError(
                f"{file} names {found:,} {what}, the published one {expected:,}",
                where=texts.where,
                fix="restore it from its archive, or take it as it is: --any-size",
            )


def _judge_names(names: list[str]) -> list[DatasetFault]:
    faults = []
    for number, name in enumerate(names, 1):
        where = f"Concepts81.txt:{number}"
        if fault := judge_name(name, where):
            faults.append(fault)
        elif names.index(name) < number - 1:
            text = f"the class {name!r} stands twice"
            faults.append(DatasetFault("duplicate class name", where, text, _RESTORE))
    return faults


# Labels


def _read_labels(texts: _Texts, lists: Lists, name: str) -> Targets:
    """Read the labels of one list, class by class: targets [N, C]."""
    images = lists.images[name]
    targets = np.zeros((len(images), len(lists.label_names)), np.uint8)
    for column, concept in enumerate(lists.label_names):
        file = f"Labels_{concept}_{PARTS[name]}.txt"
        values = texts.read(file).split()
        if len(values) != len(images):
            text = f"it has {len(values):,} labels, but {len(images):,} images are listed"
            lists.faults.append(DatasetFault("wrong number of labels", file, text, _RESTORE))
            continue
        if not set(values) <= _SOUND:
            _mend(values, texts, lists, concept, name)
        targets[:, column] = np.frombuffer(b"".join(values), np.uint8) - ord("0")
    return targets


def _mend(values: list[bytes], texts: _Texts, lists: Lists, concept: str, name: str) -> None:
    """Take labels that are neither 0 nor 1 from the file of all images, or say that they are."""
    whole = _read_whole(texts, concept)
    for index, value in enumerate(values):
        if value in _SOUND:
            continue
        where = f"Labels_{concept}_{PARTS[name]}.txt:{index + 1}"
        text = f"the label is {value[:20].decode('ascii', 'replace')!r}, neither 0 nor 1"
        sound = whole.get(lists.images[name][index])
        values[index] = sound or b"0"
        if sound is None:
            lists.faults.append(DatasetFault("label neither 0 nor 1", where, text, _RESTORE))
        else:
            lists.notes.append(f"{where}: {text}; Labels_{concept}.txt says {sound.decode()}")


def _read_whole(texts: _Texts, concept: str) -> dict[str, bytes]:
    """Sound labels of all images for one class; {} where no source says them."""
    file = f"Labels_{concept}.txt"
    if file not in texts or "Imagelist.txt" not in texts:
        return {}
    labels, names = texts.read(file).split(), texts.lines("Imagelist.txt")
    if len(labels) != len(names):
        return {}
    return {name: label for name, label in zip(names, labels, strict=True) if label in _SOUND}


# Files


class _Texts:
    """The text files, found by name; the first source that has one gives it."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self.where = ", ".join(map(str, sources))
        self._contents: dict[str, bytes | Path] = {}
        for source in sources:
            self._contents = {**_find(source), **self._contents}

    def __contains__(self, name: str) -> bool:
        return name in self._contents

    def read(self, name: str) -> bytes:
        """Raise PaddlexMLError when no source has the file."""
        content = self._contents.get(name)
        if content is None:
            fix = "give all of the three archives, or the folder that they were unpacked into"
            raise PaddlexMLError(f"there is no {name}", where=self.where, fix=fix)
        return content.read_bytes() if isinstance(content, Path) else content

    def lines(self, name: str) -> list[str]:
        """Read the lines, without spaces around them and without empty ones at the end."""
        try:
            text = self.read(name).decode("utf-8-sig").rstrip()
        except UnicodeDecodeError as error:
            what, where = "the file is not UTF-8 text", f"{name} of {self.where}"
            raise PaddlexMLError(what, where=where, fix=_RESTORE) from error
        return [line.strip() for line in text.split("\n")] if text else []


def _find(source: Path) -> dict[str, bytes | Path]:
    """Text files of a folder by name, or those of an archive with their content."""
    if source.is_dir():
        return _find_unpacked(source)
    with archives.opened(source) as (members, open_member):
        found: dict[str, bytes | Path] = {}
        for member in members:
            name = member.name.rpartition("/")[2]
            if _WANTED.fullmatch(name) and member.size <= _LARGEST:
                with open_member(member) as file:
                    found[name] = file.read()
        return found


def _find_unpacked(folder: Path) -> dict[str, bytes | Path]:
    found: dict[str, bytes | Path] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            path = Path(place, name)
            if _WANTED.fullmatch(name) and found.setdefault(name, path) != path:
                raise PaddlexMLError(
                    f"two files are called {name}: {found[name]!s} and {path}",
                    where=str(folder),
                    fix="move the one that is not of NUS-WIDE out of this folder",
                )
    return found
