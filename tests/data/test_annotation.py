# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml import systems
from paddlex_ml.data import annotation, faults, label_file
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import without_secrets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes; eight images in train.txt, one in val.txt; every file empty but present."""
    (tmp_path / "images").mkdir()
    for name in [*(f"{i}.jpg" for i in range(9)), "a b 猫.jpg"]:
        (tmp_path / "images" / name).touch()
    (tmp_path / "label.txt").write_text("0 cat\n1 traffic light\n2 红色圆形\n", encoding="utf-8")
    put(tmp_path, "train.txt", "".join(f"images/{i}.jpg\t0,1,0\n" for i in range(8)))
    put(tmp_path, "val.txt", "images/8.jpg\t1,0,1\n")
    return tmp_path


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_bytes(text.encode("utf-8"))


def change_line(folder: Path, name: str, number: int, text: str) -> None:
    lines = (folder / name).read_text(encoding="utf-8").splitlines()
    lines[number - 1] = text
    put(folder, name, "\n".join(lines) + "\n")


def refusal(folder: Path) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        annotation.read(folder)
    return str(caught.value)


def test_a_sound_set_gives_names_paths_and_targets(folder: Path) -> None:
    dataset = annotation.read(folder)
    assert dataset.label_names == ["cat", "traffic light", "红色圆形"]
    assert len(dataset.train) == 8
    assert dataset.train.path(7) == folder / "images" / "7.jpg"
    assert dataset.val.targets.tolist() == [[1, 0, 1]]
    assert dataset.val.targets.dtype == np.int8


def test_a_list_not_asked_for_is_empty_and_may_be_missing(folder: Path) -> None:
    (folder / "train.txt").unlink()
    dataset = annotation.read(folder, lists=("val",))
    assert (len(dataset.train), len(dataset.val)) == (0, 1)
    assert dataset.train.targets.shape == (0, 3)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimages/0.jpg\t0,1,0\nimages/a b 猫.jpg\t1,1,1\n",
        "images/0.jpg\t0,1,0\r\nimages/a b 猫.jpg\t1,1,1\r\n",
        "images/0.jpg\t0,1,0\nimages/a b 猫.jpg\t1,1,1",
        "images/0.jpg\t0,1,0\nimages/a b 猫.jpg\t1,1,1\n\n \n",
        "images/0.jpg\t0, 1, 0\nimages/a b 猫.jpg\t1,1,1 \n",
    ],
    ids=["BOM", "CRLF", "no last newline", "blank end", "spaces in values"],
)
def test_harmless_spellings_mean_the_same(folder: Path, text: str) -> None:
    put(folder, "train.txt", text)
    train = annotation.read(folder).train
    assert train.paths == ["images/0.jpg", "images/a b 猫.jpg"]
    assert train.targets.tolist() == [[0, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("images/6.jpg\t0,1", "label vector has 2 values, label.txt names 3 classes"),
        ("images/6.jpg\t0,1,0,1", "label vector has 4 values, label.txt names 3 classes"),
        ("images/6.jpg\t0,2,0", "the value of class 1 is '2', neither 0 nor 1"),
        ("images/6.jpg\t0,-3,0", "the value of class 1 is '-3', neither 0 nor 1"),
        ("images/6.jpg\t0,;,0", "the value of class 1 is ';', neither 0 nor 1"),
        ("images/6.jpg\t0,1,0.5", "the value of class 2 is '0.5', neither 0 nor 1"),
        ("images/6.jpg\t", "label vector has no values, label.txt names 3 classes"),
        ("images/6.jpg\t ", "or @ alone where the image shows none"),
        ("images/6.jpg\t@3", "there is no class 3: label.txt names 3 classes"),
        ("images/6.jpg 0,1,0", "fix:   put ONE tab there: images/6.jpg<tab>..."),
        ("images/6.jpg\t\t0,1,0", "the line has 2 tabs"),
        ("images/6.jpg", "the line has no tab between path and values"),
        ("", "the line is empty"),
        ("./images/../images/2.jpg\t0,1,0", "is already in line 3"),
        ("../6.jpg\t0,1,0", "../6.jpg lies outside the data set"),
        ("/elsewhere/6.jpg\t0,1,0", "/elsewhere/6.jpg lies outside the data set"),
        ("images/none.jpg\t0,1,0", "images/none.jpg does not exist"),
        ("images\\6.jpg\t0,1,0", "images/6.jpg is found with / instead of \\"),
        ("images\t0,1,0", "images does not exist"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(folder: Path, line: str, what: str) -> None:
    change_line(folder, "train.txt", 7, line)
    message = refusal(folder)
    assert what in message
    assert f"where: {folder / 'train.txt'}:7" in message


@pytest.mark.parametrize("path", ["C:6.jpg", r"\6.jpg", r"C:\images\6.jpg"])
def test_a_drive_leads_out_of_the_data_set_on_windows(
    folder: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    change_line(folder, "train.txt", 7, f"{path}\t0,1,0")
    assert f"{path} lies outside the data set" in refusal(folder)


@pytest.mark.parametrize(
    ("number", "line", "what"),
    [
        (1, "path\tlabels\tweight", "looks like a header: path<tab>labels<tab>weight"),
        (1, "图片\t标签\t权重", "looks like a header: "),
        (2, "path\tlabels\tweight", "the line has 2 tabs"),
        (1, "images/1.jpg\tcat\tdog", "the line has 2 tabs"),
        (1, "images\tcat\t0,1,0", "the line has 2 tabs"),
    ],
)
def test_a_header_is_called_so(folder: Path, number: int, line: str, what: str) -> None:
    change_line(folder, "train.txt", number, line)
    message = refusal(folder)
    assert what in message
    assert ("a list has no header" in message) == ("header" in what)


def test_an_absolute_path_inside_the_set_is_found(folder: Path) -> None:
    change_line(folder, "train.txt", 7, f"{folder}/images/6.jpg\t0,1,0")
    assert "images/6.jpg is found by its absolute path" in refusal(folder)


def test_a_line_in_another_encoding_is_named(folder: Path) -> None:
    lines = (folder / "train.txt").read_bytes().split(b"\n")
    lines[3] = "images/Größe.jpg\t0,1,0".encode("latin-1")
    (folder / "train.txt").write_bytes(b"\n".join(lines))
    message = refusal(folder)
    assert "train.txt:4" in message
    assert "iconv -f LATIN1" in message


@pytest.mark.parametrize("encoding", ["utf-16", "gb18030"])
def test_other_encodings_of_chinese_are_read_and_told(
    folder: Path, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "label.txt").write_bytes("0 猫\n1 狗\n2 猫头鹰\n".encode(encoding))
    assert annotation.read(folder).label_names == ["猫", "狗", "猫头鹰"]
    assert f"label.txt is read as {encoding.upper()}, not as UTF-8" in caplog.text


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        ("0 cat\n1 dog\n3 owl\n", "the ids jump from 1 to 3"),
        ("1 cat\n2 dog\n3 owl\n", "the ids start at 1"),
        ("0 cat\n1 dog\n1 owl\n", "id 1 is already in line 2"),
        ("0 cat\n1 dog\n2 cat\n", "the name 'cat' is already in line 1"),
        ("0 cat\ndog\n2 owl\n", "the line 'dog' is not a class id and a name"),
        ("0 cat\n\n1 owl\n", "the line '' is not a class id and a name"),
        ("", "label.txt names no class"),
    ],
)
def test_wrong_class_ids_and_names_are_refused(folder: Path, labels: str, what: str) -> None:
    put(folder, "label.txt", labels)
    with pytest.raises(PaddlexMLError, match=r"label\.txt") as caught:
        annotation.read_labels(folder / "label.txt")
    assert what in str(caught.value)


def test_classes_may_be_in_any_order(folder: Path) -> None:
    put(folder, "label.txt", "2 c\r\n0 a b\r\n1\tb\r\n")
    assert annotation.read_labels(folder / "label.txt") == ["a b", "b", "c"]


def test_an_empty_list_is_refused(folder: Path) -> None:
    put(folder, "train.txt", "\n")
    assert "the list names no image" in refusal(folder)


def test_missing_files_come_in_one_message(folder: Path) -> None:
    (folder / "label.txt").unlink()
    (folder / "val.txt").unlink()
    message = refusal(folder)
    assert "label.txt does not exist" in message
    assert "val.txt does not exist" in message
    assert "2 faults" in message


@pytest.mark.parametrize(("name", "what"), [("none", "does not exist"), ("f", "is not a folder")])
def test_a_wrong_folder_names_the_override(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "f").touch()
    message = refusal(tmp_path / name)
    assert what in message
    assert "-o Global.dataset_dir=" in message


def test_many_faults_are_grouped_counted_and_cut_at_twenty(folder: Path) -> None:
    bad = "".join(f"images/x{i}.jpg\t0,1,0\n" for i in range(30))
    put(folder, "train.txt", bad + "images/0.jpg\t0,1\n")
    message = refusal(folder)
    kinds = "image missing (30), wrong number of values (1)"
    first, second, *_ = message.splitlines()
    assert first == f"the data set has 31 faults of 2 kinds: {kinds}"
    assert second.startswith("  fix:   repair each kind")
    assert "image missing: 30\n    train.txt:1: images/x0.jpg does not exist" in message
    assert "train.txt:20:" in message
    assert "train.txt:21:" not in message
    assert "... and 10 more" in message
    assert "train.txt:31: label vector has 2 values" in message


def test_what_repairs_all_faults_is_the_repair_of_the_error(folder: Path) -> None:
    put(folder, "train.txt", "".join(f"images/x{i}.jpg\t0,1,0\n" for i in range(30)))
    first, second, *others = refusal(folder).splitlines()
    assert first == "the data set has 30 faults of 1 kind: image missing (30)"
    assert second.startswith("  fix:   restore the image")
    assert not [line for line in others if "fix:" in line]


def test_a_broken_label_file_does_not_hide_faults_of_the_lists(folder: Path) -> None:
    put(folder, "label.txt", "0 cat\n5 dog\n")
    change_line(folder, "train.txt", 7, "images/6.jpg\t0,1")
    assert "train.txt:7: label vector has 2 values, line 1 of train.txt has 3" in refusal(folder)


def test_parsing_keeps_the_sound_lines_and_every_image_that_exists(folder: Path) -> None:
    change_line(folder, "train.txt", 7, "images/6.jpg\t0,1")
    parsed = annotation.parse(folder)
    assert len(parsed.dataset.train) == 7
    assert parsed.lines["train"][annotation.normalise_path("images/6.jpg")] == 7


def test_what_is_written_reads_back_the_same(folder: Path) -> None:
    names = ["a b", "猫", "3 dots"]
    paths = ["images/a b 猫.jpg", "images/1.jpg"]
    targets = np.array([[1, 0, 1], [0, 0, 0]], np.uint8)
    annotation.write_labels(folder / "label.txt", names)
    annotation.write_list(folder / "train.txt", paths, targets)
    dataset = annotation.read(folder)
    assert dataset.label_names == names
    assert dataset.train.paths == paths
    assert np.array_equal(dataset.train.targets, targets)


@pytest.mark.parametrize("names", [["a", "a"], [" a"], [""], ["a\nb"]])
def test_names_that_would_not_read_back_are_not_written(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(PaddlexMLError, match=r"cannot be written to label\.txt"):
        annotation.write_labels(tmp_path / "label.txt", names)
    assert not (tmp_path / "label.txt").exists()


def test_a_path_that_begins_with_a_byte_order_mark_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="begins with a byte order mark"):
        annotation.write_list(tmp_path / "train.txt", ["\ufeffa.png"], np.ones((1, 3), np.uint8))


def test_a_path_with_a_tab_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="rename the image file"):
        annotation.write_list(tmp_path / "train.txt", ["a\tb.jpg"], np.zeros((1, 2), np.uint8))


def test_the_time_of_many_lines_grows_as_their_number(tmp_path: Path) -> None:
    annotation.write_labels(tmp_path / "label.txt", [f"class {i}" for i in range(80)])
    times = []
    for count in (3_000, 30_000):
        targets = np.random.default_rng(0).integers(0, 2, (count, 80), dtype=np.uint8)
        paths = [f"images/{i}.jpg" for i in range(count)]
        annotation.write_list(tmp_path / "train.txt", paths, targets)
        start = time.process_time()
        parsed = annotation.parse(tmp_path, lists=("train",))
        times.append(time.process_time() - start)
        assert len(parsed.faults) == count  # no image is there: the slowest case
    assert times[1] < 40 * times[0]  # a search through all lines for each would take 100 times


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("images\\6.jpg", "with / instead of \\"),
        ("Images/6.JPG", "with other capitals"),
        ("6.jpg", "in another folder"),
        ("photos/2024/6.jpg", "in another folder"),
        ("images/6.jpeg", "with another ending"),
        ("images/6", "without the ending"),
        ("C:\\Users\\li\\set\\images\\6.jpg", "in another folder"),
        ("/data/upload/1/6.jpg", "in another folder"),
        ("../set/images/6.jpg", "in another folder"),
        ("https://server/set/images/6.jpg?token=1", "in another folder"),
        ("images/6.jpg ", "in another folder"),
        ('"images/6.jpg"', "in another folder"),
    ],
)
def test_a_path_written_in_another_way_is_found_and_repaired(
    folder: Path, path: str, how: str
) -> None:
    change_line(folder, "train.txt", 7, f"{path}\t0,1,0")
    message = refusal(folder)
    assert f"{without_secrets(path)} " in message
    assert f"images/6.jpg is found {how}" in message
    assert "-o CheckDataset.repair.enable=true" in message
    parsed = annotation.parse(folder, repair=True)
    assert parsed.faults == []
    assert parsed.dataset.train.paths == [f"images/{i}.jpg" for i in range(8)]
    assert parsed.changes == [("train.txt:7", path, f"found {how}", "images/6.jpg")]
    assert parsed.lines["train"]["images/6.jpg"] == 7


def test_two_images_that_may_be_meant_stay_a_fault(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "6.jpg").touch()
    change_line(folder, "train.txt", 7, "6.jpg\t0,1,0")
    for drop in ((), ("missing",)):
        (fault,) = annotation.parse(folder, repair=True, drop=drop).faults
        assert (fault.kind, fault.where) == ("image ambiguous", "train.txt:7")
        assert fault.text == "6.jpg does not exist: 6.jpg may be images/6.jpg or more/6.jpg"
    assert "-o 'CheckDataset.drop=[missing]'" in fault.fix
    assert annotation.parse(folder, drop=["missing"]).faults == []


@pytest.mark.parametrize("name", ["train.txt", "val.txt"])
def test_a_guess_takes_no_image_of_another_line(folder: Path, name: str) -> None:
    change_line(folder, name, 1, "old/5.jpg\t0,1,0")
    (fault,) = annotation.parse(folder, repair=True).faults
    assert (fault.kind, fault.where) == ("image missing", f"{name}:1")
    assert "images/5.jpg, which is like it, is named in train.txt:6" in fault.text
    parsed = annotation.parse(folder, repair=True, drop=["missing"])
    assert parsed.faults == []
    assert parsed.changes == [(f"{name}:1", "old/5.jpg", "missing", "")]


def test_two_names_do_not_share_a_guess(folder: Path) -> None:
    put(folder, "train.txt", "x/0.jpg\t0,1,0\ny/0.jpg\t0,1,0\n")
    (fault,) = annotation.parse(folder, repair=True).faults
    assert fault.where == "train.txt:2"
    assert "is named in train.txt:1" in fault.text


def test_one_wrong_name_in_both_lists_is_one_image(folder: Path) -> None:
    put(folder, "train.txt", "x/0.jpg\t0,1,0\nimages/1.jpg\t1,1,0\n")
    put(folder, "val.txt", "x/0.jpg\t0,1,0\n")
    parsed = annotation.parse(folder, repair=True)
    assert parsed.faults == []
    assert [change.where for change in parsed.changes] == ["train.txt:1", "val.txt:1"]


@pytest.mark.parametrize("second", ["./images/0.jpg", "images\\0.jpg", "images/../images/0.jpg"])
@pytest.mark.parametrize("repair", [False, True])
def test_an_image_in_two_spellings_is_named_twice(folder: Path, second: str, repair: bool) -> None:
    change_line(folder, "train.txt", 8, f"{second}\t0,1,0")
    (fault,) = annotation.parse(folder, repair=repair).faults
    assert (fault.kind, fault.where) == ("path named twice", "train.txt:8")
    assert fault.text == f"{second} is already in line 1 as images/0.jpg"
    assert fault.fix == "leave such lines out: -o 'CheckDataset.drop=[duplicates]'"
    assert annotation.parse(folder, repair=repair, drop=["duplicates"]).faults == []


def test_missing_images_are_left_out_and_told(folder: Path) -> None:
    names = (
        "images/0.jpg",
        "images/none.jpg",
        "images/none.jpg",
        "/far/away/x.jpg",
        "IMAGES/8.JPG",
    )
    put(folder, "train.txt", "".join(f"{name}\t0,1,{i % 2}\n" for i, name in enumerate(names)))
    put(folder, "val.txt", "images/1.jpg\t0,1,0\n")
    parsed = annotation.parse(folder, drop=["missing"])
    assert parsed.faults == []
    assert parsed.dataset.train.paths == ["images/0.jpg"]
    assert sorted(parsed.changes) == [
        ("train.txt:2", "images/none.jpg", "missing", ""),
        ("train.txt:3", "images/none.jpg", "missing", ""),
        ("train.txt:4", "/far/away/x.jpg", "missing", ""),
        (
            "train.txt:5",
            "IMAGES/8.JPG",
            "missing, but repair.enable=true finds them (as images/8.jpg)",
            "",
        ),
    ]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_dangling_link_is_named(folder: Path) -> None:
    (folder / "images" / "6.jpg").unlink()
    (folder / "images" / "6.jpg").symlink_to("/elsewhere/6.jpg")
    assert "images/6.jpg is a dangling link: /elsewhere/6.jpg does not exist" in refusal(folder)


def test_every_fault_is_a_row_of_the_table(folder: Path) -> None:
    put(folder, "train.txt", "".join(f"images/x{i}.jpg\t0,1,0\n" for i in range(30)))
    with pytest.raises(PaddlexMLError) as caught:
        annotation.read(folder)
    text = faults.format_csv(caught.value.rows)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 30
    assert list(rows[0]) == ["file", "line", "kind", "what", "repair"]
    assert rows[29] == {
        "file": "train.txt",
        "line": "30",
        "kind": "image missing",
        "what": "images/x29.jpg does not exist",
        "repair": "restore the image, or leave such lines out: -o 'CheckDataset.drop=[missing]'",
    }


def test_a_fault_of_two_places_has_two_rows_and_one_of_a_folder_has_no_line(folder: Path) -> None:
    two = DatasetFault("broken", "train.txt:7, val.txt:3", "x", "y")
    error = faults.combine([two, DatasetFault("k", "a b.json images[7]", "x", "y")], folder)
    assert [row[:2] for row in error.rows] == [
        ("train.txt", "7"),
        ("val.txt", "3"),
        ("a b.json images[7]", ""),
    ]


@pytest.mark.parametrize("letter", ["\0", "\r", "\x1b", "\x7f", "\x0b"])
def test_a_control_character_in_a_class_name_is_refused_where_it_is_read(
    tmp_path: Path, letter: str
) -> None:
    (tmp_path / "label.txt").write_bytes(f"0 cat\n1 a{letter}b\n".encode())
    with pytest.raises(PaddlexMLError, match="control c"):
        annotation.read_labels(tmp_path / "label.txt")
    with pytest.raises(PaddlexMLError, match="control c"):
        label_file.labels_text(["cat", f"a{letter}b"])


def test_a_nul_in_a_path_is_a_fault_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "label.txt").write_text("0 cat\n")
    (tmp_path / "train.txt").write_bytes(b"a\0b.jpg\t1\n")
    with pytest.raises(PaddlexMLError, match=r"NUL character(.|\n)*train\.txt:1"):
        annotation.read(tmp_path, ["train"])
