# SPDX-License-Identifier: Apache-2.0
"""The published lists of NUS-WIDE: class names, names of images, and labels.

    Concepts81.txt                                         class names, a line each
    TrainImagelist.txt, TestImagelist.txt                  actor\\0001_2124494179.jpg, a line each
    Labels_<class>_Train.txt, Labels_<class>_Test.txt      0 or 1 for every image of the list
    Labels_<class>.txt, Imagelist.txt                      the same for all images, in another order

They are found by name, in any folder of the archives, or of the folders with their content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.targets import Dense
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import check_class_name
from paddlex_ml.storage import archives
from paddlex_ml.storage.archives import Archive
from paddlex_ml.wording import count

SPLITS = {"train": "Train", "val": "Test"}
"""Our lists, and their names in the names of the files."""

_SITE = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide"
_IMAGE_LIST = Archive("ImageList.zip", f"{_SITE}/ImageList.zip", "--image-list")
_GROUNDTRUTH = Archive("Groundtruth.zip", f"{_SITE}/Groundtruth.zip", "--groundtruth")
_CONCEPTS = Archive("ConceptsList.zip", f"{_SITE}/ConceptsList.zip", "--concepts")
ARCHIVES = (_IMAGE_LIST, _GROUNDTRUTH, _CONCEPTS)
_CLASSES = 81
_SIZES = {"train": 161_789, "val": 107_859}
_VALID = {b"0", b"1"}
_WANTED = re.compile(r"Concepts81\.txt|(Train|Test)?Imagelist\.txt|Labels_.+\.txt")
_LARGEST = 64 * 2**20  # bytes, held in memory; the largest, Imagelist.txt, has about 10 MB
_RESTORE = "restore the file from its archive"


@dataclass
class NusWideLists:
    """The content of the files, by "train" and "val", and what is wrong with it."""

    label_names: list[str]
    images: dict[str, list[str]]
    targets: dict[str, Dense]
    """For each list [N, C], 0 or 1."""
    faults: list[DatasetFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def locate(archive: Archive, given: str | None, folder: Path | None, *, any_size: bool) -> Path:
    """Path of an archive as `archives.locate`, or of a folder with the unpacked files."""
    if given is not None and os.path.isdir(given):
        return Path(given)
    if given is None and folder is not None and not (folder / archive.name).exists():
        return folder
    return archives.locate(archive, given, folder, any_size=any_size)


def read(sources: Sequence[Path], *, any_size: bool) -> NusWideLists:
    """Read the files of archives and folders; faults of their content are returned, not raised.

    Raises PaddlexMLError for a file that is missing, and for another number of classes or images
    than published, unless `any_size`.
    """
    texts = _TextFiles(list(dict.fromkeys(sources)))
    names = texts.read_lines("Concepts81.txt")
    images = {name: texts.read_lines(f"{split}Imagelist.txt") for name, split in SPLITS.items()}
    sizes = [("Concepts81.txt", "classes", len(names), _CLASSES)]
    sizes += [
        (f"{split}Imagelist.txt", "images", len(images[name]), _SIZES[name])
        for name, split in SPLITS.items()
    ]
    for file, what, size, expected in sizes:
        if size != expected and not any_size:
            raise PaddlexMLError(
                f"{file} names {size:,} {what}, the published one {expected:,}",
                where=texts.where,
                fix="restore it from its archive, or take it as it is: --any-size",
            )
    lists = NusWideLists(names, images, {}, _check_names(names))
    for name in SPLITS:
        lists.targets[name] = _read_labels(texts, lists, name)
    return lists


def _check_names(names: list[str]) -> list[DatasetFault]:
    faults = []
    for number, name in enumerate(names, 1):
        where = f"Concepts81.txt:{number}"
        if fault := check_class_name(name, where):
            faults.append(fault)
        elif names.index(name) < number - 1:
            text = f"the class {name!r} is there twice"
            faults.append(DatasetFault("duplicate class name", where, text, _RESTORE))
    return faults


# Labels


def _read_labels(texts: _TextFiles, lists: NusWideLists, name: str) -> Dense:
    """Read the labels of one list, class by class: targets [N, C]."""
    images = lists.images[name]
    targets = np.zeros((len(images), len(lists.label_names)), np.uint8)
    for column, concept in enumerate(lists.label_names):
        file = f"Labels_{concept}_{SPLITS[name]}.txt"
        values = texts.read(file).split()
        if len(values) != len(images):
            text = f"it has {count(len(values), 'label')}, but "
            text += f"{count(len(images), 'image is', 'images are')} listed"
            lists.faults.append(DatasetFault("wrong number of labels", file, text, _RESTORE))
            continue
        if not set(values) <= _VALID:
            _repair(values, texts, lists, concept, name)
        targets[:, column] = np.frombuffer(b"".join(values), np.uint8) - ord("0")
    return targets


def _repair(
    values: list[bytes], texts: _TextFiles, lists: NusWideLists, concept: str, name: str
) -> None:
    """Take labels other than 0 and 1 from the file of all images; those not there are faults."""
    labels: dict[str, bytes] = {}  # of all images, for this class
    file = f"Labels_{concept}.txt"
    if file in texts.contents and "Imagelist.txt" in texts.contents:
        all_labels, all_images = texts.read(file).split(), texts.read_lines("Imagelist.txt")
        if len(all_labels) == len(all_images):
            pairs = zip(all_images, all_labels, strict=True)
            labels = {image: label for image, label in pairs if label in _VALID}
    for index, value in enumerate(values):
        if value in _VALID:
            continue
        where = f"Labels_{concept}_{SPLITS[name]}.txt:{index + 1}"
        text = f"the label is {value[:20].decode('ascii', 'replace')!r}, neither 0 nor 1"
        label = labels.get(lists.images[name][index])
        values[index] = label or b"0"
        if label is None:
            lists.faults.append(DatasetFault("label neither 0 nor 1", where, text, _RESTORE))
        else:
            lists.notes.append(f"{where}: {text}; taken from {file}: {label.decode()}")


# Files


class _TextFiles:
    """The text files, by name; where several sources have one, the first is read."""

    def __init__(self, sources: Sequence[Path]) -> None:
        self.where = ", ".join(map(str, sources))
        self.contents: dict[str, bytes | Path] = {}
        for source in sources:
            self.contents = {**_find_texts(source), **self.contents}

    def read(self, name: str) -> bytes:
        """Raise PaddlexMLError when no source has the file."""
        content = self.contents.get(name)
        if content is None:
            fix = "give all of the three archives, or the folder that they were unpacked into"
            raise PaddlexMLError(f"there is no {name}", where=self.where, fix=fix)
        return content.read_bytes() if isinstance(content, Path) else content

    def read_lines(self, name: str) -> list[str]:
        """Read the lines, without spaces around them and without empty ones at the end."""
        try:
            text = self.read(name).decode("utf-8-sig").rstrip()
        except UnicodeDecodeError as error:
            what, where = "the file is not UTF-8 text", f"{name} of {self.where}"
            raise PaddlexMLError(what, where=where, fix=_RESTORE) from error
        return [line.strip() for line in text.split("\n")] if text else []


def _find_texts(source: Path) -> dict[str, bytes | Path]:
    """Text files of a folder by name, or those of an archive with their content."""
    texts: dict[str, bytes | Path] = {}
    if not source.is_dir():
        with archives.opened(source) as (members, open_member):
            for member in members:
                name = member.name.rpartition("/")[2]
                if _WANTED.fullmatch(name) and member.size <= _LARGEST:
                    if name in texts:
                        raise PaddlexMLError(
                            f"two files of the archive are called {name}",
                            where=str(source),
                            fix="unpack it, and remove the one that is not of NUS-WIDE",
                        )
                    with open_member(member) as file:
                        texts[name] = file.read()
        return texts
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in names:
            path = Path(folder, name)
            if _WANTED.fullmatch(name) and texts.setdefault(name, path) != path:
                raise PaddlexMLError(
                    f"two files are called {name}: {texts[name]!s} and {path}",
                    where=str(source),
                    fix="move the one that is not of NUS-WIDE out of this folder",
                )
    return texts
