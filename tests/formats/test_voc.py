# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.formats import voc
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def xml(*labels: str, image: str = "", difficult: int = 0) -> str:
    """One annotation file; `difficult` marks all its objects."""
    name = f"  <filename>{escape(image)}</filename>\n" if image else ""
    things = "".join(
        f"  <object>\n    <name>{escape(label)}</name>\n"
        f"    <part><name>head</name></part>\n    <difficult>{difficult}</difficult>\n  </object>\n"
        for label in labels
    )
    return f"<annotation>\n{name}{things}</annotation>\n"


def pascal(**more: str) -> dict[str, str]:
    """Three annotation files and the two lists of Pascal VOC."""
    return {
        "Annotations/1.xml": xml("dog", "person", "dog", image="1.jpg"),
        "Annotations/2.xml": xml("cat", image="2.jpg"),
        "Annotations/3.xml": xml(image="3.jpg"),
        "ImageSets/Main/train.txt": "1\n3\n",
        "ImageSets/Main/val.txt": "2\r\n",
        **more,
    }


IMAGES = [f"JPEGImages/{i}.jpg" for i in (1, 2, 3)]


def test_pascal_folders_give_both_lists(plant: Plant, labels: Any) -> None:
    done: list[tuple[int, int]] = []
    root = plant(pascal(), *IMAGES)
    dataset = voc.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["cat", "dog", "person"]
    assert labels(dataset) == {
        "train": {"JPEGImages/1.jpg": ["dog", "person"], "JPEGImages/3.jpg": []},
        "val": {"JPEGImages/2.jpg": ["cat"]},
    }
    assert (dataset.retire, dataset.notes) == ([], [])
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_the_folders_of_roboflow_give_both_lists_and_leave_test_alone(
    plant: Plant, labels: Any
) -> None:
    files = {"train/a.xml": xml("cat"), "valid/b.xml": xml("dog"), "test/c.xml": xml("cow")}
    dataset = voc.read(plant(files, "train/a.jpg", "valid/b.jpg", "test/c.jpg"), Options())
    assert labels(dataset) == {"train": {"train/a.jpg": ["cat"]}, "val": {"valid/b.jpg": ["dog"]}}
    assert dataset.label_names == ["cat", "dog"]
    assert [note[:22] for note in dataset.notes] == ["test/ is not used: tes"]


@pytest.mark.parametrize("folder", ["", "images/", "JPEGImages/", "annotations/"])
def test_files_without_lists_make_one_list(plant: Plant, labels: Any, folder: str) -> None:
    image_folder = "images/" if folder == "annotations/" else folder
    root = plant({f"{folder}a.xml": xml("cat"), f"{folder}b.XML": xml()}, image_folder + "a.jpg")
    (root / f"{image_folder}b.JPG").touch()
    dataset = voc.read(root, Options())
    assert labels(dataset) == {
        "train": {image_folder + "a.jpg": ["cat"], image_folder + "b.JPG": []}
    }


def test_trainval_and_test_stand_in_for_missing_lists(plant: Plant, labels: Any) -> None:
    files = pascal(**{"ImageSets/Main/trainval.txt": "1\n", "ImageSets/Main/test.txt": "2\n3\n"})
    del files["ImageSets/Main/val.txt"]
    dataset = voc.read(plant(files, *IMAGES), Options())
    assert [list(images) for images in labels(dataset).values()] == [[IMAGES[0]], IMAGES[1:]]
    assert dataset.notes == [
        "ImageSets/Main/trainval.txt is for training and ImageSets/Main/test.txt for validation: "
        "there is no division into train.txt and val.txt"
    ]


def test_test_is_left_alone_where_train_and_val_are_there(plant: Plant, labels: Any) -> None:
    files = pascal(**{"ImageSets/Main/test.txt": "3\n", "ImageSets/Main/train.txt": "1\n"})
    dataset = voc.read(plant(files, *IMAGES), Options())
    assert [list(images) for images in labels(dataset).values()] == [[IMAGES[0]], [IMAGES[1]]]
    assert dataset.notes == [
        "ImageSets/Main/test.txt is not used: test images are neither for training nor for "
        "validation"
    ]


@pytest.mark.parametrize(("name", "left_out"), [("train", 1), ("trainval", 1), ("val", 0)])
def test_one_list_alone_is_the_list_to_divide(
    plant: Plant, labels: Any, name: str, left_out: int
) -> None:
    files = pascal(**{f"ImageSets/Main/{name}.txt": "1\n3\n"})
    for other in {"train", "val"} - {name}:
        del files[f"ImageSets/Main/{other}.txt"]
    dataset = voc.read(plant(files, *IMAGES), Options())
    assert list(labels(dataset)) == ["train"]
    assert len(dataset.lists["train"]) == 3 - left_out  # val.txt alone divides nothing: all images
    note = "1 XML files are in no list of ImageSets/Main, left out: Annotations/2.xml"
    assert dataset.notes == [note] * left_out


def test_images_of_test_are_not_read_where_it_is_the_only_list(plant: Plant, labels: Any) -> None:
    files = pascal(**{"ImageSets/Main/test.txt": "3\n4\n"})
    del files["ImageSets/Main/train.txt"], files["ImageSets/Main/val.txt"]
    dataset = voc.read(plant(files, *IMAGES), Options())
    assert list(labels(dataset)["train"]) == IMAGES[:2]


def test_difficult_objects_count_and_are_told(plant: Plant, labels: Any) -> None:
    files = {"a.xml": xml("cat", difficult=1), "b.xml": xml("dog"), "c.xml": xml()}
    dataset = voc.read(plant(files, "a.jpg", "b.jpg", "c.jpg"), Options())
    assert labels(dataset)["train"]["a.jpg"] == ["cat"]
    assert dataset.notes == [
        "1 images have only difficult objects, which count as all others: a.xml"
    ]


def test_the_image_is_the_named_one_or_the_one_called_like_the_file(
    plant: Plant, labels: Any
) -> None:
    files = {
        "Annotations/a.xml": xml("named", image="other 猫.png"),
        "Annotations/b.xml": xml("stem", image="gone.jpg"),
        "Annotations/c.xml": xml("windows", image=r"deep\c.jpg"),
        "Annotations/d.xml": xml("no name"),
    }
    images = ["images/other 猫.png", "JPEGImages/b.PNG", "images/deep/c.jpg", "Annotations/d.webp"]
    dataset = voc.read(plant(files, *images), Options())
    assert labels(dataset)["train"] == dict(
        zip(images, [["named"], ["stem"], ["windows"], ["no name"]], strict=True)
    )


def test_names_lose_the_spaces_around_them(plant: Plant, labels: Any) -> None:
    dataset = voc.read(plant({"a.xml": xml(" traffic light\n", "红 & <b>")}, "a.jpg"), Options())
    assert dataset.label_names == ["traffic light", "红 & <b>"]


def test_the_order_of_classes_is_that_of_the_class_file(plant: Plant) -> None:
    root = plant({"a.xml": xml("cat", "dog"), "classes.txt": "zebra\ndog\ncat\n"}, "a.jpg")
    assert voc.read(root, Options()).label_names == ["zebra", "dog", "cat"]


def test_a_byte_order_mark_and_the_encoding_written_down_do_not_matter(plant: Plant) -> None:
    text = '\ufeff<?xml version="1.0" encoding="gb2312"?>\r\n' + xml("猫").replace("\n", "\r\n")
    assert voc.read(plant({"a.xml": text}, "a.jpg"), Options()).label_names == ["猫"]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        (xml("cat").replace("</part>", "</prt>", 1), "damaged: mismatched tag", "1.xml:4"),
        ("", "the XML is damaged: no element found", "1.xml:1"),
        (xml("cat").encode("utf-16"), "UTF-16, not UTF-8", "1.xml"),
        (xml("cat", "照片").encode("gbk"), "the line is not UTF-8 text", "1.xml:8"),
        (xml("cat", " "), "the class name '' is empty", "1.xml"),
        (xml("cat", "a\nb"), r"the class name 'a\nb' has a line end", "1.xml"),
        ("<svg/>", "begins with <svg>, not <annotation>", "1.xml"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + xml("cat"), "the file has a DOCTYPE", "1.xml:1"),
        (xml("cat", image="gone.jpg"), "gone.jpg is not there (looked in Annotations/", "1.xml"),
        (xml("cat", image="../../x.jpg"), "x.jpg lies outside the data set", "1.xml"),
    ],
)
def test_a_wrong_file_is_named(
    plant: Plant, refusal: Any, text: str | bytes, what: str, where: str
) -> None:
    root = plant(pascal(), *IMAGES[1:])
    (root / "Annotations/1.xml").write_bytes(text.encode() if isinstance(text, str) else text)
    message = refusal(voc.read, root)
    assert what in message
    assert f"where: {root / 'Annotations' / where}\n" in message


def test_a_file_that_declares_entities_is_refused_unread(plant: Plant) -> None:
    bomb = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 20}">' for i in range(9))
    text = f'<!DOCTYPE a [<!ENTITY e0 "lol">{bomb}]><annotation>&e9;</annotation>'
    root = plant({"a.xml": text})
    fault = voc.read_annotation(root / "a.xml")
    assert isinstance(fault, DatasetFault)
    assert (fault.kind, fault.where) == ("not a VOC file", "a.xml:1")


def test_a_line_without_an_annotation_file_is_named(plant: Plant, refusal: Any) -> None:
    root = plant(pascal(**{"ImageSets/Main/train.txt": "1\n\n7\n"}), *IMAGES)
    message = refusal(voc.read, root)
    assert "7.xml is not there" in message
    assert "ImageSets/Main/train.txt:3" in message


def test_missing_images_are_left_out_when_asked(plant: Plant, labels: Any) -> None:
    dataset = voc.read(plant(pascal(), *IMAGES[1:]), Options(skip_missing=True))
    assert labels(dataset)["train"] == {"JPEGImages/3.jpg": []}
    assert dataset.notes == ["1 images are not there, left out: 1.jpg"]


def test_the_folder_above_the_source_is_refused_with_the_right_one(
    plant: Plant, refusal: Any
) -> None:
    root = plant({"VOC2007/Annotations/1.xml": xml()}, "VOC2007/JPEGImages/1.jpg")
    assert f"-o Global.dataset_dir={root / 'VOC2007'} " in refusal(voc.read, root)
    assert "for instance VOC2007" in refusal(voc.read, root / "VOC2007" / "JPEGImages")
    assert "the folder cannot be read: No such file" in refusal(voc.read, root / "none")


def test_two_folders_for_one_list_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"train/a.xml": xml(), "val/b.xml": xml(), "Valid/c.xml": xml()})
    assert "both Valid and val are there for val" in refusal(voc.read, root)


def test_one_file_can_be_read_alone(plant: Plant) -> None:
    root = plant(pascal())
    annotation = voc.read_annotation(root / "Annotations/1.xml")
    assert annotation == voc.VocAnnotation("1.jpg", ["dog", "person", "dog"], False)
