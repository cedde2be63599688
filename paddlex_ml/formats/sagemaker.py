# SPDX-License-Identifier: Apache-2.0
"""Manifests of Amazon SageMaker Ground Truth and Rekognition (`src_dataset_type: SageMaker`).

    {"source-ref": "s3://bucket/a.jpg", "animals": [0, 2], "animals-metadata":
     {"class-map": {"0": "cat", "2": "dog"}, "type": "groundtruth/image-classification-multilabel"}}

- The files have one image a line, as an
  [output manifest](https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html) has it,
  and end with `.manifest`, `.jsonl` or `.json`. Files named `train...` and `val...` make these
  lists; files of `test`, and manifests without labels (the input of a job), are not used.
- The image is the file with the longest end of `source-ref` that is unique in the data set.
- An attribute has labels when `<attribute>-metadata` is there: several classes (`class-map`), one
  class (`class-name`), or the classes of boxes. With several attributes the image has the labels
  of all; but where a job adjusted the labels of an earlier one (`adjustment-status`), of that job
  alone. Verifications of labels are not labels; masks (`...-ref`) are refused.
- A line that a job failed to label (`failure-reason`), or that has no label although others have,
  is dropped, which is told, and its image is not used. Without metadata the numbers of an
  attribute are named by `classes.txt`.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.json_records import decode_first, read_json_lines
from paddlex_ml.formats.record_labels import UnusableRecord, parse_labels
from paddlex_ml.formats.records import ImageRecord, choose_tables, finish_records, is_number, locate
from paddlex_ml.formats.subsets import SourceTable

_SOURCE = "source-ref"
_META = "-metadata"
_LINE = (
    'write {"source-ref": "s3://bucket/a.jpg", "labels": [0], "labels-metadata": '
    '{"class-map": {"0": "cat"}}}'
)
# Keys of a line that are no attributes.
_OTHER = {_SOURCE, "source", "id", "workerId", "metadata", "width", "height"}
_PLAIN_LABELS = ("class", "label", "labels", "class-id")  # attributes without metadata

_decoder = msgspec.json.Decoder(dict[str, Any])


def recognise(inventory: Inventory) -> str:
    """The manifest that names images."""
    return next(iter(_list_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the manifests line by line. Raises one PaddlexMLError with every fault."""
    layout = "put the output manifest of the labelling job into the data set folder"
    collector = Collector(root, options, layout=layout)
    files = _list_files(collector.inventory)
    labelled = [file for file in files if decode_first(collector.inventory, file).keys() - _OTHER]
    for file in set(files) - set(labelled) if labelled else ():
        collector.account.left_out[file] = "a manifest without labels, the input of a job"
    records: list[ImageRecord] = []
    for table in choose_tables(collector, labelled or files, "manifest with source-ref"):
        parse = partial(_parse_line, collector, table)
        records += read_json_lines(collector, table.path, parse, _LINE)
    return finish_records(collector, records)


def _list_files(inventory: Inventory) -> list[str]:
    files = inventory.find_tables(".manifest", ".jsonl", ".json")
    return [file for file in files if _SOURCE in decode_first(inventory, file)]


def _parse_line(
    collector: Collector, table: SourceTable, text: str, where: str
) -> ImageRecord | None:
    line = _decoder.decode(text)
    image = line.get(_SOURCE)
    if not isinstance(image, str) or not image:
        raise UnusableRecord(f"source-ref is not the address of an image: {image!r:.40}")
    described = {
        key.removesuffix(_META): meta
        for key, meta in line.items()
        if key.endswith(_META)
        and isinstance(meta, dict)
        and not str(meta.get("type", "")).endswith("label-verification")
    }
    adjusted = {key: meta for key, meta in described.items() if "adjustment-status" in meta}
    names: list[str] = []
    failed = empty = 0
    for key, meta in (adjusted or described).items():
        if key.endswith("-ref"):
            raise UnusableRecord(f"{key} is a mask, which names no class")
        if "failure-reason" in meta:
            failed += 1
            continue
        if line.get(key) is None:
            empty += 1
            continue
        names += _name_labels(key, line[key], meta)
    plain = next((key for key in _PLAIN_LABELS if line.get(key) is not None), "")
    is_bare = not described and not plain and not line.keys() - _OTHER
    if is_bare or (described and failed + empty == len(adjusted or described)):
        reason = "the job failed for the image" if failed else "not labelled yet"
        collector.account.drop(table.path, reason, image)
        if path := locate(collector, table, image):
            collector.account.left_out[path] = reason
        return None
    if described:
        return ImageRecord(table, where, image, [name.strip() for name in names])
    if not plain:
        raise UnusableRecord("the line has no labels: no attribute with <attribute>-metadata")
    value = line[plain]
    if isinstance(value, str) and is_number(value.strip()):
        value = int(value)
    return ImageRecord(table, where, image, parse_labels(value))


def _name_labels(attribute: str, value: Any, meta: dict[str, Any]) -> list[str]:
    """The names of the classes of one attribute."""
    if isinstance(name := meta.get("class-name"), str):
        return [name]
    names = meta.get("class-map")
    if isinstance(value, dict):
        boxes = value.get("annotations", [])
        value = [box.get("class_id") for box in boxes if isinstance(box, dict)]
    if isinstance(value, int):
        value = [value]
    if not isinstance(names, dict) or not isinstance(value, list):
        raise UnusableRecord(f"the metadata of {attribute} name no class (class-map, class-name)")
    if unknown := [item for item in value if not isinstance(names.get(str(item)), str)]:
        raise UnusableRecord(f"the class-map of {attribute} has no class {unknown[0]!r:.40}")
    return [names[str(item)] for item in value]
