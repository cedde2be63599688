# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco, coco_files
from paddlex_ml.formats.collector import Options


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(root: Path) -> list[tuple[str, str]]:
    return [(source.list_name, source.path) for source in coco_files.find(root)[0]]


def refusal(root: Path) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        coco_files.find(root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("annotations/instance_train.json", "annotations/instance_val.json"),
        ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
        ("annotations/instances_train2014.json", "annotations/instances_val2017.json"),
        ("annotations/instances_train.json", "annotations/instances_val.json"),
        ("annotations/instance_train2031.json", "annotations/instances_val.json"),
        ("instance_train.json", "instance_val.json"),
        ("instances_train2017.json", "annotations/instances_val2017.json"),
        ("train/_annotations.coco.json", "valid/_annotations.coco.json"),
        ("train/_annotations.coco.json", "val/_annotations.coco.json"),
    ],
)
def test_files_are_found_by_name(tmp_path: Path, train: str, val: str) -> None:
    make(tmp_path, val, train, "annotations/captions_train2017.json", "annotations/notes.txt")
    assert found(tmp_path) == [("train", train), ("val", val)]
    assert coco_files.find(tmp_path)[1] == []


@pytest.mark.parametrize(
    ("json", "folders"),
    [
        (
            "annotations/instances_train2017.json",
            ("images/train2017", "train2017", "images", "", "annotations"),
        ),
        ("instance_val.json", ("images/val", "val", "images", "")),
        ("valid/_annotations.coco.json", ("images/valid", "valid", "images", "")),
    ],
)
def test_images_are_looked_for_in_these_folders(
    tmp_path: Path, json: str, folders: tuple[str, ...]
) -> None:
    make(tmp_path, json)
    assert coco_files.find(tmp_path)[0][0].folders == folders


def test_every_folder_gives_its_images(tmp_path: Path) -> None:
    names = ["images/train2017/a.jpg", "train2017/b.jpg", "images/c.jpg", "d.jpg"]
    make(tmp_path, *names, "annotations/e.jpg", "images/a.jpg", "a.jpg")
    images = ",".join(f'{{"id": {i}, "file_name": "{i}.jpg"}}' for i in range(5))
    images = images.translate({ord(str(i)): ord("abcde"[i]) for i in range(5)})
    for letter, i in zip("abcde", range(5), strict=True):
        images = images.replace(f'"id": {letter}', f'"id": {i}')
    text = f'{{"images": [{images}], "annotations": [], "categories": [{{"id": 1, "name": "x"}}]}}'
    (tmp_path / "annotations" / "instances_train2017.json").write_text(text)
    paths = coco.read(tmp_path, Options()).lists["train"].paths
    assert paths == [*names, "annotations/e.jpg"]


@pytest.mark.parametrize("name", ["train", "val"])
def test_one_file_alone_is_one_list_called_train(tmp_path: Path, name: str) -> None:
    make(tmp_path, "images/a.jpg", f"annotations/instance_{name}.json")
    (tmp_path / "annotations" / f"instance_{name}.json").write_text(
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [],'
        ' "categories": [{"id": 1, "name": "x"}]}'
    )
    result = coco.read(tmp_path, Options())
    assert list(result.lists) == ["train"]
    assert result.lists["train"].paths == ["images/a.jpg"]
    other = "val" if name == "train" else "train"
    note = f"there is annotations/instance_{name}.json, but no {other}: its images become one list"
    assert result.notes == [note]


def test_a_missing_part_that_was_converted_before_is_told(tmp_path: Path) -> None:
    make(tmp_path, "train/_annotations.coco.json", "valid/_annotations.coco.json.bak")
    notes = coco_files.find(tmp_path)[1]
    note = "valid/_annotations.coco.json.bak may be the missing val, from an earlier conversion"
    assert notes[-1] == note


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("annotations/instances_train2014.json", "annotations/instances_train2017.json", "train"),
        ("annotations/instance_val.json", "annotations/instances_val2017.json", "val"),
        ("annotations/instance_train.json", "instance_train.json", "train"),
        ("annotations/instance_train.json", "train/_annotations.coco.json", "train"),
        ("valid/_annotations.coco.json", "val/_annotations.coco.json", "val"),
    ],
)
def test_two_files_for_one_list_are_refused(
    tmp_path: Path, one: str, other: str, name: str
) -> None:
    make(tmp_path, one, other)
    assert f"two files could be the {name} list: {one} and {other}" in refusal(tmp_path)


@pytest.mark.parametrize(
    "test",
    [
        "annotations/instance_test.json",
        "annotations/instances_test2017.json",
        "annotations/image_info_test-dev2017.json",
        "test/_annotations.coco.json",
    ],
)
def test_a_test_part_is_left_alone_with_a_note(tmp_path: Path, test: str) -> None:
    make(tmp_path, "annotations/instance_train.json", "annotations/instance_val.json", test)
    note = f"{test} is not used: test images are neither for training nor for validation"
    assert coco_files.find(tmp_path)[1] == [note]
    assert len(found(tmp_path)) == 2


@pytest.mark.parametrize("number", ["", ".1", ".12"])
def test_a_second_conversion_says_what_happened_and_how_to_undo_it(
    tmp_path: Path, number: str
) -> None:
    make(tmp_path, f"annotations/instance_train.json.bak{number}", "annotations/other.json")
    message = refusal(tmp_path)
    assert f"converted already: annotations/instance_train.json.bak{number}" in message
    assert "-o CheckDataset.convert.enable=false" in message
    assert f"python dataset_tools/restore_backup.py {tmp_path}" in message


def test_where_nothing_is_found_the_places_and_other_files_are_named(tmp_path: Path) -> None:
    make(
        tmp_path, "annotations/instance_test.json", "labels.json", "train/x.JSON", "deep/er/y.json"
    )
    message = refusal(tmp_path)
    assert "other json files are there: annotations/instance_test.json, labels.json" in message
    assert "train/x.JSON" in message
    assert "instances_train2017.json (or another year, or none) in annotations/" in message
    assert "rename labels.json to annotations/instance_train.json" in message


def test_an_empty_folder_is_told_what_is_looked_for(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert "there are no COCO annotations\n  looked for: instance_train.json" in message
    assert "rename the file to" in message


@pytest.mark.parametrize(("name", "what"), [("none", "does not exist"), ("f", "is not a folder")])
def test_a_wrong_folder_names_the_override(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "f").touch()
    message = refusal(tmp_path / name)
    assert f"the data set folder {what}" in message
    assert "-o Global.dataset_dir=" in message
