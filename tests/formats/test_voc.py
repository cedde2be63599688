# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.inventory import Inventory
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
    assert dataset.notes == ["1 file in test/ is not used: test/c.xml"]
    reason = "of the test subset"
    assert dataset.account.left_out == {"test/c.xml": reason, "test/c.jpg": reason}


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


@pytest.mark.parametrize(
    ("uncertain", "value", "word"),
    [
        (None, -1, "unknown"),
        ("unknown", -1, "unknown"),
        ("positive", 1, "present"),
        ("negative", 0, "absent"),
    ],
)
def test_a_class_with_difficult_objects_alone_is_unknown(
    plant: Plant, uncertain: Any, value: int, word: str
) -> None:
    both = xml("dog").replace("</annotation>", "") + xml("dog", "cat", difficult=1)[13:]
    files = {"a.xml": xml("cat", difficult=1), "b.xml": both, "c.xml": xml("cat")}
    root = plant(files, "a.jpg", "b.jpg", "c.jpg")
    dataset = voc.read(root, Options(uncertain=uncertain))
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.lists["train"].targets.tolist() == [[value, 0], [value, 1], [1, 0]]
    [note] = dataset.notes
    assert note.startswith(f"2 labels have difficult objects alone, and are {word}: cat (2)")
    assert ("convert.uncertain" in note) == (uncertain is None)
    assert dataset.account.unknown == 2 * (value == -1)


def test_an_option_that_finds_nothing_difficult_is_told(plant: Plant) -> None:
    dataset = voc.read(plant({"a.xml": xml("cat")}, "a.jpg"), Options(uncertain="positive"))
    assert dataset.notes == ["convert.uncertain has no effect: no class is only difficult"]


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
        (xml("cat", "été").encode("latin-1"), "neither UTF-8 nor GB18030", "1.xml:8"),
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
    files = pascal(**{"Annotations/3.xml": xml("owl", image="3.jpg")})
    dataset = voc.read(plant(files, *IMAGES[1:]), Options(skip_missing=True))
    assert labels(dataset)["train"] == {"JPEGImages/3.jpg": ["owl"]}
    assert dataset.notes == ["1 image is not there, left out: 1.jpg"]


def test_the_folder_above_the_lists_is_refused_with_the_right_one(
    plant: Plant, refusal: Any, labels: Any
) -> None:
    files = {f"VOC2007/{path}": text for path, text in pascal().items()}
    root = plant(files, *(f"VOC2007/{path}" for path in IMAGES))
    message = refusal(voc.read, root)
    assert "the lists are not in this folder, but in VOC2007/ImageSets" in message
    assert f"-o Global.dataset_dir={root / 'VOC2007'}\n" in message + "\n"
    assert list(labels(voc.read(root / "VOC2007", Options()))) == ["train", "val"]
    assert "for instance VOC2007" in refusal(voc.read, root / "VOC2007" / "JPEGImages")
    assert "the folder cannot be read: No such file" in refusal(voc.read, root / "none")


def test_two_folders_for_one_list_count_both(plant: Plant, labels: Any) -> None:
    files = {"train/a.xml": xml("x"), "val/b.xml": xml("x"), "Valid/c.xml": xml("x")}
    dataset = voc.read(plant(files, "train/a.jpg", "val/b.jpg", "Valid/c.jpg"), Options())
    assert sorted(labels(dataset)["val"]) == ["Valid/c.jpg", "val/b.jpg"]


def test_one_file_can_be_read_alone(plant: Plant) -> None:
    root = plant(pascal())
    annotation = voc.read_annotation(root / "Annotations/1.xml")
    assert annotation == voc.VocAnnotation("1.jpg", ["dog", "person", "dog"], frozenset())


def test_a_file_that_names_another_image_is_refused_and_the_option_helps(
    plant: Plant, refusal: Any, labels: Any
) -> None:
    files = {f"Annotations/a{i}.xml": xml(f"c{i}", image=f"a{(i + 1) % 3}.jpg") for i in range(3)}
    root = plant(files, *(f"JPEGImages/a{i}.jpg" for i in range(3)))
    message = refusal(voc.read, root)
    assert "image in doubt: 3" in message
    assert "own name the file belongs to JPEGImages/a0.jpg, but it names a1.jpg" in message
    assert "-o CheckDataset.convert.image_from=stem (" in message
    by_stem = labels(voc.read(root, Options(image_from="stem")))
    assert by_stem == {"train": {f"JPEGImages/a{i}.jpg": [f"c{i}"] for i in range(3)}}
    by_field = labels(voc.read(root, Options(image_from="field")))
    assert by_field["train"]["JPEGImages/a1.jpg"] == ["c0"]


def test_the_encoding_is_the_declared_one(plant: Plant, labels: Any) -> None:
    texts = {
        "a": xml("猫").encode("gbk"),  # its two bytes are a letter of UTF-8 as well
        "b": xml("红 车").encode("gb2312"),
        "c": xml("été").encode("latin-1"),
        "d": xml("Büro").encode("cp1252"),
    }
    names = {"a": "gbk", "b": "GB2312", "c": "ISO-8859-1", "d": "windows-1252"}
    files = {
        f"{key}.xml": f"<?xml version='1.0' encoding='{names[key]}'?>\n".encode() + text
        for key, text in texts.items()
    }
    files["e.xml"] = ('<?xml version="1.0" encoding="utf-16"?>' + xml("狗")).encode("utf-16")
    dataset = voc.read(plant(files, *(f"{key}.jpg" for key in "abcde")), Options())
    assert labels(dataset)["train"] == {
        "a.jpg": ["猫"],
        "b.jpg": ["红 车"],
        "c.jpg": ["été"],
        "d.jpg": ["Büro"],
        "e.jpg": ["狗"],
    }
    assert dataset.account.encodings["gbk"] == ["a.xml"]
    assert dataset.account.encodings["UTF-16"] == ["e.xml"]


def test_folders_between_are_the_same_for_images(plant: Plant, labels: Any) -> None:
    files = {
        "Annotations/s/a.xml": xml("cat", image="a.jpg"),
        "Annotations/t/a.xml": xml("dog", image="t/a.jpg"),
        "ImageSets/Main/train.txt": "s/a\n",
        "ImageSets/Main/val.txt": "t\\a.jpg 1\n",
    }
    dataset = voc.read(plant(files, "JPEGImages/s/a.jpg", "JPEGImages/t/a.jpg"), Options())
    assert labels(dataset) == {
        "train": {"JPEGImages/s/a.jpg": ["cat"]},
        "val": {"JPEGImages/t/a.jpg": ["dog"]},
    }


def test_images_without_a_file_are_told(plant: Plant) -> None:
    dataset = voc.read(plant({"a.xml": xml("cat")}, "a.jpg", "b.jpg"), Options())
    assert dataset.account.not_named == 1
    assert dataset.account.left_out == {"b.jpg": "no annotation names it"}


def test_masks_are_no_images(plant: Plant, labels: Any, refusal: Any) -> None:
    images = ["JPEGImages/a.jpg", "SegmentationClass/a.png", "SegmentationObject/a.png"]
    root = plant({"Annotations/a.xml": xml("cat", image="a.jpg")}, *images)
    dataset = voc.read(root, Options())
    assert labels(dataset)["train"] == {images[0]: ["cat"]}
    assert dataset.account.left_out == dict.fromkeys(images[1:], "a mask")
    (root / images[0]).unlink()
    assert "a.jpg is not there" in refusal(voc.read, root)


def test_an_export_of_masks_alone_is_refused_as_such(plant: Plant, refusal: Any) -> None:
    files = {"ImageSets/Segmentation/default.txt": "a\n", "labelmap.txt": "cat:250,1,1::\n"}
    root = plant(files, "JPEGImages/a.jpg", "SegmentationClass/a.png")
    assert "this is an export of masks: SegmentationClass/" in refusal(voc.read, root)
    assert voc.recognise(Inventory(root)) == "SegmentationClass"


def test_objects_marked_as_deleted_do_not_count(plant: Plant, labels: Any) -> None:
    text = "<annotation><filename>a.jpg</filename><object><name>cat</name><deleted>0</deleted>"
    text += "</object><object><name>dog</name><deleted>1</deleted></object></annotation>"
    dataset = voc.read(plant({"a.xml": text}, "a.jpg"), Options())
    assert labels(dataset)["train"] == {"a.jpg": ["cat"]}
    assert dataset.notes == ["1 object is marked as deleted and does not count: a.xml"]


def test_the_label_map_orders_the_classes(plant: Plant, refusal: Any) -> None:
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nowl:::\nred car:250,5,8::\n"
    root = plant({"a.xml": xml("red car"), "labelmap.txt": text}, "a.jpg")
    dataset = voc.read(root, Options())
    assert dataset.label_names == ["owl", "red car"]
    assert list(dataset.account.names_left_out) == ["background"]
    assert dataset.notes == ["the classes are those of labelmap.txt, in its order"]
    (root / "a.xml").write_text(xml("cow"))
    assert "the class 'cow' is used but not named" in refusal(voc.read, root)
    (root / "labelmap.txt").write_text(text + "cow\n")  # as the repair says
    assert voc.read(root, Options()).label_names[-1] == "cow"


def test_the_format_is_known_by_its_content(plant: Plant) -> None:
    root = plant({"x/a.xml": "<annotation verified='yes'></annotation>", "b.xml": "<svg/>"})
    assert voc.recognise(Inventory(root)) == "x/a.xml"
    (root / "x/a.xml").write_bytes(xml("cat").encode("utf-16"))
    assert voc.recognise(Inventory(root)) == "x/a.xml"
    (root / "x/a.xml").write_text("<annotations><image/></annotations>")
    assert voc.recognise(Inventory(root)) == ""


def test_a_file_of_cvat_is_refused_with_its_format(plant: Plant, refusal: Any) -> None:
    files = {"a.xml": xml("cat"), "annotations.xml": "<annotations><image/></annotations>"}
    message = refusal(voc.read, plant(files, "a.jpg"))
    assert "begins with <annotations>, not <annotation>" in message
    assert "-o CheckDataset.convert.src_dataset_type=CVAT" in message
