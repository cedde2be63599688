# SPDX-License-Identifier: Apache-2.0
"""Which json files of a folder are the COCO annotations of train and of val.

A file is known by a name of COCO, else by its first 64 KiB. Files of other tasks (captions,
keypoints, ...) and of test are never taken.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from paddlex_ml.data.annotation import LABEL_FILE, LISTS
from paddlex_ml.data.faults import SHOWN
from paddlex_ml.data.inventory import HEAD, Inventory, is_put_aside
from paddlex_ml.data.journal import undo_command
from paddlex_ml.data.walk import join
from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.formats.subsets import (
    explain_several,
    note_unused_test,
    parse_subset,
    parse_subset_of_file,
)
from paddlex_ml.storage import regular_file
from paddlex_ml.systems import in_turn, quote
from paddlex_ml.wording import count, first_names

_SUFFIX = ".json"
_NAMED = re.compile(r"instances?_.+\.json|_annotations\.coco\.json", re.I)
_SUBSET_IN_NAME = re.compile(r"(?:instances?|labels)_(.+)", re.I)
_OTHER_TASKS = (
    (re.compile(r"\bcaptions?\b"), "captions of images"),
    (re.compile(r"\bpanoptic\b"), "panoptic segments"),
    (re.compile(r"\bkeypoints?\b"), "keypoints of persons"),
    (re.compile(r"^stuff\b"), "segments of stuff, such as sky"),
    (re.compile(r"^image info\b"), "a list of images without annotations"),
)
_TEST = "of the test subset"
_KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
_MANY = 100  # json files: more of them are one for each image, and those are not opened
LAYOUT = (
    "name the files annotations/instances_train.json and annotations/instances_val.json, "
    "or train/_annotations.coco.json and valid/_annotations.coco.json"
)
"""How the files may be named so that nothing is in doubt."""


class CocoSource(NamedTuple):
    """A json file: the list ("train" or "val") that it fills, and its path in the data set."""

    list_name: str
    path: str
    folders: tuple[str, ...]
    """Where its images are looked for, one after the other; "" is the data set folder."""


class CocoFiles(NamedTuple):
    """The files of a data set that are read, and why others are not."""

    sources: list[CocoSource]
    left_out: dict[str, str]
    """Path of a file -> what it is."""
    notes: list[str]


class _CocoParts(msgspec.Struct):
    images: msgspec.Raw = msgspec.Raw(b"")
    annotations: msgspec.Raw = msgspec.Raw(b"")
    categories: msgspec.Raw = msgspec.Raw(b"")


class _CocoImageName(msgspec.Struct, gc=False):
    file_name: str


class _CocoImageNames(msgspec.Struct):
    images: list[_CocoImageName]


_parts_decoder = msgspec.json.Decoder(_CocoParts)
_names_decoder = msgspec.json.Decoder(_CocoImageNames)


def find(inventory: Inventory) -> CocoFiles:
    """Files of train and val, the files that are known and not read, and notes on them.

    A file that names no subset is read when there is no other. Raises PaddlexMLError when there is
    none, or when two files could fill one list.
    """
    candidates, left_out = list_candidates(inventory)
    groups: dict[str, list[str]] = {}
    for path in candidates:
        named = _NAMED.fullmatch(path.rpartition("/")[2])
        if not named and (reason := _recognise_task(inventory.root / path)):
            left_out[path] = reason
        else:
            groups.setdefault(parse_subset_of_file(path), []).append(path)
    test = [path for path, reason in left_out.items() if reason == _TEST]
    if "" in groups and len(groups) > 1:
        _leave_out_whole(inventory.root, groups, test, left_out)
    for subset, paths in groups.items():
        if len(paths) > 1 and not _is_pair(paths):
            what = f"could be the {subset} list" if subset else ""
            raise explain_several(inventory.root, what, paths)
    if not groups:
        raise _explain_nothing(inventory, left_out)
    sources = [
        CocoSource(subset or LISTS[0], path, _list_folders(path))
        for subset in ("", *LISTS)
        for path in groups.get(subset, [])
    ]
    notes = list(map(note_unused_test, test))
    if len(groups) == 1 and "" not in groups:
        notes += _note_one_alone(inventory, sources[0])
    # Lists of an earlier conversion or of the set's author: they become .bak.
    replaced = {LABEL_FILE, *(f"{name}.txt" for name in LISTS)}.intersection(inventory.names(""))
    left_out |= dict.fromkeys(sorted(replaced), "a list that the conversion replaces")
    return CocoFiles(sources, left_out, notes)


def list_candidates(inventory: Inventory) -> tuple[list[str], dict[str, str]]:
    """Files that may be annotations of train or val, those with a name of COCO first; and COCO
    files that are not: path -> what they are."""
    files = inventory.find(_SUFFIX)
    named = {path for path in files if _NAMED.fullmatch(path.rpartition("/")[2])}
    if len(files) - len(named) > _MANY:
        stems = {os.path.splitext(path.rpartition("/")[2])[0] for path in inventory.images}
        files = [
            p for p in files if p in named or p.rpartition("/")[2][: -len(_SUFFIX)] not in stems
        ]
    candidates: list[str] = []
    left_out: dict[str, str] = {}
    for path in files:
        words = path.rpartition("/")[2][: -len(_SUFFIX)].lower().replace("_", " ")
        task = next((what for pattern, what in _OTHER_TASKS if pattern.search(words)), "")
        if not (task or path in named or looks_like_coco(inventory.read_head(path))):
            continue
        if parse_subset_of_file(path) == "test":
            left_out[path] = _TEST
        elif task and path not in named:
            left_out[path] = task
        else:
            candidates.append(path)
    candidates.sort(key=lambda path: (path not in named, not path.startswith("annotations/"), path))
    return candidates, left_out


def looks_like_coco(head: bytes) -> bool:
    """Whether the first bytes of a file are those of COCO annotations of any task."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "ignore").encode()
    if not head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        return False
    keys = set(_KEYS.findall(head))
    return (
        len(keys) > 1
        or (b"images" in keys and b'"file_name"' in head)
        or (b"annotations" in keys and (b'"image_id"' in head or b'"segmentation"' in head))
        or (b"categories" in keys and b'"name"' in head and len(head) == HEAD)
    )


def _recognise_task(path: Path) -> str:
    """What a COCO file has instead of labels; "" where it has labels, or is damaged."""
    try:
        parts = _parts_decoder.decode(regular_file.read(path))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # the reader explains it
    head = memoryview(parts.annotations)[: 2**16].tobytes()
    if not head:
        return "a list of images without annotations"
    if b'"segments_info"' in head:
        return "panoptic segments"
    if b'"caption"' in head and b'"category_id"' not in head:
        return "captions of images"
    if b'"skeleton"' in memoryview(parts.categories).tobytes():
        return "keypoints of persons"
    return ""


def _leave_out_whole(
    root: Path, groups: dict[str, list[str]], test: list[str], left_out: dict[str, str]
) -> None:
    """Leave out files without a subset whose images are all in those of train, val and test.

    Raises PaddlexMLError for one that has other images.
    """
    whole = groups.pop("")
    others = [path for paths in groups.values() for path in paths]
    divided = _list_image_names(root, [*others, *test])
    for path in whole:
        names = _list_image_names(root, [path])
        if not names:
            raise explain_several(root, "", [path, *others])
        if divided and (more := sorted(names - divided)):
            moves = [f"mv {quote(f'{root / p}')} {quote(f'{root / p}.unused')}" for p in others]
            raise PaddlexMLError(
                f"{path} has {count(len(more), 'image')} that {' and '.join(others)} do not have: "
                f"{first_names(more, 5)}",
                where=str(root),
                fix=alternatives(
                    f"read it alone: {in_turn(moves)}",
                    f"leave it out: mv {quote(f'{root / path}')} {quote(f'{root / path}.unused')}",
                ),
            )
        left_out[path] = "its images are in the files of train, val and test"


def _list_image_names(root: Path, paths: Iterable[str]) -> set[str]:
    """Names, without folders, of the images of files; none for a damaged file."""
    names: set[str] = set()
    for path in paths:
        try:
            content = _names_decoder.decode(regular_file.read(root / path))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        names |= {re.split(r"[/\\]", image.file_name)[-1] for image in content.images}
    return names


def _is_pair(paths: list[str]) -> bool:
    """Whether two files have the boxes and the labels of the same images, as Datumaro writes."""
    words = {re.sub(r"(instances|labels)_", "", path) for path in paths}
    return len(paths) == 2 and len(words) == 1


def _list_folders(path: str) -> tuple[str, ...]:
    """Where the images of a file are looked for. Each folder once, because a message lists them."""
    own, _, name = path.rpartition("/")
    base = own
    if base.rpartition("/")[2].lower() in ("annotations", "annotation"):
        base = base.rpartition("/")[0]
    stem = name[: -len(_SUFFIX)]
    if match := _SUBSET_IN_NAME.fullmatch(stem):
        word = match[1]
    else:
        words = re.findall(r"[^\W_]+", stem)
        word = next((word for word in words if parse_subset(word.rstrip("0123456789"))), "")
    if not word and parse_subset(base.rpartition("/")[2]):
        base, _, word = base.rpartition("/")
    inside = [f"images/{word}", word, f"{word}/images"] if word else []
    folders = [join(base, folder) for folder in [*inside, "images", "JPEGImages"]]
    return tuple(dict.fromkeys([*folders, base, "images", "", own]))


def _note_one_alone(inventory: Inventory, source: CocoSource) -> list[str]:
    other = "val" if source.list_name == "train" else "train"
    notes = [f"there is {source.path}, but no {other}: its images become one list"]
    for path in _list_retired(inventory):
        if parse_subset_of_file(path[: path.lower().rindex(_SUFFIX)] + _SUFFIX) == other:
            notes.append(f"{path} may be the missing {other}, from an earlier conversion")
            break
    return notes


def _list_retired(inventory: Inventory) -> list[str]:
    """Annotations that a conversion has renamed: *.json.bak, *.json.bak.1."""
    return [
        join(folder.path, name)
        for folder in inventory.folders.values()
        for name in folder.files
        if is_put_aside(name)
        and (plain := re.sub(r"\.bak(\.[0-9]+)?$", "", name)).lower().endswith(_SUFFIX)
        and (
            _NAMED.fullmatch(plain) or looks_like_coco(inventory.read_head(join(folder.path, name)))
        )
    ]


def _explain_nothing(inventory: Inventory, left_out: dict[str, str]) -> PaddlexMLError:
    if retired := _list_retired(inventory):
        return PaddlexMLError(
            f"the data set was converted already: {', '.join(retired)}",
            where=str(inventory.root),
            fix=alternatives(
                "go on with -o CheckDataset.convert.enable=false",
                f"undo it first: {undo_command(inventory.root)}",
            ),
        )
    known = [f"{path} ({reason})" for path, reason in left_out.items()]
    others = [path for path in inventory.find(_SUFFIX) if path not in left_out]
    shown = first_names([*known, *others], SHOWN)
    text = "there is no COCO file of train or val"
    return PaddlexMLError(
        f"{text}; the json files are: {shown}" if shown else f"{text}, and no json file",
        where=str(inventory.root),
        fix=alternatives(
            "put a json file with `images`, `annotations` and `categories` there",
            "let the format be found: -o CheckDataset.convert.src_dataset_type=auto",
        ),
    )
