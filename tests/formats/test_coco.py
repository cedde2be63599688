# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco
from paddlex_ml.formats.collector import Options, SourceDataset

CATS = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 5, "name": "owl"}]


def describe(
    images: dict[Any, str], labels: list[tuple[Any, Any]], categories: list[Any] | None = None
) -> dict[str, Any]:
    """COCO content: images by id, and (image id, category id) of each annotation."""
    return {
        "images": [{"id": i, "file_name": name} for i, name in images.items()],
        "annotations": [{"image_id": i, "category_id": c} for i, c in labels],
        "categories": CATS if categories is None else categories,
    }


def put(root: Path, name: str, content: Any) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images 0.jpg to 5.jpg (empty), train with ids 10, 20, 30 and val with id 10."""
    (tmp_path / "images").mkdir()
    for i in range(6):
        (tmp_path / "images" / f"{i}.jpg").touch()
    train = describe({10: "0.jpg", 20: "1.jpg", 30: "2.jpg"}, [(10, 7), (10, 3), (20, 7), (10, 7)])
    put(tmp_path, "annotations/instance_train.json", train)
    put(tmp_path, "annotations/instance_val.json", describe({10: "3.jpg"}, [(10, 5)]))
    return tmp_path


def read(root: Path, **options: Any) -> SourceDataset:
    return coco.read(root, Options(**options))


def change(root: Path, edit: Any, name: str = "train") -> None:
    """Let `edit` change the content of a json file in place."""
    path = root / "annotations" / f"instance_{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    put(root, f"annotations/instance_{name}.json", content)


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        read(root, **options)
    return str(caught.value)


def test_category_ids_become_class_ids_in_ascending_order(root: Path) -> None:
    dataset = read(root)
    assert dataset.label_names == ["cat", "owl", "dog"]
    assert dataset.lists["train"].paths == ["images/0.jpg", "images/1.jpg", "images/2.jpg"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert dataset.lists["val"].targets.tolist() == [[0, 1, 0]]
    assert dataset.notes == []
    names = ("instance_train.json", "instance_val.json")
    assert dataset.retire == [root / "annotations" / name for name in names]


def test_an_image_without_annotations_keeps_all_zeros(root: Path) -> None:
    assert read(root).lists["train"].targets[2].tolist() == [0, 0, 0]


def test_a_category_that_no_image_shows_becomes_a_class(root: Path) -> None:
    change(root, lambda content: content["categories"].append({"id": 1, "name": "yak"}))
    change(root, lambda content: content["categories"].append({"id": 1, "name": "yak"}), "val")
    assert read(root).label_names == ["yak", "cat", "owl", "dog"]


def test_ids_may_be_texts_and_those_of_digits_go_by_their_value(root: Path) -> None:
    categories = [{"id": i, "name": f"class {i}"} for i in ("b", "10", "2", 4, "a")]
    put(root, "annotations/instance_train.json", describe({"x": "0.jpg"}, [("x", "2")], categories))
    put(root, "annotations/instance_val.json", describe({1: "1.jpg"}, [(1, "a")], categories))
    for i in range(2, 6):
        (root / "images" / f"{i}.jpg").unlink()
    dataset = read(root)
    assert dataset.label_names == ["class 2", "class 4", "class 10", "class a", "class b"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0, 0, 0, 0]]
    assert dataset.lists["val"].targets.tolist() == [[0, 0, 0, 1, 0]]


SPELLINGS = [int, float, str, lambda i: f"{i:012}", lambda i: f" {i}.0 "]


@pytest.mark.parametrize("image", SPELLINGS)
@pytest.mark.parametrize("used_image", SPELLINGS)
@pytest.mark.parametrize("category", SPELLINGS)
def test_ids_compare_by_value_however_they_are_written(
    root: Path, image: Any, used_image: Any, category: Any
) -> None:
    def edit(content: Any) -> None:
        for entry in content["images"]:
            entry["id"] = image(entry["id"])
        for entry in content["annotations"]:
            entry["image_id"] = used_image(entry["image_id"])
        content["annotations"][0]["category_id"] = category(7)
        content["categories"][1]["id"] = image(7)

    change(root, edit)
    dataset = read(root)
    assert dataset.label_names == ["cat", "owl", "dog"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert dataset.account.dropped == {}


@pytest.mark.parametrize(
    ("part", "key", "entry"),
    [
        ("images", "id", "images[1].id"),
        ("annotations", "image_id", "annotations[1].image_id"),
        ("annotations", "category_id", "annotations[1].category_id"),
        ("categories", "id", "categories[1].id"),
    ],
)
def test_ids_that_are_not_whole_are_refused_by_name(
    root: Path, part: str, key: str, entry: str
) -> None:
    change(root, lambda content: content[part][1].update({key: 2.5}))
    message = refusal(root)
    assert f"annotations/instance_train.json: {entry}" in message
    assert "the id 2.5 is not a whole number" in message
    change(root, lambda content: content[part][1].update({key: 2.0**60}))
    assert "is a float too large to be exact" in refusal(root)


def test_two_spellings_of_one_image_id_with_two_files_are_refused(root: Path) -> None:
    change(root, lambda content: content["images"].append({"id": "20", "file_name": "5.jpg"}))
    assert "images[1] has the same id, for 1.jpg" in refusal(root)


def test_a_file_all_of_whose_annotations_are_of_unknown_images_is_refused(root: Path) -> None:
    def edit(content: Any) -> None:
        for entry in content["annotations"]:
            entry["image_id"] += 1

    change(root, edit)
    message = refusal(root)
    assert "all 4 records of annotations/instance_train.json would be dropped" in message
    assert "of an image that `images` does not have (image id 11, image id 11" in message


def test_names_are_stripped(root: Path) -> None:
    change(root, lambda content: content["categories"][0].update(name="  cat\n"))
    assert read(root).label_names[0] == "cat"


def test_crowds_and_boxes_without_area_count(root: Path) -> None:
    def edit(content: Any) -> None:
        content["annotations"] += [
            {"image_id": 30, "category_id": 3, "iscrowd": 1, "bbox": [0, 0, 10, 10.5]},
            {"image_id": 30, "category_id": 5, "bbox": [1, 2, 0, 5]},
            {"image_id": 30, "category_id": 7, "bbox": [1.5, 2, 3, 0.0]},
        ]

    change(root, edit)
    dataset = read(root)
    assert dataset.lists["train"].targets[2].tolist() == [1, 1, 1]
    note = "annotations/instance_train.json: 2 boxes have no area: their labels count"
    assert dataset.notes == [note]


@pytest.mark.parametrize("box", [None, [], [1, 2, 3], "box", [1, 2, None, 0], {"x": 0}])
def test_an_odd_box_costs_no_label(root: Path, box: Any) -> None:
    entry = {"image_id": 30, "category_id": 3, "bbox": box}
    change(root, lambda content: content["annotations"].append(entry))
    dataset = read(root)
    assert dataset.lists["train"].targets[2].tolist() == [1, 0, 0]
    assert dataset.notes == []


def test_annotations_of_unknown_images_are_left_out_with_a_note(root: Path) -> None:
    extra = [{"image_id": i, "category_id": 99} for i in (5, 6, 7, 8, 9, 11, 11)]
    change(root, lambda content: content["annotations"].extend(extra))
    dataset = read(root)
    assert dataset.notes == []
    assert dataset.account.dropped == {"of an image that `images` does not have": 7}
    assert (
        "7 records dropped, of an image that `images` does not have: image id 5, image id 6, "
        "image id 7, image id 8, image id 9" in dataset.account.format_lines()
    )


def test_annotations_of_unknown_categories_are_refused_once_for_each_category(root: Path) -> None:
    extra = [{"image_id": i, "category_id": c} for i, c in ((10, 91), (20, 91), (20, 92))]
    change(root, lambda content: content["annotations"].extend(extra))
    message = refusal(root)
    assert "unknown category: 2" in message
    assert (
        "annotations/instance_train.json: annotations[4]: "
        "no category has the id 91, which 2 images show" in message
    )


def test_a_duplicate_image_id_with_one_file_name_is_united(root: Path) -> None:
    entry = {"id": 20, "file_name": "1.jpg"}
    change(root, lambda content: content["images"].append(entry))
    dataset = read(root)
    assert len(dataset.lists["train"]) == 3
    note = "1 image is repeated in `images` and were merged: ids 20"
    assert dataset.notes == [f"annotations/instance_train.json: {note}"]


def test_a_duplicate_image_id_with_two_file_names_is_refused(root: Path) -> None:
    entry = {"id": 20, "file_name": "5.jpg"}
    change(root, lambda content: content["images"].append(entry))
    message = refusal(root)
    assert "images[1] has the same id, for 1.jpg" in message
    assert f"where: {root}/annotations/instance_train.json: images[3] (id 20)" in message


def test_the_same_file_under_two_ids_becomes_one_line_with_all_labels(root: Path) -> None:
    change(root, lambda content: content["images"][2].update(file_name="./0.jpg"))
    change(root, lambda c: c["annotations"].append({"image_id": 30, "category_id": 5}))
    dataset = read(root)
    assert dataset.lists["train"].paths == ["images/0.jpg", "images/1.jpg"]
    assert dataset.lists["train"].targets[0].tolist() == [1, 1, 1]
    assert dataset.notes == ["1 image is named more than once: their labels were merged"]


def test_the_same_image_id_in_train_and_val_means_two_images(root: Path) -> None:
    dataset = read(root)
    assert dataset.lists["val"].paths == ["images/3.jpg"]


def test_categories_that_differ_are_united_by_id(root: Path) -> None:
    change(root, lambda content: content["categories"].pop(2))  # owl
    change(root, lambda content: content["categories"].pop(1), "val")  # dog
    dataset = read(root)
    assert dataset.label_names == ["cat", "owl", "dog"]
    assert dataset.notes == [
        "the categories of both files were merged by id: "
        "only annotations/instance_train.json has dog; only annotations/instance_val.json has owl"
    ]


def test_a_category_that_the_other_file_names_is_known(root: Path) -> None:
    change(root, lambda content: content["categories"].pop(2), "val")
    assert read(root).lists["val"].targets.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ({"id": 3, "name": "lion"}, "the id has two names: 'cat' and 'lion'"),
        ({"id": 4, "name": " dog "}, "the name 'dog' has two ids: 7 and 4"),
        ({"id": 4, "name": " "}, "the name '' is empty or has a line end"),
        ({"id": 4, "name": "a\nb"}, "the name 'a\\nb' is empty or has a line end"),
    ],
)
@pytest.mark.parametrize("name", ["train", "val"])
def test_categories_that_contradict_are_refused(
    root: Path, entry: Any, what: str, name: str
) -> None:
    change(root, lambda content: content["categories"].append(entry), name)
    message = refusal(root)
    assert what in message
    assert f"annotations/instance_{name}.json: categories[3] (id {entry['id']})" in message


def test_a_category_that_stands_twice_the_same_is_one(root: Path) -> None:
    change(root, lambda content: content["categories"].append({"id": 3, "name": "cat "}))
    assert read(root).label_names == ["cat", "owl", "dog"]


def test_missing_images_are_refused_with_their_place_unless_skipped(root: Path) -> None:
    change(root, lambda content: content["images"][1].update(file_name="gone.jpg"))
    message = refusal(root)
    assert f"where: {root}/annotations/instance_train.json: images[1] (id 20)" in message
    assert "gone.jpg is not there" in message
    assert (
        "(looked in images/train/, train/, train/images/, images/, JPEGImages/, "
        "the data set folder, annotations/)" in message
    )
    dataset = read(root, skip_missing=True)
    assert dataset.lists["train"].paths == ["images/0.jpg", "images/2.jpg"]
    assert dataset.notes == ["1 image is not there, left out: gone.jpg"]


def test_windows_separators_and_folders_in_file_names_are_understood(root: Path) -> None:
    change(root, lambda content: content["images"][0].update(file_name="images\\0.jpg"))
    change(root, lambda content: content["images"][1].update(file_name="images/../images/1.jpg"))
    change(root, lambda content: content["images"][2].update(file_name=f"{root}/images/2.jpg"))
    assert read(root).lists["train"].paths == ["images/0.jpg", "images/1.jpg", "images/2.jpg"]


def test_faults_of_both_files_come_in_one_error(root: Path) -> None:
    change(root, lambda content: content["images"][1].update(file_name="gone.jpg"))
    change(root, lambda content: content["images"][0].update(file_name=""), "val")
    change(root, lambda content: content["categories"][0].update(name=""))
    message = refusal(root)
    assert "the data set has 4 faults of 3 kinds" in message  # val has the id 3 with its old name
    assert "instance_val.json: images[0] (id 10): '' cannot be the name of an image" in message


def test_a_byte_order_mark_is_tolerated_and_counts_in_the_place(root: Path) -> None:
    path = root / "annotations" / "instance_val.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b", ", b",\r\n"))
    assert len(read(root).lists["val"]) == 1
    path.write_bytes(b"\xef\xbb\xbf{?")
    assert "instance_val.json:1 (byte 4)" in refusal(root)


@pytest.mark.parametrize(("codec", "name"), [("utf-16", "UTF-16"), ("gbk", "GB18030")])
def test_other_encodings_of_chinese_text_are_read_and_told(
    root: Path, codec: str, name: str
) -> None:
    for subset in ("train", "val"):
        change(root, lambda content: content["categories"][0].update(name="红色圆形"), subset)
    path = root / "annotations" / "instance_val.json"
    path.write_bytes(path.read_text(encoding="utf-8").encode(codec))
    dataset = read(root)
    assert dataset.label_names[0] == "红色圆形"
    assert dataset.account.encodings == {name: ["annotations/instance_val.json"]}


def test_a_file_name_with_nul_is_refused(root: Path) -> None:
    change(root, lambda content: content["images"][0].update(file_name="0.jpg\0"))
    assert "'0.jpg\\x00' cannot be the name of an image" in refusal(root)


def test_a_file_that_cannot_be_read_is_refused(root: Path) -> None:
    (root / "annotations" / "instance_val.json").unlink()
    (root / "annotations" / "instance_val.json").symlink_to(root / "gone.json")
    message = refusal(root)
    assert "the file cannot be read: No such file or directory" in message
    assert f"where: {root}/annotations/instance_val.json" in message


def test_a_file_without_images_is_refused(root: Path) -> None:
    change(root, lambda content: content.update(images=[], annotations=[]), "val")
    message = refusal(root)
    assert "the list `images` is empty" in message
    assert "to convert the other one alone" in message


def test_files_without_categories_are_refused(root: Path) -> None:
    for name in ("train", "val"):
        change(root, lambda content: content.update(categories=[], annotations=[]), name)
    message = refusal(root)
    assert "the list is empty" in message
    assert f"where: {root}/annotations/instance_train.json: categories" in message


ROBOFLOW = [
    {"id": 0, "name": "animals", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "animals"},
    {"id": 2, "name": "dog", "supercategory": "animals"},
]


def plant_roboflow(root: Path, train: list[Any], val: list[Any], categories: list[Any]) -> None:
    for path in (root / "annotations").iterdir():
        path.unlink()
    content = describe({0: "0.jpg", 1: "1.jpg"}, train, categories)
    put(root, "train/_annotations.coco.json", content)
    put(root, "valid/_annotations.coco.json", describe({0: "2.jpg"}, val, categories))


def test_the_root_category_of_roboflow_is_left_out_and_told(root: Path) -> None:
    plant_roboflow(root, [(0, 1), (1, 2)], [(0, 2)], ROBOFLOW)
    dataset = read(root)
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [0, 1]]
    reason = "the root category of Roboflow (id 0), which no annotation uses"
    assert dataset.account.names_left_out == {"animals": reason}


@pytest.mark.parametrize("other", [None, 7, ["animals"], {"a": [[], {}]}, "tiere"])
def test_a_supercategory_may_be_anything(root: Path, other: Any) -> None:
    for each in (0, 2):  # then the first category is no root, and a class like the others
        odd = [
            entry | {"supercategory": other} if entry["id"] == each else entry for entry in ROBOFLOW
        ]
        plant_roboflow(root, [(0, 1), (1, 2)], [(0, 2)], odd)
        assert read(root).label_names == ["animals", "cat", "dog"]


def test_the_root_category_may_have_the_name_of_a_class(root: Path) -> None:
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": "1", "name": "cat", "supercategory": "cat"},
        {"id": 2.0, "name": "dog", "supercategory": "cat"},
    ]
    plant_roboflow(root, [(0, 1), (1, 2)], [(0, 2)], categories)
    dataset = read(root)
    assert dataset.label_names == ["cat", "dog"]
    assert list(dataset.account.names_left_out) == ["cat (id 0)"]
    put(root, "valid/_annotations.coco.json", describe({0: "2.jpg"}, [(0, 0)], categories))
    assert "the name 'cat' has two ids: 0 and 1" in refusal(root)


@pytest.mark.parametrize("val", [[(0, 0)], [(0, "0")], [(0, 0.0)]])
def test_a_root_category_that_one_annotation_uses_is_a_class(root: Path, val: list[Any]) -> None:
    plant_roboflow(root, [(0, 1), (1, 2)], val, ROBOFLOW)
    dataset = read(root)
    assert dataset.label_names == ["animals", "cat", "dog"]
    assert dataset.lists["val"].targets.tolist() == [[1, 0, 0]]
    assert dataset.account.names_left_out == {}


@pytest.mark.parametrize(
    "categories",
    [
        [{**category, "supercategory": "none"} for category in ROBOFLOW],
        [{**category, "id": int(str(category["id"])) + 5} for category in ROBOFLOW],
        [*ROBOFLOW, {"id": 3, "name": "car", "supercategory": "vehicles"}],
        ROBOFLOW[:1],
    ],
)
def test_other_categories_that_no_annotation_uses_stay(root: Path, categories: list[Any]) -> None:
    last = categories[-1]["id"]
    plant_roboflow(root, [(0, last), (1, last)], [(0, last)], categories)
    assert read(root).label_names == [category["name"] for category in categories]


def test_labels_of_whole_images_need_no_box(root: Path) -> None:
    dataset = read(root)
    assert "bbox" not in (root / "annotations" / "instance_train.json").read_text()
    assert dataset.lists["train"].targets[0].tolist() == [1, 0, 1]


def test_label_studio_is_told_to_lose_choices(root: Path) -> None:
    def edit(content: Any) -> None:
        names = ["/data/upload/1/0a1b2c3d-0.jpg", "images\\1\\1.jpg", "images/1/0a1b2c3d-2.jpg"]
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name
        content["info"] = {"contributor": "Label Studio"}

    change(root, edit)
    dataset = read(root)
    assert dataset.lists["train"].paths == ["images/0.jpg", "images/1.jpg", "images/2.jpg"]
    assert "no choices of whole images" in dataset.notes[0]
    assert len(dataset.account.guesses) == 3


def test_progress_counts_images(root: Path) -> None:
    calls: list[tuple[int, int]] = []
    read(root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(4, 4)]


def test_the_garbage_collector_is_left_as_it_was(root: Path) -> None:
    assert gc.isenabled()
    read(root)
    change(root, lambda content: content.pop("images"))
    refusal(root)
    assert gc.isenabled()


def test_chinese_names_and_spaces_are_kept(root: Path) -> None:
    (root / "images" / "a b 猫.JPG").touch()
    change(root, lambda content: content["images"][0].update(file_name="a b 猫.JPG"))
    for name in ("train", "val"):
        change(root, lambda content: content["categories"][0].update(name="红色 圆形"), name)
    dataset = read(root)
    assert dataset.lists["train"].paths[0] == "images/a b 猫.JPG"
    assert dataset.label_names[0] == "红色 圆形"


@pytest.mark.parametrize("by_address", [False, True])
def test_lvis_names_what_is_verified_as_absent(root: Path, by_address: bool) -> None:
    def lvis(content: Any) -> None:
        for image, absent in zip(content["images"], [[5], [3, 5, "9"], []], strict=True):
            image["neg_category_ids"] = absent
            if by_address:
                image["coco_url"] = f"http://images.cocodataset.org/images/{image.pop('file_name')}"

    change(root, lvis)
    dataset = read(root)
    assert dataset.lists["train"].paths == ["images/0.jpg", "images/1.jpg", "images/2.jpg"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0, 1], [0, 0, 1], [-1, -1, -1]]
    assert dataset.lists["val"].targets.tolist() == [[0, 1, 0]]  # COCO: all are looked for
    assert dataset.account.unknown == 3
    assert "3 images come from files that name classes verified as absent" in dataset.notes[0]
    assert read(root, uncertain="negative").lists["train"].targets[2].tolist() == [0, 0, 0]
    assert "all classes that nobody looked for" in refusal(root, uncertain="positive")


def test_other_files_leave_nothing_open(root: Path) -> None:
    change(root, lambda content: content["images"][0].update(neg_category_ids="none"))
    assert "convert.uncertain has no effect" in read(root, uncertain="negative").notes[0]
    assert read(root).account.unknown == 0
