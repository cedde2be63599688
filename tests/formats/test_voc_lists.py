# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import voc, voc_lists
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
MAIN = "ImageSets/Main"


def xml(*labels: str) -> str:
    objects = "".join(f"<object><name>{label}</name></object>" for label in labels)
    return f"<annotation>{objects}</annotation>"


def tags(**more: str) -> dict[str, str]:
    """Image tags as CVAT and Datumaro write them: only images with tags are in these lists."""
    return {
        f"{MAIN}/train.txt": "img 1\nimg 2\n",
        f"{MAIN}/val.txt": "img 3\n",
        f"{MAIN}/background_train.txt": "img 1 -1\n",
        f"{MAIN}/red_car_train.txt": "img 1  1\nimg 2 -1\n",
        f"{MAIN}/red_car_val.txt": "img 3  1\n",
        f"{MAIN}/cat_train.txt": "img 1 -1\n",
        **more,
    }


IMAGES = ["JPEGImages/img 1.jpg", "JPEGImages/img 2.jpg", "JPEGImages/img 3.jpg"]


def test_the_lists_of_classes_add_labels_to_those_of_the_files(plant: Plant, labels: Any) -> None:
    files = {f"Annotations/img {i}.xml": xml("cat") for i in (1, 2)}
    files["Annotations/img 3.xml"] = xml()
    dataset = voc.read(plant(tags(**files), *IMAGES), Options())
    assert labels(dataset) == {
        "train": {IMAGES[0]: ["cat", "red_car"], IMAGES[1]: ["cat"]},
        "val": {IMAGES[2]: ["red_car"]},
    }
    assert dataset.account.names_left_out == {"background": "no image of the lists shows it"}
    assert dataset.account.dropped == {}


@pytest.mark.parametrize(("uncertain", "value"), [(None, -1), ("positive", 1), ("negative", 0)])
def test_a_difficult_class_is_unknown(plant: Plant, uncertain: Any, value: int) -> None:
    more = {f"{MAIN}/cat_train.txt": "img 1  0\nimg 2  1\n", f"{MAIN}/cat_val.txt": "img 3  0\n"}
    dataset = voc.read(plant(tags(**more), *IMAGES), Options(uncertain=uncertain))
    assert dataset.label_names == ["cat", "red_car"]
    assert dataset.lists["train"].targets.tolist() == [[value, 1], [1, 0]]
    assert dataset.lists["val"].targets.tolist() == [[value, 1]]
    assert dataset.account.not_annotated == {}


def test_the_lists_of_classes_need_no_files(plant: Plant, labels: Any) -> None:
    root = plant(tags(), *IMAGES)
    dataset = voc.read(root, Options())
    assert labels(dataset) == {
        "train": {IMAGES[0]: ["red_car"], IMAGES[1]: []},
        "val": {IMAGES[2]: ["red_car"]},
    }
    assert list(dataset.account.not_annotated) == [IMAGES[1]]
    assert voc.recognise(Inventory(root)) == f"{MAIN}/background_train.txt"


def test_the_lists_of_classes_divide_where_no_others_do(plant: Plant, labels: Any) -> None:
    files = {f"{MAIN}/traffic light_train.txt": "a 1\n", f"{MAIN}/traffic light_val.txt": "b  1\n"}
    dataset = voc.read(plant(files, "JPEGImages/a.jpg", "JPEGImages/b.jpg"), Options())
    assert labels(dataset) == {
        "train": {"JPEGImages/a.jpg": ["traffic light"]},
        "val": {"JPEGImages/b.jpg": ["traffic light"]},
    }


def test_a_missing_image_of_a_list_is_named(plant: Plant, refusal: Any, labels: Any) -> None:
    files = tags(**{f"{MAIN}/cat_train.txt": "img 1 -1\nimg 2  1\n"})
    root = plant(files, *IMAGES[1:])
    assert "img 1 is not there" in refusal(voc.read, root)
    dataset = voc.read(root, Options(skip_missing=True))
    assert dataset.notes == ["1 image is not there, left out: img 1"]


def test_names_of_lists_of_classes_that_are_in_no_list_are_counted(plant: Plant) -> None:
    files = tags(**{f"{MAIN}/cat_train.txt": "img 1  1\nimg 7  1\n"})
    dataset = voc.read(plant(files, *IMAGES), Options())
    assert dataset.account.dropped == {"their images are in no list": 1}


def test_a_list_of_a_class_whose_names_are_all_unknown_is_refused(
    plant: Plant, refusal: Any
) -> None:
    files = tags(**{f"{MAIN}/cat_train.txt": "x 1\ny -1\n"})
    message = refusal(voc.read, plant(files, *IMAGES))
    assert f"all 2 records of {MAIN}/cat_train.txt would be dropped" in message


@pytest.mark.parametrize("line", ["img 1 yes", "img " + "1" * 5000])
def test_a_line_of_another_kind_is_refused(plant: Plant, refusal: Any, line: str) -> None:
    files = tags(**{f"{MAIN}/cat_train.txt": "img 1\n"})
    files[f"{MAIN}/dog_train.txt"] = f"{line}\n"
    message = refusal(voc.read, plant(files, *IMAGES))
    assert "is not a name and 1, 0 or -1" in message
    assert f"{MAIN}/dog_train.txt:1" in message


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("a.jpg\nb.jpg\n", "c.jpg\n"),
        ("a.xml\nb.xml\n", "c.xml\n"),
        ("JPEGImages/s/a.jpg\nJPEGImages/s/b.jpg\n", "/home/me/VOC/JPEGImages/s/c.jpg\n"),
        ("s\\a\r\ns\\b\r\n", "s\\c\r\n"),
        ("a 1\nb -1\n", "c  1\n"),
        ("A\n B \n\n", "\ufeffc"),
    ],
)
def test_a_line_may_have_an_ending_folders_or_a_second_column(
    plant: Plant, labels: Any, train: str, val: str
) -> None:
    files = {f"Annotations/s/{stem}.xml": xml(stem) for stem in "abc"}
    files |= {f"{MAIN}/Train.txt": train, f"{MAIN}/Validation.txt": val}
    dataset = voc.read(plant(files, *(f"JPEGImages/s/{stem}.jpg" for stem in "abc")), Options())
    assert labels(dataset) == {
        "train": {"JPEGImages/s/a.jpg": ["a"], "JPEGImages/s/b.jpg": ["b"]},
        "val": {"JPEGImages/s/c.jpg": ["c"]},
    }


def test_a_number_at_the_end_of_a_name_is_no_second_column(plant: Plant, refusal: Any) -> None:
    files = {"Annotations/a.xml": xml("x"), "Annotations/b.xml": xml("x")}
    files[f"{MAIN}/train.txt"] = "a 1\nb\n"
    message = refusal(voc.read, plant(files, "JPEGImages/a.jpg", "JPEGImages/b.jpg"))
    assert "a 1.xml is not there" in message


def test_the_only_list_of_cvat_is_that_of_all_images(plant: Plant, labels: Any) -> None:
    files = {"Annotations/a.xml": xml("x"), f"{MAIN}/default.txt": "a\n"}
    files["ImageSets/Action/default.txt"] = "a\n"
    dataset = voc.read(plant(files, "JPEGImages/a.jpg"), Options())
    assert labels(dataset) == {"train": {"JPEGImages/a.jpg": ["x"]}}
    assert dataset.account.left_out == {"ImageSets/Action/default.txt": "a list of another task"}


def test_images_of_the_test_list_are_told_as_such(plant: Plant) -> None:
    files = {f"Annotations/{stem}.xml": xml(stem) for stem in "abc"}
    files |= {
        f"{MAIN}/{name}.txt": f"{stem}\n"
        for name, stem in zip(("train", "val", "test"), "abc", strict=True)
    }
    dataset = voc.read(plant(files, *(f"JPEGImages/{stem}.jpg" for stem in "abc")), Options())
    reason = "of the test subset"
    assert dataset.account.left_out == {"Annotations/c.xml": reason, "JPEGImages/c.jpg": reason}


def test_a_name_of_two_files_is_refused(plant: Plant, refusal: Any) -> None:
    files = {"Annotations/s/a.xml": xml("x"), "Annotations/t/a.xml": xml("x")}
    files[f"{MAIN}/train.txt"] = "a\n"
    message = refusal(voc.read, plant(files, "JPEGImages/s/a.jpg", "JPEGImages/t/a.jpg"))
    assert "a may be Annotations/s/a.xml or Annotations/t/a.xml" in message


def paddlelabel() -> dict[str, str]:
    """The export of PaddleLabel for detection."""
    return {
        "Annotations/a b.xml": xml("dog"),
        "Annotations/c.xml": xml("cat"),
        "Annotations/d.xml": xml("owl"),
        "labels.txt": "dog\ncat\nowl\n",
        "train_list.txt": "JPEGImages/a b.jpeg Annotations/a b.xml\n",
        "val_list.txt": "JPEGImages/c.jpeg Annotations/c.xml\n",
        "test_list.txt": "JPEGImages/d.jpeg Annotations/d.xml\n",
    }


def test_the_lists_of_paddlelabel_divide(plant: Plant, labels: Any) -> None:
    images = [f"JPEGImages/{stem}.jpeg" for stem in ("a b", "c", "d")]
    dataset = voc.read(plant(paddlelabel(), *images), Options())
    assert labels(dataset) == {"train": {images[0]: ["dog"]}, "val": {images[1]: ["cat"]}}
    assert dataset.label_names == ["dog", "cat", "owl"]
    assert dataset.account.left_out[images[2]] == "of the test subset"
    assert dataset.notes[0].startswith("test_list.txt is not used: ")


def test_a_list_that_pairs_a_file_with_another_image_is_in_doubt(
    plant: Plant, refusal: Any
) -> None:
    files = paddlelabel()
    files["train_list.txt"] = "JPEGImages/c.jpeg Annotations/a b.xml\n"
    images = [f"JPEGImages/{stem}.jpeg" for stem in ("a b", "c", "d")]
    message = refusal(voc.read, plant(files, *images))
    assert "belongs to JPEGImages/a b.jpeg, but it names JPEGImages/c.jpeg" in message


@pytest.mark.parametrize("line", ["{}", "{}.jpg", "./JPEGImages/{}.jpg", "Annotations/{}.xml"])
def test_lists_of_names_beside_the_folders_divide(plant: Plant, labels: Any, line: str) -> None:
    files = {f"Annotations/{stem}.xml": xml(stem) for stem in "ab"}
    files |= {"train.txt": line.format("a") + "\n", "val.txt": line.format("b") + "\n"}
    dataset = voc.read(plant(files, "JPEGImages/a.jpg", "JPEGImages/b.jpg"), Options())
    assert labels(dataset) == {
        "train": {"JPEGImages/a.jpg": ["a"]},
        "val": {"JPEGImages/b.jpg": ["b"]},
    }


def test_our_own_lists_do_not_divide(plant: Plant, labels: Any) -> None:
    files = {"a.xml": xml("a"), "b.xml": xml("b"), "train.txt": "a.jpg\t1,0\n"}
    dataset = voc.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["a"], "b.jpg": ["b"]}}


def test_lists_of_other_formats_are_no_lists_of_pairs(plant: Plant) -> None:
    files = {"train.txt": "a.jpg\t1,0\n", "val_list.txt": "a.jpg 1\n", "x/test.txt": "b.jpg b.xml"}
    inventory = Inventory(plant(files))
    assert voc_lists.find_pair_lists(inventory) == {}
    assert voc_lists.find_inner_sets(inventory) == {"x": "x/test.txt"}
