# SPDX-License-Identifier: Apache-2.0
"""CSV and JSON Lines of Google Vertex AI (`src_dataset_type: Vertex`).

    training,gs://bucket/a.jpg,cat,dog
    {"imageGcsUri": "gs://bucket/a.jpg", "classificationAnnotations": [{"displayName": "cat"}]}

- The forms are those of
  [import files](https://cloud.google.com/vertex-ai/docs/image-data/classification/prepare-data)
  and of exports. A CSV file has no line of column names; its rows may have different lengths: use
  (which may be missing), image, labels; or use, image, one label and the corners of its box, whose
  empty cells at the end may be missing. Other numbers such as `0.1` are refused as labels.
- The use is `training`, `validation` or `test` (also `TRAIN`, ...), in JSON Lines that of
  `dataItemResourceLabels`. Images of test are not used. `UNASSIGNED` or none: where no image has a
  use there is one list; otherwise such an image is for training, which a note counts.
- The image is the file with the longest end of its address that is unique in the data set.
- In JSON Lines the labels are `displayName` of all annotations: classes, boxes and polygons. Masks
  (`segmentationAnnotation`) are refused: they name no class.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.walk import is_image
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.json_records import decode_first, read_json_lines
from paddlex_ml.formats.record_labels import UnusableRecord
from paddlex_ml.formats.records import ImageRecord, choose_tables, finish_records
from paddlex_ml.formats.subsets import SourceTable
from paddlex_ml.wording import count

_USES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validate", "validation", "val", "valid"), "val"),
    "test": "test",
    **dict.fromkeys(("unassigned", ""), ""),
}
_LINE = "write training,gs://bucket/a.jpg,cat,dog"
_JSON_LINE = (
    'write {"imageGcsUri": "gs://bucket/a.jpg", "classificationAnnotations": '
    '[{"displayName": "cat"}]}'
)
_CORNERS = range(4, 9)  # cells of a box: x and y of its corners, some of them empty
_FRACTION = re.compile(r"0?\.[0-9]+([eE][-+]?[0-9]+)?")


class _Annotation(msgspec.Struct, rename="camel", gc=False):
    display_name: str | None = None
    annotation_value: dict[str, Any] | None = None


class _VertexLine(msgspec.Struct, rename="camel", gc=False):
    """The keys of all the kinds of annotations; msgspec skips all others."""

    image_gcs_uri: str = ""
    image_payload: dict[str, Any] | None = None
    classification_annotation: _Annotation | None = None
    classification_annotations: list[_Annotation] = []
    bounding_box_annotations: list[_Annotation] = []
    polygon_annotations: list[_Annotation] = []
    polyline_annotations: list[_Annotation] = []
    annotations: list[_Annotation] = []
    segmentation_annotation: Any = None
    segmentation_annotations: Any = None
    data_item_resource_labels: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_VertexLine)


def recognise(inventory: Inventory) -> str:
    """The file whose first line has the form of Vertex AI."""
    return next(iter(_list_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files line by line. Raises one PaddlexMLError with every fault."""
    layout = "put the import file of Vertex AI into the data set folder"
    collector = Collector(root, options, layout=layout)
    records: list[ImageRecord] = []
    files = _list_files(collector.inventory)
    for table in choose_tables(collector, files, "import file of Vertex AI"):
        if table.path.lower().endswith((".jsonl", ".ndjson")):
            parse = partial(_parse_line, table)
            records += read_json_lines(collector, table.path, parse, _JSON_LINE)
        else:
            records += _read_rows(collector, table)
    uses = {record.table.subset or record.subset for record in records}
    if "" in uses and len(uses) > 1:
        free = sum(not (record.table.subset or record.subset) for record in records)
        collector.notes.append(
            f"{count(free, 'image has', 'images have')} no use (UNASSIGNED): they are for training"
        )
        records = [record._replace(subset=record.subset or "train") for record in records]
    return finish_records(collector, records)


def _list_files(inventory: Inventory) -> list[str]:
    files = []
    for file in inventory.find_tables(".jsonl", ".ndjson"):
        keys = decode_first(inventory, file).keys()
        if "imageGcsUri" in keys or keys >= {"imagePayload", "annotations"}:
            files.append(file)
    for file in inventory.find_tables(".csv", ".txt"):
        head = to_utf8(inventory.read_head(file))[0].decode("utf-8", "replace")
        cells = re.split(r"\s*,\s*", next(filter(str.strip, head.splitlines()), "").strip())
        has_use = len(cells) > 1 and cells[0].strip('"').lower() in _USES
        image = cells[has_use].strip('"')
        if image.startswith("gs://") or (has_use and is_image(image)):
            files.append(file)
    return files


def _read_rows(collector: Collector, table: SourceTable) -> Iterator[ImageRecord]:
    """The images of a CSV file."""
    lines = [line or "" for line in collector.read_lines(table.path)]
    rows = csv.reader((f"{line}\n" for line in lines), skipinitialspace=True, strict=True)
    number = 1
    try:
        for row in rows:
            cells, where = [cell.strip() for cell in row], f"{table.path}:{number}"
            number = rows.line_num + 1
            if not any(cells):
                continue
            use = _USES.get(cells[0].lower()) if len(cells) > 1 else None
            image, *rest = cells if use is None else cells[1:]
            if not image or not ("/" in image or is_image(image)):
                text = f"the row names no image: {','.join(row):.40}"
                collector.add_fault("malformed line", where, text, _LINE)
                continue
            while rest and not rest[-1]:
                rest.pop()
            labels = list(filter(None, rest[:1] if _is_box(rest[1:], len(row)) else rest))
            if number_label := next(filter(_FRACTION.fullmatch, labels), ""):
                text = f"{number_label} is no label, and not a part of the corners of a box"
                fix = "write the label and then x and y of the corners: cat,0.1,0.1,,,0.3,0.3,,"
                collector.add_fault("malformed line", where, text, fix)
                continue
            yield ImageRecord(table, where, image, labels, use or "")
    except csv.Error as error:
        text = f"the row is not CSV: {error}"
        fix = 'a quote in a cell is written "", with quotes around the cell'
        collector.add_fault("malformed line", f"{table.path}:{number}", text, fix)


def _is_box(cells: list[str], width: int) -> bool:
    """Whether cells behind a label, without empty ones at the end, are x and y of corners.

    Whole numbers may also be labels: they are corners where the row has a cell for each of them,
    or where two corners are left out.
    """
    if len(cells) not in _CORNERS or not all(map(_is_corner, cells)):
        return False
    has_fraction = any("." in cell for cell in cells)
    return has_fraction or width >= 10 or (cells[2:4] == ["", ""] and len(cells) == 6)


def _is_corner(cell: str) -> bool:
    return bool(re.fullmatch(r"([0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?)?", cell))


def _parse_line(table: SourceTable, text: str, where: str) -> ImageRecord:
    line = _decoder.decode(text)
    image = line.image_gcs_uri or (line.image_payload or {}).get("imageUri")
    if not isinstance(image, str) or not image:
        raise UnusableRecord("the line has no imageGcsUri")
    if line.segmentation_annotation or line.segmentation_annotations:
        raise UnusableRecord("the annotation is a mask, which names no class")
    annotations = [line.classification_annotation] if line.classification_annotation else []
    annotations += [*line.classification_annotations, *line.bounding_box_annotations]
    annotations += [*line.polygon_annotations, *line.polyline_annotations, *line.annotations]
    names = [item.display_name or _find_name(item.annotation_value) for item in annotations]
    if None in names:
        raise UnusableRecord("an annotation has no displayName")
    labels = line.data_item_resource_labels or {}
    word = next((value for key, value in labels.items() if key.endswith("ml_use")), "")
    use = _USES.get(word.strip().lower())
    if use is None:
        raise UnusableRecord(f"ml_use is neither training nor validation nor test: {word!r:.40}")
    return ImageRecord(table, where, image, [name.strip() for name in names if name], use)


def _find_name(value: object) -> str | None:
    """The displayName at any depth of an older annotation."""
    if not isinstance(value, dict):
        return None
    if isinstance(name := value.get("displayName"), str):
        return name
    return next(filter(None, map(_find_name, value.values())), None)
