# SPDX-License-Identifier: Apache-2.0
"""JSON Lines of Azure Machine Learning (`src_dataset_type: Azure`).

    {"image_url": "azureml://.../paths/images/a.jpg", "label": ["cat", "dog"]}
    {"image_url": "AmlDatastore://images/b.jpg", "label": "cat", "image_details": {"width": 400}}

- The form is that of
  [AutoML for images](https://learn.microsoft.com/azure/machine-learning/reference-automl-images-schema)
  and of exports of data labelling. A file named `train...` and one named `val...` make these lists
  (`train_annotations.jsonl`, `validation_annotations.jsonl`); files of `test` are not used.
- The image is the file with the longest end of `image_url` that is unique in the data set.
- `label` is a list of names, one name, or a list of boxes or polygons with a `label` each: the
  image has the labels of all of them. An empty list: no label. Other keys are ignored.
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
from paddlex_ml.formats.record_labels import parse_labels
from paddlex_ml.formats.records import ImageRecord, choose_tables, finish_records
from paddlex_ml.formats.subsets import SourceTable

_LINE = 'write {"image_url": "images/a.jpg", "label": ["cat", "dog"]}'
_KEYS = {"image_url", "label"}


class _AzureLine(msgspec.Struct, gc=False):
    image_url: str
    label: Any


_decoder = msgspec.json.Decoder(_AzureLine)


def recognise(inventory: Inventory) -> str:
    """The file whose first line has the keys of Azure."""
    return next(iter(_list_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files line by line. Raises one PaddlexMLError with every fault."""
    layout = "put the .jsonl files of Azure into the data set folder"
    collector = Collector(root, options, layout=layout)
    records: list[ImageRecord] = []
    files = _list_files(collector.inventory)
    for table in choose_tables(collector, files, ".jsonl file with image_url and label"):
        records += read_json_lines(collector, table.path, partial(_parse_line, table), _LINE)
    return finish_records(collector, records)


def _list_files(inventory: Inventory) -> list[str]:
    files = inventory.find_tables(".jsonl", ".ndjson", ".json")
    return [file for file in files if decode_first(inventory, file).keys() >= _KEYS]


def _parse_line(table: SourceTable, text: str, where: str) -> ImageRecord:
    line = _decoder.decode(text)
    return ImageRecord(table, where, line.image_url, parse_labels(line.label))
