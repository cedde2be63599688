# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import openimages, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
HEADER = "ImageID,Source,LabelName,Confidence\n"
BOX_HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsGroupOf\n"
CLASSES = "/m/02,Zebra\n/m/01,Cat\n/m/03,Dog\n"
TRAIN = "train-annotations-human-imagelabels.csv"
VAL = "validation-annotations-human-imagelabels.csv"
FILES = {
    "class-descriptions.csv": CLASSES,
    TRAIN: HEADER
    + "a1,verification,/m/01,1\na1,verification,/m/02,0\na1,crowdsource-verification,/m/03,1\n"
    + "a2,verification,/m/02,1\n",
    VAL: HEADER + "b1,verification,/m/01,1\nb1,verification,/m/03,0\n",
}
IMAGES = ("train/a1.jpg", "train/a2.jpg", "validation/b1.jpg")


def test_verified_labels_are_read(plant: Plant, labels: Any) -> None:
    root = plant(FILES, *IMAGES)
    assert openimages.recognise(Inventory(root)) == f"{TRAIN}, which has ImageID and LabelName"
    dataset = openimages.read(root, Options())
    assert dataset.label_names == ["Zebra", "Cat", "Dog"]
    assert labels(dataset) == {
        "train": {"train/a1.jpg": ["Cat", "Dog"], "train/a2.jpg": ["Zebra"]},
        "val": {"validation/b1.jpg": ["Cat"]},
    }
    assert "2 labels are verified as absent (Confidence 0)" in dataset.notes
    # A class without a row is unknown.
    assert dataset.lists["train"].targets.tolist() == [[0, 1, 1], [1, -1, -1]]
    assert dataset.lists["val"].targets.tolist() == [[-1, 1, 0]]
    assert dataset.account.unknown == 3
    assert "a class without a row for an image is unknown" in dataset.notes[0]


def test_a_label_that_one_table_has_and_another_denies_is_told(plant: Plant) -> None:
    boxes = BOX_HEADER + "a1,xclick,/m/02,1.00,0.1,0.2,0.3,0.4,0,0\n"
    dataset = openimages.read(
        plant({**FILES, "train-annotations-bbox.csv": boxes}, *IMAGES), Options()
    )
    assert dataset.lists["train"].targets.tolist() == [[1, 1, 1], [1, -1, -1]]
    told = "1 label is present by one record of an image and absent by another: present counts"
    assert f"{told}: Zebra in train/a1.jpg" in dataset.notes
    assert "2 images are named more than once: their labels were merged" in dataset.notes


def test_a_class_without_a_row_may_count_as_absent(plant: Plant, refusal: Any) -> None:
    root = plant(FILES, *IMAGES)
    dataset = openimages.read(root, Options(uncertain="negative"))
    assert dataset.lists["train"].targets.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert dataset.account.unknown == 0
    message = refusal(openimages.read, root, uncertain="positive")
    assert "all classes that nobody looked for" in message


def test_positives_alone_say_that_the_rest_is_absent(plant: Plant) -> None:
    boxes = BOX_HEADER + "".join(
        f"{image},xclick,{key},1,0.1,0.2,0.3,0.4,0,0\n"
        for image, key in [("a1", "/m/01"), ("a2", "/m/02"), ("a1", "/m/03")]
    )
    files = {"train-annotations-bbox.csv": boxes, "class-descriptions.csv": CLASSES}
    dataset = openimages.read(plant(files, *IMAGES[:2]), Options())
    assert dataset.lists["train"].targets.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert "is absent: no table has a Confidence of 0" in dataset.notes[0]


@pytest.mark.parametrize("source", ["CSV", "auto", "OpenImages"])
def test_boxes_and_labels_are_united(plant: Plant, labels: Any, source: str) -> None:
    boxes = BOX_HEADER + "a1,xclick,/m/02,1,0.1,0.2,0.3,0.4,0,0\n"
    root = plant({**FILES, "train-annotations-bbox.csv": boxes}, *IMAGES)
    dataset = registry.read(root, source, Options())
    assert labels(dataset)["train"]["train/a1.jpg"] == ["Zebra", "Cat", "Dog"]


def test_the_layout_of_fiftyone_is_read(plant: Plant, labels: Any) -> None:
    files = {
        "train/labels/classifications.csv": HEADER + "a,verification,/m/01,1\n",
        "train/metadata/classes.csv": CLASSES,
        "validation/labels/classifications.csv": HEADER + "a,verification,/m/03,1\n",
        "validation/metadata/classes.csv": CLASSES,
        "validation/metadata/image_ids.csv": "ImageID,Subset,OriginalURL\na,validation,\n",
    }
    dataset = openimages.read(plant(files, "train/data/a.jpg", "validation/data/a.jpg"), Options())
    assert labels(dataset) == {
        "train": {"train/data/a.jpg": ["Cat"]},
        "val": {"validation/data/a.jpg": ["Dog"]},
    }


def test_images_without_labels_are_images_of_their_subset(plant: Plant, labels: Any) -> None:
    table = "ImageID,Subset,OriginalURL\na1,train,\na3,train,\nb2,validation,\ngone,train,\n"
    root = plant({**FILES, "images.csv": table}, *IMAGES, "train/a3.jpg", "validation/b2.jpg")
    dataset = openimages.read(root, Options())
    assert labels(dataset)["train"]["train/a3.jpg"] == []
    assert labels(dataset)["val"]["validation/b2.jpg"] == []
    assert dataset.lists["val"].targets[1].tolist() == [-1, -1, -1]
    assert list(dataset.account.not_annotated) == ["train/a3.jpg", "validation/b2.jpg"]
    assert "1 image of the tables of images: not there, and without labels" in dataset.notes


def test_a_table_of_images_divides_one_table_of_labels(plant: Plant, labels: Any) -> None:
    files = {
        "labels.csv": HEADER + "x,verification,Cat,1\ny,verification,Cat,1\nz,verification,Cat,1\n",
        "images.csv": "ImageID,Subset\nx,train\ny,validation\nz,test\n",
    }
    dataset = openimages.read(plant(files, "x.jpg", "y.jpg", "z.jpg"), Options())
    assert labels(dataset) == {"train": {"x.jpg": ["Cat"]}, "val": {"y.jpg": ["Cat"]}}
    assert dataset.account.dropped == {"of the test subset": 1}
    assert "1 class has no name in a table of class descriptions" in dataset.notes[1]


def test_labels_of_machines_and_of_test_are_not_used(plant: Plant) -> None:
    machine = "train-annotations-machine-imagelabels.csv"
    files = {
        machine: HEADER + "a1,machine,/m/03,0.8\n",
        "test-annotations-human-imagelabels.csv": HEADER + "t,verification,/m/03,1\n",
        "v7-train.csv": HEADER + "a2,machine,/m/01,0.5\na2,verification,/m/01,1\n",
    }
    dataset = openimages.read(plant({**FILES, **files}, *IMAGES, "test/t.jpg"), Options())
    left_out = dataset.account.left_out
    assert left_out[machine] == "labels of a machine, which nobody verified"
    assert left_out["test-annotations-human-imagelabels.csv"] == "of the test subset"
    assert left_out["test/t.jpg"] == "of the test subset"
    assert dataset.account.dropped == {"labels of a machine, which nobody verified": 1}


def test_names_of_two_classes_and_headers_of_class_tables(plant: Plant) -> None:
    classes = "LabelName,DisplayName\n/m/01,Cat\n/m/02,Cat\n/m/03,Dog\n"
    dataset = openimages.read(
        plant({**FILES, "class-descriptions.csv": classes}, *IMAGES), Options()
    )
    assert dataset.label_names == ["Cat (/m/01)", "Cat (/m/02)", "Dog"]


def test_of_many_classes_the_list_has_what_is_known(plant: Plant) -> None:
    rows = "".join(f"a1,verification,c{i:04},1\n" for i in range(1200))
    rows += "a2,verification,c0007,0\na2,verification,c0003,1\n"
    dataset = openimages.read(plant({"train.csv": HEADER + rows}, "a1.jpg", "a2.jpg"), Options())
    images = dataset.lists["train"]
    lines = annotation.list_text(images.paths, images.values)
    assert lines.splitlines()[1] == "a2.jpg\t@3!7"
    assert dataset.account.unknown == 1198


def test_a_class_that_is_only_absent_is_none(plant: Plant) -> None:
    files = {"train.csv": HEADER + "a1,verification,Cat,1\na1,verification,Dog,0\n"}
    dataset = openimages.read(plant(files, "a1.jpg"), Options())
    assert dataset.label_names == ["Cat"]
    assert dataset.account.names_left_out == {"Dog": "only verified as absent (Confidence 0)"}


def test_a_part_of_the_images_may_be_there(plant: Plant, refusal: Any, labels: Any) -> None:
    root = plant(FILES, *IMAGES[1:])
    assert "-o CheckDataset.convert.skip_missing=true" in refusal(openimages.read, root)
    dataset = openimages.read(root, Options(skip_missing=True))
    assert labels(dataset)["train"] == {"train/a2.jpg": ["Zebra"]}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"x.csv": HEADER + "a1,verification,Cat,0.7\n"}, "x.csv:2"),
        ({"test.csv": HEADER + "a1,verification,Cat,1\n"}, "there is no table with ImageID and"),
        ({"x.csv": HEADER + "a1,verification,Cat\n"}, "the row has 3 cells"),
    ],
)
def test_what_cannot_be_used_is_refused(
    plant: Plant, refusal: Any, files: dict[str, str], what: str
) -> None:
    assert what in refusal(openimages.read, plant(files, "a1.jpg"))
