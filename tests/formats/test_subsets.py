# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import subsets
from paddlex_ml.formats.subsets import SourceTable

Plant = Callable[..., Path]


def test_words_for_the_subsets_are_known_in_any_case() -> None:
    words = ["train", "VAL", " Valid ", "validation", "Test", "trainval", ""]
    assert [subsets.parse_subset(word) for word in words] == [
        "train",
        "val",
        "val",
        "val",
        "test",
        "",
        "",
    ]


def test_the_outermost_folder_names_the_subset_and_the_file_name_never() -> None:
    paths = ["a/valid/train/1.json", "train.json", "test/1", "a/b"]
    assert [subsets.parse_subset_of_path(path) for path in paths] == ["val", "", "test", ""]


def test_one_subset_alone_is_the_list_to_divide() -> None:
    assert subsets.assign_lists(iter(["val", "train", "test"])) == {"train": "train", "val": "val"}
    assert subsets.assign_lists(["val", "test"]) == {"val": "train"}
    assert subsets.assign_lists(["test"]) == {}


def test_files_are_divided_by_their_folders() -> None:
    paths = ["x/train/1", "x/valid/2", "x/3", "test/4"]
    lists, faults, notes = subsets.divide_files(paths)
    assert lists == {"train": ["x/train/1"], "val": ["x/valid/2"]}
    assert [(fault.where, fault.text) for fault in faults] == [
        ("x/3", "the file is neither in a train nor in a val folder, but others are")
    ]
    assert notes == ["1 file in test/ is not used: test/4"]


def test_files_of_one_subset_and_others_make_one_list() -> None:
    assert subsets.divide_files(["val/2", "3", "a/1"]) == ({"train": ["3", "a/1", "val/2"]}, [], [])


@pytest.mark.parametrize(
    ("files", "tables"),
    [
        (["valid.csv", "Train.CSV", "other.csv"], [("Train.CSV", "train"), ("valid.csv", "val")]),
        (["val.csv", "train/_.csv"], [("val.csv", "val")]),
        (["train/_.csv", "val/_.csv", "a.csv"], [("train/_.csv", "train"), ("val/_.csv", "val")]),
        (["train/other.csv"], [("train/other.csv", "")]),
        (["deep/er/all.csv", "test.csv", "test/_.csv"], [("deep/er/all.csv", "")]),
    ],
)  # fmt: skip
def test_tables_are_found_by_place(
    plant: Plant, files: list[str], tables: list[tuple[str, str]]
) -> None:
    found, notes = subsets.find_tables(plant({}, *files), ".csv", "_.csv")
    assert found == [SourceTable(*table) for table in tables]
    assert len(notes) == sum("test" in file for file in files)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "there is no .csv file in the data set"),
        (["test.csv", ".a.csv"], "there is no .csv file in the data set"),
        (["a.csv", "b/c.csv"], "there are 2 .csv files, and it is not clear which to read: a.csv"),
        (["val.csv", "valid.csv"], "both val.csv and valid.csv are there for val"),
        (["val/_.csv", "valid/_.csv"], "both val/_.csv and valid/_.csv are there for val"),
    ],
)
def test_tables_that_are_not_clear_are_refused(
    plant: Plant, files: list[str], message: str
) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        subsets.find_tables(plant({}, *files), ".csv", "_.csv")
    assert message in str(caught.value)


def test_images_of_a_table_are_looked_for_in_five_places() -> None:
    assert subsets.list_image_folders(SourceTable("a/all.csv", ""), "") == ["a", "images", ""]
    assert subsets.list_image_folders(SourceTable("train.csv", "train"), "train") == [
        "",
        "images",
        "train",
        "train/images",
    ]
    assert subsets.list_image_folders(SourceTable("valid/x.csv", "val"), "val") == [
        "valid",
        "images",
        "val",
        "val/images",
        "valid/images",
        "validation",
        "validation/images",
        "",
    ]


@pytest.mark.parametrize(
    ("path", "subset"),
    [
        ("instances_Train2017.json", "train"),
        ("a/my-val.coco.json", "val"),
        ("a/image_info_test-dev2017.json", "test"),
        ("val/instances_train.json", "train"),
        ("valid/_annotations.coco.json", "val"),
        ("train/train_val.json", ""),
        ("trainval.json", ""),
        ("constraint.json", ""),
        ("验证 validation.json", "val"),
    ],
)
def test_the_name_of_a_file_tells_its_subset(path: str, subset: str) -> None:
    assert subsets.parse_subset_of_file(path) == subset


def test_one_file_for_each_list_is_chosen(plant: Plant) -> None:
    root = plant({})
    both = {"train": "a_train.json", "val": "val/x.json"}
    paths = ["a_train.json", "test.json", "val/x.json"]
    assert subsets.choose_files(root, paths) == (both, ["test.json"])
    assert subsets.choose_files(root, ["a.json", "test.json"]) == (
        {"train": "a.json"},
        ["test.json"],
    )
    assert subsets.choose_files(root, ["val.json"]) == ({"train": "val.json"}, [])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/train.json", "train x.json"], "two files could be the train list: a/train.json and"),
        (["a.json", "b.json", "c.json"], "3 files have annotations, and it is not clear which"),
        (["a.json", "train.json"], "two files have annotations, and it is not clear which"),
    ],
)
def test_several_files_for_one_list_are_refused_with_the_command_that_chooses(
    plant: Plant, paths: list[str], message: str
) -> None:
    root = plant({})
    with pytest.raises(PaddlexMLError) as caught:
        subsets.choose_files(root, paths)
    assert message in str(caught.value)
    last = f"{root}/{paths[-1]}"
    quoted = [f"'{last}'", f"'{last}.unused'"] if " " in last else [last, f"{last}.unused"]
    assert f"mv {' '.join(quoted)}" in str(caught.value)
