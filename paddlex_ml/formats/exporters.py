# SPDX-License-Identifier: Apache-2.0
"""The lists of a data set as COCO-style JSON, CSV or JSON Lines: the way back.

    COCO    annotations/instance_train.json, instance_val.json
    CSV     train.csv, val.csv: image, then one column of 0 and 1 for each class
    JSONL   train.jsonl, val.jsonl: {"path": ..., "labels": [...]}; classes.txt has the order

Paths stay relative to the data set. A file written into the data set itself converts back to the
same lists, classes without images included. In COCO each label is an annotation whose box is the
full image, because lists have no boxes; sizes are those of the decoded image, EXIF orientation
applied; category ids begin with 1, in the order of the classes. Images that would not convert back
to the same lists are refused, all of them in one error.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.data import annotation, decode_header, journal
from paddlex_ml.data.annotation import LISTS, ImageList
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import ImageFinder
from paddlex_ml.data.journal import Transaction
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import CLASS_FILE
from paddlex_ml.progress import ReportProgress, ignore_progress
from paddlex_ml.storage import csv_text

Texts = dict[str, str]
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_to_json = partial(json.dumps, ensure_ascii=False)


def export(
    root: Path, kind: str, output: Path | None = None, progress: ReportProgress = ignore_progress
) -> Transaction:
    """Write the lists of a data set in the format `kind`, one of `WRITERS`, as one change.

    `output` is a new or empty folder; None is the data set itself, where files that are there
    become backups. Raises PaddlexMLError for faults in the lists and a folder that is not empty.
    """
    folder = root if output is None else output
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise PaddlexMLError(
            "the folder for the export " + ("is not empty" if output.is_dir() else "is a file"),
            where=str(output),
            fix="choose another --output; nothing is overwritten",
        )
    names = [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS
    parsed = annotation.parse(root, names)
    if parsed.faults:
        raise combine(parsed.faults, root)
    dataset = parsed.dataset
    lists = {name: getattr(dataset, name) for name in names}
    if kind == "COCO" and output is None:
        _refuse_ambiguous(root, lists)
    texts = WRITERS[kind](lists, dataset.label_names, progress)
    folder.mkdir(parents=True, exist_ok=True)
    return journal.apply(folder, f"exported to {kind}", texts)


def _refuse_ambiguous(root: Path, lists: dict[str, ImageList]) -> None:
    """Refuse images whose name is found in another folder first when COCO is read."""
    finder, faults = ImageFinder(root), []
    for key, images in lists.items():
        for path in images.paths:
            first = finder.find(path, [f"images/{key}", key, "images", ""])
            if isinstance(first, str) and first != annotation.normalise_path(path):
                fix = "rename one of the two, or export to another folder or format"
                text = f"COCO readers would read {first} instead"
                faults.append(DatasetFault("image name", path, text, fix))
    if faults:
        raise combine(faults, root)


def _write_coco(lists: dict[str, ImageList], names: list[str], progress: ReportProgress) -> Texts:
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    total, done = sum(map(len, lists.values())), 0
    texts = {}
    faults: list[DatasetFault] = []
    for key, images in lists.items():
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, row in enumerate(images.targets):
            done += 1
            progress(done, total)
            try:
                width, height = _measure(images.path(i))
            except PaddlexMLError as error:
                fault = DatasetFault("image not decodable", images.paths[i], error.what, error.fix)
                faults.append(fault)
                continue
            entry = {"id": done, "file_name": images.paths[i], "width": width, "height": height}
            entries.append(entry)
            box = {"bbox": [0, 0, width, height], "area": width * height, "iscrowd": 0}
            for class_id in np.flatnonzero(row):
                ids = {"id": len(annotations) + 1, "image_id": done}
                annotations.append({**ids, "category_id": int(class_id) + 1, **box})
        content = {"images": entries, "annotations": annotations, "categories": categories}
        texts[f"annotations/instance_{key}.json"] = _to_json(content) + "\n"
    if faults:
        raise combine(faults, next(iter(lists.values())).root)
    return texts


def _write_csv(lists: dict[str, ImageList], names: list[str], progress: ReportProgress) -> Texts:
    fix = "rename the image, or export to COCO or JSONL"
    faults = [
        DatasetFault("image name", path, "a CSV table loses the spaces around the name", fix)
        for images in lists.values()
        for path in images.paths
        if path != path.strip()
    ]
    if faults:
        raise combine(faults, next(iter(lists.values())).root)
    # The reader detects the separator of the table from this line: quote all candidates.
    header = ",".join(map(_quote, ["image", *names])) + "\n"
    texts = {}
    for key, images in lists.items():
        text = io.StringIO()
        text.write(header)
        writer = csv.writer(text, lineterminator="\n")
        for path, row in zip(images.paths, images.targets.tolist(), strict=True):
            writer.writerow([csv_text.escape(path), *row])
        is_plain = header.isascii() and all(map(str.isascii, images.paths))
        texts[f"{key}.csv"] = ("" if is_plain else csv_text.MARK) + text.getvalue()
    return texts


def _quote(name: str) -> str:
    name = csv_text.escape(name)
    doubled = name.replace('"', '""')
    return f'"{doubled}"' if re.search('[",;\t]', name) else name


def _write_jsonl(lists: dict[str, ImageList], names: list[str], progress: ReportProgress) -> Texts:
    texts = {CLASS_FILE: "".join(f"{name}\n" for name in names)}
    for key, images in lists.items():
        lines = (
            _to_json({"path": path, "labels": [names[i] for i in np.flatnonzero(row)]}) + "\n"
            for path, row in zip(images.paths, images.targets, strict=True)
        )
        texts[f"{key}.jsonl"] = "".join(lines)
    return texts


def _measure(path: Path) -> tuple[int, int]:
    """Width and height of the image as it is seen: from the head of the file where it has them.

    Raises PaddlexMLError for a file that is not an image.
    """
    try:
        with decode_header.open_file(path) as file:
            image = decode_header.open_known(file)
            width, height = image.size
            turned = decode_header.orientation(image) in _TURNED
            is_tiff = image.format == "TIFF"  # Pillow turns it before or after, by its version
    except Exception:  # `read_image` finds the reason
        return read_image(path).size
    if is_tiff:
        return read_image(path).size
    return (height, width) if turned else (width, height)


WRITERS: dict[str, Callable[[dict[str, ImageList], list[str], ReportProgress], Texts]] = {
    "COCO": _write_coco,
    "CSV": _write_csv,
    "JSONL": _write_jsonl,
}
"""The formats that a data set is exported to."""
