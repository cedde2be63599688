# SPDX-License-Identifier: Apache-2.0
"""WebDataset: tar files of images and their labels (`src_dataset_type: WebDataset`).

    train-000000.tar -> train-000000/: 0001.jpg  0001.json  0002.jpg  0002.json

- The images are read from folders, not from tar files: a tar file that is not unpacked is refused,
  with the command that unpacks each into a folder of its name beside it.
- In the folders, files of one [key](https://github.com/webdataset/webdataset) (the name up to its
  first dot) belong together: an image, and `.json`, `.cls` or `.txt`. The first of these kinds that
  any image has counts for all: in `.json` the labels are those of a line of JSONL
  (`CheckDataset.convert.label_columns` chooses their keys), `.cls` has numbers or names of classes,
  `.txt` names, one a line or parted by commas.
- Folders whose names begin with `train` and `val` make both lists; those of `test` are not used.
- Numbers get their names from `classes.txt`. The classes are in its order, else alphabetical.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml import systems
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import is_image, join
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import huggingface
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.record_labels import (
    Labels,
    UnusableRecord,
    parse_labels,
    read_columns,
    read_others,
)
from paddlex_ml.formats.records import (
    LABEL_KEYS,
    ImageRecord,
    find_subset,
    finish_records,
)
from paddlex_ml.formats.subsets import SourceTable
from paddlex_ml.storage import archives, regular_file
from paddlex_ml.wording import count, first_names

_KINDS = (".json", ".cls", ".txt")
_FOREIGN = {"shapes", "imagePath", "annotation", "annotations", "images", "imageData"}
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.0*)?")
_MEMBERS = 50  # of a tar file: enough to see what it holds

_decoder = msgspec.json.Decoder(Any)


def recognise(inventory: Inventory) -> str:
    """A tar file of images with labels, or the label file beside an image that came from one."""
    if tars := _list_tars(inventory):
        return tars[0]
    names = [path for path in inventory.files if path.lower().endswith((".cls", ".json"))]
    keys = {_split(path)[0] for path in inventory.images} if names else set()
    beside = [path for path in names if _split(path)[0] in keys][:_MEMBERS]
    for path in beside:
        if path.lower().endswith(".cls") or _has_labels(inventory, path):
            return path
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the unpacked folders. Raises one PaddlexMLError with every fault."""
    layout = "unpack each tar file into a folder of its name: 0001.jpg and 0001.json side by side"
    collector = Collector(root, options, layout=layout)
    inventory = collector.inventory
    tars = _list_tars(inventory)
    _refuse_packed(root, [tar for tar in tars if not _is_unpacked(inventory, tar)])
    for tar in tars:
        collector.account.left_out[tar] = "unpacked into the folder beside it"
    files = {_split(path): path for path in inventory.files if path.lower().endswith(_KINDS)}
    images = [path for path in inventory.images if find_subset(path) != "test"]
    kinds = [kind for kind in _KINDS if any((_split(path)[0], kind) in files for path in images)]
    records: list[ImageRecord] = []
    for path in images:
        key = _split(path)[0]
        if not kinds or (file := files.get((key, kinds[0]))) is None:
            continue  # no annotation names it, which the account counts
        records += _read_file(collector, file, path)
        for kind in kinds[1:]:
            if other := files.get((key, kind)):
                collector.account.left_out[other] = f"beside a {kinds[0]} file"
    return finish_records(collector, records)


def _list_tars(inventory: Inventory) -> list[str]:
    """The tar files that hold images and files of labels."""
    found = []
    for path in inventory.find(".tar"):
        names = _list_members(inventory.root / path, _MEMBERS)
        keys = {_split(name)[0] for name in names if is_image(name)}
        if any(_split(name)[0] in keys and name.lower().endswith(_KINDS) for name in names):
            found.append(path)
    return found


def _list_members(path: Path, most: int | None = None) -> list[str]:
    """Names of the files in a tar file, or of its first ones; none where it is damaged.

    A compressed tar is not looked into: it may be a million times as long.
    """
    try:
        with (
            regular_file.open_regular(path, 1 << 50, is_text=False) as file,
            tarfile.open(fileobj=file, mode="r:", tarinfo=archives.TarEntry) as tar,
        ):
            return [member.name for member in islice(tar, most) if member.isfile()]
    except (*archives.DAMAGED, OSError):
        return []


def _is_unpacked(inventory: Inventory, tar: str) -> bool:
    """Whether all files of a tar file lie in the folder of its name, or beside it."""
    names = [name.removeprefix("./") for name in _list_members(inventory.root / tar)]
    files = set(inventory.files)
    places = tar[: -len(".tar")], tar.rpartition("/")[0]
    return bool(names) and any(
        all(join(place, name) in files for name in names) for place in places
    )


def _refuse_packed(root: Path, tars: list[str]) -> None:
    if not tars:
        return
    patterns = " ".join(
        dict.fromkeys(systems.quote(folder) + "/*.tar" if folder else "*.tar" for folder in
                      (tar.rpartition("/")[0] for tar in tars))
    )  # fmt: skip
    how = f": (cd {systems.quote(str(root))} && for t in {patterns}; do "
    how += 'mkdir -p "${t%.tar}" && tar -xf "$t" -C "${t%.tar}"; done)'
    raise PaddlexMLError(
        f"the images are inside {count(len(tars), 'tar file')}: {first_names(tars, 3)}",
        where=str(root),
        fix="unpack them" + (", each in a folder of its name" if systems.IS_WINDOWS else how),
    )


def _split(path: str) -> tuple[str, str]:
    """Key and kind of a file: the name up to its first dot, and what follows, in lower case."""
    folder, _, name = path.rpartition("/")
    stem, dot, kind = name.partition(".")
    return join(folder, stem), (dot + kind).lower()


def _has_labels(inventory: Inventory, path: str) -> bool:
    try:
        value = _decoder.decode(inventory.read_head(path))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
    return isinstance(value, dict) and bool(value.keys() & {*LABEL_KEYS}) and not (
        value.keys() & _FOREIGN
    )  # fmt: skip


def _read_file(collector: Collector, file: str, image: str) -> Iterator[ImageRecord]:
    """The labels of one image."""
    text = "\n".join(line or "" for line in collector.read_lines(file, records=False)).strip()
    collector.account.use(file, 1)
    table = SourceTable(file, find_subset(file))
    try:
        unknown: tuple[str, ...] = ()
        absent: tuple[str, ...] | None = None
        if file.lower().endswith(".json"):
            record = _decoder.decode(text)
            if isinstance(record, dict):
                keys = collector.options.label_columns or [huggingface.choose_label(record)]
                labels: Labels = read_columns(record, keys)
                unknown, absent = read_others(record, labels, keys)
            else:
                labels = parse_labels(record)
        else:
            words: list[str] = list(filter(None, re.split(r"\s*[\n,;|]\s*", text)))
            numbers = text.replace(",", " ").split()
            are_ids = bool(numbers) and all(map(_NUMBER.fullmatch, numbers))
            labels = [int(float(word)) for word in numbers] if are_ids else words
        yield ImageRecord(table, file, join("", image), labels, "", unknown, absent)
    except (msgspec.DecodeError, RecursionError, UnusableRecord) as error:
        fix = getattr(error, "fix", "")
        fix = fix or 'write {"labels": ["cat", "dog"]}, or numbers of classes into a .cls file'
        collector.add_fault("malformed labels", file, str(error), fix)
