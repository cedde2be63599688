# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import cvat, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def export(*images: str, names: str = "cat dog", kind: str = "task") -> str:
    """A file of CVAT for images 1.1; `images` are its elements."""
    labels = "".join(
        f"<label><name>{name.replace('_', ' ')}</name><color>#c06060</color><type>any</type>"
        "<attributes></attributes></label>"
        for name in names.split()
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n'
        "  <version>1.1</version>\n  <meta>\n"
        f"    <{kind}><id>7</id><name>first</name><size>2</size><mode>annotation</mode>"
        "<overlap>0</overlap><bugtracker></bugtracker><created>2024-01-01</created>"
        f"<labels>{labels}</labels><owner><username>me</username></owner></{kind}>\n"
        "    <dumped>2024-01-02 10:00:00.0+00:00</dumped>\n  </meta>\n"
        f"{''.join(images)}</annotations>\n"
    )


def image(name: str, *shapes: str, subset: str = "") -> str:
    """An image with tags ("cat"), or with whole elements ("<box .../>")."""
    inner = "".join(
        s if s.startswith("<") else f'<tag label="{s}" source="manual"/>' for s in shapes
    )
    more = f' subset="{subset}" task_id="3"' if subset else ""
    return f'  <image id="0" name="{name}"{more} width="80" height="64">\n{inner}</image>\n'


def shape(kind: str, label: str, inner: str = "") -> str:
    return f'<{kind} label="{label}" source="manual" occluded="0" z_order="0">{inner}</{kind}>'


def test_tags_and_all_shapes_are_labels(plant: Plant, labels: Any) -> None:
    points = '<points label="left eye" outside="0" points="1.0,2.0"></points>'
    text = export(
        image("a.jpg", "cat", shape("box", " dog "), shape("polygon", "dog")),
        image("b.jpg", shape("mask", "cat"), shape("ellipse", "red car"), shape("polyline", "cat")),
        image("c.jpg", shape("skeleton", "face", points), shape("cuboid", "dog")),
        image("d.jpg"),
        names="dog cat face",
    )
    done: list[tuple[int, int]] = []
    root = plant({"annotations.xml": text}, *(f"images/{stem}.jpg" for stem in "abcd"))
    dataset = cvat.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["dog", "cat", "face", "red car"]
    assert labels(dataset) == {
        "train": {
            "images/a.jpg": ["dog", "cat"],
            "images/b.jpg": ["cat", "red car"],
            "images/c.jpg": ["dog", "face"],
            "images/d.jpg": [],
        }
    }
    assert dataset.account.records == {"annotations.xml": 8}
    assert (dataset.notes, done) == ([], [(1, 1)])


def test_parts_of_skeletons_and_attributes_are_no_classes(plant: Plant) -> None:
    part = "<label><name>left eye</name><type>points</type><parent>face</parent></label>"
    text = export(image("a.jpg", shape("box", "cat", '<attribute name="colour">red</attribute>')))
    text = text.replace("</labels>", f"{part}</labels>")
    dataset = cvat.read(plant({"annotations.xml": text}, "a.jpg"), Options())
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.notes == ["1 attribute is no label: colour"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("images/a.jpg", "a.jpg"),
        ("images/default/s/a.jpg", "s/a.jpg"),
        ("images/default/a.jpg", "a.jpg"),
        ("images/Train/a.jpg", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("photos/a.jpg", "a.jpg"),
        ("images/s/a.jpg", r"s\a.jpg"),
    ],
)
def test_the_image_lies_where_cvat_writes_it(
    plant: Plant, labels: Any, path: str, name: str
) -> None:
    root = plant({"annotations.xml": export(image(name, "cat", subset="Train"))}, path)
    assert labels(cvat.read(root, Options())) == {"train": {path: ["cat"]}}


def test_elements_without_end_are_refused(
    plant: Plant, refusal: Any, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cvat, "_MOST_ELEMENTS", 40)
    boxes = [shape("box", "cat") for _ in range(50)]
    root = plant({"annotations.xml": export(image("a.jpg", *boxes))}, "images/a.jpg")
    assert "has more than 40 elements" in refusal(cvat.read, root)
    several = [image(f"{number}.jpg", *boxes[:9]) for number in range(9)]
    root = plant({"annotations.xml": export(*several)}, *(f"images/{i}.jpg" for i in range(9)))
    assert len(labels(cvat.read(root, Options()))["train"]) == 9


def test_the_subset_of_an_image_divides(plant: Plant, labels: Any) -> None:
    images = [
        image("a.jpg", "cat", subset="Train"),
        image("a.jpg", "dog", subset="Validation"),
        image("b.jpg", "dog", subset="Test"),
    ]
    paths = ["images/Train/a.jpg", "images/Validation/a.jpg", "images/Test/b.jpg"]
    root = plant({"annotations.xml": export(*images, kind="project")}, *paths)
    dataset = cvat.read(root, Options())
    assert labels(dataset) == {"train": {paths[0]: ["cat"]}, "val": {paths[1]: ["dog"]}}
    assert dataset.notes == ["not used: 1 image of the subset test: b.jpg"]
    assert dataset.account.left_out == {paths[2]: "of the test subset"}


def test_the_names_of_files_and_folders_divide(plant: Plant, labels: Any) -> None:
    files = {"train.xml": export(image("a.jpg", "cat")), "Val.xml": export(image("b.jpg", "dog"))}
    expected = {"train": {"images/a.jpg": ["cat"]}, "val": {"images/b.jpg": ["dog"]}}
    root = plant(files, "images/a.jpg", "images/b.jpg")
    assert labels(cvat.read(root, Options())) == expected
    assert labels(registry.read(root, "VOC", Options())) == expected


def test_an_image_of_neither_subset_is_refused(plant: Plant, refusal: Any) -> None:
    subsets = {"a": "Train", "b": "Validation", "c": "extra", "d": ""}
    images = [image(f"{stem}.jpg", "cat", subset=subset) for stem, subset in subsets.items()]
    root = plant({"annotations.xml": export(*images)}, *(f"images/{s}.jpg" for s in subsets))
    message = refusal(cvat.read, root)
    assert "2 images are neither of train nor of validation (subset: extra, none)" in message


def test_several_jobs_are_one_set(plant: Plant, labels: Any) -> None:
    files = {
        "job 1/annotations.xml": export(image("a.jpg", "cat"), image("b.jpg"), kind="job"),
        "job 2/annotations.xml": export(image("b.jpg", "dog"), names="dog owl", kind="job"),
        "job 3/annotations.xml": export(image("a.jpg", "owl"), names="owl", kind="job"),
    }
    root = plant(files, "images/a.jpg", "images/b.jpg", "job 3/images/a.jpg")
    dataset = cvat.read(root, Options())
    assert dataset.label_names == ["cat", "dog", "owl"]
    assert labels(dataset)["train"] == {
        "images/a.jpg": ["cat"],
        "images/b.jpg": ["dog"],
        "job 3/images/a.jpg": ["owl"],
    }
    assert dataset.notes == ["1 image is named more than once: their labels were merged"]


def test_images_that_were_deleted_are_told(plant: Plant) -> None:
    root = plant({"annotations.xml": export(image("a.jpg", "cat"))}, "images/a.jpg", "images/b.jpg")
    dataset = cvat.read(root, Options())
    assert dataset.account.left_out == {"images/b.jpg": "no annotation names it"}


TRACK = '<track id="0" label="cat"><box frame="0" outside="0"></box></track>'


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        (export(TRACK), "CVAT for video: its 1 tracks name frames, no images", ""),
        (export()[:-20], "the XML is damaged: ", ":7"),
        ("<svg/>", "it begins with <svg>, not <annotations>", ""),
        ("<annotation><object/></annotation>", "convert.src_dataset_type=VOC", ""),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + "<annotations/>", "the file has a DOCTYPE", ""),
        (export(image("b.jpg", " ")), "the class name '' is empty", ""),
        (export(image("gone.jpg", "cat")), "gone.jpg is not there", ""),
    ],
)
def test_a_wrong_file_is_named(
    plant: Plant, refusal: Any, text: str, what: str, where: str
) -> None:
    root = plant({"b.xml": text, "a.xml": export(image("a.jpg", "cat"))}, "a.jpg", "b.jpg")
    message = refusal(cvat.read, root)
    assert what in message
    assert f"where: {root / 'b.xml'}{where}\n" in message


def test_a_video_tells_the_right_export(plant: Plant, refusal: Any) -> None:
    root = plant({"annotations.xml": export(TRACK)}, "images/a.jpg")
    assert cvat.recognise(Inventory(root)) == "annotations.xml"
    assert 'export the task as "CVAT for images 1.1"' in refusal(cvat.read, root)


def test_a_folder_without_files_is_refused(plant: Plant, refusal: Any) -> None:
    assert "there is no .xml file" in refusal(cvat.read, plant({}, "a.jpg"))


def test_the_format_is_known_by_its_content(plant: Plant) -> None:
    root = plant({"x/any.xml": export()})
    assert cvat.recognise(Inventory(root)) == "x/any.xml"
    (root / "a.xml").write_text("<annotation><filename>a.jpg</filename></annotation>")
    assert cvat.recognise(Inventory(root)) == ""
    (root / "a.xml").unlink()
    (root / "x/any.xml").write_text("<annotations>none</annotations>")
    assert cvat.recognise(Inventory(root)) == ""
