# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import image_folder, same_files
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def test_folders_of_train_and_val_give_both_lists(plant: Plant, labels: Any) -> None:
    files = {"train/cat/1.jpg": "1", "train/dog/a b/2.JPG": "2", "valid/cat/3.png": "3"}
    done: list[tuple[int, int]] = []
    root = plant({**files, "test/cat/4.jpg": "4"})
    dataset = image_folder.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["cat", "dog"]
    assert labels(dataset) == {
        "train": {"train/cat/1.jpg": ["cat"], "train/dog/a b/2.JPG": ["dog"]},
        "val": {"valid/cat/3.png": ["cat"]},
    }
    assert dataset.notes == [
        "test/ is not used: test images are neither for training nor for validation",
        "1 folder is no class of its own, in folders of classes: train/dog/a b",
    ]
    assert (dataset.retire, done) == ([], [(1, 3), (2, 3), (3, 3)])


@pytest.mark.parametrize("base", ["", "images/"])
def test_folders_of_classes_alone_make_one_list(plant: Plant, labels: Any, base: str) -> None:
    root = plant({f"{base}cat/1.jpg": "1", f"{base}红 色/2.jpg": "2", f"{base}test/3.jpg": "3"})
    dataset = image_folder.read(root, Options())
    assert dataset.label_names == ["cat", "红 色"]
    assert labels(dataset) == {
        "train": {f"{base}cat/1.jpg": ["cat"], f"{base}红 色/2.jpg": ["红 色"]}
    }
    assert len(dataset.notes) == 1


def test_images_may_hold_the_lists(plant: Plant, labels: Any) -> None:
    root = plant({"images/train/a/1.jpg": "1", "images/val/a/2.jpg": "2", "notes/x.txt": ""})
    expected = {"train": {"images/train/a/1.jpg": ["a"]}, "val": {"images/val/a/2.jpg": ["a"]}}
    assert labels(image_folder.read(root, Options())) == expected


def test_the_same_content_in_several_folders_has_several_labels(plant: Plant, labels: Any) -> None:
    files = {"b/x.jpg": "same", "a/y.jpg": "same", "c/deep/z.jpg": "same", "b/other.jpg": "diff"}
    dataset = image_folder.read(plant({**files, "b/again.jpg": "diff"}), Options())
    assert labels(dataset) == {"train": {"a/y.jpg": ["a", "b", "c"], "b/again.jpg": ["b"]}}
    assert dataset.notes == [
        "3 images are copies of others, and were merged with them: "
        "b/other.jpg = b/again.jpg, b/x.jpg = a/y.jpg, c/deep/z.jpg = a/y.jpg",
        "1 folder is no class of its own, in folders of classes: c/deep",
    ]


def test_the_same_name_or_size_is_not_the_same_content(plant: Plant, labels: Any) -> None:
    dataset = image_folder.read(plant({"a/1.jpg": "one", "b/1.jpg": "two"}), Options())
    assert labels(dataset) == {"train": {"a/1.jpg": ["a"], "b/1.jpg": ["b"]}}
    assert dataset.notes == []


def test_empty_files_are_no_copies(plant: Plant, labels: Any) -> None:
    dataset = image_folder.read(plant({}, "a/1.jpg", "b/2.jpg"), Options())
    assert labels(dataset) == {"train": {"a/1.jpg": ["a"], "b/2.jpg": ["b"]}}


def test_copies_in_train_and_val_stay_in_both(plant: Plant, labels: Any) -> None:
    root = plant({"train/a/1.jpg": "same", "val/b/2.jpg": "same"})
    expected = {"train": {"train/a/1.jpg": ["a"]}, "val": {"val/b/2.jpg": ["b"]}}
    assert labels(image_folder.read(root, Options())) == expected


def test_links_to_one_image_are_copies(plant: Plant, labels: Any) -> None:
    root = plant({"pool/1.jpg": "1", "set/train/a/1.jpg": "1"})
    (root / "set/train/b").mkdir()
    (root / "set/train/b/link.jpg").symlink_to(root / "pool/1.jpg")
    dataset = image_folder.read(root / "set", Options())
    assert labels(dataset) == {"train": {"train/a/1.jpg": ["a", "b"]}}


def test_a_link_to_nowhere_is_a_missing_image(plant: Plant, labels: Any, refusal: Any) -> None:
    root = plant({"a/1.jpg": "1"})
    (root / "a/2.jpg").symlink_to(root / "none.jpg")
    assert "a/2.jpg is not there" in refusal(image_folder.read, root)
    dataset = image_folder.read(root, Options(skip_missing=True))
    assert labels(dataset) == {"train": {"a/1.jpg": ["a"]}}


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["bus", "train"], ["bus", "train"]),
        (["train/a", "train/b"], ["a", "b"]),
        (["Train/a", "Test/b"], ["a"]),
        (["val/a"], ["a"]),
        (["train/a", "val/b", "empty"], ["a", "b"]),
        (["a", " b "], ["a", "b"]),
    ],
)
def test_empty_folders_are_classes_and_a_train_may_be_one(
    plant: Plant, folders: list[str], classes: list[str]
) -> None:
    root = plant({f"{folders[0]}/1.jpg": "1"})
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
    assert image_folder.read(root, Options()).label_names == classes


def test_what_is_left_out_is_told(plant: Plant, labels: Any) -> None:
    files = ["train/a/.hidden.jpg", "train/a/.thumbs/1.jpg", "train/a/notes.txt", "train/2.jpg"]
    root = plant({"train/a/1.jpg": "1", "val/a/3.jpg": "3"}, *files, "other/b/4.jpg", "README.md")
    dataset = image_folder.read(root, Options())
    assert labels(dataset) == {"train": {"train/a/1.jpg": ["a"]}, "val": {"val/a/3.jpg": ["a"]}}
    assert dataset.notes == [
        "left out: 1 folder beside train/ and val/: other",
        "1 image is in no class folder, left out: train/2.jpg",
        "ignored: 3 files, hidden or no images",
    ]


def test_the_order_of_classes_is_that_of_the_class_file(plant: Plant, refusal: Any) -> None:
    root = plant({"a/1.jpg": "1", "b/2.jpg": "2", "classes.txt": "b\na\n"})
    assert image_folder.read(root, Options()).label_names == ["b", "a"]
    (root / "classes.txt").write_text("b\n")
    assert "the class 'a' is used but not named" in refusal(image_folder.read, root)


def test_two_folders_for_one_list_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"train/a/1.jpg": "1", "val/a/2.jpg": "2", "valid/a/3.jpg": "3"})
    assert "both val and valid are there for val" in refusal(image_folder.read, root)


def test_folders_without_images_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({}, "1.jpg")
    assert "the source names no image that is there" in refusal(image_folder.read, root)
    assert "the folder cannot be read" in refusal(image_folder.read, root / "none")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems know no such names")
def test_names_that_no_list_can_hold_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"a/1.jpg": "1", "a/x\ty.jpg": "2", "b\nc/3.jpg": "3"})
    (root / "a" / os.fsdecode(b"\xff.jpg")).touch()
    message = refusal(image_folder.read, root)
    assert "has a tab, a line end, or bytes that are not UTF-8" in message
    assert "image name: 3" in message
    assert "the class name 'b\\nc' has a line end" in message


def test_an_image_that_cannot_be_read_is_named(
    plant: Plant, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(same_files, "_digest", refuse)
    message = refusal(image_folder.read, plant({"a/1.jpg": "1", "b/2.jpg": "2"}))
    assert "b/2.jpg: the image cannot be opened: Permission denied" in message


@pytest.mark.parametrize("name", ["h.xcf", "H.PSD", "raw.nef", "scan.SVG", "0001", "x.jpg_large"])
def test_images_that_are_not_read_are_refused_or_left_out_by_name(
    plant: Plant, labels: Any, refusal: Any, name: str
) -> None:
    root = plant({"cat/a.jpg": "1", "dog/b.jpg": "2", f"dog/{name}": b"\xff\xd8\xff\xe0"})
    message = refusal(image_folder.read, root)
    assert "1 file is not read, each an image" in message
    assert f"dog/{name}\n" in message
    assert "-o CheckDataset.convert.skip_missing=true" in message
    dataset = image_folder.read(root, Options(skip_missing=True))
    assert labels(dataset) == {"train": {"cat/a.jpg": ["cat"], "dog/b.jpg": ["dog"]}}
    assert dataset.account.left_out[f"dog/{name}"].startswith("an image")


def test_a_raw_image_beside_its_jpeg_is_told_and_a_table_is_not_read(plant: Plant) -> None:
    files = {"cat/IMG_1.JPG": "1", "cat/img_1.nef": "2", "dog/b.jpg": "3", "dog/Thumbs.db": "4"}
    dataset = image_folder.read(plant({**files, "prices.csv": "cat,1", "a.json": "{}"}), Options())
    assert dataset.account.left_out == {
        "cat/img_1.nef": "an image of the kind .nef",
        "dog/Thumbs.db": "no image",
        "prices.csv": "not read",
        "a.json": "not read",
    }


def test_a_folder_around_the_class_folders_is_passed_through(plant: Plant, labels: Any) -> None:
    root = plant({"PetImages/cat/1.jpg": "1", "PetImages/dog/2.jpg": "2", "readme.txt": ""})
    dataset = image_folder.read(root, Options())
    assert labels(dataset) == {
        "train": {"PetImages/cat/1.jpg": ["cat"], "PetImages/dog/2.jpg": ["dog"]}
    }
    assert dataset.notes == ["the folders of the classes are in PetImages/"]


def test_one_class_with_folders_of_its_own_stays_beside_an_empty_class(plant: Plant) -> None:
    root = plant({"cat/old/1.jpg": "1", "cat/new/2.jpg": "2"})
    (root / "dog").mkdir()
    assert image_folder.read(root, Options()).label_names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("files", "known"),
    [
        (["cat/1.jpg", "dog/2.jpg"], True),
        (["cat/1.jpg", "dog/2.jpg", "test/3.jpg"], True),
        (["train/cat/1.jpg", "val/dog/2.jpg", "classes.txt"], True),
        (["set/train/cat/1.jpg", "set/val/dog/2.jpg"], True),
        (["cat/1.jpg"], False),
        (["cat/1.jpg", "dog/2.jpg", "3.jpg"], False),
        (["images/1.jpg", "masks/2.png"], False),
        (["images_001/1.jpg", "images_002/2.png"], False),
        (["train_images/1.jpg", "test_images/2.jpg"], False),
        (["train/1.jpg", "val/2.jpg"], False),
    ],
)
def test_the_format_is_known_by_folders_that_may_be_classes(
    plant: Plant, files: list[str], known: bool
) -> None:
    root = plant({}, *files)
    assert bool(image_folder.recognise(Inventory(root))) == known
    (root / "tags.csv").write_text("1.jpg,red\n")
    assert image_folder.recognise(Inventory(root)) == ""


def test_the_folder_no_label_is_no_class(plant: Plant, labels: Any) -> None:
    root = plant({"cat/1.jpg": "1", "dog/2.jpg": "2", "no_label/3.jpg": "3"})
    dataset = image_folder.read(root, Options())
    assert dataset.label_names == ["cat", "dog"]
    assert labels(dataset)["train"]["no_label/3.jpg"] == []


def test_parts_of_a_set_are_no_classes(plant: Plant) -> None:
    parts = [f"HAM_images_part_{number}/{number}.jpg" for number in (1, 2)]
    assert image_folder.recognise(Inventory(plant({}, *parts))) == ""
