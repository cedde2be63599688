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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from paddlex_ml import program, systems
from paddlex_ml.data.annotation import LISTS
from paddlex_ml.data.faults import combine
from paddlex_ml.data.inventory import (
    ANNOTATION_SUFFIXES,
    LABEL_FILE,
    RELATIONS_FILE,
    TRAIN_FILE,
    Inventory,
)
from paddlex_ml.data.split import Division
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry, rewrite
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.rewrite import Draft
from paddlex_ml.storage import files
from paddlex_ml.wording import first_names, path_override

IMAGES, SOURCE = "images", "source"
"""The links in the new data set: to the images, and to annotations that lie elsewhere."""
VAL_PERCENT = 20
"""Share of the images that val.txt gets where nothing divides them."""
_KEY = "Global.dataset_dir"
_ARCHIVES = (".zip", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz")
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

    def lines(self) -> list[str]:
        """Three lines for the user: what it is, how it is divided, what will be written."""
        dataset = self.draft.parsed.dataset
        names, sizes = dataset.label_names, (len(dataset.train), len(dataset.val))
        shown = first_names(names, 5)
        understood = f"{self.source}: {self.what}, {sum(sizes):,} images, {len(names):,} classes"
        divided = f"the source divides them: {sizes[0]:,} for training, {sizes[1]:,} for validation"
        if self.division is not None:
            share, seed = self.division.val_percent, self.division.seed
            how = f"{self.division.strategy}, seed {seed}"
            divided = f"nothing divides the images: {share} % become val.txt ({how})"
        writes = f"nothing is written: {self.root} is used as it is"
        if self.is_written:
            writes = f"written: {self.root}, whose images are those of the source by a link; "
            writes += "the source stays as it is"
        return [f"{understood}: {shown}", divided, writes]


def understand(
    source: Path, target: Path, options: Options, division: Division | None, *, images: Path | None
) -> Understood:
    """Read a folder or a table, and prepare the data set `target` for it, with its links.

    images: the folder of the images, where it is another one. division: as the user wants it; None
    leaves it to the source, and else to `VAL_PERCENT`. Raises PaddlexMLError where nothing is
    recognised, with every fault of the source, and where `target` is something else.
    """
    folder, only = _locate(source)
    inventory = Inventory(folder)
    own = inventory.own_lists if images is None and only in (None, TRAIN_FILE) else []
    if {LABEL_FILE, TRAIN_FILE} <= {*own}:
        lists = [name for name in LISTS if f"{name}.txt" in own]
        draft, what = rewrite.draft_lists(folder, lists), "lists of ours"
        if draft.parsed.faults:
            raise combine(draft.parsed.faults, folder)
        if lists == [*LISTS] and division is None:
            return Understood(folder, draft, None, source, what, is_written=False)
        draft = _refer(draft, target, folder)
        if RELATIONS_FILE in inventory.names(""):
            draft.notes.append(f"{folder / RELATIONS_FILE} is not taken along: copy it to {target}")
    elif images is None:
        draft = rewrite.draft_conversion(folder, registry.AUTO, replace(options, only=only))
        what = draft.notes.pop(0).removeprefix("recognised as ")
        draft = _refer(draft, target, folder)
    else:
        make_link(target / IMAGES, images)
        if only is None:
            make_link(target / SOURCE, folder)
        else:  # a copy: the table may lie in a folder that the output lies in too
            only = f"{SOURCE}/{only}"
            if _is_link(target / SOURCE):  # the copy would be written into another source
                (target / SOURCE).unlink()
            files.write_bytes(target / only, source.read_bytes())
        draft = rewrite.draft_conversion(target, registry.AUTO, replace(options, only=only))
        what = draft.notes.pop(0).removeprefix("recognised as ")
        draft = draft.moved(target, "", "")
    if division is None and "val" not in draft.lists:
        division = Division(val_percent=VAL_PERCENT)
    return Understood(target, draft, division, source, what, is_written=True)


def _refer(draft: Draft, target: Path, folder: Path) -> Draft:
    """The draft with a link to the deepest folder that holds all images of its lists."""
    dataset = draft.parsed.dataset
    paths = [*dataset.train.paths, *dataset.val.paths]
    above = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    make_link(target / IMAGES, folder / above)
    return draft.moved(target, Path(above).as_posix() if above else "", IMAGES)


def _locate(source: Path) -> tuple[Path, str | None]:
    """The folder to read, and the only file of annotations that counts there; None: all of them."""
    if source.is_dir():
        return source, None
    if not source.is_file():
        raise PaddlexMLError(
            f"{source} does not exist",
            where=_KEY,
            fix="name a folder of photographs, or a table with their names and labels",
        )
    if source.suffix.lower() in _ARCHIVES:
        _refuse_archive(source)
    if source.suffix.lower() not in ANNOTATION_SUFFIXES:
        endings = ", ".join(sorted(ANNOTATION_SUFFIXES))
        raise PaddlexMLError(
            f"{source} is neither a folder nor a file of labels",
            where=_KEY,
            fix=f"name a folder, or a file that ends with {endings}",
        )
    return source.parent, source.name


def _refuse_archive(source: Path) -> NoReturn:
    """Raise PaddlexMLError that says how to unpack it."""
    target = source.with_suffix("")
    fix = f"unpack it, and name the folder that it gives, such as {target}"
    if source.suffix.lower() == ".zip":
        words = ["-m", "zipfile", "-e", str(source), str(target)]
        fix = f"{program.python()} {systems.join(words)}, and then name {target}"
    raise PaddlexMLError(f"{source} is an archive, which must be unpacked", where=_KEY, fix=fix)


def _is_link(path: Path) -> bool:
    """Whether the path is a symbolic link, or a junction of Windows."""
    if not os.path.lexists(path):
        return False
    return path.is_symlink() or getattr(os.lstat(path), "st_reparse_tag", 0) == _JUNCTION


def make_link(link: Path, folder: Path) -> None:
    """Let `link` lead to `folder`. Raises PaddlexMLError where something else has its name.

    Windows allows symbolic links to administrators alone: a junction does the same for a folder.
    """
    if os.path.lexists(link):
        if os.path.isdir(link) and os.path.samefile(link, folder):
            return
        if not _is_link(link):
            raise PaddlexMLError(
                f"{link.name} is not a link of ours: another data set lies here",
                where=str(link.parent),
                fix=f"write elsewhere: {files.write_elsewhere(link.parent.parent)}",
            )
        link.unlink()
    if os.path.realpath(link.parent).startswith(os.path.realpath(folder) + os.sep):
        beside = path_override("Global.output", Path(f"{folder.absolute()}_output"))
        raise PaddlexMLError(
            f"{link.parent} lies in {folder}, whose files would be found again through a link",
            where="Global.output",
            fix=f"write elsewhere: {beside}",
        )
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
