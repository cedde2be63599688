# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry, rewrite, text_list
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
NAMES = "cat\ndog\nred car\n"
IMAGES = tuple(f"images/{name}.jpg" for name in "abcd")


@pytest.mark.parametrize("names", ["synsets.txt", "labels.txt", "Class_Names.txt", "label.txt"])
@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("train_list", "val_anno_list")])
def test_lists_of_ids_are_named_by_the_class_file(
    plant: Plant, labels: Any, names: str, train: str, val: str
) -> None:
    files = {f"{train}.txt": "a.jpg \nb.jpg 0\nc.jpg 0 2\n", f"{val}.txt": "d.jpg 1\n"}
    dataset = text_list.read(plant({**files, names: NAMES}, *IMAGES), Options())
    assert dataset.label_names == ["cat", "dog", "red car"]
    assert labels(dataset) == {
        "train": {"images/a.jpg": [], "images/b.jpg": ["cat"], "images/c.jpg": ["cat", "red car"]},
        "val": {"images/d.jpg": ["dog"]},
    }
    assert dataset.account.files_seen == len(dataset.account.records) == 3


@pytest.mark.parametrize(
    "line",
    ["b.jpg\t0,2", "b.jpg,0,2", "b.jpg 0,2", "b.jpg\t0\t2", "b.jpg,0 2", r".\images\b.jpg 2 0"],
)
def test_ids_are_parted_by_spaces_commas_or_tabs(plant: Plant, labels: Any, line: str) -> None:
    files = {"train.txt": f"a.jpg 1\n{line}\n", "classes.txt": NAMES}
    dataset = text_list.read(plant(files, "images/a.jpg", "images/b.jpg"), Options())
    assert labels(dataset)["train"]["images/b.jpg"] == ["cat", "red car"]


@pytest.mark.parametrize(
    "names", ["0 cat\n1 dog\n2 red car\n", "cat 0\ndog 1\nred car 2\n", "2:red car\n1:dog\n0:cat"]
)
def test_names_may_have_their_ids(plant: Plant, labels: Any, names: str) -> None:
    files = {"list.txt": "a.jpg 0 2\n", "label.txt": names}
    dataset = text_list.read(plant(files, "a.jpg"), Options())
    assert dataset.label_names == ["cat", "dog", "red car"]
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "red car"]}}


def test_the_lists_of_mmpretrain_are_in_meta(plant: Plant, labels: Any) -> None:
    files = {
        "meta/train.txt": "n01/x y.JPEG 0\nn02/1.JPEG 1\n",
        "meta/val.txt": "v1.JPEG 1\n",
        "meta/classes.txt": "cat\ndog\n",
    }
    images = ("train/n01/x y.JPEG", "train/n02/1.JPEG", "val/v1.JPEG")
    assert labels(text_list.read(plant(files, *images), Options())) == {
        "train": {"train/n01/x y.JPEG": ["cat"], "train/n02/1.JPEG": ["dog"]},
        "val": {"val/v1.JPEG": ["dog"]},
    }


def test_ids_without_names_are_refused_until_they_have_them(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    root = plant({"train.txt": "a.jpg 0 3\nb.jpg 1\n"}, "a.jpg", "b.jpg")
    message = refusal(text_list.read, root)
    assert "write classes.txt into the data set folder: one name a line" in message
    assert "(4 lines)" in message
    (root / "classes.txt").write_text("w\nx\ny\nz\n")
    assert labels(text_list.read(root, Options())) == {
        "train": {"a.jpg": ["w", "z"], "b.jpg": ["x"]}
    }


def test_ids_that_begin_with_1_are_refused_until_the_file_says_so(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    root = plant({"train.txt": "a.jpg 1 3\nb.jpg 2\n", "classes.txt": NAMES}, "a.jpg", "b.jpg")
    message = refusal(text_list.read, root)
    assert "no class has the number 3: 3 have names, counted from 0" in message
    assert "write the id before each name: 1 cat" in message
    (root / "classes.txt").write_text("1 cat\n2 dog\n3 red car\n")
    dataset = text_list.read(root, Options())
    assert dataset.label_names == ["cat", "dog", "red car"]
    assert labels(dataset)["train"]["a.jpg"] == ["cat", "red car"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jpg 1 0 1\nb.jpg 0 0 0\n", {"a.jpg": ["cat", "red car"], "b.jpg": []}),
        ("a.jpg -1,1,-1\nb.jpg 1,1,1\n", {"a.jpg": ["dog"], "b.jpg": ["cat", "dog", "red car"]}),
    ],
)
def test_a_value_for_each_class_is_no_id(
    plant: Plant, labels: Any, text: str, expected: dict[str, list[str]]
) -> None:
    root = plant({"train.txt": text, "classes.txt": NAMES}, "a.jpg", "b.jpg")
    assert labels(text_list.read(root, Options())) == {"train": expected}


def test_minus_one_beside_0_is_unknown(plant: Plant, refusal: Any) -> None:
    files = {"train.txt": "a.jpg 1 -1 0\nb.jpg 0 1 1\n", "classes.txt": NAMES}
    dataset = text_list.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1, 0], [0, 1, 1]]
    files["train.txt"] = "a.jpg 1 -1 0\nb.jpg\n"
    message = refusal(text_list.read, plant(files, "a.jpg", "b.jpg"))
    assert "0 values are there, but 3 classes have a name" in message
    assert "train.txt:2" in message


def test_values_beside_an_image_without_any_may_be_ids(plant: Plant, refusal: Any) -> None:
    files = {"train.txt": "a.jpg 0 1 0\nb.jpg\n", "classes.txt": NAMES}
    message = refusal(text_list.read, plant(files, "a.jpg", "b.jpg"))
    assert "ids of classes, or 0 or 1 for each of the 3 classes" in message
    assert "or 0 for each class of an image that shows none" in message
    files["train.txt"] = "a.jpg 0 1 0\nb.jpg 0 0 0\n"  # as it says
    dataset = text_list.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[0, 1, 0], [0, 0, 0]]


def test_numbers_of_two_meanings_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"x.txt": "a.jpg 1 0\nb.jpg 0 1\n", "classes.txt": "cat\ndog\n"}, "a.jpg", "b.jpg")
    assert "ids of classes, or 0 or 1 for each of the 2 classes" in refusal(text_list.read, root)


@pytest.mark.parametrize("line", ["a.jpg cat,red car", "a.jpg\tcat\tred car", "a.jpg cat|red car"])
def test_names_stand_in_the_list_itself(plant: Plant, labels: Any, line: str) -> None:
    root = plant({"train.txt": f"{line}\nb.jpg no_label\nc.jpg dog\n"}, "a.jpg", "b.jpg", "c.jpg")
    dataset = text_list.read(root, Options())
    assert labels(dataset) == {
        "train": {"a.jpg": ["cat", "red car"], "b.jpg": [], "c.jpg": ["dog"]}
    }
    assert dataset.label_names == ["cat", "dog", "red car"]
    assert list(dataset.account.names_left_out) == ["no_label"]


def test_no_label_has_an_id_in_some_sets(plant: Plant, labels: Any) -> None:
    files = {"train.txt": "a.jpg 1\nb.jpg 0\n", "labels.txt": "no_label\ncat\n"}
    dataset = text_list.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert dataset.label_names == ["cat"]
    assert labels(dataset) == {"train": {"a.jpg": ["cat"], "b.jpg": []}}


def test_names_parted_by_spaces_need_a_file_or_an_option(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    text = "a.jpg cat dog\nb.jpg cat\nc.jpg dog\nd.jpg red car\n"
    root = plant({"train.txt": text}, *(f"{name}.jpg" for name in "abcd"))
    message = refusal(text_list.read, root)
    assert "-o 'CheckDataset.convert.separator=\" \"'" in message
    (root / "classes.txt").write_text(NAMES)
    expected = {"a.jpg": ["cat", "dog"], "b.jpg": ["cat"], "c.jpg": ["dog"], "d.jpg": ["red car"]}
    assert labels(text_list.read(root, Options())) == {"train": expected}
    (root / "classes.txt").unlink()
    dataset = text_list.read(root, Options(separator=" "))
    assert dataset.label_names == ["car", "cat", "dog", "red"]


def test_a_list_of_val_without_labels_is_refused(plant: Plant, refusal: Any) -> None:
    files = {"train.txt": "a.jpg 0\n", "val.txt": "b.jpg\n", "test.txt": "c.jpg\n"}
    root = plant({**files, "classes.txt": NAMES}, "a.jpg", "b.jpg", "c.jpg")
    assert "the only image of val has no label" in refusal(text_list.read, root)
    (root / "val.txt").write_text("b.jpg 1\n")
    dataset = text_list.read(root, Options())
    assert dataset.account.left_out["test.txt"] == "of the test subset"


def test_a_list_of_all_beside_train_and_val_is_left_out(plant: Plant, labels: Any) -> None:
    files = {"train.txt": "a.jpg 0\n", "val.txt": "b.jpg 1\n", "trainval.txt": "a.jpg 0\nb.jpg 1\n"}
    dataset = text_list.read(plant({**files, "classes.txt": NAMES}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}, "val": {"b.jpg": ["dog"]}}
    assert list(dataset.account.left_out) == ["trainval.txt"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"train.txt": "a.jpg 0\n", "list.txt": "b.jpg 1\n"}, "it is not clear which to read"),
        ({"x.txt": "a.jpg 0\n", "y.txt": "b.jpg 1\n"}, "it is not clear which to read: x.txt"),
        ({"train.txt": "a.jpg m/a.png\nb.jpg m/b.png\n"}, "m/a.png is a file, such as a mask"),
        ({"train.txt": "a.jpg 0\nb.jpg b.xml\n"}, "b.xml is a file, such as a mask"),
        ({"train.txt": "a.jpg 0\nb.jpg cat\n"}, "'0' is used but not named"),
        ({"train.txt": "a.jpg 0\n", "labels.txt": "x\ny\n"}, "name other classes"),
        ({"train.txt": "a.jpg 0\ngone.jpg 0\n"}, "gone.jpg is not there"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(
    plant: Plant, refusal: Any, files: dict[str, str], what: str
) -> None:
    root = plant({**files, "classes.txt": NAMES}, "a.jpg", "b.jpg")
    assert what in refusal(text_list.read, root)


def test_sentences_are_no_classes(plant: Plant, refusal: Any) -> None:
    text = "".join(f"{i}.jpg\tsentence number{i} of a person\n" for i in range(30))
    root = plant({"list.txt": text}, *(f"{i}.jpg" for i in range(30)))
    assert "30 images have 30 different labels" in refusal(text_list.read, root)


def test_the_format_is_known_by_its_lines(plant: Plant) -> None:
    root = plant({"train.txt": "a.jpg 0 1\n", "synsets.txt": NAMES}, "a.jpg")
    assert [found.format.name for found in registry.recognise(root)] == ["TextList"]
    for text in (
        "a.jpg\n",
        "a.jpg a.png\n",
        "image,labels\na.jpg,cat\n",
        "0 0.5 0.5 0.1 0.1\n",
        "",
    ):
        assert text_list.recognise(Inventory(plant({"train.txt": text}))) == ""


def test_lists_that_a_conversion_wrote_are_not_converted_again(plant: Plant, refusal: Any) -> None:
    files = {"train.txt": "a.jpg 0 1\n", "val.txt": "b.jpg 2\n", "synsets.txt": NAMES}
    root = plant(files, "a.jpg", "b.jpg")
    rewrite.convert(root, "TextList", Options())
    assert text_list.recognise(Inventory(root)) == ""
    assert "convert.enable=false" in refusal(text_list.read, root)


def test_boxes_with_ids_count_as_their_ids(plant: Plant, labels: Any) -> None:
    """What keras-yolo3 reads, and Roboflow writes as "YOLO Keras TXT"."""
    text = "a.jpg 48,240,195,371,2 8,12,352,498,0 1,1,9,9,2\nb.jpg\nc.jpg 2,2,3,3,1\n"
    files = {"train/_annotations.txt": text, "train/_classes.txt": NAMES}
    root = plant(files, *(f"train/{name}.jpg" for name in "abc"))
    for source in ("auto", "TextList"):
        assert labels(registry.read(root, source, Options())) == {
            "train": {
                "train/a.jpg": ["cat", "red car"],
                "train/b.jpg": [],
                "train/c.jpg": ["dog"],
            }
        }


@pytest.mark.parametrize("rest", ["0 cat", "cat 0.93"])
def test_names_with_numbers_are_refused(plant: Plant, refusal: Any, rest: str) -> None:
    root = plant({"train.txt": f"a.jpg {rest}\nb.jpg {rest}\n"}, "a.jpg", "b.jpg")
    assert f"'{rest}' is a name and a number" in refusal(text_list.read, root)


def test_flags_of_five_classes_are_no_box(plant: Plant, labels: Any) -> None:
    names = "\n".join("abcde")
    root = plant({"train.txt": "a.jpg 1,0,1,0,0\n", "classes.txt": names}, "a.jpg")
    assert labels(text_list.read(root, Options()))["train"]["a.jpg"] == ["a", "c"]


@pytest.mark.parametrize("separator", ["space", " ", ",;", "|"])
def test_the_separator_is_read_as_for_a_table(plant: Plant, labels: Any, separator: str) -> None:
    sign = {"space": " ", ",;": ";"}.get(separator, separator)
    lines = [f"{i}.jpg\tcat{sign}dog" if i % 2 else f"{i}.jpg\tdog" for i in range(4)]
    root = plant({"train.txt": "\n".join(lines)}, *(f"{i}.jpg" for i in range(4)))
    found = labels(text_list.read(root, Options(separator=separator)))["train"]
    assert found == {f"{i}.jpg": ["cat", "dog"] if i % 2 else ["dog"] for i in range(4)}


@pytest.mark.parametrize("values", ["0,1,-1", "0,1,", ",,", "@0!1,2", "@0,1?2", "@!"])
def test_our_own_lists_without_a_label_file_are_no_text_lists(plant: Plant, values: str) -> None:
    root = plant({"train.txt": f"a.jpg\t{values}\n"}, "a.jpg")
    assert text_list.recognise(Inventory(root)) == ""
    with pytest.raises(PaddlexMLError, match="in the form of this toolkit already"):
        text_list.read(root, Options())


@pytest.mark.parametrize("odd", ["@3,4", "0,5E-2,0", "0,1", "0,1,2", "0,1,-1\t2,5", "0.5,1,0"])
def test_one_other_line_does_not_make_our_own_list_a_text_list(plant: Plant, odd: str) -> None:
    for lines in (["0,1,-1", "1,0,0", odd, "0,0,0"], [odd, "0,1,-1", "1,0,0"]):
        text = "".join(f"{i}.jpg\t{values}\n" for i, values in enumerate(lines))
        root = plant({"train.txt": text}, *(f"{i}.jpg" for i in range(4)))
        assert text_list.recognise(Inventory(root)) == ""
        with pytest.raises(PaddlexMLError, match="in the form of this toolkit already"):
            text_list.read(root, Options())


@pytest.mark.parametrize("values", ["0,1", "-1,1", "0 2"])
def test_lists_that_may_be_of_others_are_text_lists(plant: Plant, values: str) -> None:
    root = plant({"train.txt": f"a.jpg\t{values}\n"}, "a.jpg")
    assert text_list.recognise(Inventory(root)) == "train.txt"


@pytest.mark.parametrize("rows", [["1,", "0,2,", "0", ""], ["1,", "0,2,", "0,1,", "2,"]])
def test_lists_of_label_numbers_with_a_comma_too_many_are_not_taken_for_ours(
    tmp_path: Path, rows: list[str]
) -> None:
    (tmp_path / "im").mkdir()
    for i in range(4):
        (tmp_path / f"im/{i}.png").write_bytes(b"x")
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n")
    lines = [f"im/{i}.png\t{row}\n" for i, row in enumerate(rows)]
    (tmp_path / "train.txt").write_text("".join(lines))
    rewrite.convert(tmp_path, "auto", Options())
    names = (tmp_path / "label.txt").read_text().splitlines()
    assert names == ["0 cat", "1 dog", "2 bird"]
    shown = (tmp_path / "train.txt").read_text().splitlines()
    assert shown[:2] == ["im/0.png\t0,1,0", "im/1.png\t1,0,1"]


def test_a_short_list_beside_one_of_ours_does_not_take_its_place(
    plant: Plant, refusal: Any
) -> None:
    files = {"train.txt": "a.jpg\t1,0,-1\nb.jpg\t0,1,1\n", "val.txt": "c.jpg\t1,1,-1\n"}
    root = plant({**files, "classes.txt": "cat\ndog\nowl\n"}, "a.jpg", "b.jpg", "c.jpg")
    assert text_list.recognise(Inventory(root)) == ""
    assert "in the form of this toolkit already" in refusal(text_list.read, root)


def test_a_number_left_out_is_no_number_less(plant: Plant, refusal: Any) -> None:
    names = {"classes.txt": "cat\ndog\nowl\n"}
    for text in ("a.jpg 1,,0\nb.jpg 0,1,1\n", "a.jpg 1,0,\nb.jpg 0,1,1\n"):
        message = refusal(text_list.read, plant({"x.txt": text, **names}, "a.jpg", "b.jpg"))
        assert "has a comma without a number" in message
        assert "x.txt:1" in message
    root = plant({"x.txt": "a.jpg 2,0,\nb.jpg 1\n", **names}, "a.jpg", "b.jpg")
    assert text_list.read(root, Options()).lists["train"].targets.tolist() == [[1, 0, 1], [0, 1, 0]]


def test_a_value_for_each_class_that_is_no_value_is_asked_about(plant: Plant, refusal: Any) -> None:
    files = {"list.txt": "a.jpg 1 0 2\nb.jpg 0 1 0\n", "classes.txt": "x\ny\nz\n"}
    message = refusal(text_list.read, plant(files, "a.jpg", "b.jpg"))
    assert "list.txt:2" in message
    assert "the numbers [0, 1, 0] may be ids of classes, or 0 or 1 for each of the 3" in message
    assert "write 0, 1 or -1 for each class, not 2, or the names of the classes" in message
