# SPDX-License-Identifier: Apache-2.0
"""COCO 2017 from its official archives: train2017 for training, val2017 for validation.

    train2017.zip, val2017.zip, annotations_trainval2017.zip (https://cocodataset.org/#download)
    -> images/train2017/*.jpg, images/val2017/*.jpg, label.txt, train.txt, val.txt

There are 80 classes. Labels come from instances_train2017.json and instances_val2017.json, by the
rules of `coco.py`. The archives must have the published sizes; the checksums inside protect their
content. The sizes are those that many projects record. Tried with archives of the same shape made
by tests, not with the 20 GB themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from paddlex_ml.formats import coco, prepared
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.prepared import Prepared, Watch
from paddlex_ml.storage import archives, folders
from paddlex_ml.storage.archives import Archive

_SITE = "http://images.cocodataset.org"
_TRAIN = Archive("train2017.zip", f"{_SITE}/zips/train2017.zip", "--train2017", 19_336_861_798)
_VAL = Archive("val2017.zip", f"{_SITE}/zips/val2017.zip", "--val2017", 815_585_330)
_ANNOTATIONS = Archive(
    "annotations_trainval2017.zip",
    f"{_SITE}/annotations/annotations_trainval2017.zip",
    "--annotations",
    252_907_541,
)
ARCHIVES = (_TRAIN, _VAL, _ANNOTATIONS)


def prepare(paths: Sequence[Path], output: Path, watch: Watch, *, skip_missing: bool) -> Prepared:
    """Unpack the archives (`ARCHIVES`) into `output`, a new or empty folder, and write the lists.

    Raises PaddlexMLError for archives that cannot be used, and for annotated images that they do
    not hold unless `skip_missing`; then nothing is left in `output`.
    """
    train, val, annotations = paths
    with folders.building(output) as fresh:
        boxes = fresh / "annotations"
        for archive, inside, pattern, target in (
            (annotations, "annotations", "instances_train2017.json", boxes),
            (annotations, "annotations", "instances_val2017.json", boxes),
            (val, "val2017", "*.jpg", fresh / "images" / "val2017"),
            (train, "train2017", "*.jpg", fresh / "images" / "train2017"),
        ):
            with watch(f"unpacked {inside}") as progress:
                archives.unpack(archive, inside, pattern, target, progress)
        with watch("converted images") as progress:
            source = coco.read(fresh, Options(skip_missing=skip_missing, progress=progress))
        shutil.rmtree(boxes)  # copies: the archive has them
        prepared.write(fresh, source)
    return prepared.describe(output, source)
