# SPDX-License-Identifier: Apache-2.0
"""A data set that is made beside its source: lists of ours, and a link to the images.

    photos/cat/1.jpg, photos/dog/2.jpg  ->  output/dataset/label.txt, train.txt, val.txt
                                            output/dataset/images -> photos

Nothing is written into the source. Its format is recognised; the folder is one of class folders, a
table, annotations of any tool, or lists of ours, also without val.txt. The images may lie in a
folder of their own, which the user's command names: then `output/dataset/images` leads there, and
the annotations are read through a second link.

Only this module makes the links, from paths of the command line, never from one that a file names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from paddlex_ml import systems
from paddlex_ml.data.annotation import LISTS
from paddlex_ml.data.faults import combine
from paddlex_ml.data.inventory import (
    ANNOTATION_SUFFIXES,
    LABEL_FILE,
    RELATIONS_FILE,
    TRAIN_FILE,
    VAL_FILE,
    Inventory,
)
from paddlex_ml.data.split import Division
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry, rewrite, source_path
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.rewrite import Draft
from paddlex_ml.storage import files
from paddlex_ml.wording import count, first_names, path_override

IMAGES, SOURCE = "images", "source"
"""The links in the new data set: to the images, and to annotations that lie elsewhere."""
_ANY_OF_OURS = (None, LABEL_FILE, TRAIN_FILE, VAL_FILE)
"""Files that mean the lists beside them; None: the folder."""
VAL_PERCENT = 20
"""Share of the images that val.txt gets where nothing divides them."""
_JUNCTION = 0xA0000003
"""`st_reparse_tag` of a junction (IO_REPARSE_TAG_MOUNT_POINT)."""


@dataclass(frozen=True)
class Understood:
    """What the source is, and the lists that the new data set gets; they are not written yet."""

    root: Path
    """The data set to check and to train on."""
    draft: Draft
    division: Division | None
    """None where the source divides its images."""
    source: Path
    what: str
    """In a few words: "ImageFolder (folders cat, dog)"."""
    is_written: bool
    """False where the source has lists of ours that are complete: it is used as it is."""
    is_moved: bool = False
    """Whether the link to the images led elsewhere before."""

    def lines(self) -> list[str]:
        """Three lines for the user: what it is, how it is divided, what will be written."""
        dataset = self.draft.parsed.dataset
        names, sizes = dataset.label_names, (len(dataset.train), len(dataset.val))
        shown = first_names(names, 5)
        understood = (
            f"{self.source}: {self.what}, {count(sum(sizes), 'image')}, "
            f"{count(len(names), 'class', 'classes')}"
        )
        divided = f"the source divides them: {sizes[0]:,} for training, {sizes[1]:,} for validation"
        if self.division is not None:
            share, seed = self.division.val_percent, self.division.seed
            how = f"{self.division.strategy}, seed {seed}"
            first = "nothing divides the images"
            if "val" in self.draft.lists:
                first = "the source divides the images, which are divided again"
            divided = f"{first}: {share} % become val.txt ({how})"
        writes = f"nothing is written: {self.root} is used as it is"
        if self.is_written:
            writes = f"written: {self.root}, whose images are those of the source by a link; "
            writes += "the source stays as it is"
        return [f"{understood}: {shown}", divided, writes]


class ListOptions(NamedTuple):
    """What a user may choose for lists of ours, as `rewrite.draft_lists` takes it."""

    repair: bool = False
    drop: Collection[str] = ()
    soft_labels: bool = False
    relations: bool = False
    """Whether labels are completed by relations.yaml."""

    @property
    def change_lists(self) -> bool:
        """Whether lists may get other lines."""
        return bool(self.repair or self.drop or self.relations)


_AS_THEY_ARE = ListOptions()


def understand(
    source: Path,
    target: Path,
    options: Options,
    division: Division | None,
    *,
    images: Path | None,
    kind: str = registry.AUTO,
    of_lists: ListOptions = _AS_THEY_ARE,
) -> Understood:
    """Read a folder or a table, and prepare the data set `target` for it, with its links.

    images: the folder of the images, where it is another one. kind: the format, where the user has
    named it. division: as the user wants it; None leaves it to the source, and else to
    `VAL_PERCENT`. Raises PaddlexMLError where nothing is recognised, with every fault of the
    source, and where `target` is something else.
    """
    folder, only = _locate(source)
    inventory = Inventory(folder)
    may_be_ours = images is None and kind == registry.AUTO and only in _ANY_OF_OURS
    own = inventory.own_lists if may_be_ours else []
    if {LABEL_FILE, TRAIN_FILE} <= {*own}:
        draft, what = _read_lists(inventory, options, of_lists), "lists of ours"
        if "val" in draft.lists and division is None and not of_lists.change_lists:
            return Understood(folder, draft, None, source, what, is_written=False)
        draft, is_moved = _refer(draft, target, folder)
        draft.notes.extend(_take_relations_along(folder, target))
    elif images is None:
        draft, what = _convert(folder, kind, replace(options, only=only))
        draft, is_moved = _refer(draft, target, folder)
    else:
        is_moved = make_link(target / IMAGES, images)
        if only is None:
            make_link(target / SOURCE, folder)
        else:  # a copy: the table may lie in a folder that the output lies in too
            only = f"{SOURCE}/{only}"
            if _is_link(target / SOURCE):  # the copy would be written into another source
                (target / SOURCE).unlink()
            files.write_bytes(target / only, source.read_bytes())
        draft, what = _convert(target, kind, replace(options, only=only))
        draft = draft.moved(target, "", "")
    if division is None and "val" not in draft.lists:
        division = Division(val_percent=VAL_PERCENT)
    return Understood(target, draft, division, source, what, is_written=True, is_moved=is_moved)


@contextmanager
def kept_link(target: Path) -> Iterator[None]:
    """Let the link of the data set lead back to the images of its lists, where these stay.

    An error of a new source comes when its images were already looked at through the link.
    """
    link = target / IMAGES
    before = None
    if _is_link(link):  # of a junction, readlink gives a path that CreateJunction does not take
        before = Path(os.readlink(link) if link.is_symlink() else os.path.realpath(link))
    try:
        yield
    except BaseException:
        if before is not None:
            make_link(link, before)
        raise


def _read_lists(inventory: Inventory, options: Options, of_lists: ListOptions) -> Draft:
    """The lists of a folder. Raises PaddlexMLError with their faults, and for options that only a
    conversion has a use for."""
    of_conversion = (*registry.CHOICES, "merge_names", "rename")
    unused = [name for name in of_conversion if getattr(options, name) is not None]
    if unused:
        text = " and ".join(f"convert.{name}" for name in unused)
        raise PaddlexMLError(
            f"{text} has no effect on lists of ours",
            where=str(inventory.root),
            fix=" ".join(f"-o CheckDataset.convert.{name}=null" for name in unused),
        )
    # Also one whose first line is wrong: the faults are told.
    lists = [name for name in LISTS if f"{name}.txt" in inventory.names("")]
    draft = rewrite.draft_lists(
        inventory.root,
        lists,
        repair=of_lists.repair,
        drop=of_lists.drop,
        soft_labels=of_lists.soft_labels,
    )
    if draft.parsed.faults:
        raise combine(draft.parsed.faults, inventory.root)
    return draft


def _convert(folder: Path, kind: str, options: Options) -> tuple[Draft, str]:
    """The lists of annotations, and what these are."""
    draft = rewrite.draft_conversion(folder, kind, options)
    if kind != registry.AUTO:
        return draft, kind
    return draft, draft.notes.pop(0).removeprefix("recognised as ")


def _take_relations_along(folder: Path, target: Path) -> list[str]:
    """Copy relations.yaml; a note where the data set has another one, which stays."""
    ours, theirs = target / RELATIONS_FILE, folder / RELATIONS_FILE
    if not theirs.is_file():
        return []
    if ours.is_file():
        same = ours.read_bytes() == theirs.read_bytes()
        return [] if same else [f"{ours} is not that of {folder}, and stays"]
    files.write_bytes(ours, theirs.read_bytes())
    return [f"{theirs} was copied to {ours}"]


def _refer(draft: Draft, target: Path, folder: Path) -> tuple[Draft, bool]:
    """The draft with a link to the deepest folder that holds all images of its lists, and whether
    the link led elsewhere."""
    dataset = draft.parsed.dataset
    paths = [*dataset.train.paths, *dataset.val.paths]
    above = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    is_moved = make_link(target / IMAGES, folder / above)
    return draft.moved(target, Path(above).as_posix() if above else "", IMAGES), is_moved


def _locate(source: Path) -> tuple[Path, str | None]:
    """The folder to read, and the only file of annotations that counts there; None: all of them."""
    source_path.refuse(source)
    if source.is_dir():
        return source, None
    if source.suffix.lower() not in ANNOTATION_SUFFIXES:
        endings = ", ".join(sorted(ANNOTATION_SUFFIXES))
        raise PaddlexMLError(
            f"{source} is neither a folder nor a file of labels",
            where=source_path.KEY,
            fix=f"name a folder, or a file that ends with {endings}",
        )
    return source.parent, source.name


def _is_link(path: Path) -> bool:
    """Whether the path is a symbolic link, or a junction of Windows."""
    if not os.path.lexists(path):
        return False
    return path.is_symlink() or getattr(os.lstat(path), "st_reparse_tag", 0) == _JUNCTION


def make_link(link: Path, folder: Path) -> bool:
    """Let `link` lead to `folder`; whether it led elsewhere. Raises PaddlexMLError where something
    else has its name.

    Windows allows symbolic links to administrators alone: a junction does the same for a folder.
    """
    is_there = os.path.lexists(link)
    if is_there:
        if os.path.isdir(link) and os.path.samefile(link, folder):
            return False
        if not _is_link(link):
            raise PaddlexMLError(
                f"{link.name} is not a link of ours: another data set lies here",
                where=str(link.parent),
                fix=f"write elsewhere: {files.write_elsewhere(link.parent.parent)}",
            )
    if f"{os.path.realpath(link.parent)}{os.sep}".startswith(os.path.realpath(folder) + os.sep):
        beside = path_override("Global.output", Path(f"{folder.absolute()}_output"))
        raise PaddlexMLError(
            f"{link.parent} lies in {folder}, whose files would be found again through a link",
            where="Global.output",
            fix=f"write elsewhere: {beside}",
        )
    if is_there:
        link.unlink()
    link.parent.mkdir(parents=True, exist_ok=True)
    if systems.IS_WINDOWS:
        try:
            importlib.import_module("_winapi").CreateJunction(str(folder.absolute()), str(link))
        except OSError as error:
            raise PaddlexMLError(
                f"Windows makes no junction to this folder: {error.strerror}",
                where=str(folder),
                fix="copy it to a disk of this machine: a junction leads to no network drive",
            ) from error
    else:
        link.symlink_to(folder.absolute(), target_is_directory=True)
    return is_there
