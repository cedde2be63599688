# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import image_folder
from paddlex_ml.formats.found import Found, Options


def fill(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def labels(found: Found) -> dict[str, dict[str, list[str]]]:
    """List -> path -> names of its classes."""
    return {
        name: {
            path: [found.label_names[i] for i in row.nonzero()[0]]
            for path, row in zip(images.paths, images.targets, strict=True)
        }
        for name, images in found.lists.items()
    }


def test_the_first_folder_is_the_class_and_deeper_ones_are_searched(tmp_path):
    fill(tmp_path, {"dog/1.jpg": "a", "cat/2020/may/1.JPG": "b", "cat/2.png": "c"})
    found = image_folder.read(tmp_path, Options())
    assert found.label_names == ["cat", "dog"]
    assert labels(found) == {
        "train": {"cat/2.png": ["cat"], "cat/2020/may/1.JPG": ["cat"], "dog/1.jpg": ["dog"]}
    }
    assert (found.retire, found.notes) == ([], [])


def test_train_and_val_divide_and_test_is_left_alone(tmp_path):
    fill(tmp_path, {"train/猫/1.jpg": "a", "valid/big dog/2.jpg": "b", "test/fish/3.jpg": "c"})
    found = image_folder.read(tmp_path, Options())
    assert labels(found) == {
        "train": {"train/猫/1.jpg": ["猫"]},
        "val": {"valid/big dog/2.jpg": ["big dog"]},
    }
    assert found.notes == [
        "test/ is left alone: test images are neither trained on nor validated with"
    ]


def test_train_among_other_classes_is_a_class_and_alone_it_is_the_list(tmp_path):
    fill(tmp_path / "vehicles", {"train/1.jpg": "a", "car/2.jpg": "b"})
    assert image_folder.read(tmp_path / "vehicles", Options()).label_names == ["car", "train"]
    fill(tmp_path / "alone", {"train/cat/1.jpg": "a", "test/cat/2.jpg": "b"})
    found = image_folder.read(tmp_path / "alone", Options())
    assert labels(found) == {"train": {"train/cat/1.jpg": ["cat"]}}


def test_class_folders_may_lie_in_images(tmp_path):
    fill(tmp_path, {"images/cat/1.jpg": "a", "readme.md": "x"})
    found = image_folder.read(tmp_path, Options())
    assert labels(found) == {"train": {"images/cat/1.jpg": ["cat"]}}


def test_the_same_content_in_several_folders_is_one_image_with_all_labels(tmp_path):
    files = {"cat/9.jpg": "same", "dog/1.jpg": "same", "dog/9.jpg": "diff", "fish/x/1.jpg": "same"}
    found = image_folder.read(fill(tmp_path, files), Options())
    assert labels(found)["train"] == {"cat/9.jpg": ["cat", "dog", "fish"], "dog/9.jpg": ["dog"]}
    assert found.notes == [
        "2 copies of an image in another folder were united with it: "
        "it has the labels of all its folders"
    ]


def test_empty_files_are_no_copies_of_each_other(tmp_path):
    found = image_folder.read(fill(tmp_path, {"cat/1.jpg": "", "dog/1.jpg": ""}), Options())
    assert labels(found)["train"] == {"cat/1.jpg": ["cat"], "dog/1.jpg": ["dog"]}


def test_copies_in_train_and_in_val_stay_in_both(tmp_path):
    fill(tmp_path, {"train/cat/1.jpg": "same", "val/dog/1.jpg": "same"})
    found = image_folder.read(tmp_path, Options())
    assert [len(images) for images in found.lists.values()] == [1, 1]


def test_a_class_without_images_stays_a_class(tmp_path):
    fill(tmp_path, {"train/cat/1.jpg": "a", "val/cat/2.jpg": "b"})
    (tmp_path / "val" / "zebra").mkdir()
    assert image_folder.read(tmp_path, Options()).label_names == ["cat", "zebra"]


def test_other_files_are_left_out_with_a_note(tmp_path):
    fill(tmp_path, {"cat/1.jpg": "a", "cat/.DS_Store": "", "cat/a.txt": "", "loose.jpg": "x"})
    assert image_folder.read(tmp_path, Options()).notes == [
        "1 images lie in no folder of a class, left out: loose.jpg",
        "2 hidden files and files that are no images, left out",
    ]


def test_classes_txt_gives_the_order_and_must_have_every_class(tmp_path):
    fill(tmp_path, {"cat/1.jpg": "a", "dog/1.jpg": "b", "classes.txt": "dog\ncat\n"})
    assert image_folder.read(tmp_path, Options()).label_names == ["dog", "cat"]
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(PaddlexMLError, match="the class 'cat' is used but not named"):
        image_folder.read(tmp_path, Options())


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(PaddlexMLError, match="the source names no image that is there"):
        image_folder.read(tmp_path, Options())
    with pytest.raises(PaddlexMLError, match="cannot be read"):
        image_folder.read(tmp_path / "absent", Options())


def test_progress_ends_with_all_images(tmp_path):
    calls: list[tuple[int, int]] = []
    fill(tmp_path, {"cat/1.jpg": "same", "dog/1.jpg": "same", "dog/2.jpg": "b"})
    image_folder.read(tmp_path, Options(progress=lambda *call: calls.append(call)))
    assert calls == [(2, 3), (3, 3)]
