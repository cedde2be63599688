# SPDX-License-Identifier: Apache-2.0
"""Collected data sets of real tools: the right labels, at once or after the repair as pasted."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from paddlex_ml import cli
from paddlex_ml.data import annotation

TWO = {"cat": 4, "dog": 4}
BOTH = {"cat": 8, "dog": 8}
TWELVE = {"cat": 6, "dog": 6, "red car": 4}
STUDIO = {"Cat": 4, "Dog": 6, "Red car": 4}
LABELS: dict[str, dict[str, int]] = {
    "azure-jsonl": BOTH,
    "coco-advice-renames-test": {"梨": 2, "苹果": 1},
    "coco-cvat-default": TWO,
    "coco-float-ids": TWO,
    "coco-roboflow-dead-root-class": {"Radius": 37, "Scaphoid": 3, "Ulna": 21},
    "coco-roboflow-train-images": TWO,
    "coco-string-image-id-all-zero": TWO,
    "csv-absolute-paths": BOTH,
    "csv-extra-columns-fastai": {"car": 3, "chair": 3, "horse": 2, "person": 5},
    "csv-float-one-hot": TWO,
    "csv-id-without-ending": {"Disease_Risk": 4, "DR": 4, "ARMD": 4},
    "csv-is_valid-01-becomes-class": TWO,
    "csv-kaggle-train_images": BOTH,
    "csv-python-lists": {"cat": 6, "dog": 3},
    "csv-space-separated-planet": {
        **{"agriculture": 3, "clear": 5, "haze": 3, "primary": 8, "water": 3},
    },
    "csv-trailing-comma-nih": {"Cardiomegaly": 6, "Emphysema": 3, "No Finding": 2},
    "cvat-xml": TWELVE,
    "imagefolder-heic-avif-dropped": {"cat": 12, "dog": 6},
    "imagenet-txt-multilabel": TWELVE,
    "labelbox-ndjson": BOTH,
    "labelme-imagePath-shifted-wrong-labels": TWO,
    "labels-differ-in-case-or-unicode": {"café": 6, "café x": 2, "dog": 8},
    "labelstudio-coco": {"Cat": 0, "Dog": 4, "Red car": 0},
    "labelstudio-csv": STUDIO,
    "labelstudio-json-min": STUDIO,
    "mmpretrain-json": BOTH,
    "openimages": TWELVE,
    "paddlelabel-multiclass": {"梨": 2, "苹果": 1, "1": 0, "2": 2, "4": 1},
    "paddlex-tutorial-labelme": {"helmet": 7, "head": 6},
    "vertex-csv": {"cat": 6, "dog": 5},
    "vertex-jsonl": BOTH,
    "voc-filename-shifted-wrong-labels": TWO,
    "voc-gbk-declared": {"猫": 8},
    "voc-imagesets-tags-lost": {"cat": 6, "dog": 6, "indoor": 6},
    "voc-nested-annotations": {"cat": 8},
    "vott-csv": {"helmet": 1, "person": 1},
    "yolo-case-all-zero": TWO,
    "yolo-darknet-lists-ignored": {"cat": 6, "dog": 6, "indoor": 0},
    "yolo-jpgtxt-all-zero": TWO,
    "yolo-labels-elsewhere-all-zero": {"梨": 2, "苹果": 1},
    "yolo-obb-labelTxt-all-zero": {"label_0": 2, "label_1": 2},
    "yolo-trainlabels-all-zero": TWO,
}
"""Case -> class -> images of both lists that show it."""
NATIVE = {
    *("all-images-unlabelled-passes", "broken-images", "check-lists-20-of-55"),
    *("native-upper-case", "native-windows-paths"),
}
"""Cases without a conversion: tests/engines/test_check_dataset.py has them."""
REFUSED = {"roboflow-mask-classes-csv": "a Roboflow export for semantic segmentation"}
"""Cases that have no labels of images."""


def find_repair(error: str) -> dict[str, str]:
    """The options of the first repair of an error: key -> override."""
    command = re.search(r"-o .*", "\n".join(re.findall(r"fix: +(.*)", error)))
    if command is None:
        return {}
    words = shlex.split(re.split(r" (?:or|to) | \(", command[0])[0].rstrip(",;"))
    overrides = [word for flag, word in pairwise(words) if flag == "-o"]
    return {override.partition("=")[0]: override for override in overrides}


def check(
    options: dict[str, str], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and error of check_dataset, after at most three repairs of its own."""
    for _ in range(4):
        command = ["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=check_dataset"]
        command += ["-o", f"Global.dataset_dir={root}", "-o", f"Global.output={tmp_path / 'out'}"]
        capsys.readouterr()
        code = cli.main(command + [word for o in options.values() for word in ("-o", o)])
        error = capsys.readouterr().err
        repair = find_repair(error[error.rfind("error: ") :]) if code else {}
        if not repair:
            break
        options = {**options, **repair}
    return code, error


def read_options(shared: Path, case: str) -> dict[str, str]:
    with (shared / "cases/data/cases.tsv").open(encoding="utf-8", newline="") as file:
        rows = {row["case"]: row for row in csv.DictReader(file, delimiter="\t")}
    words = shlex.split(rows[case]["options of check_dataset"])
    return {word.partition("=")[0]: word for word in words if word != "-o"}


@pytest.mark.parametrize("way", ["as named", pytest.param("auto", marks=pytest.mark.heavy)])
@pytest.mark.parametrize("case", [*LABELS, *REFUSED])
def test_a_case_gives_its_labels_or_is_refused_with_a_repair_that_works(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str, way: str
) -> None:
    if not (shared / "cases" / "data" / case).is_dir():
        pytest.skip("needs the collected cases")
    root = shutil.copytree(shared / "cases" / "data" / case, tmp_path / case)
    options = read_options(shared, case)
    if way == "auto":
        key = "CheckDataset.convert.src_dataset_type"
        options[key] = f"{key}=auto"
    code, error = check(options, root, tmp_path, capsys)
    if case in REFUSED:
        assert (code, REFUSED[case] in error) == (2, True), error
        assert not (root / "train.txt").exists()
        return
    assert code == 0, error
    dataset = annotation.read(root)
    counts: Counter[str] = Counter()
    for images in (dataset.train, dataset.val):
        shown = (images.targets > 0).sum(axis=0)
        for name, count in zip(dataset.label_names, shown, strict=True):
            counts[unicodedata.normalize("NFC", name)] += int(count)
    assert counts == LABELS[case]


def test_every_case_is_known(shared: Path) -> None:
    folder = shared / "cases" / "data"
    if not folder.is_dir():
        pytest.skip("needs the collected cases")
    known = {*LABELS, *REFUSED, *NATIVE}
    assert {path.name for path in folder.iterdir() if path.is_dir()} <= known
