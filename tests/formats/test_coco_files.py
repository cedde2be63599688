# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml import program
from paddlex_ml.data import annotation, demo
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco, coco_files
from paddlex_ml.formats.coco_files import CocoFiles
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def find(root: Path) -> CocoFiles:
    return coco_files.find(Inventory(root))


def found(root: Path) -> list[tuple[str, str]]:
    return [(source.list_name, source.path) for source in find(root).sources]


def coco_text(*images: str, **fields: object) -> str:
    """A sound file: every image shows the class x."""
    entries = [{"id": i, "file_name": name} for i, name in enumerate(images)]
    labels = [{"id": i, "image_id": i, "category_id": 1} for i in range(len(images))]
    content = {"images": entries, "annotations": labels, "categories": [{"id": 1, "name": "x"}]}
    return json.dumps({"info": {}, "licenses": []} | content | fields)


def refusal(root: Path) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        find(root)
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
    assert find(tmp_path).notes == []


@pytest.mark.parametrize(
    ("json", "folders"),
    [
        (
            "annotations/instances_train2017.json",
            (
                *("images/train2017", "train2017", "train2017/images", "images", "JPEGImages"),
                *("", "annotations"),
            ),
        ),
        ("instance_val.json", ("images/val", "val", "val/images", "images", "JPEGImages", "")),
        (
            "valid/_annotations.coco.json",
            ("images/valid", "valid", "valid/images", "images", "JPEGImages", ""),
        ),
        (
            "a/annotations/instances_default.json",
            (
                *("a/images/default", "a/default", "a/default/images", "a/images"),
                *("a/JPEGImages", "a", "images", "", "a/annotations"),
            ),
        ),
    ],
)
def test_images_are_looked_for_in_these_folders(
    tmp_path: Path, json: str, folders: tuple[str, ...]
) -> None:
    make(tmp_path, json)
    assert find(tmp_path).sources[0].folders == folders


def test_every_folder_gives_its_images(tmp_path: Path) -> None:
    names = ["images/train2017/a.jpg", "train2017/b.jpg", "images/c.jpg", "d.jpg"]
    make(tmp_path, *names, "annotations/e.jpg", "images/a.jpg", "a.jpg")
    text = coco_text(*(f"{letter}.jpg" for letter in "abcde"))
    (tmp_path / "annotations" / "instances_train2017.json").write_text(text)
    paths = coco.read(tmp_path, Options()).lists["train"].paths
    assert paths == [*names, "annotations/e.jpg"]


@pytest.mark.parametrize("name", ["train", "val"])
def test_one_file_alone_is_one_list_called_train(tmp_path: Path, name: str) -> None:
    make(tmp_path, "images/a.jpg", f"annotations/instance_{name}.json")
    (tmp_path / "annotations" / f"instance_{name}.json").write_text(coco_text("a.jpg"))
    result = coco.read(tmp_path, Options())
    assert list(result.lists) == ["train"]
    assert result.lists["train"].paths == ["images/a.jpg"]
    other = "val" if name == "train" else "train"
    note = f"there is annotations/instance_{name}.json, but no {other}: its images become one list"
    assert result.notes == [note]


def test_a_missing_part_that_was_converted_before_is_told(tmp_path: Path) -> None:
    make(tmp_path, "train/_annotations.coco.json", "valid/_annotations.coco.json.bak")
    notes = find(tmp_path).notes
    note = "valid/_annotations.coco.json.bak may be the missing val, from an earlier conversion"
    assert notes[-1] == note


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("annotations/instances_train2014.json", "annotations/instances_train2017.json", "train"),
        ("annotations/instance_val.json", "annotations/instances_val2017.json", "val"),
        ("annotations/instance_train.json", "instance_train.json", "train"),
        ("annotations/instance_train.json", "train/_annotations.coco.json", "train"),
        ("val/_annotations.coco.json", "valid/_annotations.coco.json", "val"),
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
    assert find(tmp_path).notes == [note]
    assert len(found(tmp_path)) == 2


@pytest.mark.parametrize("number", ["", ".1", ".12"])
def test_a_second_conversion_says_what_happened_and_how_to_undo_it(
    tmp_path: Path, number: str
) -> None:
    make(tmp_path, f"annotations/instance_train.json.bak{number}", "annotations/other.json")
    message = refusal(tmp_path)
    assert f"converted already: annotations/instance_train.json.bak{number}" in message
    assert "-o CheckDataset.convert.enable=false" in message
    assert f"{program.python()} dataset_tools/restore_backup.py {tmp_path}" in message


def test_where_nothing_is_found_all_json_files_are_named_for_what_they_are(plant: Plant) -> None:
    root = plant(
        {
            "test.json": coco_text("a.jpg"),
            "captions_train2017.json": "{}",
            "a/person_keypoints_train2017.json": "{}",
            "notes.json": "[1]",
        }
    )
    message = refusal(root)
    assert "captions_train2017.json (captions of images), test.json (of the test subset)" in message
    assert "a/person_keypoints_train2017.json (keypoints of persons)" in message
    assert "notes.json" in message
    assert "rename" not in message
    assert "-o CheckDataset.convert.src_dataset_type=auto" in message


def test_an_empty_folder_is_told_what_is_needed(tmp_path: Path) -> None:
    message = refusal(tmp_path)
    assert "there is no COCO file of train or val, and no json file" in message
    assert "`images`, `annotations` and `categories`" in message


@pytest.mark.parametrize(
    ("names", "lists"),
    [
        (["train.json", "val.json"], ["train", "val"]),
        (
            ["annotations/instances_Train.json", "annotations/instances_Validation.json"],
            ["train", "val"],
        ),
        (["a/my_TRAIN.coco.JSON", "b/valid/labels.json"], ["train", "val"]),
        (["annotations/instances_default.json"], ["train"]),
        (["result.json"], ["train"]),
        (["deep/er/任意.json"], ["train"]),
        (["_annotations.coco.json"], ["train"]),
        (["annotations/instances_train.json", "annotations/labels_train.json"], ["train", "train"]),
    ],
)
def test_files_are_known_by_their_content_under_any_name(
    plant: Plant, names: list[str], lists: list[str]
) -> None:
    root = plant({name: coco_text("a.jpg") for name in names} | {"package.json": "{}"}, "a.jpg")
    assert found(root) == list(zip(lists, names, strict=True))
    assert coco.recognise(Inventory(root)) in names


def test_thousands_of_categories_may_come_first(plant: Plant) -> None:
    categories = [{"id": i, "name": f"a class of number {i}"} for i in range(5_000)]
    content = json.loads(coco_text("a.jpg", categories=categories))
    text = json.dumps({"categories": content.pop("categories"), **content})
    assert found(plant({"x.json": text})) == [("train", "x.json")]


@pytest.mark.parametrize("first", ["images", "annotations", "categories", "info"])
def test_the_lists_may_come_in_any_order(plant: Plant, first: str) -> None:
    content = json.loads(coco_text(*(f"{i}.jpg" for i in range(3000))))
    content = {first: content.pop(first), **content}
    for extra in ({}, {"segmentation": [[0.5] * 12]}):
        for label in content["annotations"]:
            label.update(extra)
        text = json.dumps(content, indent=1)
        assert len(text) > 2**16
        assert found(plant({"x.json": text})) == [("train", "x.json")]


CAPTIONS = [{"id": 1, "image_id": 0, "caption": "a cat"}]
PANOPTIC = [{"image_id": 0, "file_name": "0.png", "segments_info": [{"id": 1, "category_id": 1}]}]
SKELETON = [{"id": 1, "name": "person", "keypoints": ["nose"], "skeleton": [[1, 1]]}]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (coco_text("a.jpg", annotations=CAPTIONS), "captions of images"),
        (coco_text("a.jpg", annotations=PANOPTIC), "panoptic segments"),
        (coco_text("a.jpg", categories=SKELETON), "keypoints of persons"),
        ('{"images": [{"id": 1, "file_name": "a.jpg"}]}', "a list of images without annotations"),
    ],
)
@pytest.mark.parametrize("name", ["annotations/x_train.json", "train.json"])
def test_files_of_other_tasks_are_known_by_their_content(
    plant: Plant, text: str, what: str, name: str
) -> None:
    root = plant({name: text, "annotations/instances_train.json": coco_text("a.jpg")}, "a.jpg")
    assert found(root) == [("train", "annotations/instances_train.json")]
    assert find(root).left_out == {name: what}
    assert coco.read(root, Options()).account.left_out == {name: what}
    (root / "annotations" / "instances_train.json").unlink()
    assert f"{name} ({what})" in refusal(root)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("captions_train2017.json", "captions of images"),
        ("panoptic_val2017.json", "panoptic segments"),
        ("person_keypoints_default.json", "keypoints of persons"),
        ("stuff_train2017.json", "segments of stuff, such as sky"),
        ("image_info_unlabeled2017.json", "a list of images without annotations"),
    ],
)
def test_files_of_other_tasks_are_known_by_their_names(plant: Plant, name: str, what: str) -> None:
    root = plant({f"annotations/{name}": coco_text("a.jpg")}, "a.jpg")
    assert f"annotations/{name} ({what})" in refusal(root)
    assert coco.recognise(Inventory(root)) == ""


def test_a_file_with_the_images_of_all_others_is_left_out(plant: Plant) -> None:
    files = {
        "Annotations/coco_info.json": coco_text("JPEGImages/a.jpg", "b.jpg", "c.jpg"),
        "train.json": coco_text("a.jpg"),
        "val.json": coco_text("b.jpg"),
        "test.json": coco_text("c.jpg"),
    }
    root = plant(files, *(f"JPEGImages/{letter}.jpg" for letter in "abc"))
    dataset = coco.read(root, Options())
    assert dataset.lists["train"].paths == ["JPEGImages/a.jpg"]
    assert dataset.lists["val"].paths == ["JPEGImages/b.jpg"]
    assert dataset.retire == [root / "train.json", root / "val.json"]
    left_out = find(root).left_out
    assert left_out["Annotations/coco_info.json"] == (
        "its images are in the files of train, val and test"
    )
    assert left_out["test.json"] == "of the test subset"


def test_a_file_with_other_images_beside_train_and_val_is_refused(plant: Plant) -> None:
    files = {"more.json": coco_text("a.jpg", "c.jpg"), "train.json": coco_text("a.jpg")}
    root = plant(files, "a.jpg", "c.jpg")
    message = refusal(root)
    assert "more.json has 1 image that train.json do not have: c.jpg" in message
    for move, paths in (("more.json", ["a.jpg"]), ("train.json", ["a.jpg", "c.jpg"])):
        assert f"mv {root}/{move} {root}/{move}.unused" in message
        (root / move).rename(root / f"{move}.unused")
        assert coco.read(root, Options()).lists["train"].paths == paths
        (root / f"{move}.unused").rename(root / move)


def test_several_files_that_name_no_subset_are_refused(plant: Plant) -> None:
    root = plant({"a.json": coco_text("a.jpg"), "b.json": coco_text("b.jpg")}, "a.jpg", "b.jpg")
    message = refusal(root)
    assert "it is not clear which to read: a.json and b.json" in message
    (root / "b.json").rename(root / "b.json.unused")
    assert found(root) == [("train", "a.json")]


def test_json_files_of_single_images_are_not_opened_one_by_one(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        Inventory, "read_head", lambda _, path: opened.append(path) or coco_text("0.jpg").encode()
    )
    each = {f"{i}.json": '{"shapes": []}' for i in range(200)}
    root = plant({**each, "all.json": coco_text("0.jpg")}, *(f"{i}.jpg" for i in range(200)))
    assert coco.recognise(Inventory(root)) == "all.json"
    assert set(opened) == {"all.json"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"shapes": []}', '[{"image": "a.jpg"}]', '{"data_list": []}', "\0"]
)
def test_other_json_files_are_not_recognised(plant: Plant, text: str) -> None:
    assert coco.recognise(Inventory(plant({"train.json": text}, "a.jpg"))) == ""


@pytest.mark.parametrize(("name", "what"), [("none", "does not exist"), ("f", "is not a folder")])
def test_a_wrong_folder_names_the_override(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(PaddlexMLError) as caught:
        coco.read(tmp_path / name, Options())
    message = str(caught.value)
    assert f"the data set folder {what}" in message
    assert "-o Global.dataset_dir=" in message


def test_the_coco_copy_of_the_demo_data_gives_the_lists_of_the_demo_data(tmp_path: Path) -> None:
    demo_set = demo.make(tmp_path / "demo", images=20, size=32, seed=0, val_percent=30)
    expected, dataset = annotation.read(demo_set.folder), coco.read(demo_set.coco_folder, Options())
    assert dataset.label_names == expected.label_names
    for name, images in (("train", expected.train), ("val", expected.val)):
        assert dataset.lists[name].paths == images.paths
        assert dataset.lists[name].targets.tolist() == images.targets.tolist()


def test_real_coco_annotations_give_the_recorded_lists(shared: Path) -> None:
    folder = shared / "data" / "coco_mini_open"
    expected, dataset = annotation.read(folder), coco.read(folder, Options())
    assert (len(dataset.lists["train"]), len(dataset.lists["val"])) == (36, 27)
    assert dataset.label_names == expected.label_names
    for name, images in (("train", expected.train), ("val", expected.val)):
        assert dataset.lists[name].paths == images.paths
        assert dataset.lists[name].targets.tolist() == images.targets.tolist()
    assert dataset.notes == []


def test_boxes_of_clothes_give_the_label_sets_of_the_lists(shared: Path) -> None:
    folder = shared / "data" / "clothing_ccp"
    expected, dataset = annotation.read(folder), coco.read(folder, Options())
    assert dataset.label_names == expected.label_names
    assert (len(dataset.lists["train"]), len(dataset.lists["val"])) == (789, 215)
    for name, images in (("train", expected.train), ("val", expected.val)):
        rows = dict(zip(images.paths, images.targets.tolist(), strict=True))
        ours = zip(dataset.lists[name].paths, dataset.lists[name].targets.tolist(), strict=True)
        assert [path for path, row in ours if rows[path] != row] == []
