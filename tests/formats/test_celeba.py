# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import celeba, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
TEXT = """3
Bald Smiling Wearing_Hat
000001.jpg -1  1 -1
000002.jpg  1 -1  1
000003.jpg -1 -1 -1
"""
CSV = """image_id,Bald,Smiling,Wearing_Hat
000001.jpg,-1,1,-1
000002.jpg,1,-1,1
000003.jpg,-1,-1,-1
"""
PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
IMAGES = [f"00000{i}.jpg" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("files", "folder"),
    [
        ({"list_attr_celeba.txt": TEXT, "list_eval_partition.txt": PARTITION}, "img_align_celeba"),
        (
            {"Anno/list_attr_celeba.txt": TEXT, "Eval/list_eval_partition.txt": PARTITION},
            "Img/img_align_celeba",
        ),
        (
            {
                "list_attr_celeba.csv": CSV,
                "list_eval_partition.csv": "image_id,partition\n" + PARTITION.replace(" ", ","),
            },
            "img_align_celeba/img_align_celeba",
        ),
    ],
)
def test_attributes_are_read_and_divided(
    plant: Plant, labels: Any, files: dict[str, str], folder: str
) -> None:
    root = plant(files, *(f"{folder}/{name}" for name in IMAGES))
    name = next(iter(files))
    assert celeba.recognise(Inventory(root)) == f"{name}, a table of attributes with 1 and -1"
    dataset = registry.read(root, "auto", Options())
    assert dataset.label_names == ["Bald", "Smiling", "Wearing_Hat"]
    assert labels(dataset) == {
        "train": {f"{folder}/000001.jpg": ["Smiling"]},
        "val": {f"{folder}/000002.jpg": ["Bald", "Wearing_Hat"]},
    }
    assert dataset.account.dropped == {"of the test subset": 1}
    assert dataset.account.left_out[f"{folder}/000003.jpg"] == "of the test subset"


def test_without_a_partition_there_is_one_list(plant: Plant, labels: Any) -> None:
    others = {
        "list_bbox_celeba.txt": "3\nimage_id x_1 y_1 width height\n000001.jpg 95 71 226 313\n",
        "identity_CelebA.txt": "000001.jpg 2880\n",
    }
    root = plant({"list_attr_celeba.txt": TEXT, **others}, *IMAGES)
    dataset = celeba.read(root, Options())
    assert [len(rows) for rows in labels(dataset).values()] == [3]
    why = "boxes, landmarks or identities, which are no labels"
    assert [dataset.account.left_out[name] for name in others] == [why, why]


def test_celeba_hq_is_written_like_it(plant: Plant, labels: Any) -> None:
    text = "2\nBald Smiling\n0.jpg  -1 1\n1.jpg  1 -1\n"
    files = {"CelebAMask-HQ-attribute-anno.txt": text}
    dataset = registry.read(
        plant(files, "CelebA-HQ-img/0.jpg", "CelebA-HQ-img/1.jpg"), "auto", Options()
    )
    assert labels(dataset)["train"]["CelebA-HQ-img/1.jpg"] == ["Bald"]


@pytest.mark.parametrize(
    ("files", "what", "where"),
    [
        ({"list_attr_celeba.txt": TEXT.replace("3\n", "9\n", 1)}, "says 9 images", ".txt:1"),
        ({"list_attr_celeba.txt": TEXT.replace("3\n", "9" * 5000 + "\n", 1)}, "says 999", ".txt:1"),
        (
            {"list_attr_celeba.txt": TEXT + "000004.jpg 1 1\n"},
            "for each attribute after the image: 3",
            ".txt:6",
        ),
        (
            {"list_attr_celeba.txt": TEXT + "000004.jpg 1 1 5\n"},
            "for each attribute after the image: 3",
            ".txt:6",
        ),
        ({"list_eval_partition.txt": PARTITION[:26]}, "000003.jpg is in no subset", ".txt:5"),
        ({"list_eval_partition.txt": PARTITION + "000001.jpg 1\n"}, "in another subset", ".txt:4"),
        ({"list_eval_partition.txt": PARTITION + "000001.jpg\n"}, "not an image and 0", ".txt:4"),
        ({"list_attr_celeba.txt": TEXT.replace("Bald", "Smiling")}, "is there twice", ".txt:2"),
        ({"list_attr_celeba.txt": "x\n"}, "there is no table of attributes", "set"),
    ],
)
def test_damage_is_refused(
    plant: Plant, refusal: Any, files: dict[str, str], what: str, where: str
) -> None:
    message = refusal(celeba.read, plant({"list_attr_celeba.txt": TEXT, **files}, *IMAGES))
    assert what in message
    assert where in message


def test_other_tables_of_1_and_minus_1_are_not_claimed(plant: Plant) -> None:
    root = plant({"tags.csv": CSV, "list.txt": TEXT}, *IMAGES)
    assert celeba.recognise(Inventory(root)) == ""
