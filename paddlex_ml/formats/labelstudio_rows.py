# SPDX-License-Identifier: Apache-2.0
"""Values of Label Studio's exports: class names, addresses of images, and the rows of the flat
exports JSON-MIN, CSV and TSV, which do not tell the type of a column.
"""

from __future__ import annotations

import base64
import binascii
import csv
import re
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import msgspec

from paddlex_ml import systems
from paddlex_ml.data.walk import is_image
from paddlex_ml.formats.collector import Collector
from paddlex_ml.wording import count, first_names

_META = {
    *("annotation_id", "annotator", "created_at", "updated_at", "lead_time", "id", "agreement"),
    *("history", "completed_by", "was_cancelled", "inner_id", "updated_by", "comment_count"),
}
"""Keys of a row that are about the annotation, not of it."""
_LABEL_NAME = re.compile(
    r"(?<![a-z])(choices?|labels?|class(es)?|categor(y|ies)|tags?)(?![a-z])", re.IGNORECASE
)
_UPLOAD = re.compile(r"/?data/upload/(?:\d+/)?(.+)")


def choose_columns(names: str) -> str:
    """The option that reads the labels of these controls."""
    return f"-o {systems.quote(f'CheckDataset.convert.label_columns=[{names}]')}"


@dataclass
class LabelStudioTask:
    """An image that is annotated: the fields that may name it, and the labels of each control."""

    list_name: str
    file: str
    where: str
    data: dict[str, Any]
    labels: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """Control and kind of the labels ("choices", "rectanglelabels", ...) -> class names."""
    targets: dict[str, str] = field(default_factory=dict)
    """Control -> what it is for: an image, of several."""
    is_skipped: bool = False
    """There are annotations, and all were cancelled."""


class _Column(NamedTuple):
    """What is known of a column of a flat export."""

    filled: int
    values: set[str]
    """Cells that are plain text."""
    is_structured: bool
    """Whether a cell has choices, or labels of regions."""
    is_data: bool
    """Whether its position says that it is a field of the task."""


def list_names(value: Any) -> list[str] | None:
    """The class names in a value of a control; None where it has none, such as a text."""
    if isinstance(value, list):
        found = [inner for item in value if (inner := list_names(item)) is not None]
        return [name for inner in found for name in inner] if found else None
    if not isinstance(value, dict):
        return None
    names: list[str] | None = None
    for key, entries in value.items():
        if (key in ("choices", "taxonomy") or key.endswith("labels")) and isinstance(entries, list):
            paths = [entry if isinstance(entry, list) else [entry] for entry in entries]
            if not all(isinstance(part, str | int) for path in paths for part in path):
                return None
            names = (names or []) + ["/".join(map(str, path)).strip() for path in paths]
    return names


def read_address(value: Any) -> str:
    """The path in the address of an image, as far as it is known; "" for another value."""
    if not isinstance(value, str) or value.startswith("data:"):
        return ""
    query = parse_qs(urlsplit(value).query) if "?" in value else {}
    if "d" in query and "local-files" in value:
        return query["d"][0]
    if "fileuri" in query:  # of a storage, in base64
        try:
            return base64.urlsafe_b64decode(query["fileuri"][0]).decode()
        except (binascii.Error, UnicodeDecodeError):
            return value
    upload = _UPLOAD.fullmatch(value.partition("?")[0])
    return upload[1] if upload else value


def is_address(value: Any) -> bool:
    """Whether a value names an image file."""
    return is_image(read_address(value).partition("?")[0])


def read_table(collector: Collector, file: str) -> list[dict[str, Any]]:
    """The rows of the export CSV or TSV without their empty cells; damage is a fault."""
    lines = [f"{line or ''}\n" for line in collector.read_lines(file, records=False)]
    first = lines[0] if lines else ""
    before = csv.field_size_limit(sys.maxsize)  # a brush is one cell of any size
    try:
        reader = csv.reader(lines, delimiter=max("\t;,", key=first.count), strict=True)
        table = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        collector.add_fault(
            "damaged table", file, f"the table is damaged: {error}", "export it again"
        )
        return []
    finally:
        csv.field_size_limit(before)
    header = [name.strip() for name in table[0]] if table else []
    for number, row in enumerate(table[1:], 2):
        if len(row) != len(header):
            text = f"row {number} has {count(len(row), 'cell')}, the first has {len(header)}"
            collector.add_fault("wrong number of cells", file, text, "export it again")
    return [
        {name: _read_cell(cell) for name, cell in zip(header, row, strict=False) if cell.strip()}
        for row in table[1:]
    ]


def _read_cell(cell: str) -> Any:
    cell = cell.strip()
    if cell.startswith(("[", "{")):
        try:
            return msgspec.json.decode(cell)
        except (msgspec.DecodeError, RecursionError):
            pass
    return cell


def read_rows(
    collector: Collector,
    list_name: str,
    file: str,
    rows: list[dict[str, Any]],
    is_ordered: bool,
) -> list[LabelStudioTask]:
    """The rows of the exports JSON-MIN, whose keys are in order, and CSV."""
    columns = _describe_columns(rows, is_ordered)
    chosen = collector.options.label_columns
    if chosen is None:
        used = _find_label_columns(collector, file, columns)
    else:
        used = [name for name in columns if name in chosen]
    tasks = []
    for index, row in enumerate(rows):
        where = (
            f"{file}: [{index}] (id {row.get('id')})" if is_ordered else f"{file}: row {index + 2}"
        )
        data = {name: value for name, value in row.items() if name not in (*_META, *used)}
        task = LabelStudioTask(list_name, file, where, data)
        for name in used:
            value = row.get(name)
            names = _list_cell_names(value)
            kind = "choices" if _has_choices(value) else "regions"
            if names:
                collector.account.use(file, 1)
                task.labels.setdefault((name, kind), set()).update(names)
        tasks.append(task)
    collector.account.use(file)
    return tasks


def _list_cell_names(value: Any) -> list[str]:
    """The class names in a cell; a single choice is a plain text."""
    values = value if isinstance(value, list) else [value]
    names = [[v.strip()] if isinstance(v, str) else list_names(v) or [] for v in values]
    return [name for inner in names for name in inner]


def _has_choices(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(v, str) or (isinstance(v, dict) and "choices" in v) for v in values)


def _describe_columns(rows: list[dict[str, Any]], is_ordered: bool) -> dict[str, _Column]:
    """What is known of each column; in JSON-MIN the fields of the task come before its id."""
    cells: dict[str, list[Any]] = {}
    data: set[str] = set()
    for row in rows:
        keys = list(row)
        if is_ordered and "id" in row and "annotator" in row:
            data.update(keys[: keys.index("id")])
        for name in keys:
            cells.setdefault(name, []).append(row[name])
    return {
        name: _Column(
            len(values),
            {text.strip() for text in _list_texts(values) if text.strip()},
            any(list_names(value) is not None for value in values),
            name in data,
        )
        for name, values in cells.items()
        if name not in _META
    }


def _list_texts(values: list[Any]) -> list[str]:
    """The plain texts among cells, and in lists of texts."""
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [item for item in items if isinstance(item, str)]


def _find_label_columns(collector: Collector, file: str, columns: dict[str, _Column]) -> list[str]:
    """The columns that have labels; a column that may have them is asked for."""
    texts = {
        name: column
        for name, column in columns.items()
        if column.values and not column.is_data and not any(map(is_address, column.values))
    }
    structured = [name for name, c in columns.items() if c.is_structured and not c.is_data]
    named = [name for name in texts if _LABEL_NAME.search(name)]
    recurring = [name for name, c in texts.items() if 2 * len(c.values) <= c.filled]
    sure = [name for name in columns if name in structured or name in named]
    doubtful = [name for name in recurring if name not in sure]
    if not sure and len(doubtful) == 1:
        sure, doubtful = doubtful, []
    if not sure:
        doubtful = list(texts)
    if doubtful:
        shown = {name: first_names(sorted(columns[name].values), 3) for name in doubtful}
        text = "; ".join(f"{name} ({values})" for name, values in shown.items())
        fix = choose_columns(", ".join([*sure, *doubtful]))
        fix += f" or {choose_columns(', '.join(sure))}" if sure else ""
        what = f"these columns may have labels or not: {text}"
        collector.add_fault("unclear columns", file, what, fix)
    unused = [name for name in columns if name not in sure]
    if unused := [name for name in unused if not any(map(is_address, columns[name].values))]:
        collector.notes.append(f"{file}: columns without labels: {first_names(unused)}")
    return sure
