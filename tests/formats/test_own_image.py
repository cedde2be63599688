# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from paddlex_ml.formats.collector import Collector, Options
from paddlex_ml.formats.own_image import OwnImages

Plant = Callable[..., Path]
Wanted = Literal["stem", "field"] | None


def choose(
    root: Path, fields: dict[str, str], wanted: Wanted = None
) -> tuple[list[str | None], list[str]]:
    """The images of files as the collector finds them, and the faults."""
    collector = Collector(root, Options(image_from=wanted))
    found = OwnImages(collector).choose(fields)
    paths = [collector.add("train", *found[path], [], path) for path in fields if path in found]
    return paths, [fault.text for fault in collector.faults]


@pytest.mark.parametrize(
    ("file", "image"),
    [
        ("a.xml", "a.png"),
        ("Annotations/a.xml", "JPEGImages/a.png"),
        ("annotations/s/a.xml", "jpegimages/s/a.png"),
        ("train/annotations/a.xml", "train/images/a.png"),
        ("annotations/train/a.xml", "images/train/a.png"),
        ("train/a.xml", "images/train/a.png"),
        ("train/xml/a.xml", "train/a.png"),
        ("a.png.xml", "images/a.png"),
        ("xml/a.xml", "photos/2024/A.PNG"),
    ],
)
@pytest.mark.parametrize("name", ["", "gone.jpg", "a.png", r"C:\me\a.png", "a", "a.jpg"])
def test_the_image_of_the_same_name_is_found(
    plant: Plant, file: str, image: str, name: str
) -> None:
    assert choose(plant({}, image, "other/b.png"), {file: name}) == ([image], [])


def test_images_of_one_name_are_told_apart_by_their_folders(plant: Plant) -> None:
    images = ["train/images/a.jpg", "val/images/a.jpg", "test/images/a.jpg"]
    fields = {f"{name}/labels/a.xml": "a.jpg" for name in ("train", "val")}
    assert choose(plant({}, *images), fields) == (images[:2], [])


@pytest.mark.parametrize(
    ("wanted", "images"), [("stem", ["a.jpg", "b.jpg"]), ("field", ["b.jpg", "a.jpg"])]
)
def test_an_image_of_another_name_is_a_fault_until_one_is_chosen(
    plant: Plant, wanted: Wanted, images: list[str]
) -> None:
    root = plant({}, "a.jpg", "b.jpg")
    fields = {"a.xml": "B.JPG", "b.xml": r"D:\x\a.png"}
    assert choose(root, fields)[1] == [
        "by its own name the file belongs to a.jpg, but it names B.JPG (b.jpg)",
        r"by its own name the file belongs to b.jpg, but it names D:\x\a.png (a.jpg)",
    ]
    assert choose(root, fields, wanted) == (images, [])


def test_the_named_image_counts_where_no_other_is_there(plant: Plant) -> None:
    root = plant({}, "b.jpg", "c.jpg")
    assert choose(root, {"a.xml": "b.jpg"}) == (["b.jpg"], [])
    assert choose(root, {"a.xml": "b.jpg", "c.xml": "c.jpg"}, "stem")[0] == ["b.jpg", "c.jpg"]


def test_an_image_with_a_file_of_its_own_is_not_that_of_another(plant: Plant) -> None:
    root = plant({}, "b.jpg")
    fields = {"a.xml": "b.jpg", "b.xml": ""}
    assert choose(root, fields)[1] == [
        "2 files belong to b.jpg: a.xml (its own name: no image), b.xml (its own name: b.jpg)"
    ]
    paths, faults = choose(root, fields, "stem")
    assert (paths, faults[0][:14]) == ([None, "b.jpg"], "a is not there")
    assert choose(root, fields, "field") == (["b.jpg", "b.jpg"], [])


def test_two_images_of_the_same_name_need_the_named_one(plant: Plant) -> None:
    root = plant({}, "a.jpg", "a.png", "b.jpg")
    assert choose(root, {"a.xml": "a.png"}) == (["a.png"], [])
    assert choose(root, {"a.xml": ""})[1] == ["the file may belong to a.jpg or a.png"]
    assert "may belong" in choose(root, {"a.xml": "b.jpg"}, "stem")[1][0]
    assert "but it names b.jpg" in choose(root, {"a.xml": "b.jpg"})[1][0]


def test_a_name_that_may_be_one_of_several_others_is_in_doubt(plant: Plant) -> None:
    root = plant({}, "a.jpg", "s/b.jpg", "t/b.jpg")
    text = "by its own name the file belongs to a.jpg, but it names b.jpg (b.jpg may be s/b.jpg"
    assert choose(root, {"a.xml": "b.jpg"})[1][0].startswith(text)
    assert choose(root, {"a.xml": "b.jpg"}, "stem") == (["a.jpg"], [])
