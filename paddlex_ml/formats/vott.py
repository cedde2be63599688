# SPDX-License-Identifier: Apache-2.0
"""VoTT, the Visual Object Tagging Tool (`src_dataset_type: VoTT`).

    vott-csv-export/                      vott-json-export/
      <project>-export.csv                  <project>-export.json
      a.jpg                                 a.jpg

- The CSV has the columns image, xmin, ymin, xmax, ymax, label: a row for each tag of a box. The
  image has every label of its rows. Where there is also a JSON export, that one is read.
- The JSON has the assets with their regions, and the tags of each; an asset without regions is an
  image without labels. The classes are in the order of the project's tags, else of `classes.txt`,
  else in alphabetical order.
- The images are looked for in the folder of the export, then anywhere in the data set.
- Exports in folders `train/` and `val/` divide; there is one list otherwise.

The tool: https://github.com/microsoft/VoTT
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.subsets import assign_lists, parse_subset_of_path
from paddlex_ml.formats.table_files import peek, read_tables
from paddlex_ml.storage import regular_file

_COLUMNS = ["image", "xmin", "ymin", "xmax", "ymax", "label"]
_LAYOUT = "put the export of VoTT into the data set: ...-export.csv or ...-export.json"


class _VottTag(msgspec.Struct):
    name: str


class _VottRegion(msgspec.Struct):
    tags: list[str] = []


class _VottFile(msgspec.Struct):
    name: str


class _VottAsset(msgspec.Struct):
    asset: _VottFile
    regions: list[_VottRegion] = []


class _VottProject(msgspec.Struct):
    assets: dict[str, _VottAsset]
    tags: list[_VottTag] = []


def recognise(inventory: Inventory) -> str:
    """The file by whose content the format is known."""
    exports = _find_exports(inventory, ".json") or _find_exports(inventory, ".csv")
    return f"{exports[0]}, an export of VoTT" if exports else ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the export. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    paths = _find_exports(collector.inventory, ".json")
    tables = _find_exports(collector.inventory, ".csv")
    if paths:
        reason = f"the same project as {paths[0]}"
        collector.account.left_out.update(dict.fromkeys(tables, reason))
    paths = paths or tables
    if not paths:
        collector.add_fault("nothing found", "", "there is no export of VoTT", _LAYOUT)
    lists = assign_lists(parse_subset_of_path(path) for path in paths)
    seen: dict[str, None] = {}
    for path in paths:
        name = lists.get(parse_subset_of_path(path), "train")
        read_one = _read_project if path.lower().endswith(".json") else _read_boxes
        read_one(collector, path, name, seen)
    if (root / CLASS_FILE).is_file():
        collector.account.use(CLASS_FILE)
    if (root / CLASS_FILE).is_file() or paths == tables:
        names, faults = order_names(root, seen)
        collector.faults += faults
        return collector.finish(names)
    return collector.finish(list(seen))


def _find_exports(inventory: Inventory, suffix: str) -> list[str]:
    """Exports of VoTT that are not of a test subset."""
    found = []
    for path in inventory.find(suffix):
        if parse_subset_of_path(path) == "test":
            continue
        if suffix == ".json":
            head = inventory.read_head(path)
            is_export = b'"assets"' in head and b'"asset"' in head and b'"tags"' in head
        else:
            table = peek(inventory, path)
            is_export = table is not None and list(map(str.casefold, table.columns)) == _COLUMNS
        if is_export:
            found.append(path)
    return found


def _read_boxes(collector: Collector, path: str, name: str, seen: dict[str, None]) -> None:
    folders = [path.rpartition("/")[0], ""]
    collector.open_list(name)
    for table in read_tables(collector, path):
        for row in table.rows:
            image, *_, label = row.cells
            where = table.locate(row)
            if not image:
                fix = "name the image, or remove the row"
                collector.add_fault("no image", where, "the row names no image", fix)
                continue
            _add(collector, name, image, folders, [label] if label else [], where, seen)


def _read_project(collector: Collector, path: str, name: str, seen: dict[str, None]) -> None:
    try:
        content = regular_file.read(collector.root / path, growth=regular_file.ANY_JSON)
        project = msgspec.json.decode(content, type=_VottProject)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        collector.account.use(path)
        text, fix = f"the file is not an export of VoTT: {error}", "export the project again"
        if isinstance(error, OSError):
            text, fix = f"the file cannot be read: {error.strerror}", regular_file.repair(error)
        collector.add_fault("damaged file", path, text, fix)
        return
    seen.update(dict.fromkeys(tag.name.strip() for tag in project.tags))
    collector.account.use(path, len(project.assets))
    folders = [path.rpartition("/")[0], ""]
    collector.open_list(name)
    for key, asset in project.assets.items():
        labels = [tag.strip() for region in asset.regions for tag in region.tags if tag.strip()]
        _add(collector, name, asset.asset.name, folders, labels, f"{path} assets[{key}]", seen)


def _add(
    collector: Collector,
    name: str,
    image: str,
    folders: list[str],
    labels: list[str],
    where: str,
    seen: dict[str, None],
) -> None:
    for label in labels:
        if label not in seen:
            seen[label] = None
            if fault := check_class_name(label, where):
                collector.faults.append(fault)
    collector.add(name, image, folders, labels, where)
