# SPDX-License-Identifier: Apache-2.0
"""The lists of a data set as COCO-style JSON, CSV or JSON Lines, or as PaddleX reads them.

    COCO      annotations/instance_train.json, instance_val.json
    CSV       train.csv, val.csv: image, then one column of 0, 1 and -1 (unknown) for each class
    JSONL     train.jsonl, val.jsonl: {"path": ..., "labels": [...]}; classes.txt has the order. An
              image with unknown labels has "unknown": [...], or, where these are shorter, the
              absent ones, "absent": [...]: all others are unknown then
    PaddleX   label.txt, train.txt, val.txt with 0 or 1 for each class, also of sparse lists

Paths stay relative to the data set. A file written into the data set itself converts back to the
same lists, classes without images included. In COCO each label is an annotation whose box is the
full image, because lists have no boxes; sizes are those of the decoded image, EXIF orientation
applied; category ids begin with 1, in the order of the classes. Images that would not convert back
to the same lists are refused, all of them in one error. COCO and PaddleX cannot hold unknown
labels: these are refused unless the user says what they become. So are soft values and weights,
which no format here holds.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.data import (
    annotation,
    decode_header,
    journal,
    label_file,
    target_lines,
    targets,
)
from paddlex_ml.data.annotation import LISTS, ImageList
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import ImageFinder
from paddlex_ml.data.journal import Transaction
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.formats.collector import CLASS_FILE
from paddlex_ml.progress import ReportProgress, ignore_progress
from paddlex_ml.storage import csv_text
from paddlex_ml.wording import count

Texts = dict[str, str]
UNKNOWN_WAYS = ("refuse", "negative", "positive")
"""What may become of unknown labels."""
_TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_to_json = partial(json.dumps, ensure_ascii=False)


def export(
    root: Path,
    kind: str,
    output: Path | None = None,
    progress: ReportProgress = ignore_progress,
    unknown: str | None = None,
    *,
    hard: bool = False,
) -> Transaction:
    """Write the lists of a data set in the format `kind`, one of `WRITERS`, as one change.

    `output` is a new or empty folder; None is the data set itself, where files that are there
    become backups. `unknown`, one of UNKNOWN_WAYS, says what unknown labels become; None keeps them
    where the format can hold them. No format holds soft values or weights: with `hard` they become
    0 and 1, and are left out. Raises PaddlexMLError for faults in the lists, a folder that is not
    empty, unknown labels that are refused, and soft values or weights without `hard`.
    """
    folder = root if output is None else output
    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise PaddlexMLError(
            "the folder for the export " + ("is not empty" if output.is_dir() else "is a file"),
            where=str(output),
            fix="choose another --output; nothing is overwritten",
        )
    names = [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS
    parsed = annotation.parse(root, names, soft_labels=True)
    if parsed.faults:
        raise combine(parsed.faults, root)
    dataset = parsed.dataset
    lists = {name: getattr(dataset, name) for name in names}
    for name, images in lists.items() if not hard else ():
        soft = 0 if images.soft is None else len(images.soft.ids)
        weighted = 0 if images.weights is None else int((images.weights != 1).sum())
        if soft or weighted:
            what = (
                f"{count(soft, 'label has', 'labels have')} soft values and "
                f"{count(weighted, 'image')} a weight, which "
            )
            raise PaddlexMLError(
                f"{what}{kind} cannot hold",
                where=str(root / f"{name}.txt"),
                fix="write 1 from 0.5 on, else 0, and leave the weights out: --hard",
            )
    lists = _resolve_unknown(lists, kind, unknown)
    if kind == "COCO" and output is None:
        _refuse_ambiguous(root, lists)
    texts = WRITERS[kind](lists, dataset.label_names, progress)
    folder.mkdir(parents=True, exist_ok=True)
    return journal.apply(folder, f"exported to {kind}", texts)


def _resolve_unknown(
    lists: dict[str, ImageList], kind: str, unknown: str | None
) -> dict[str, ImageList]:
    """The lists with their unknown labels kept or changed. Raises PaddlexMLError as `export`."""
    hidden = sum(targets.count_unknown(images.values) for images in lists.values())
    if not hidden:
        return lists
    if unknown in ("negative", "positive"):
        value = 0 if unknown == "negative" else 1
        return {
            name: replace(each, values=targets.assume(each.values, value))
            for name, each in lists.items()
        }
    # Readers of tables take -1 for absent where there is no 0 beside it.
    absent = sum(int(targets.count(images.values).absent.sum()) for images in lists.values())
    keeps = kind == "JSONL" or (kind == "CSV" and absent > 0)
    if unknown is None and keeps:
        return lists
    text = f"{count(hidden, 'label is', 'labels are')} unknown (-1)"
    if unknown is None:
        text += f", which {kind} cannot hold"
        text += " where no label is known to be absent" * (kind == "CSV")
    raise PaddlexMLError(
        text,
        where=str(next(iter(lists.values())).root),
        fix=alternatives(
            "take them for absent: --unknown negative",
            "for present: --unknown positive",
            "keep them: --format JSONL" if not keeps else "keep them: leave --unknown refuse out",
        ),
    )


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
        for i, class_ids in enumerate(targets.rows_of_ids(images.values)):
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
            for class_id in class_ids:
                ids = {"id": len(annotations) + 1, "image_id": done}
                annotations.append({**ids, "category_id": class_id + 1, **box})
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
        rows = (row for _, table in targets.blocks(images.values) for row in table.tolist())
        for path, row in zip(images.paths, rows, strict=True):
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
    sizes = np.array([len(_to_json(name)) + 2 for name in names], np.int64)
    keys = {target_lines.UNKNOWN_MARK: "unknown", target_lines.ABSENT_MARK: "absent"}
    for key, images in lists.items():
        lines = []
        rows = target_lines.choose_ids(images.values, sizes)
        for path, (shown, others, mark) in zip(images.paths, rows, strict=True):
            line = {"path": path, "labels": [names[i] for i in shown]}
            line |= {keys[mark]: [names[i] for i in others]} if mark else {}
            lines.append(_to_json(line) + "\n")
        texts[f"{key}.jsonl"] = "".join(lines)
    return texts


def _write_paddlex(lists: dict[str, ImageList], names: list[str], _: ReportProgress) -> Texts:
    texts = {annotation.LABEL_FILE: label_file.labels_text(names)}
    for key, images in lists.items():
        values = targets.dense(images.values)
        texts[f"{key}.txt"] = annotation.list_text(images.paths, values)
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
    "PaddleX": _write_paddlex,
}
"""The formats that a data set is exported to."""
