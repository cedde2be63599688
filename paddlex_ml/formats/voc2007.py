# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC 2007 from its official archives: trainval for training, test for validation.

    VOCtrainval_06-Nov-2007.tar, VOCtest_06-Nov-2007.tar (http://host.robots.ox.ac.uk/pascal/VOC)
    -> images/*.jpg, label.txt (in alphabetical order), train.txt, val.txt

There are 20 classes. Labels come from the objects of Annotations/*.xml, by the rules of `voc.py`:
a class whose objects are all difficult is unknown. The archives must have the published size and
md5, as many projects record them. Tried with archives of the same shape made by tests, not with the
originals.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from paddlex_ml.formats import prepared, voc
from paddlex_ml.formats.collector import CLASS_FILE, Options
from paddlex_ml.formats.prepared import Prepared, Watch
from paddlex_ml.storage import archives, files, folders
from paddlex_ml.storage.archives import Archive

_SITE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"
_TRAINVAL = Archive(
    "VOCtrainval_06-Nov-2007.tar",
    f"{_SITE}/VOCtrainval_06-Nov-2007.tar",
    "--trainval",
    460_032_000,
    "c52e279531787c972589f7e41ab4ae64",
)
_TEST = Archive(
    "VOCtest_06-Nov-2007.tar",
    f"{_SITE}/VOCtest_06-Nov-2007.tar",
    "--test",
    451_020_800,
    "b6e924de25625d8de591ea690078ad9f",
)
ARCHIVES = (_TRAINVAL, _TEST)
CLASSES = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]


def prepare(paths: Sequence[Path], output: Path, watch: Watch, *, skip_missing: bool) -> Prepared:
    """Unpack the archives (`ARCHIVES`) into `output`, a new or empty folder, and write the lists.

    Raises PaddlexMLError for archives that cannot be used, and for annotated images that they do
    not hold unless `skip_missing`; then nothing is left in `output`.
    """
    with folders.building(output) as fresh:
        for archive, list_name in zip(paths, ("trainval", "test"), strict=True):
            for inside, pattern, target in (
                ("ImageSets/Main", f"{list_name}.txt", fresh / "ImageSets" / "Main"),
                ("Annotations", "*.xml", fresh / "Annotations"),
                ("JPEGImages", "*.jpg", fresh / "images"),
            ):
                with watch(f"unpacked {inside} of {list_name}") as progress:
                    archives.unpack(archive, inside, pattern, target, progress)
        # All classes, in this order, even if the archives show only some of them.
        files.write_text(fresh / CLASS_FILE, "\n".join(CLASSES))
        with watch("read annotations") as progress:
            source = voc.read(fresh, Options(skip_missing=skip_missing, progress=progress))
        for folder in ("Annotations", "ImageSets"):  # copies: the archives have them
            shutil.rmtree(fresh / folder)
        (fresh / CLASS_FILE).unlink()
        prepared.write(fresh, source)
    return prepared.describe(output, source)
