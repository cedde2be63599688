# SPDX-License-Identifier: Apache-2.0
"""Columns of tables as people have them, through the reader of tables."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import csv_table
from paddlex_ml.formats.collector import Options, SourceDataset

Plant = Callable[..., Path]
IMAGES = [f"images/a{i}.jpg" for i in range(4)]


@pytest.fixture
def table(plant: Plant) -> Callable[..., SourceDataset]:
    """Reads a table of four images, whose rows are given without the image."""

    def read(header: str, *rows: str, **options: Any) -> SourceDataset:
        text = "\n".join([f"image,{header}", *(f"a{i}.jpg,{row}" for i, row in enumerate(rows))])
        return csv_table.read(plant({"x.csv": text}, *IMAGES), Options(**options))

    return read


def paste(message: str, choice: int = 0) -> dict[str, Any]:
    """The options that the error tells to paste."""
    words = shlex.split(message.split("fix:")[1])
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "-o"]
    key, value = overrides[choice].removeprefix("CheckDataset.convert.").split("=", 1)
    return {key: yaml.safe_load(value)}


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("1", "0"), ("1.0", "0.0"), ("True", "False"), ("yes", "no"), ("1", "-1"), ("1", ""),
        ("x", ""), ("Y", "N"), ("TRUE", "FALSE"), ("是", "否"), ("1.0", "0"),
    ],
)  # fmt: skip
def test_a_class_may_be_shown_in_many_ways(table: Any, labels: Any, yes: str, no: str) -> None:
    dataset = table("cat,dog", f"{yes},{no}", f"{no},{yes}", f"{yes},{yes}", f"{no},{no}")
    assert list(labels(dataset)["train"].values()) == [["cat"], ["dog"], ["cat", "dog"], []]
    told = "empty cells count as 0 in the columns cat, dog" in dataset.notes
    assert told == (not no)


@pytest.mark.parametrize(
    ("header", "row", "ignored"),
    [
        ("labels,width,height", "{}|x,640,480", "width (numbers), height (numbers)"),
        ("age,labels,", "{0:03}Y,{0}|x,", "age (text), column 4 (empty)"),
        (
            "Finding Labels,Follow-up #,Patient ID,Patient Gender,OriginalImage[Width,Height],",
            "{0}|x,0,{0},M,2682,2749,",
            "Follow-up # (0 and 1), Patient ID (numbers), Patient Gender (text), "
            "OriginalImage[Width (numbers), Height] (numbers), column 8 (empty)",
        ),
        ("url,tags", "http://a.b/{0},{0}|x", "url (text)"),
        ("x,y,w,h,class", "1,2,3.5,{0},{0}|x", "x (0 and 1), y (numbers), w (numbers)"),
        ("labels,confidence", "{}|x,0.{}1".replace("0.{}1", "0.51"), "confidence (numbers)"),
    ],
)
def test_columns_that_are_no_labels_are_told(
    table: Any, header: str, row: str, ignored: str
) -> None:
    dataset = table(header, *(row.format(i) for i in range(4)))
    assert dataset.label_names == ["0", "1", "2", "3", "x"]
    assert any(note.startswith(f"columns that are not used: {ignored}") for note in dataset.notes)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("is_valid", "False", "True"),
        ("is_valid", "0", "1"),
        ("is_train", "1", "0"),
        ("split", "train", "valid"),
        ("Data split", "training", "validation"),
        ("fold", "train", "val"),
        ("part of the set", "Train", "Val"),
    ],
)
def test_a_column_divides(table: Any, labels: Any, name: str, first: str, second: str) -> None:
    dataset = table(f"labels,{name}", f"a,{first}", f"a|b,{second}", f"b,{first}")
    assert labels(dataset) == {
        "train": {"images/a0.jpg": ["a"], "images/a2.jpg": ["b"]},
        "val": {"images/a1.jpg": ["a", "b"]},
    }
    assert f"the column {name!r} divides the images" in dataset.notes[0]


def test_numbers_of_folds_do_not_divide(table: Any, labels: Any) -> None:
    dataset = table("labels,fold", "a,0", "b,1", "a,2", "b,3")
    assert list(labels(dataset)) == ["train"]
    assert "columns that are not used: fold (numbers)" in dataset.notes[1]


@pytest.mark.parametrize("column", range(3))
def test_the_image_may_be_in_any_column(plant: Plant, labels: Any, column: int) -> None:
    rows = [["nr", "labels"], ["1", "cat|dog"], ["2", "dog"]]
    for row, cell in zip(rows, ["what", "a0.jpg", "a1.jpg"], strict=True):
        row.insert(column, cell)
    text = "\n".join(map(",".join, rows))
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES[:2]), Options())
    assert dataset.notes[0] == "images are in the column 'what', labels in the column labels"
    assert labels(dataset)["train"] == {"images/a0.jpg": ["cat", "dog"], "images/a1.jpg": ["dog"]}


def test_ids_name_images_without_their_ending(plant: Plant, labels: Any) -> None:
    text = "ID,Disease_Risk,DR\n1,1,1\n2,0,0\n3,1,0\n"
    dataset = csv_table.read(plant({"x.csv": text}, *(f"T/{i}.png" for i in (1, 2, 3))), Options())
    expected = {"T/1.png": ["Disease_Risk", "DR"], "T/2.png": [], "T/3.png": ["Disease_Risk"]}
    assert labels(dataset) == {"train": expected}


def test_two_columns_of_images_are_asked_for(plant: Plant, refusal: Any, labels: Any) -> None:
    text = "left,right,tags\na0.jpg,a1.jpg,cat\na2.jpg,a3.jpg,dog\n"
    root = plant({"x.csv": text}, *IMAGES)
    message = refusal(csv_table.read, root)
    assert "several columns name images: left, right" in message
    dataset = csv_table.read(root, Options(**paste(message, 1)))
    assert labels(dataset)["train"] == {"images/a1.jpg": ["cat"], "images/a3.jpg": ["dog"]}


def test_the_same_image_in_two_columns_is_no_doubt(plant: Plant) -> None:
    text = "file,url,tags\na0.jpg,http://b.c/d/a0.jpg,cat\na1.jpg,http://b.c/d/a1.jpg,dog\n"
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES[:2]), Options())
    assert "images are in the column 'file'" in dataset.notes[0]


@pytest.mark.parametrize(
    ("header", "row", "columns"),
    [
        ("labels,cat,dog", "bird,1,0", ["labels", "cat", "dog"]),
        ("label,category", "bird,animal", ["label", "category"]),
        ("colour,shape", "red,round", ["colour", "shape"]),
        ("cat,dog,scene", "1,0,beach", ["cat", "dog", "scene"]),
        ("grade,level", "3,4", ["grade"]),
    ],
)
def test_columns_in_doubt_are_asked_for(
    table: Any, refusal: Any, header: str, row: str, columns: list[str]
) -> None:
    with pytest.raises(Exception, match="it is not clear which columns have the labels") as caught:
        table(header, row, row, row)
    message = str(caught.value)
    dataset = table(header, row, row, row, **paste(message))
    assert dataset.label_names
    every = message.count("-o CheckDataset.convert.label_columns=")
    assert every > 1
    assert table(header, row, row, row, label_columns=columns).label_names


@pytest.mark.parametrize(("yes", "no"), [("ja", "nein"), ("Oui", "Non"), ("sí", "no")])
def test_yes_and_no_of_other_languages_are_no_names(
    table: Any, labels: Any, yes: str, no: str
) -> None:
    dataset = table("cat,dog", f"{yes},{no}", f"{no},{yes}")
    assert labels(dataset)["train"] == {"images/a0.jpg": ["cat"], "images/a1.jpg": ["dog"]}


def test_two_values_that_columns_share_may_be_yes_and_no(table: Any, labels: Any) -> None:
    rows = ("evet,yok", "yok,evet", "evet,evet")
    with pytest.raises(Exception, match="all have 'evet' and 'yok', of which one") as caught:
        table("cat,dog", *rows)
    dataset = table("cat,dog", *rows, **paste(str(caught.value)))
    assert dataset.label_names == ["cat", "dog"]
    assert labels(dataset)["train"]["images/a0.jpg"] == ["cat"]


def test_chosen_columns_count_and_the_others_do_not(table: Any, labels: Any) -> None:
    rows = ("bird|cat,1,0,7", "bird,0,1,8")
    dataset = table("labels,cat,dog,age", *rows, label_columns=["dog", "labels"])
    assert labels(dataset)["train"] == {
        "images/a0.jpg": ["bird", "cat"],
        "images/a1.jpg": ["bird", "dog"],
    }
    assert "columns that are not used: cat (0 and 1), age (numbers)" in dataset.notes[1]


def test_a_chosen_value_means_that_the_image_shows_the_class(table: Any, labels: Any) -> None:
    rows = ("2,present,3", "0,absent,1")
    assert table("a,b,c", *rows, label_value="present").label_names == ["b"]
    dataset = table("a,b,c", *rows, label_value="3.0", label_columns=["a", "c"])
    assert labels(dataset)["train"] == {"images/a0.jpg": ["c"], "images/a1.jpg": []}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"image_column": "Imge"}, "there is no column 'Imge'; the columns are image, labels, n"),
        ({"label_columns": ["lables"]}, "there is no column 'lables'"),
    ],
)
def test_an_unknown_column_names_the_nearest(
    table: Any, options: dict[str, Any], what: str
) -> None:
    with pytest.raises(Exception, match=what) as caught:
        table("labels,n", "a,1", "b,2", **options)
    assert table("labels,n", "a,1", "b,2", **paste(str(caught.value))).label_names == ["a", "b"]


def test_an_unknown_value_is_refused(table: Any) -> None:
    with pytest.raises(Exception, match=r"no column has the value '5'; there are 0, 1") as caught:
        table("a,b", "1,0", "0,1", label_value="5")
    options = paste(str(caught.value), 1)
    assert options == {"label_value": "1"}
    assert table("a,b", "1,0", "0,1", **options).label_names == ["a", "b"]


def test_a_separator_without_names_is_told(table: Any) -> None:
    dataset = table("a,b", "1,0", "0,1", separator=";")
    assert "convert.separator has no effect: no column has names of labels" in dataset.notes


def test_columns_that_differ_by_a_number_all_have_labels(table: Any) -> None:
    assert table("label1,label2", "a,b", "b,", "c,a").label_names == ["a", "b", "c"]


def test_ids_of_classes_are_their_names(table: Any) -> None:
    dataset = table("diagnosis,age", "0,51", "2,49", "0,48", "4,30")
    assert dataset.label_names == ["0", "2", "4"]


def test_a_table_without_labels_is_refused(table: Any) -> None:
    with pytest.raises(Exception, match="no column has labels"):
        table("width,height", "640,480", "640,479")


def test_a_table_without_a_first_line_of_names_is_read(plant: Plant, labels: Any) -> None:
    text = "images/a0.jpg,10,20,30,40,cat\nimages/a0.jpg,1,2,3,4,dog\nimages/a1.jpg,,,,,\n"
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES[:2]), Options())
    assert labels(dataset)["train"] == {"images/a0.jpg": ["cat", "dog"], "images/a1.jpg": []}
    assert "images are in the column 'column 1', labels in the column column 6" in dataset.notes


@pytest.mark.parametrize("header", ["filename,width,height,class,xmin,ymin,xmax,ymax"])
def test_a_row_for_each_box_is_united(plant: Plant, labels: Any, header: str) -> None:
    text = f"{header}\na0.jpg,9,9,cat,0,1,2,3\na0.jpg,9,9,red car,1,1,2,3\na1.jpg,9,9,cat,1,1,2,3\n"
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES[:2]), Options())
    expected = {"images/a0.jpg": ["cat", "red car"], "images/a1.jpg": ["cat"]}
    assert labels(dataset) == {"train": expected}


def test_the_index_that_pandas_writes_is_ignored(plant: Plant) -> None:
    text = ",image,tags\n0,a0.jpg,cat\n1,a1.jpg,dog\n2,a2.jpg,cat|dog\n"
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES[:3]), Options())
    assert dataset.label_names == ["cat", "dog"]


def test_ids_named_as_classes_count_before_texts_of_no_name(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    masks = "ImageId,ClassId,EncodedPixels\na0.jpg,3,29102 12 29346 24\na1.jpg,1,18661 28\n"
    dataset = csv_table.read(plant({"train.csv": masks}, *IMAGES[:2]), Options())
    assert labels(dataset)["train"] == {"images/a0.jpg": ["3"], "images/a1.jpg": ["1"]}
    places = "image,target,hospital\na0.jpg,3,north\na1.jpg,1,north\n"
    error = refusal(csv_table.read, plant({"train.csv": places}, *IMAGES[:2]))
    assert "it is not clear which columns have the labels: target, hospital" in error


@pytest.mark.parametrize("column", ["confidence", "present"])
def test_rows_that_may_deny_their_label_are_asked_for(
    plant: Plant, labels: Any, refusal: Any, column: str
) -> None:
    text = f"image,label,{column}\na0.jpg,cat,1\na0.jpg,dog,0\na1.jpg,dog,1\n"
    root = plant({"x.csv": text}, *IMAGES[:2])
    error = refusal(csv_table.read, root)
    assert f"0 in '{column}' may mean that the label of the row is not there" in error
    dataset = csv_table.read(root, Options(label_columns=["label"]))
    assert labels(dataset)["train"] == {"images/a0.jpg": ["cat", "dog"], "images/a1.jpg": ["dog"]}


def test_signs_and_words_of_chinese_tables_say_yes_and_no(plant: Plant, labels: Any) -> None:
    text = "图片,猫,狗\na0.jpg,有,√\na1.jpg,无,×\n"
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES[:2]), Options())
    assert labels(dataset)["train"] == {"images/a0.jpg": ["猫", "狗"], "images/a1.jpg": []}


def test_texts_beside_class_folders_are_asked_for(plant: Plant, refusal: Any) -> None:
    images = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(2)]
    rows = "".join(f"{path},{'canon' if '0' in path else 'nikon'}\n" for path in images)
    root = plant({"meta.csv": f"file,camera\n{rows}"}, *images)
    error = refusal(csv_table.read, root)
    assert "labels may be in 'camera', or be the folders cat, dog" in error
    assert "or -o CheckDataset.convert.src_dataset_type=ImageFolder" in error


def test_numbers_of_a_column_of_other_things_are_no_images(plant: Plant) -> None:
    text = "epoch,map\n" + "".join(f"{i},0.{i}\n" for i in range(1, 9))
    root = plant({"results.csv": text}, *(f"00{i}.jpg" for i in range(1, 9)))
    assert not csv_table.recognise(Inventory(root))
    (root / "results.csv").write_text(text.replace("epoch", "image"), encoding="utf-8")
    assert csv_table.recognise(Inventory(root)) == "results.csv, a table of images"


def test_a_column_without_a_value_is_unknown_beside_one_that_says_what_is_absent(
    table: Callable[..., SourceDataset],
) -> None:
    dataset = table("cat,dog,owl", "1,,0", "0,,1", ",,0", "1,,0")
    assert dataset.label_names == ["cat", "dog", "owl"]
    assert dataset.lists["train"].targets[:, 1].tolist() == [-1] * 4
    assert dataset.account.unknown == 5
    notes = [note for note in dataset.notes if "empty cells" in note]
    assert [note.partition(", are")[0] for note in notes] == [
        "5 empty cells, in dog (4), cat (1)",
    ]
    dataset = table("cat,dog,owl", "1,,", ",,1", "1,,", "1,,")  # 1 and nothing: nothing means no
    assert dataset.account.unknown == 0


@pytest.mark.parametrize("word", ["NA", "nan", "None", "<NA>", "#N/A"])
def test_what_programs_write_for_no_value_is_an_empty_cell(
    table: Callable[..., SourceDataset], word: str
) -> None:
    dataset = table("cat,dog", f"1,{word}", "0,1", f"{word},0", "-1,1")
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [0, 1], [-1, 0], [-1, 1]]
    assert any(note.startswith("2 empty cells, in dog (1), cat (1), ") for note in dataset.notes)


def test_an_empty_column_of_names_is_no_class(table: Callable[..., SourceDataset]) -> None:
    rows = ("owl,", "dog,", "owl,", "owl,")
    assert table("tag1,tag2", *rows, label_columns=["tag1", "tag2"]).label_names == ["dog", "owl"]
