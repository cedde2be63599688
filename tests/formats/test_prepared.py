# SPDX-License-Identifier: Apache-2.0
"""Public data sets from archives of the published shape, made here and small."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.data import annotation
from paddlex_ml.formats import nus_wide_lists, prepared, voc2007

WRITTEN = {"images", "label.txt", "train.txt", "val.txt"}
ROOT = Path(__file__).resolve().parents[2]


def run(tool: str, *words: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a tool."""
    path = ROOT / "dataset_tools" / f"prepare_{tool}.py"
    done = subprocess.run(
        [sys.executable, str(path), *map(str, words)], capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def zipped(path: Path, files: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def tarred(path: Path, files: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"VOCdevkit/VOC2007/{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))


def lines(root: Path, name: str) -> list[str]:
    return (root / f"{name}.txt").read_text("utf-8").splitlines()


def coco(image_id: int) -> str:
    image = {"id": image_id, "file_name": f"{image_id:012d}.jpg"}
    box = {"image_id": image_id, "category_id": 90, "bbox": [0, 0, 1, 1]}
    names = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    return json.dumps({"images": [image], "annotations": [box], "categories": names})


@pytest.fixture
def coco_archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    zipped(folder / "train2017.zip", {"train2017/000000000001.jpg": "1"})
    zipped(folder / "val2017.zip", {"val2017/000000000002.jpg": "2"})
    annotations = {"train2017": coco(1), "val2017": coco(2)}
    files = {f"annotations/instances_{name}.json": text for name, text in annotations.items()}
    zipped(folder / "annotations_trainval2017.zip", files)
    return folder


def test_coco_2017_becomes_a_data_set(coco_archives: Path, tmp_path: Path) -> None:
    output = tmp_path / "coco"
    code, told, err = run("coco2017", "--archives", coco_archives, "--output", output, "--any-size")
    assert code == 0, err
    assert f"wrote {output}: 1 train, 1 val images, 2 classes" in told
    assert lines(output, "label") == ["0 person", "1 toothbrush"]
    assert lines(output, "train") == ["images/train2017/000000000001.jpg\t0,1"]
    assert lines(output, "val") == ["images/val2017/000000000002.jpg\t0,1"]
    assert {path.name for path in output.iterdir()} == {
        "images",
        "label.txt",
        "train.txt",
        "val.txt",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"archives", "coco"}
    annotation.read(output)


def test_archives_of_another_size_are_refused_with_both_numbers(
    coco_archives: Path, tmp_path: Path
) -> None:
    code, _, err = run("coco2017", "--archives", coco_archives, "--output", tmp_path / "coco")
    assert code == 2
    assert "train2017.zip has 151 bytes, the published one 19,336,861,798" in err
    assert "--any-size" in err
    assert not (tmp_path / "coco").exists()


def test_a_missing_archive_names_its_option_and_url(tmp_path: Path) -> None:
    code, _, err = run("coco2017", "--archives", tmp_path, "--output", tmp_path / "coco")
    assert code == 2
    assert "the archive train2017.zip does not exist" in err
    assert "--train2017 http://images.cocodataset.org/zips/train2017.zip to fetch it" in err


def test_a_folder_with_files_is_not_filled(coco_archives: Path, tmp_path: Path) -> None:
    words = ("--archives", coco_archives, "--output", coco_archives, "--any-size")
    code, _, err = run("coco2017", *words)
    assert code == 2
    assert "is a folder with files in it; nothing is overwritten" in err


def test_an_image_that_the_archive_lacks_leaves_nothing_behind(
    coco_archives: Path, tmp_path: Path
) -> None:
    zipped(coco_archives / "val2017.zip", {"val2017/000000000009.jpg": "9"})
    words = ("--archives", coco_archives, "--output", tmp_path / "coco", "--any-size")
    code, _, err = run("coco2017", *words)
    assert code == 2
    assert "000000000002.jpg is not there" in err
    assert {path.name for path in tmp_path.iterdir()} == {"archives"}


def voc(name: str, label: str) -> dict[str, str]:
    text = f"<annotation><filename>{name}.jpg</filename><object><name>{label}</name></object>"
    return {
        f"Annotations/{name}.xml": f"{text}</annotation>",
        f"JPEGImages/{name}.jpg": name,
        f"JPEGImages/{name}.txt": "no image",
    }


def test_voc_2007_becomes_a_data_set_with_all_twenty_classes(tmp_path: Path) -> None:
    tarred(
        tmp_path / "VOCtrainval_06-Nov-2007.tar",
        {"ImageSets/Main/trainval.txt": "000005\n", **voc("000005", "tvmonitor")},
    )
    tarred(
        tmp_path / "VOCtest_06-Nov-2007.tar",
        {"ImageSets/Main/test.txt": "000001\n", **voc("000001", "aeroplane")},
    )
    output = tmp_path / "voc"
    code, _, err = run("voc2007", "--archives", tmp_path, "--output", output, "--any-size")
    assert code == 0, err
    assert [line.split()[1] for line in lines(output, "label")] == voc2007.CLASSES
    assert lines(output, "train") == ["images/000005.jpg\t" + ",".join(["0"] * 19 + ["1"])]
    assert lines(output, "val") == ["images/000001.jpg\t" + ",".join(["1"] + ["0"] * 19)]
    assert {path.name for path in output.iterdir()} == {
        "images",
        "label.txt",
        "train.txt",
        "val.txt",
    }


@pytest.fixture
def nus(tmp_path: Path) -> Path:
    """Lists (one archive, two folders) and images; a wrong label, and an image that is gone."""
    folder = tmp_path / "nus"
    zipped(folder / "ConceptsList.zip", {"ConceptsList/Concepts81.txt": "airport\r\nbeach\r\n"})
    texts = {
        "ImageList/TrainImagelist.txt": "actor\\1.jpg\nsea\\2.jpg\n",
        "ImageList/TestImagelist.txt": "sea\\3.jpg\nsea\\4.jpg\n",
        "ImageList/Imagelist.txt": "actor\\1.jpg\nsea\\2.jpg\nsea\\3.jpg\nsea\\4.jpg\n",
        "Groundtruth/TrainTestLabels/Labels_airport_Train.txt": "1\n0\n",
        "Groundtruth/TrainTestLabels/Labels_airport_Test.txt": "0\n1\n",
        "Groundtruth/TrainTestLabels/Labels_beach_Train.txt": "0\n-1\n",
        "Groundtruth/TrainTestLabels/Labels_beach_Test.txt": "1\n1\n",
        "Groundtruth/AllLabels/Labels_beach.txt": "0\n1\n1\n1\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name in ("actor/1.jpg", "sea/2.jpg", "sea/3.jpg"):
        (folder / "Flickr" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "Flickr" / name).write_text(name)
    return folder


def test_nus_wide_becomes_a_data_set_and_its_images_stay(nus: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    words = ("--archives", nus, "--images", nus / "Flickr", "--output", output, "--any-size")
    code, _, err = run("nus_wide", *words)
    assert code == 2
    assert "TestImagelist.txt:2" in err
    assert not output.exists()
    code, told, err = run("nus_wide", *words, "--skip-missing")
    assert code == 0, err
    assert "1 images are not there, left out: sea\\4.jpg" in told
    assert "Labels_beach_Train.txt:2: the label is '-1', neither 0 nor 1" in told
    assert lines(output, "label") == ["0 airport", "1 beach"]
    assert lines(output, "train") == ["images/actor/1.jpg\t1,0", "images/sea/2.jpg\t0,1"]
    assert lines(output, "val") == ["images/sea/3.jpg\t0,1"]
    assert os.path.samefile(output / "images/sea/3.jpg", nus / "Flickr/sea/3.jpg")


def test_a_part_of_nus_wide_is_refused_unless_asked_for(nus: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    code, _, err = run("nus_wide", "--archives", nus, "--images", nus, "--output", output)
    assert code == 2
    assert "Concepts81.txt names 2 classes, the published one 81" in err


def test_labels_that_are_too_few_are_a_fault(nus: Path) -> None:
    (nus / "Groundtruth/TrainTestLabels/Labels_airport_Test.txt").write_text("0\n")
    (nus / "ConceptsList.zip").rename(nus / "c.zip")
    lists = nus_wide_lists.read([nus, nus / "c.zip"], any_size=True)
    (fault,) = lists.faults
    assert fault.where == "Labels_airport_Test.txt"
    assert fault.text == "it has 1 labels, but 2 images are listed"
    assert np.array_equal(lists.targets["train"], [[1, 0], [0, 1]])


def test_a_data_set_that_fails_while_it_is_built_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "set"
    with pytest.raises(FileNotFoundError), prepared.building(output) as fresh:
        (fresh / "lost").rename(fresh / "found")
    assert list(tmp_path.iterdir()) == []
    output.mkdir()  # empty: it is taken
    with prepared.building(output) as fresh:
        (fresh / "whole").touch()
    assert [path.name for path in output.iterdir()] == ["whole"]


def test_what_a_killed_run_left_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".set.abc.unfinished").mkdir()
    with prepared.building(tmp_path / "set"):
        pass
    assert ".set.abc.unfinished was left by a run that was killed" in caplog.text
