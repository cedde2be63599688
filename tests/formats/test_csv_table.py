# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import csv_table
from paddlex_ml.formats.by_reference import understand
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
ONE_HOT = "image,dog,cat\na.jpg,1,0\nb.jpg,0,0\n"
NAMES = "image,labels\na.jpg,dog|cat\nb.jpg,\nc.jpg, cat | dog |\n"


def test_columns_of_0_and_1_are_classes_in_their_order(plant: Plant, labels: Any) -> None:
    done: list[tuple[int, int]] = []
    root = plant({"train.csv": ONE_HOT, "val.csv": "image,cat,dog\nc.jpg,1,1\n"}, *"abc")
    for name in "abc":
        (root / name).rename(root / f"{name}.jpg")
    dataset = csv_table.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["dog", "cat"]
    assert labels(dataset) == {
        "train": {"a.jpg": ["dog"], "b.jpg": []},
        "val": {"c.jpg": ["dog", "cat"]},
    }
    found = "images are in the column 'image', labels in the columns dog, cat"
    assert (dataset.retire, dataset.notes[:1], done) == ([], [found], [(3, 3)])


def test_the_tables_of_roboflow_give_both_lists_and_leave_test_alone(
    plant: Plant, labels: Any
) -> None:
    text = "filename, dog, traffic light\nx.jpg, 1, 0\n"
    files = {f"{subset}/_classes.csv": text for subset in ("train", "valid", "test")}
    dataset = csv_table.read(plant(files, "train/x.jpg", "valid/x.jpg", "test/x.jpg"), Options())
    assert dataset.label_names == ["dog", "traffic light"]
    assert labels(dataset) == {"train": {"train/x.jpg": ["dog"]}, "val": {"valid/x.jpg": ["dog"]}}
    assert dataset.notes[0].startswith("test/_classes.csv is not used:")
    assert dataset.account.left_out["test/x.jpg"] == "of the test subset"


def test_a_column_of_names_is_divided_where_a_separator_occurs(plant: Plant, labels: Any) -> None:
    dataset = csv_table.read(plant({"x.csv": NAMES}, "a.jpg", "b.jpg", "c.jpg"), Options())
    assert dataset.label_names == ["cat", "dog"]
    expected = {"a.jpg": ["cat", "dog"], "b.jpg": [], "c.jpg": ["cat", "dog"]}
    assert labels(dataset) == {"train": expected}
    assert dataset.notes == [
        "images are in the column 'image', labels in the column labels",
        "label names are separated by |: 2 names (2 if each cell were one name); to choose: "
        """-o CheckDataset.convert.separator='"|"'""",
    ]


@pytest.mark.parametrize(
    ("separator", "names"),
    [
        (" ", ["a", "b,c", "d"]),
        (",", ["a b", "c", "d"]),
        (", ", ["a b", "c", "d"]),
        (";,", ["a b", "c", "d"]),
        ("x", ["a b,c", "d"]),
    ],
)
def test_a_separator_may_be_chosen(plant: Plant, separator: str, names: list[str]) -> None:
    root = plant({"x.csv": 'image,labels\n0.jpg,"a b,c"\n1.jpg,d\n'}, "0.jpg", "1.jpg")
    dataset = csv_table.read(root, Options(separator=separator))
    assert dataset.label_names == names
    assert len(dataset.notes) == 1


def test_names_of_both_tables_have_one_separator(plant: Plant) -> None:
    files = {
        "train.csv": "image;labels\n1.jpg;a,b\n2.jpg;a\n",
        "valid.csv": "file;tags\n3.jpg;c|d\n",
    }
    dataset = csv_table.read(plant(files, "1.jpg", "2.jpg", "3.jpg"), Options())
    assert dataset.label_names == ["a", "b", "c", "d"]


def test_an_empty_separator_is_refused(plant: Plant, refusal: Any) -> None:
    message = refusal(csv_table.read, plant({"x.csv": NAMES}), separator="")
    assert "where: CheckDataset.convert.separator" in message


def test_a_single_column_of_0_and_1_is_a_class(plant: Plant, labels: Any) -> None:
    root = plant({"x.csv": "image,dog\na.jpg,1\nb.jpg,0\n"}, "a.jpg", "b.jpg")
    assert labels(csv_table.read(root, Options())) == {"train": {"a.jpg": ["dog"], "b.jpg": []}}


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage;dog;cat\r\na.jpg;1;0\r\nb.jpg;0;0",
        "image\tdog\tcat\n\na.jpg\t1\t0\nb.jpg\t0\t0\n\n",
        '"image", "dog","cat"\n"a.jpg", "1",0 \n,,\nb.jpg,0,0\n',
        '"image;of;all","dog","cat"\na.jpg,1,0\nb.jpg,0,0\n',
    ],
    ids=["semicolons", "tabs", "quotes", "semicolons in quotes"],
)
def test_harmless_spellings_mean_the_same(plant: Plant, labels: Any, text: str) -> None:
    dataset = csv_table.read(plant({"x.csv": text}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["dog"], "b.jpg": []}}


def test_the_last_row_may_end_with_an_empty_cell(plant: Plant, labels: Any) -> None:
    text = "image\tlabels\na.jpg\tdog\nb.jpg\t\n \n"
    dataset = csv_table.read(plant({"x.csv": text}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["dog"], "b.jpg": []}}


def test_quoted_cells_may_have_separators_quotes_and_chinese(plant: Plant, labels: Any) -> None:
    text = 'image,"a,b","say ""hi""",红色\n"x, 猫.jpg",1,1,0\n'
    dataset = csv_table.read(plant({"x.csv": text}, "x, 猫.jpg"), Options())
    assert dataset.label_names == ["a,b", 'say "hi"', "红色"]
    assert labels(dataset) == {"train": {"x, 猫.jpg": ["a,b", 'say "hi"']}}


@pytest.mark.parametrize("name", ["split", "SET", "subset"])
def test_a_column_divides_a_table_that_is_alone(plant: Plant, labels: Any, name: str) -> None:
    text = f"image,{name},labels\n1.jpg,Valid,a\n2.jpg,train,b\n3.jpg,test,c\n4.jpg,validation,\n"
    dataset = csv_table.read(plant({"x.csv": text}, *(f"{i}.jpg" for i in range(1, 5))), Options())
    assert labels(dataset) == {"train": {"2.jpg": ["b"]}, "val": {"1.jpg": ["a"], "4.jpg": []}}
    assert list(dataset.lists) == ["train", "val"]
    assert dataset.label_names == ["a", "b"]
    assert dataset.account.dropped == {"of the test subset": 1}


def test_a_column_with_one_part_leaves_one_list(plant: Plant, labels: Any) -> None:
    dataset = csv_table.read(plant({"x.csv": "i,split,l\n1.jpg,val,a\n"}, "1.jpg"), Options())
    assert labels(dataset) == {"train": {"1.jpg": ["a"]}}


def test_a_column_of_0_and_1_called_split_is_a_doubt(
    plant: Plant, refusal: Any, labels: Any
) -> None:
    root = plant({"x.csv": "i,dog,set\n1.jpg,1,0\n2.jpg,0,1\n"}, "1.jpg", "2.jpg")
    message = refusal(csv_table.read, root)
    assert "the column set has 0, 1: it may be a class, or divide the images" in message
    assert """-o CheckDataset.convert.label_columns='["dog"]'""" in message
    dataset = csv_table.read(root, Options(label_columns=["dog", "set"]))
    assert labels(dataset) == {"train": {"1.jpg": ["dog"], "2.jpg": ["set"]}}


@pytest.mark.parametrize(
    ("table", "image"),
    [
        ("a/x.csv", "a/1.jpg"),
        ("a/x.csv", "images/1.jpg"),
        ("a/x.csv", "1.jpg"),
        ("train.csv", "train/1.jpg"),
        ("valid.csv", "val/images/1.jpg"),
        ("val.csv", "valid/1.jpg"),
    ],
)
def test_images_are_found_in_the_usual_folders(
    plant: Plant, labels: Any, table: str, image: str
) -> None:
    dataset = csv_table.read(plant({table: "image,labels\n1.jpg,a\n"}, image), Options())
    assert labels(dataset) == {"train": {image: ["a"]}}


def test_images_named_again_are_united(plant: Plant, labels: Any) -> None:
    text = "image,labels\na.jpg,dog\n./a.jpg,cat\n"
    dataset = csv_table.read(plant({"x.csv": text}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"]}}
    assert "1 image is named more than once: their labels were merged" in dataset.notes


def test_the_order_of_names_is_that_of_the_class_file(plant: Plant) -> None:
    files = {"x.csv": NAMES, "classes.txt": "dog\ncat\n"}
    dataset = csv_table.read(plant(files, "a.jpg", "b.jpg", "c.jpg"), Options())
    assert dataset.label_names == ["dog", "cat"]


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (ONE_HOT + "c.jpg,1\n", "the row has 2 cells, the first line has 3", 4),
        (ONE_HOT + "\n\nc.jpg,1,0,0\n", "the row has 4 cells, the first line has 3", 6),
        (ONE_HOT + "c.jpg,1,2\n", "the value of cat is '2', neither 0 nor 1", 4),
        (ONE_HOT + "c.jpg,maybe,1\n", "the value of dog is 'maybe', neither 0 nor 1", 4),
        (ONE_HOT + ",1,1\n", "the row names no image", 4),
        (ONE_HOT + 'c.jpg,"1,0\nd.jpg,1,0\n', "a quote is opened but not closed", 4),
        (ONE_HOT + f'c.jpg,"{"x" * 200_000}\n', "a quote is opened but not closed", 4),
        (ONE_HOT + 'c.jpg,"1" x,0\n', "the row is not CSV: ',' expected after '\"'", 4),
        (ONE_HOT + "c.jpg\r,1,0\n", "the row is not CSV: new-line character seen", 4),
        (ONE_HOT + "gone.jpg,1,0\n", "gone.jpg is not there", 4),
        (ONE_HOT + "../../d.jpg,1,0\n", "../d.jpg lies outside the data set", 4),
        (ONE_HOT.encode() + b"caf\xe9.jpg,1,0", "the line is neither UTF-8 nor GB18030 text", 4),
        (NAMES + '"c.jpg","a\x01b"\n', "the class name 'a\\x01b' has a line end", 5),
        ("image,dog,dog \n", "the column 'dog' is there twice", 1),
        ("\nimage,dog,\na.jpg,1,x", "column 3 has no name", 2),
        ("image\na.jpg\n", "the table has only one column", 1),
        ("a.jpg,1\nb.jpg,0\n", "the first line has data, and the classes of the columns no", 1),
        ('image,"a\nb",c\na.jpg,1,0\n', "the class name 'a\\nb' has a line end", 1),
        ("image,split\na.jpg,train\n", "no column has labels", 1),
        ("image,split,set,l\na.jpg,train,val,x\n", "the columns split and set both divide", 1),
        ("image,split,l\na.jpg,train,x\nb.jpg,dev,x\n", "'dev' in the column split is neither", 3),
    ],
)
def test_a_wrong_table_is_named_with_its_line(
    plant: Plant, refusal: Any, text: str | bytes, what: str, line: int
) -> None:
    root = plant({"x.csv": text}, "a.jpg", "b.jpg", "c.jpg")
    message = refusal(csv_table.read, root)
    assert what in message
    assert f"where: {root / 'x.csv'}:{line}\n" in message


def test_tables_of_unlike_columns_are_refused(plant: Plant, refusal: Any) -> None:
    files = {"train.csv": ONE_HOT, "val.csv": "image,dog,cow\nc.jpg,1,0\n"}
    message = refusal(csv_table.read, plant(files, "a.jpg", "b.jpg", "c.jpg"))
    assert "these columns are not in both tables: cat, cow" in message
    assert "val.csv:1" in message


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the table has no line"),
        ("\n,,\n", "the table has no line"),
        ("image,labels\n", "the source names no image that is there"),
        ("image,labels\na.jpg,\n", "the source names no class"),
    ],
)
def test_an_empty_table_is_refused(plant: Plant, refusal: Any, text: str, what: str) -> None:
    assert what in refusal(csv_table.read, plant({"x.csv": text}, "a.jpg"))


def test_several_tables_are_refused_by_name(plant: Plant, refusal: Any) -> None:
    message = refusal(csv_table.read, plant({"a.csv": NAMES, "b.csv": NAMES}))
    assert "there are 2 tables, and it is not clear which to read: a.csv, b.csv" in message


def test_missing_images_are_left_out_when_asked(plant: Plant, labels: Any) -> None:
    dataset = csv_table.read(plant({"x.csv": ONE_HOT}, "a.jpg"), Options(skip_missing=True))
    assert labels(dataset) == {"train": {"a.jpg": ["dog"]}}
    assert dataset.notes[1:] == ["1 image is not there, left out: b.jpg"]


def test_the_tables_of_a_kaggle_contest_beside_train_are_told(plant: Plant, labels: Any) -> None:
    files = {
        "train.csv": "image_id,labels\na,cat dog\nb,cat\nc,dog\nd,bird\ne,bird cat\nf,dog bird\n",
        "test.csv": "image_id\nt\n",
        "sample_submission.csv": "image_id,labels\nt,cat\n",
    }
    images = [*(f"train_images/{name}.jpg" for name in "abcdef"), "test_images/t.jpg"]
    dataset = csv_table.read(plant(files, *images), Options())
    assert dataset.label_names == ["bird", "cat", "dog"]
    assert labels(dataset)["train"]["train_images/a.jpg"] == ["cat", "dog"]
    left_out = dataset.account.left_out
    assert left_out["sample_submission.csv"] == "an example of a submission"
    assert left_out["test.csv"] == "of the test subset"
    assert "sample_submission.csv is not used: an example of a submission" in dataset.notes


def test_tables_named_for_train_and_val_divide_and_ids_may_come_again(
    plant: Plant, labels: Any
) -> None:
    text = "ID,Disease_Risk,DR\n1,1,{0}\n2,0,0\n3,1,{0}\n"
    files = {
        "Training_Set/RFMiD_Training_Labels.csv": text.format(1),
        "Evaluation_Set/RFMiD_Validation_Labels.csv": text.format(0),
        "Test_Set/RFMiD_Testing_Labels.csv": text.format(1),
    }
    folders = ("Training_Set/Training", "Evaluation_Set/Validation", "Test_Set/Test")
    images = [f"{folder}/{i}.png" for folder in folders for i in (1, 2, 3)]
    dataset = csv_table.read(plant(files, *images), Options())
    assert labels(dataset) == {
        "train": {
            "Training_Set/Training/1.png": ["Disease_Risk", "DR"],
            "Training_Set/Training/2.png": [],
            "Training_Set/Training/3.png": ["Disease_Risk", "DR"],
        },
        "val": {
            "Evaluation_Set/Validation/1.png": ["Disease_Risk"],
            "Evaluation_Set/Validation/2.png": [],
            "Evaluation_Set/Validation/3.png": ["Disease_Risk"],
        },
    }


def test_tables_of_the_same_columns_and_other_images_are_united(plant: Plant, labels: Any) -> None:
    files = {f"day{i}/annotations.csv": f"image,tags\n{i}.jpg,cat|dog\n" for i in (1, 2)}
    dataset = csv_table.read(plant(files, "day1/1.jpg", "day2/2.jpg"), Options())
    assert list(labels(dataset)["train"]) == ["day1/1.jpg", "day2/2.jpg"]
    files = {f"day{i}/annotations.csv": f"image,tags\n1.jpg,{'cat' * i}\n" for i in (1, 2)}
    dataset = csv_table.read(plant(files, "day1/1.jpg", "day2/1.jpg"), Options())
    assert labels(dataset)["train"]["day2/1.jpg"] == ["catcat"]


def test_the_repair_of_several_tables_works(plant: Plant, refusal: Any) -> None:
    root = plant({"a.csv": NAMES, "b.csv": NAMES}, "a.jpg", "b.jpg", "c.jpg")
    message = refusal(csv_table.read, root)
    commands = message.partition("read one of them alone: ")[2].partition(";")[0].split(" or ")
    for name, command in zip(("a.csv", "b.csv"), commands, strict=True):
        assert command.endswith(f" --data {root / name}")
        read = understand(root / name, root.parent / name, Options(), None, images=None)
        assert read.draft.parsed.dataset.label_names == ["cat", "dog"]


def test_other_tables_do_not_count(plant: Plant) -> None:
    files = {
        "labels.csv": "image,tags\n" + "".join(f"{i}.jpg,cat;dog\n" for i in range(1, 31)),
        "classes.csv": "id,name\n0,cat\n1,dog\n",
        "sizes.csv": "kind,width\nx,3\n",
    }
    images = [f"{i}.jpg" for i in range(1, 31)]
    dataset = csv_table.read(plant(files, *images), Options())
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.account.left_out["classes.csv"] == "not read"


def test_a_table_is_recognised_by_its_images(plant: Plant) -> None:
    files = {"classes.csv": "id,name\n1,cat\n2,dog\n", "classes.txt": "cat\ndog\n"}
    files |= {"train.txt": "1.jpg\t1,0\n2.jpg\t0,1\n", "0.txt": "0 0.5 0.5 0.1 0.1\n"}
    root = plant(files, *(f"{i}.jpg" for i in range(40)))
    assert csv_table.recognise(Inventory(root)) == ""
    (root / "tags.csv").write_text("tags,photo\ncat,../x/1.jpg\ndog,C:\\y\\2.jpg\n")
    assert csv_table.recognise(Inventory(root)) == "tags.csv, a table of images"


def test_a_table_of_masks_is_refused_by_what_it_is(plant: Plant, refusal: Any) -> None:
    files = {"train/_classes.csv": "Pixel Value, Class\n0, background\n1, Car\n"}
    root = plant(files, "train/a.jpg", "train/a_mask.png")
    assert csv_table.recognise(Inventory(root)) == "train/_classes.csv, the classes of masks"
    message = refusal(csv_table.read, root)
    assert "a Roboflow export for semantic segmentation" in message


def test_a_doubtful_separator_names_the_line(plant: Plant, refusal: Any, labels: Any) -> None:
    text = (
        "fname,labels,is_valid\na.jpg,chair,True\nb.jpg,car person,False\nc.jpg,horse person,True\n"
    )
    root = plant({"data.csv": text}, "a.jpg", "b.jpg", "c.jpg")
    message = refusal(csv_table.read, root)
    assert "'car person' may be one name or 2: cut at a space there are 4 names, else 3" in message
    assert f"{root / 'data.csv'}:3" in message
    dataset = csv_table.read(root, Options(separator=" "))
    assert labels(dataset)["train"] == {"b.jpg": ["car", "person"]}
    assert csv_table.read(root, Options(separator="|")).label_names == [
        *("car person", "chair", "horse person")
    ]


def test_lists_in_cells_are_read(plant: Plant, labels: Any) -> None:
    text = 'image,labels\na.jpg,"[\'cat\', \'dog\']"\nb.jpg,"[""cat""]"\nc.jpg,[]\n'
    dataset = csv_table.read(plant({"x.csv": text}, "a.jpg", "b.jpg", "c.jpg"), Options())
    assert labels(dataset)["train"] == {"a.jpg": ["cat", "dog"], "b.jpg": ["cat"], "c.jpg": []}


def test_names_that_look_like_combinations_are_told(plant: Plant) -> None:
    rows = "".join(f"{i}.jpg,{name}\n" for i, name in enumerate(["cat", "dog", "cat_dog"]))
    images = [f"{i}.jpg" for i in range(3)]
    dataset = csv_table.read(plant({"x.csv": f"image,kind\n{rows}"}, *images), Options())
    assert "1 name looks like a combination of others: 'cat_dog'" in dataset.notes[-1]


def test_an_only_table_of_test_is_named(plant: Plant, refusal: Any) -> None:
    message = refusal(csv_table.read, plant({"test.csv": NAMES}, "a.jpg"))
    assert "there is no table of images in the data set, but test.csv, which is of the" in message


def test_a_class_may_be_called_like_the_first_column(plant: Plant, labels: Any) -> None:
    root = plant({"x.csv": "image,a.jpg,image\n1.jpg,1,0\n2.jpg,0,1\n"}, "1.jpg", "2.jpg")
    expected = {"1.jpg": ["a.jpg"], "2.jpg": ["image"]}
    assert labels(csv_table.read(root, Options())) == {"train": expected}


def test_dev_is_a_word_for_validation(plant: Plant, labels: Any) -> None:
    files = {"train.csv": "image,labels\na.jpg,cat\n", "dev.csv": "image,labels\nb.jpg,cat|dog\n"}
    dataset = csv_table.read(plant(files, "a.jpg", "b.jpg"), Options())
    found = {key: list(rows.values()) for key, rows in labels(dataset).items()}
    assert found == {"train": [["cat"]], "val": [["cat", "dog"]]}


CHEXPERT = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Cardiomegaly,Edema,Fracture\n"
    "CheXpert-v1.0-small/train/patient1/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,0.0,\n"
    "CheXpert-v1.0-small/train/patient2/study2/view1_frontal.jpg,Male,87,Frontal,PA,,-1.0,1.0,\n"
    "CheXpert-v1.0-small/train/patient2/study1/view2_lateral.jpg,Male,83,Lateral,,,1.0,-1.0,1.0\n"
    "CheXpert-v1.0-small/train/patient3/study1/view1_frontal.jpg,Male,83,Frontal,AP,,,,1.0\n"
)


@pytest.mark.parametrize(
    "cells", [["1.00", "0.00", "-1.00"], ["1.0e+00", "0e0", "-1.0E+00"], ["+1", "-0", "-1.0"]]
)
def test_numbers_of_all_forms_are_values_of_a_class(plant: Plant, cells: list[str]) -> None:
    one, zero, minus = cells
    table = f"image,cat,dog\na.jpg,{one},{zero}\nb.jpg,{zero},{minus}\nc.jpg,,{one}\n"
    dataset = csv_table.read(plant({"x.csv": table}, "a.jpg", "b.jpg", "c.jpg"), Options())
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [0, -1], [-1, 1]]


@pytest.mark.parametrize("uncertain", [None, "unknown", "positive", "negative"])
def test_the_table_of_chexpert_keeps_what_its_authors_were_not_certain_of(
    plant: Plant, uncertain: Any
) -> None:
    images = [f"train/{line.split(',')[0][26:]}" for line in CHEXPERT.splitlines()[1:]]
    root = plant({"train.csv": CHEXPERT}, *images)
    dataset = csv_table.read(root, Options(uncertain=uncertain))
    assert dataset.label_names == ["No Finding", "Cardiomegaly", "Edema", "Fracture"]
    minus = {"positive": 1, "negative": 0}.get(uncertain, -1)
    # No Finding and Fracture have neither 0 nor -1: there, nothing means no.
    assert dataset.lists["train"].targets.tolist() == [
        [1, -1, 0, 0], [0, minus, 1, 0], [0, 1, minus, 1], [0, -1, -1, 1],
    ]  # fmt: skip
    word = {"positive": "count as present", "negative": "count as absent"}.get(uncertain)
    told = word or "are unknown; to take them for present: -o CheckDataset.convert.uncertain="
    [note] = [note for note in dataset.notes if note.startswith("2 cells of -1")]
    assert told in note
    assert note.startswith("2 cells of -1, in Cardiomegaly (1), Edema (1), ")
    assert any(
        note.startswith("3 empty cells, in ")
        and ", are unknown" in note
        and "Cardiomegaly (2), Edema (1)" in note
        for note in dataset.notes
    )
    assert "empty cells count as 0 in the columns No Finding, Fracture" in dataset.notes
    options = Options(label_value="1", label_columns=dataset.label_names)  # as the note proposes
    assert csv_table.read(root, options).account.unknown == 0
    assert dataset.account.unknown == 3 + 2 * (minus < 0)


def test_minus_one_is_absent_where_there_is_no_zero(plant: Plant) -> None:
    text = "image,cat,dog\na.jpg,1,-1\nb.jpg,-1,1\nc.jpg,,1\n"
    root = plant({"x.csv": text}, "a.jpg", "b.jpg", "c.jpg")
    dataset = csv_table.read(root, Options())
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [0, 1], [-1, 1]]
    dataset = csv_table.read(root, Options(uncertain="unknown"))
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [-1, 1], [-1, 1]]
    dataset = csv_table.read(root, Options(label_value="1"))  # all others are absent
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_a_choice_without_effect_is_told(plant: Plant) -> None:
    root = plant({"x.csv": "image,cat,dog\na.jpg,1,0\n"}, "a.jpg")
    notes = csv_table.read(root, Options(uncertain="positive")).notes
    assert "convert.uncertain has no effect: no column has -1" in notes


def test_what_one_row_knows_of_an_image_counts_before_what_another_leaves_open(
    plant: Plant,
) -> None:
    text = "image,cat,dog\na.jpg,-1,0\na.jpg,1,-1\nb.jpg,-1,1\nb.jpg,,1\n"
    dataset = csv_table.read(plant({"x.csv": text}, "a.jpg", "b.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [-1, 1]]
