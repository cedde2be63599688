# SPDX-License-Identifier: Apache-2.0
"""Every format that can be read, and which of them a folder has.

Each format has a module with `read(root, options)`, and with `recognise(inventory)`, which tells in
a few words by which files the format is known ("" when it is not).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from paddlex_ml import program
from paddlex_ml.data.inventory import LABEL_FILE, TRAIN_FILE, Inventory
from paddlex_ml.errors import Lines, PaddlexMLError, alternatives
from paddlex_ml.formats import (
    azure,
    celeba,
    coco,
    csv_table,
    cvat,
    huggingface,
    image_folder,
    jsonl,
    labelbox,
    labelme,
    labelstudio,
    mmpretrain,
    openimages,
    other_tools,
    paddlelabel,
    parquet,
    sagemaker,
    text_list,
    vertex,
    voc,
    vott,
    webdataset,
    yolo,
)
from paddlex_ml.formats.collector import Options, SourceDataset
from paddlex_ml.progress import named
from paddlex_ml.wording import count, first_names

AUTO = "auto"
"""The value of `src_dataset_type` that chooses the format by the files."""
CHOICES = (
    *("separator", "image_column", "label_columns", "label_value", "image_from"),
    "uncertain",
)
"""The options that some readers use and others have no use for."""
_KEY = "CheckDataset.convert.src_dataset_type"
_TEXT = ("separator",)
_COLUMNS = ("image_column", "label_columns")


class Format(NamedTuple):
    """One format: its name as users give it, and its module."""

    name: str
    module: ModuleType
    rank: int = 1
    """Of two formats that are recognised the one of higher rank counts: 2 for the files of one
    tool, 1 for general formats, 0 for class folders, which any folder may seem to be."""
    kind_of: tuple[str, ...] = ()
    """The general formats whose names users may give instead."""
    options: tuple[str, ...] = ()
    """Which of `CHOICES` its reader uses."""

    @property
    def read(self) -> Callable[[Path, Options], SourceDataset]:
        """The reader."""
        reader: Callable[[Path, Options], SourceDataset] = self.module.read
        return reader

    def recognise(self, inventory: Inventory) -> str:
        """By which files the format is known; "" when it is not."""
        return str(self.module.recognise(inventory))


FORMATS = {
    entry.name: entry
    for entry in (
        Format("COCO", coco, options=("uncertain",)),
        Format("VOC", voc, options=("image_from", "uncertain")),
        Format("LabelMe", labelme, options=("image_from",)),
        Format("YOLO", yolo),
        Format("CSV", csv_table, options=(*_TEXT, *_COLUMNS, "label_value", "uncertain")),
        Format("ImageFolder", image_folder, 0),
        Format("JSONL", jsonl, options=(*_TEXT, *_COLUMNS)),
        Format("LabelStudio", labelstudio, 2, ("CSV", "JSONL"), _COLUMNS),
        Format("CVAT", cvat, 2, ("VOC",)),
        Format("PaddleLabel", paddlelabel, 2, ("CSV",)),
        Format("TextList", text_list, 1, ("CSV",), _TEXT),
        Format("MMPretrain", mmpretrain, 2, ("JSONL",)),
        Format("OpenImages", openimages, 2, ("CSV",), ("uncertain",)),
        Format("CelebA", celeba, 2),
        Format("SageMaker", sagemaker, 2, ("JSONL",), _TEXT),
        Format("Azure", azure, 2, ("JSONL",), _TEXT),
        Format("Vertex", vertex, 2, ("CSV", "JSONL")),
        Format("Labelbox", labelbox, 2, ("JSONL",)),
        Format("VoTT", vott, 2, ("CSV",)),
        Format("HuggingFace", huggingface, 2, ("CSV", "JSONL"), (*_TEXT, "label_columns")),
        Format("Parquet", parquet, 1, options=(*_TEXT, *_COLUMNS)),
        Format("WebDataset", webdataset, 1, options=(*_TEXT, "label_columns")),
    )
}
"""What `src_dataset_type` may be, besides `auto`."""


class Recognised(NamedTuple):
    """A format that a folder may have, and why."""

    format: Format
    why: str


@named("looking through the files")
def recognise(root: Path, only: str | None = None) -> list[Recognised]:
    """The formats of the highest rank that the files of a folder may have.

    only: the one file that counts as annotations; None: all of them.
    """
    inventory = Inventory(root, only)
    found = [Recognised(entry, entry.recognise(inventory)) for entry in FORMATS.values()]
    found = [candidate for candidate in found if candidate.why]
    best = max((candidate.format.rank for candidate in found), default=0)
    return [candidate for candidate in found if candidate.format.rank == best]


def read(root: Path, source: str, options: Options) -> SourceDataset:
    """Read a data set in the format `source`, or in the one that its files have ("auto").

    Raises one PaddlexMLError with every fault; it names another format where the files have one.
    """
    if source == AUTO:
        chosen = _choose(root, options.only)
        return _read_as(chosen, root, options, f"recognised as {chosen.format.name}: {chosen.why}")
    given = FORMATS[source]
    kinds = [entry for entry in FORMATS.values() if source in entry.kind_of]
    if kinds:
        inventory = Inventory(root)
        special = [Recognised(kind, kind.recognise(inventory)) for kind in kinds]
        special = [candidate for candidate in special if candidate.why]
        best = max((candidate.format.rank for candidate in special), default=0)
        special = [candidate for candidate in special if candidate.format.rank == best]
        # Two general formats: the one that was named is meant, if its files are there.
        is_meant = given.rank == best and given.recognise(inventory)
        if len(special) == 1 and not is_meant:
            name, why = special[0].format.name, special[0].why
            note = f"this {source} is of the kind {name}: {why}"
            return _read_as(special[0], root, options, note)
    _refuse_unused(given, root, options)
    try:
        return given.read(root, options)
    except PaddlexMLError as error:
        raise _suggest_other(error, root, given) from error


def _read_as(chosen: Recognised, root: Path, options: Options, note: str) -> SourceDataset:
    _refuse_unused(chosen.format, root, options, note)
    dataset = chosen.format.read(root, options)
    dataset.notes.insert(0, note)
    return dataset


def _refuse_unused(chosen: Format, root: Path, options: Options, note: str = "") -> None:
    """Raise PaddlexMLError for options that the format has no use for: they would do nothing."""
    unused = [
        name
        for name in CHOICES
        if getattr(options, name) is not None and name not in chosen.options
    ]
    if unused:
        text = " and ".join(f"convert.{name}" for name in unused)
        users = [each.name for each in FORMATS.values() if {*unused} <= {*each.options}]
        note = f" ({note})" if note else ""
        used_by = f" (of use for {', '.join(users)})" if users else ""
        raise PaddlexMLError(
            f"{text} has no effect on the format {chosen.name}{note}",
            where=str(root),
            fix=" ".join(f"-o CheckDataset.convert.{name}=null" for name in unused) + used_by,
        )


def _choose(root: Path, only: str | None) -> Recognised:
    """The only format that the files have. Raises PaddlexMLError for none and for several."""
    found = recognise(root, only)
    if len(found) == 1:
        return found[0]
    if not found:
        inventory = Inventory(root, only)
        if TRAIN_FILE in inventory.own_lists and LABEL_FILE not in inventory.own_lists:
            raise PaddlexMLError(
                f"{TRAIN_FILE} is a list of ours, but {LABEL_FILE} does not name its classes",
                where=str(root / LABEL_FILE),
                fix='write one class a line, "<id> <name>", with ids from 0',
            )
        if TRAIN_FILE in inventory.own_lists:
            raise PaddlexMLError(
                "there are no annotations of another format, and train.txt is in ours already",
                where=str(root),
                fix="-o CheckDataset.convert.enable=false",
            )
        what, repair = other_tools.explain(inventory)
        if what:
            fix = f"{repair}; {program.page('data.md')} has all formats"
            raise PaddlexMLError(f"no format is recognised: {what}", where=str(root), fix=fix)
        what, repair = _explain_images(inventory)
        raise PaddlexMLError(f"no format is recognised: {what}", where=str(root), fix=repair)
    raise PaddlexMLError(
        "the files may be of several formats: "
        + "; ".join(f"{candidate.format.name} ({candidate.why})" for candidate in found),
        where=str(root),
        fix=" or ".join(f"-o {_KEY}={candidate.format.name}" for candidate in found),
    )


def _explain_images(inventory: Inventory) -> tuple[str, str]:
    """Why images without annotations are no folders of classes, and the repair."""
    images = inventory.images
    loose = [path for path in images if "/" not in path]
    tops = sorted({path.partition("/")[0] for path in images} - {*loose})
    page = program.page("data.md")
    label = "put the images of each class into a folder of its name, or write a table with their "
    label += f"names and labels ({page})"
    if not images:
        what = f"there is no image and no annotation ({count(len(inventory.files), 'other file')})"
        repair = "-o Global.dataset_dir=... (the folder of the images and their annotations)"
        return what, f"{repair}; {page} has all formats"
    if loose and len(tops) > 1:
        are = count(len(loose), "image is", "images are")
        what = f"{are} in no folder of a class: {first_names(loose, 3)}"
        fix = f"move them into one, or leave them out: -o {_KEY}=ImageFolder"
        return f"{what}, beside the folders {first_names(tops, 3)}", fix
    if loose and not tops:
        return f"nothing says what the {count(len(loose), 'image shows', 'images show')}", label
    if len(tops) == 1 and not loose:
        what = f"there are no annotations, and all images are in one folder, {tops[0]}"
        return what, f"{label}; images without the class go into the folder {image_folder.NO_LABEL}"
    return f"there are no annotations, and no folders of classes, but {first_names(tops, 3)}", label


def _suggest_other(error: PaddlexMLError, root: Path, given: Format) -> PaddlexMLError:
    """The same error, which names the format that the files have when it is another one."""
    if not root.is_dir():
        return error
    found = [entry for entry in recognise(root) if entry.format.rank]
    if len(found) != 1 or found[0].format == given:
        return error
    other = f"-o {_KEY}={found[0].format.name} (found {found[0].why})"
    return error.replace(fix=alternatives(Lines(error.fix), other))
