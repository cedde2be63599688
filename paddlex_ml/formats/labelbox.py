# SPDX-License-Identifier: Apache-2.0
"""Exports of Labelbox (`src_dataset_type: Labelbox`).

    {"data_row": {"external_id": "a.jpg", ...}, "projects": {"id": {"labels": [{"annotations":
     {"objects": [], "classifications": [{"name": "tags", "checklist_answers": [{"name": "cat"}]}]}
     }]}}}

- One image a line, as an
  [export](https://docs.labelbox.com/reference/export-image-annotations) writes it (`.ndjson`,
  `.jsonl`, `.json`), the same rows as one JSON list, or the older JSON file with `Labeled Data` and
  `Label`. In its oldest rows, `Label` has a key for each class with its shapes, or a key for each
  question with the answers. Rows of videos and other media are refused.
- The image is the first of `external_id`, `global_key` and the address in `row_data` whose file is
  in the data set. Names that lead to different images are refused.
- The labels are the names of the answers of all classifications (checklist and radio), also of
  questions about an answer, and of all objects (boxes, polygons, masks, points). Answers in words,
  and questions about an object, are dropped, which is told.
- An answer that several questions have (`yes`) becomes a class for each: `dog?: yes`.
- Labels of several people or projects: the image has all of them, which is told. Labels that were
  skipped are dropped; an image without any label left is not used, but told.
- Nothing divides the images. The classes are in the order of `classes.txt`, else alphabetical.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.json_records import decode_first, read_json_lines
from paddlex_ml.formats.record_labels import UnusableRecord
from paddlex_ml.formats.records import ImageRecord, choose_tables, finish_records, locate
from paddlex_ml.formats.subsets import SourceTable

_LINE = "export the project again as NDJSON"
_OLD = b'"Labeled Data"'
_OTHER_MEDIA = {"video", "text", "audio", "document", "pdf", "html", "conversational"}
_SHAPE = re.compile(r"\s*(multi)?(polygon|point|linestring)\s*(\(|empty)", re.I)


class _Answer(msgspec.Struct, gc=False):
    name: str = ""
    title: str = ""  # of older exports
    value: Any = None
    classifications: list[_Question] = []


class _Question(msgspec.Struct, gc=False):
    name: str = ""
    title: str = ""
    value: Any = None
    radio_answer: _Answer | None = None
    checklist_answers: list[_Answer] | None = None
    text_answer: Any = None
    answer: Any = None
    answers: list[_Answer] | None = None


class _Annotations(msgspec.Struct, gc=False):
    objects: list[_Answer] = []
    classifications: list[_Question] = []
    frames: Any = None  # of a video
    segments: Any = None
    key_frame_feature_map: Any = None


class _Label(msgspec.Struct, gc=False):
    annotations: _Annotations
    performance_details: dict[str, Any] | None = None


class _Project(msgspec.Struct, gc=False):
    labels: list[_Label] = []


class _DataRow(msgspec.Struct, gc=False):
    external_id: str | None = None
    global_key: str | None = None
    row_data: str | None = None


class _LabelboxLine(msgspec.Struct, gc=False):
    data_row: _DataRow
    projects: dict[str, _Project] = {}
    media_attributes: dict[str, Any] | None = None


class _OldRow(msgspec.Struct, gc=False):
    """A row of an older export."""

    labeled_data: str = msgspec.field(name="Labeled Data")
    label: dict[str, Any] | str | None = msgspec.field(default=None, name="Label")
    external_id: str | None = msgspec.field(default=None, name="External ID")
    global_key: str | None = msgspec.field(default=None, name="Global Key")
    skipped: bool | None = msgspec.field(default=None, name="Skipped")


class _Tag(NamedTuple):
    question: str
    """ "" for an object."""
    name: str


_decoder = msgspec.json.Decoder(_LabelboxLine)
_old_decoder = msgspec.json.Decoder(list[_OldRow])


def recognise(inventory: Inventory) -> str:
    """The file whose beginning is that of an export."""
    return next(iter(_list_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the exports. Raises one PaddlexMLError with every fault."""
    layout = "put the export of Labelbox (.ndjson) into the data set folder"
    collector = Collector(root, options, layout=layout)
    tags: dict[str, list[_Tag]] = {}  # by the place of the record
    records: list[ImageRecord] = []
    for table in choose_tables(collector, _list_files(collector.inventory), "export of Labelbox"):
        if _is_old(collector.inventory, table.path):
            records += _read_old(collector, table, tags)
        else:
            parse = partial(_parse_line, collector, table, tags)
            records += read_json_lines(collector, table.path, parse, _LINE)
    questions: dict[str, set[str]] = {}
    for tag in (tag for row in tags.values() for tag in row if tag.question):
        questions.setdefault(tag.name, set()).add(tag.question)
    shared = {name for name, asked in questions.items() if len(asked) > 1}
    if shared:
        text = "are the answers of several questions, and become a class for each"
        collector.notes.append(f"{', '.join(sorted(shared))} {text}")
    named = []
    for record in records:
        names = [
            f"{tag.question}: {tag.name}" if tag.question and tag.name in shared else tag.name
            for tag in tags[record.where]
        ]
        named.append(record._replace(labels=names))
    return finish_records(collector, named)


def _list_files(inventory: Inventory) -> list[str]:
    return [
        file
        for file in inventory.find_tables(".ndjson", ".jsonl", ".json")
        if decode_first(inventory, file).keys() >= {"data_row", "projects"}
        or _is_old(inventory, file)
    ]


def _is_old(inventory: Inventory, file: str) -> bool:
    if not file.lower().endswith(".json"):
        return False
    head = inventory.read_head(file)
    return head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[") and _OLD in head


def _parse_line(
    collector: Collector, table: SourceTable, tags: dict[str, list[_Tag]], text: str, where: str
) -> ImageRecord | None:
    line = _decoder.decode(text)
    row = line.data_row
    labels = [label for project in line.projects.values() for label in project.labels]
    medium = str((line.media_attributes or {}).get("asset_type") or "image").lower()
    for shown in (label.annotations for label in labels):
        if (shown.frames, shown.segments, shown.key_frame_feature_map) != (None, None, None):
            medium = "video"
    if medium in _OTHER_MEDIA:
        fix = "export only the rows of images, or remove this row"
        raise UnusableRecord(f"the row is a {medium}, not an image", fix)
    done = [label for label in labels if not (label.performance_details or {}).get("skipped")]
    names = [row.external_id, row.global_key, row.row_data]
    found = [list(_list_tags(collector, table, label.annotations)) for label in done]
    if len(found) > 1:
        differ = len({frozenset(row) for row in found}) > 1
        what = "differ" if differ else "agree"
        text = f"records whose several labels {what}: the image has all of them"
        _count_note(collector, text)
    reason = "" if done else "skipped by the labeller" if labels else "not labelled yet"
    tags[where] = [tag for row in found for tag in row]
    return _make_record(collector, table, where, names, reason)


def _read_old(
    collector: Collector, table: SourceTable, tags: dict[str, list[_Tag]]
) -> Iterator[ImageRecord]:
    """The images of an older export, one JSON list."""
    content = "\n".join(line or "" for line in collector.read_lines(table.path, records=False))
    try:
        rows = _old_decoder.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        collector.add_fault("malformed file", table.path, f"not an export: {error}", _LINE)
        return
    collector.account.use(table.path, len(rows))
    for number, row in enumerate(rows):
        where = f"{table.path} [{number}]"
        names = [row.external_id, row.global_key, row.labeled_data]
        tags[where] = []
        try:
            label = _decode_old_label(row.label)
            skipped = row.skipped or label == "skip"
            reason = "skipped by the labeller" if skipped else "" if label else "not labelled yet"
            if isinstance(label, dict) and not skipped:
                if label.keys() & {"objects", "classifications"}:
                    annotations = msgspec.convert(label, _Annotations)
                    tags[where] = list(_list_tags(collector, table, annotations))
                else:
                    tags[where] = list(_list_oldest_tags(label))
            if record := _make_record(collector, table, where, names, reason):
                yield record
        except (UnusableRecord, msgspec.ValidationError) as error:
            collector.add_fault(
                "malformed row", where, str(error), getattr(error, "fix", "") or _LINE
            )


def _decode_old_label(label: dict[str, Any] | str | None) -> dict[str, Any] | str:
    """The object of a label, which may be written as text; "skip"; "" for none."""
    if not isinstance(label, str):
        return label or ""
    text = label.strip()
    if text.lower() in ("", "skip", "skipped"):
        return text.lower()[:4]
    try:
        return msgspec.json.decode(text, type=dict[str, Any]) or ""
    except (msgspec.DecodeError, RecursionError):
        raise UnusableRecord(f"the label is not an object: {text!r:.40}") from None


def _list_oldest_tags(label: dict[str, Any]) -> Iterator[_Tag]:
    """Of a row with a key for each class (its shapes) or question (its answers)."""
    for key, value in label.items():
        items = value if isinstance(value, list) else [value]
        if all(isinstance(item, str) for item in items):
            if any(map(_SHAPE.match, items)):
                yield _Tag("", key.strip())
            else:
                yield from (_Tag(key, item.strip()) for item in items if item.strip())
        elif isinstance(value, list) and all(isinstance(item, dict | list) for item in value):
            yield _Tag("", key.strip())
        else:
            raise UnusableRecord(f"{key!r} has neither shapes nor answers: {value!r:.40}")


def _make_record(
    collector: Collector, table: SourceTable, where: str, names: list[str | None], reason: str
) -> ImageRecord | None:
    """The record of the image that is there; None where `reason` says why it is not used."""
    given = [name for name in names if name]
    if not given:
        raise UnusableRecord("the row names no image: no external_id, global_key or row_data")
    found = {name: path for name in given if (path := locate(collector, table, name))}
    image, path = next(iter(found.items()), (given[0], ""))
    if other := next((name for name in found if found[name] != path), ""):
        text = f"the row names two images: {image} is {path}, and {other} is {found[other]}"
        raise UnusableRecord(text, "remove the wrong one of external_id, global_key and row_data")
    if not reason:
        return ImageRecord(table, where, image, [])
    collector.account.drop(table.path, reason, image)
    if path:
        collector.account.left_out[path] = reason
    return None


def _list_tags(
    collector: Collector, table: SourceTable, annotations: _Annotations
) -> Iterator[_Tag]:
    for item in annotations.objects:
        yield _Tag("", _get_name(item))
        for _ in item.classifications:
            _drop(collector, table, "questions about an object, not about the image")
    waiting = list(reversed(annotations.classifications))
    while waiting:
        question = waiting.pop()
        answers = [*(question.checklist_answers or []), *(question.answers or [])]
        if question.radio_answer:
            answers.append(question.radio_answer)
        if isinstance(question.answer, dict):
            answers.append(msgspec.convert(question.answer, _Answer))
        elif isinstance(question.answer, list):
            answers += msgspec.convert(question.answer, list[_Answer])
        elif question.text_answer is not None or isinstance(question.answer, str):
            _drop(collector, table, "answers in words, no classes")
        for answer in answers:
            yield _Tag(_get_name(question), _get_name(answer))
            waiting += reversed(answer.classifications)


def _get_name(item: _Answer | _Question) -> str:
    name = item.name or item.title or item.value
    if not isinstance(name, str) or not name.strip():
        raise UnusableRecord("an object or an answer has no name")
    return name.strip()


def _drop(collector: Collector, table: SourceTable, reason: str) -> None:
    collector.account.use(table.path, 1)
    collector.account.drop(table.path, reason)


def _count_note(collector: Collector, text: str) -> None:
    """Add one to the number at the beginning of a note."""
    for i, note in enumerate(collector.notes):
        number, _, rest = note.partition(" ")
        if rest == text:
            collector.notes[i] = f"{int(number.replace(',', '')) + 1:,} {text}"
            return
    collector.notes.append(f"1 {text}")
