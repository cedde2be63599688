# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import yolo
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
BOX = "0.5 0.5 0.25 1e-1"


def divided(**more: str | bytes) -> dict[str, str | bytes]:
    """A data set as Ultralytics lays it out; its images are IMAGES."""
    return {
        "data.yaml": "train: images/train\nval: images/val\nnames: [dog, cat]\n",
        "labels/train/1.txt": f"1 {BOX}\n0 {BOX}\n1 {BOX}\n",
        "labels/train/2.txt": "",
        "labels/val/3.txt": f"1 {BOX}",
        **more,
    }


IMAGES = ["images/train/1.jpg", "images/train/2.JPG", "images/val/3.png"]
FOUND = {
    "train": {"images/train/1.jpg": ["dog", "cat"], "images/train/2.JPG": []},
    "val": {"images/val/3.png": ["cat"]},
}


def test_folders_beside_the_yaml_file_give_both_lists(plant: Plant, labels: Any) -> None:
    done: list[tuple[int, int]] = []
    root = plant(divided(), *IMAGES)
    dataset = yolo.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["dog", "cat"]
    assert labels(dataset) == FOUND
    assert (dataset.retire, dataset.notes) == ([], [])
    assert done == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    "text",
    [
        "path: .\ntrain: images/train\nval: images/val\ntest:\nnc: 2\nnames:\n  0: dog\n  1: cat\n",
        "path: images\ntrain: train\nval: [val]\nnames:\n- dog\n- cat\n",
        "train: ../images/train\nval: ../images/val\nnames: ['dog', \"cat\"]\n",
        "train: .\\images\\train\nval: ./images/val/\ntest: null\nnames: {1: cat, 0: dog}\n",
        "\ufeffnames: [dog, cat]\r\ntrain: [images/train]\r\nval: images/val\r\n",
    ],
    ids=["Ultralytics", "path", "Roboflow", "Windows", "BOM"],
)  # fmt: skip
def test_spellings_of_the_yaml_file_mean_the_same(plant: Plant, labels: Any, text: str) -> None:
    dataset = yolo.read(plant(divided(**{"data.yaml": text}), *IMAGES), Options())
    assert labels(dataset) == FOUND
    assert dataset.notes == []


def test_the_folders_of_roboflow_give_both_lists_and_leave_test_alone(
    plant: Plant, labels: Any
) -> None:
    files = {
        "data.yaml": "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        "names: [a]\n",
        "train/labels/1.txt": f"0 {BOX}",
        "valid/labels/2.txt": f"0 {BOX}",
        "test/labels/3.txt": "x",
    }  # fmt: skip
    images = ["train/images/1.jpg", "valid/images/2.jpg", "test/images/3.jpg"]
    dataset = yolo.read(plant(files, *images), Options())
    assert labels(dataset) == {"train": {images[0]: ["a"]}, "val": {images[1]: ["a"]}}
    assert dataset.account.left_out == {
        images[2]: "of the test subset",
        "test/labels/3.txt": "of the test subset",
    }
    assert dataset.notes == [
        "../test/images is not used: test images are neither for training nor for validation"
    ]


def test_a_path_elsewhere_is_told_and_the_yaml_file_counts(plant: Plant, labels: Any) -> None:
    text = "path: ../datasets/coco8\ntrain: images/train\nval: images/val\nnames: [dog, cat]\n"
    dataset = yolo.read(plant(divided(**{"data.yaml": text}), *IMAGES), Options())
    assert labels(dataset) == FOUND
    assert dataset.notes == [
        "data.yaml:1: path ../datasets/coco8 is not a folder of the data set: the other paths are "
        "relative to the YAML file"
    ]


def test_absolute_paths_inside_the_data_set_are_followed(plant: Plant, labels: Any) -> None:
    root = plant(divided(), *IMAGES)
    (root / "data.yaml").write_text(
        f"path: {root}\ntrain: {root}/images/train\nval: images/val\nnames: [dog, cat]\n"
    )
    (root.parent / "link").symlink_to(root)
    for folder in (root, root.parent / "link"):
        assert labels(yolo.read(folder, Options())) == FOUND


def test_lists_of_images_are_relative_to_themselves_or_the_base(plant: Plant, labels: Any) -> None:
    files = divided(
        **{
            "data.yaml": "train: lists/train.txt\nval: [val.txt, images/more]\nnames: [dog, cat]\n",
            "lists/train.txt": "../images/train/1.jpg\r\nimages\\train\\2.JPG\n\n",
            "val.txt": "./images/val/3.png\n",
            "images/more/deep/x.txt": f"0 {BOX}",
        }
    )
    dataset = yolo.read(plant(files, *IMAGES, "images/more/deep/x.gif"), Options())
    expected = {**FOUND, "val": {**FOUND["val"], "images/more/deep/x.gif": ["dog"]}}
    assert labels(dataset) == expected


@pytest.mark.parametrize("subsets", [("train",), ("val",), ("train", "test")])
def test_one_list_alone_is_the_list_to_divide(
    plant: Plant, labels: Any, subsets: tuple[str, ...]
) -> None:
    text = "".join(f"{subset}: images/train\n" for subset in subsets) + "names: [dog, cat]\n"
    dataset = yolo.read(plant(divided(**{"data.yaml": text}), *IMAGES), Options())
    assert labels(dataset) == {"train": FOUND["train"]}


def test_boxes_polygons_and_key_points_count(plant: Plant, labels: Any) -> None:
    text = "0 0.1 0.2 0.3 0.4 0.5 0.6\n\n \r\n2\t-1 1e3 +.5 1. 0.5 1\n"
    files = {"classes.txt": "a\nb\nc\n", "a.txt": text}
    dataset = yolo.read(plant(files, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["a", "c"]}}


def test_names_are_taken_as_they_are_written(plant: Plant) -> None:
    names = "names: [yes, 007, 1.50, ~, ' spaces ', 红色, 2024-01-01]\n"
    dataset = yolo.read(
        plant(divided(**{"data.yaml": names + "train: images"}), *IMAGES), Options()
    )
    assert dataset.label_names == ["yes", "007", "1.50", "~", "spaces", "红色", "2024-01-01"]


@pytest.mark.parametrize(
    ("file", "base"), [("classes.txt", ""), ("obj.names", ""), ("labels/classes.txt", "")]
)
def test_without_a_yaml_file_names_come_from_a_text_file(
    plant: Plant, labels: Any, file: str, base: str
) -> None:
    files = {file: "dog \ncat\n", "labels/a.txt": f"1 {BOX}"}
    dataset = yolo.read(plant(files, "images/a.jpg", "other/b.jpg"), Options())
    assert dataset.label_names == ["dog", "cat"]
    assert labels(dataset) == {"train": {"images/a.jpg": ["cat"]}}
    assert dataset.notes == []


@pytest.mark.parametrize(
    "images",
    [
        ["images/train/1.jpg", "images/valid/2.jpg", "images/test/3.jpg"],
        ["train/images/1.jpg", "val/images/2.jpg", "test/images/3.jpg"],
        ["train/1.jpg", "valid/2.jpg", "test/3.jpg"],
    ],
)
def test_without_a_yaml_file_folders_divide(plant: Plant, labels: Any, images: list[str]) -> None:
    files = {image.replace("images", "labels")[:-4] + ".txt": f"0 {BOX}" for image in images}
    dataset = yolo.read(plant({"classes.txt": "a", **files}, *images), Options())
    assert labels(dataset) == {"train": {images[0]: ["a"]}, "val": {images[1]: ["a"]}}
    assert dataset.notes == [f"1 file in test/ is not used: {images[2]}"]


def test_an_image_outside_of_train_and_val_is_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"classes.txt": "a"}, "images/train/1.jpg", "images/val/2.jpg", "images/3.jpg")
    assert "the file is neither in a train nor in a val folder" in refusal(yolo.read, root)


def test_images_and_label_files_without_the_other_are_told(plant: Plant, labels: Any) -> None:
    files = divided(**{"labels/val/x.txt": "", "labels/val/classes.txt": "dog\ncat"})
    files["labels/train/2.txt"] = files.pop("labels/train/1.txt")
    dataset = yolo.read(plant(files, *IMAGES), Options())
    assert labels(dataset)["train"]["images/train/1.jpg"] == []
    assert [*dataset.account.not_annotated] == ["images/train/1.jpg"]
    assert dataset.account.left_out == {"labels/val/x.txt": "no image has its name"}
    assert dataset.notes == [
        "1 image has no label file, so no label: images/train/1.jpg",
        "1 label file has no image: labels/val/x.txt",
    ]


def test_the_last_folder_named_images_counts(plant: Plant, labels: Any) -> None:
    files = {"classes.txt": "a\nb", "images/x/labels/1.txt": f"1 {BOX}", "images/2.txt": f"0 {BOX}"}
    dataset = yolo.read(plant(files, "images/x/images/1.jpg", "images/2.jpg"), Options())
    assert labels(dataset)["train"] == {"images/2.jpg": ["a"], "images/x/images/1.jpg": ["b"]}


def test_another_yaml_file_with_names_is_found(plant: Plant, labels: Any) -> None:
    files = divided(**{"my set.yml": divided()["data.yaml"], "hyp.yaml": "lr0: 0.01\n"})
    del files["data.yaml"]
    assert labels(yolo.read(plant(files, *IMAGES), Options())) == FOUND


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_the_yaml_file_may_be_chinese_text_of_windows(plant: Plant, encoding: str) -> None:
    text = "names: [苹果, 照片]\ntrain: images/train\nval: images/val\n".encode(encoding)
    dataset = yolo.read(plant(divided(**{"data.yaml": text}), *IMAGES), Options())
    assert dataset.label_names == ["苹果", "照片"]


@pytest.mark.parametrize("text", ["names: [dog, cat]\n", "names: [dog, cat]\nval: \ntest: x\n"])
def test_a_yaml_file_of_names_alone_leaves_the_images_to_their_folders(
    plant: Plant, labels: Any, text: str
) -> None:
    dataset = yolo.read(plant(divided(**{"data.yaml": text}), *IMAGES), Options())
    assert labels(dataset) == FOUND
    assert (
        "data.yaml names neither `train` nor `val`: the images are found by their folders"
        in dataset.notes
    )


def test_names_may_be_in_a_file_of_their_own(plant: Plant, labels: Any) -> None:
    for names in ("", "names: obj.names\n", "names: /home/me/data/obj.names\n"):
        files = divided(**{"data.yaml": f"{YAML}{names}nc: 2\n", "obj.names": "dog\ncat\n"})
        assert labels(yolo.read(plant(files, *IMAGES), Options())) == FOUND


def test_two_yaml_files_with_names_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"a.yaml": "names: [a]", "b.yml": "x: 1\n'names' : [b]\n"})
    assert "2 YAML files have `names`: a.yaml, b.yml" in refusal(yolo.read, root)


YAML = "train: images/train\nval: images/val\n"


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (YAML + "names: [a, b\n", "the YAML is damaged: expected ',' or ']'", ":3"),
        (YAML + "names: [a]\n\tnc: 1\n", "the YAML is damaged: found character '\\t'", ":4"),
        (YAML + "names: [a\x00]\n", "the YAML is damaged: special characters", ":3"),
        (YAML + 'names: ["\\UFFFFFFFF"]', "the YAML is damaged: ", ":1"),  # Python's own words
        ("[" * 100_000, "the YAML is damaged: values are more than 50 deep", ":1"),
        ("names: [a]\n---\nnames: [a]\n", "the YAML is damaged: but found another document", ":2"),
        ("", "the file is not a mapping with keys such as `names` and `train`", ""),
        ("- a\n", "the file is not a mapping with keys such as `names` and `train`", ":1"),
        (YAML, "the key `names` is missing, and there is no file of class names", ":1"),
        (YAML + "names: []", "`names` names no class", ":3"),
        (YAML + "names: many", "`names` names no class", ":3"),
        (YAML + "names:\n- a\n- [b]\n", "the name of a class is a list or a mapping", ":5"),
        (YAML + "names:\n- a\n-\n", "the class name '' is empty", ":5"),
        (YAML + 'names: [a, "b\\nc"]\n', "the class name 'b\\nc' has a line end", ":3"),
        (YAML + 'names: ["\\ud800"]\n', "has a line end, a control character, or letters", ":3"),
        (YAML + "names:\n- a\n- b\n- a\n", "the name 'a' is given at data.yaml:4 already", ":6"),
        (YAML + "names:\n  0: a\n  2: b\n", "the class id 1 has no name, but higher", ":4"),
        (YAML + "names:\n  1: a\n  2: b\n", "the class id 0 has no name, but higher", ":4"),
        (YAML + "names:\n  0: a\n  00: b\n", "the class id 0 is given twice", ":5"),
        (YAML + "names:\n  0: a\n  x: b\n", "the class id is x, not a whole number", ":5"),
        (YAML + "names:\n  0: a\n  [1]: b\n", "the class id is a list, not a whole", ":5"),
        (YAML + "names: [a, b]\nnames: [b, a]\n", "names is given at data.yaml:3 already", ":4"),
        (YAML + "names: [a, b]\nnc: 3\n", "`nc` is 3, but the number of `names` is 2", ":4"),
        ("names: [a]\ntrain: {a: b}\n", "`train` is neither a path nor a list of paths", ":2"),
        ("names: [dog, cat]\ntrain: x\n", "neither a folder nor a .txt list of the data set "
         "(looked for x)", ":2"),
        ("names: [dog, cat]\ntrain: ['a\\0']\n", "neither a folder nor a .txt list", ":2"),
        ("names: [dog, cat]\ntrain: /else/where\n", "nowhere: it lies outside", ":2"),
        ("names: [dog, cat]\ntrain: labels\n", "labels has no image", ":2"),
        (YAML.encode() + b"names: [\xe9]", "the line is neither UTF-8 nor GB18030 text", ":3"),
    ],
)  # fmt: skip
def test_a_wrong_yaml_file_is_named_with_its_line(
    plant: Plant, refusal: Any, text: str | bytes, what: str, line: str
) -> None:
    root = plant({**divided(), "data.yaml": text}, *IMAGES)
    message = refusal(yolo.read, root)
    assert what in message
    assert f"where: {root / 'data.yaml'}{line}\n" in message


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("2 0.1 0.2 0.3 0.4", "the class id 2 has no name: 2 classes are named"),
        ("1.5 0.1 0.2 0.3 0.4", "the class id '1.5' is not a whole number"),
        ("2.0 0.1 0.2 0.3 0.4", "the class id 2 has no name: 2 classes are named"),
        ("-1 0.1 0.2 0.3 0.4", "the class id '-1' is not a whole number"),
        ("9999999999 0.1 0.2 0.3 0.4", "the class id '9999999999' is not a whole number"),
        ("cat 0.1 0.2 0.3 0.4", "the class id 'cat' is not a whole number"),
        ("1", "the line has 1 fields, a class id and four numbers are five"),
        ("1,0.1,0.2,0.3,0.4", "the line has 1 fields, a class id and four numbers are five"),
        ("1 0.1 0.2 0.3 x", "not all fields behind the class id are numbers"),
        ("1 0.1 0.2 0.3 nan", "not all fields behind the class id are numbers"),
        ("1 0.1 0.2 0.3 1e999", "not all fields behind the class id are numbers"),
        (b"1 0.1 0.2 0.3 \xff", "the line is neither UTF-8 nor GB18030 text"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(
    plant: Plant, refusal: Any, line: str | bytes, what: str
) -> None:
    text = f"0 {BOX}\n\n".encode() + (line.encode() if isinstance(line, str) else line) + b"\n"
    root = plant({**divided(), "labels/train/1.txt": text}, *IMAGES)
    message = refusal(yolo.read, root)
    assert what in message
    assert f"where: {root / 'labels/train/1.txt'}:3\n" in message


def test_damaged_names_do_not_make_every_label_a_fault(plant: Plant, refusal: Any) -> None:
    root = plant(divided(**{"data.yaml": YAML + "names: []\n"}), *IMAGES)
    assert refusal(yolo.read, root).startswith("`names` names no class")


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a\n\nb\n", "the class name '' is empty", ":2"),
        ("a\nb\na\n", "the name 'a' is in line 1 already", ":3"),
        ("a\nb\rc\n", "the class name 'b\\rc' has a line end", ":2"),
        ("", "the source names no class", ""),
    ],
)
def test_a_wrong_file_of_names_is_named_with_its_line(
    plant: Plant, refusal: Any, text: str, what: str, line: str
) -> None:
    root = plant({"classes.txt": text}, "a.jpg")
    message = refusal(yolo.read, root)
    assert what in message
    assert f"where: {root / 'classes.txt' if line else root}{line}\n" in message


def test_a_folder_without_names_is_refused(plant: Plant, refusal: Any) -> None:
    message = refusal(yolo.read, plant({"hyp.yaml": "lr0: 1"}, "a.jpg"))
    assert "neither a data.yaml with `names`, nor classes.txt, obj.names or labels.txt" in message


def test_missing_images_of_a_list_are_named_or_left_out(
    plant: Plant, refusal: Any, labels: Any
) -> None:
    files = {
        "data.yaml": "names: [a]\ntrain: t.txt\n",
        "t.txt": "1.jpg\n2.jpg\n../../3.jpg\n",
        "1.txt": f"0 {BOX}",
    }
    root = plant(files, "1.jpg")
    message = refusal(yolo.read, root)
    assert "t.txt:2: 2.jpg is not there" in message
    assert "t.txt:3: ../../3.jpg lies outside the data set" in message
    (root / "t.txt").write_text("1.jpg\n2.jpg\n")
    dataset = yolo.read(root, Options(skip_missing=True))
    assert labels(dataset) == {"train": {"1.jpg": ["a"]}}
    assert "1 image is not there, left out: 2.jpg" in dataset.notes


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (divided(), "data.yaml and labels/train/1.txt"),
        ({"obj.data": "names = n.names\n", "obj_train_data/1.txt": f"0 {BOX}"},
         "obj.data and obj_train_data/1.txt"),
        ({"classes.txt": "a\n", "Labels/1.TXT": f"0 {BOX}\n0 {BOX} 0 0\n"},
         "classes.txt and Labels/1.TXT"),
        ({"labelTxt/1.txt": "imagesource:GoogleEarth\ngsd:0.1\n9 9 9 9 9 9 9 9 small ship 0\n"},
         "labelTxt/1.txt"),
        ({"a.yaml": "names: [a]", "b.yaml": "names: [b]", "1.jpg.txt": f"0 {BOX}"}, "1.jpg.txt"),
        ({"classes.txt": "cat\ndog\n", "train.txt": "images/train/1.jpg 0 1\n"}, ""),
        ({"classes.txt": "cat\n", "1.txt": "a cat on a mat, 3 4 5 6\n"}, ""),
        ({"classes.txt": "cat\n", "Train_Tags81.txt": "0 0 0 1 0 1\n"}, ""),
        ({"data.yaml": "names: [a]", "1.txt": ""}, ""),
        ({"labels/1.txt": b"\xff\x00" * 40}, ""),
        ({"labels/1.txt": "Car 0.00 0 -1.57 614 181 727 284 1.57 1.73 4.15 1 1.75 13 -1.6\n"}, ""),
    ],
)  # fmt: skip
def test_the_format_is_recognised_by_what_the_files_hold(
    plant: Plant, files: dict[str, str], why: str
) -> None:
    assert yolo.recognise(Inventory(plant(files, *IMAGES))) == why


def test_lists_of_an_earlier_conversion_are_not_taken_for_labels(plant: Plant, labels: Any) -> None:
    files = {
        "classes.txt": "a\n", "notes.json": "{}", "1.txt": f"0 {BOX}", "2.txt": f"0 {BOX}",
        "label.txt": "0 a\n", "train.txt": "1.jpg\t1\n", "val.txt": "2.jpg\t1\n",
    }  # fmt: skip
    dataset = yolo.read(plant(files, "1.jpg", "2.jpg"), Options())
    assert labels(dataset) == {"train": {"1.jpg": ["a"], "2.jpg": ["a"]}}
    assert dataset.account.left_out == {
        **dict.fromkeys(("label.txt", "train.txt", "val.txt"), "written by an earlier conversion"),
        "notes.json": "the notes of Label Studio: classes.txt has the names",
    }
