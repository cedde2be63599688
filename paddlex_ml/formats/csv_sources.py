# SPDX-License-Identifier: Apache-2.0
"""Which tables of a data set the CSV reader reads, and for which subset."""

from __future__ import annotations

import re

from paddlex_ml import program, systems
from paddlex_ml.data.image_finder import ImageFinder, plain_number
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import CLASS_FILE, Collector
from paddlex_ml.formats.subsets import (
    SourceTable,
    list_image_folders,
    note_unused_test,
    parse_subset,
    parse_subset_of_path,
)
from paddlex_ml.formats.table_columns import names_images, rank_image_columns
from paddlex_ml.formats.table_files import SUFFIXES, Table, peek
from paddlex_ml.wording import count, first_names

_MANY_TEXTS = 100  # .txt files: more are label files of single images
_MANY_IDS = 40
_SUBMISSION = re.compile(r"sample.?submission|submission.?sample", re.I)


def list_candidates(inventory: Inventory) -> list[str]:
    """Files that may be tables; label files of single images are left out."""
    paths = inventory.find(*SUFFIXES)
    texts = [path for path in paths if path.lower().endswith(".txt")]
    if len(texts) > _MANY_TEXTS:
        texts = [path for path in texts if "/" not in path][:_MANY_TEXTS]
    kept = set(texts) - {CLASS_FILE}
    return [path for path in paths if path in kept or not path.lower().endswith(".txt")]


def is_table_of_images(table: Table, inventory: Inventory, finder: ImageFinder) -> bool:
    """Whether a column has images, and another may have labels."""
    if not table.has_header and table.path.lower().endswith(".txt"):
        return False  # a list of images, not a table
    folders = list_image_folders(SourceTable(table.path, ""), parse_subset_of_file(table.path))
    if not table.rows or not names_images(table, finder, folders):
        return False
    column = rank_image_columns(table, finder, folders)[0]
    cells = {row.cells[column] for row in table.rows}
    # Numbers may be ids of something else: a list of classes has few, images many.
    few = len(cells) < min(_MANY_IDS, 0.1 * len(inventory.images))
    return not (few and all(map(plain_number, cells)))


def parse_subset_of_file(path: str) -> str:
    """Subset that a file or its folders are named for: "train_labels.csv", "Val/a.csv"."""
    name = path.rpartition("/")[2].rpartition(".")[0]
    for word in re.split(r"[^a-z]+", name.casefold()):
        if subset := _parse_word(word):
            return subset
    for folder in path.split("/")[:-1]:
        for word in re.split(r"[^a-z]+", folder.casefold()):
            if subset := _parse_word(word):
                return subset
    return parse_subset_of_path(path)


def _parse_word(word: str) -> str:
    return parse_subset(word) or {"training": "train", "testing": "test", "dev": "val"}.get(
        word, ""
    )


def is_unused(path: str) -> str:
    """Why a table has no part in the lists; "" when it may have one."""
    if _SUBMISSION.search(path.rpartition("/")[2]):
        return "an example of a submission"
    return "of the test subset" if parse_subset_of_file(path) == "test" else ""


def is_mask_list(table: Table) -> bool:
    """Whether a table names the classes of masks, as Roboflow writes it."""
    return [name.casefold() for name in table.columns] == ["pixel value", "class"]


def find_sources(collector: Collector) -> list[SourceTable]:
    """Find the tables to read. Raises PaddlexMLError when that is in doubt."""
    inventory = collector.inventory
    paths = list_candidates(inventory)
    for path in paths:
        if why := is_unused(path):
            collector.account.left_out[path] = why
            note = f"{path} is not used: {why}"
            test = why == "of the test subset"
            collector.notes.append(note_unused_test(path) if test else note)
    tables = {path: peek(inventory, path) for path in paths if not is_unused(path)}
    for path, table in tables.items():
        if table and is_mask_list(table):
            _refuse_masks(collector, path)
    finder = collector.finder
    good = [
        path
        for path, table in tables.items()
        if table and is_table_of_images(table, inventory, finder)
    ]
    if good:
        columns = {frozenset(table.columns) for path in good if (table := tables[path])}
        good = [
            path
            for path, table in tables.items()
            if path in good or (table and frozenset(table.columns) in columns)
        ]
    else:  # without its images a table is read for its faults
        good = [path for path in tables if not path.lower().endswith(".txt")]
    named = [path for path in good if parse_subset_of_file(path)]
    for path in set(good) - set(named) if named else ():
        collector.notes.append(f"{path} is not used: {first_names(named)} is")
    chosen = named or good
    sources = [SourceTable(path, parse_subset_of_file(path)) for path in sorted(chosen)]
    if not sources:
        text = "there is no table of images in the data set"
        if unused := [path for path in paths if is_unused(path)]:
            text += f", but {unused[0]}, which is {is_unused(unused[0])}"
        if old := inventory.find(".xls"):
            text = f"{old[0]} is a workbook of an old Excel: save it as .xlsx or CSV UTF-8"
        collector.add_fault("nothing found", "", text, collector.layout)
        collector.raise_faults()
    _refuse_several(collector, sources, tables)
    return sources


def _refuse_masks(collector: Collector, path: str) -> None:
    text = f"{path} names the classes of masks: a Roboflow export for semantic segmentation"
    fix = 'export the version again as "Multi-Label Classification" (CSV) or as "COCO"'
    collector.add_fault("masks", path, text, fix)
    collector.raise_faults()


def _refuse_several(
    collector: Collector, sources: list[SourceTable], tables: dict[str, Table | None]
) -> None:
    """Refuse several tables for one subset unless they have the same columns, other images."""
    for subset in sorted({source.subset for source in sources}):
        paths = [source.path for source in sources if source.subset == subset]
        columns = {frozenset(table.columns) if (table := tables[path]) else None for path in paths}
        seen: set[str] = set()
        overlap = len(columns) > 1
        for path in paths if len(paths) > 1 and not overlap else ():
            own = path.rpartition("/")[0]
            table = tables[path]
            rows = table.rows if table else []
            folders = list_image_folders(SourceTable(path, subset), subset)
            column = rank_image_columns(table, collector.finder, folders)[0] if table else 0
            cells = {str(collector.finder.find(row.cells[column], [own])) for row in rows}
            overlap |= bool(seen & cells)
            seen |= cells
        if len(paths) > 1 and overlap:
            shown = first_names(paths, 5)
            text = (
                f"there are {count(len(paths), 'table')}, and it is not clear which to "
                f"read: {shown}"
            )
            start = f"{program.command()} --data"
            each = [f"{start} {systems.quote(str(collector.root / path))}" for path in paths[:5]]
            fix = f"read one of them alone: {' or '.join(each)}; where one is for training and one "
            fix += "for validation, name them train.csv and val.csv"
            collector.add_fault("several files", "", text, fix)
    collector.raise_faults()
