# SPDX-License-Identifier: Apache-2.0
"""A data set with unknown labels, and one of sparse lists, from the files to the result."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data import annotation, check, sampling, split, targets, tidy
from paddlex_ml.data.split import Division
from paddlex_ml.data.targets import SparseTargets
from paddlex_ml.engines import check_dataset
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import rewrite
from tests.engines.test_check_dataset import configure

NAMES = ["cat", "dog", "owl", "bat"]
ROWS = ["1,0,-1,-1", "0,1,1,", ",,,", "1,1,1,-1", "0,0,-1,-1"]
IDS = ["@0?2,3", "@1,2?3", "@?0,1,2,3", "@0,1,2?3", "@?2,3"]
KNOWN = ["@0!1", "@1,2!0", "@!", "@0,1,2!", "@!0,1"]


def write_set(root: Path, rows: list[str], val: list[str]) -> Path:
    annotation.write_labels(root / "label.txt", NAMES)
    for k, (name, lines) in enumerate((("train", rows), ("val", val))):
        text = ""
        for i, values in enumerate(lines):
            pixels = np.random.default_rng([k, i]).integers(0, 256, (40, 40, 3), np.uint8)
            (root / "images").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / "images" / f"{name}{i}.png")
            text += f"images/{name}{i}.png\t{values}\n"
        (root / f"{name}.txt").write_text(text)
    return root


@pytest.fixture(params=["dense", "sparse", "known ids"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "dense":
        return write_set(tmp_path / "set", ROWS, ["1,0,1,1", "0,1,0,0"])
    val = ["@0,2,3", "@1"] if request.param == "sparse" else ["@0,2,3!1", "@1"]
    return write_set(tmp_path / "set", IDS if request.param == "sparse" else KNOWN, val)


def test_unknown_labels_are_counted_by_list_and_class(folder: Path) -> None:
    found = check.summarise(check.check(folder))
    assert found["class_counts"]["train"] == {"cat": 2, "dog": 2, "owl": 2, "bat": 0}
    assert found["unknown_labels"] == {
        "train": {
            "labels": 10,
            "share": 0.5,
            "known_images": {"cat": 4, "dog": 4, "owl": 2, "bat": 0},
        },
        "val": {"labels": 0, "share": 0.0, "known_images": dict.fromkeys(NAMES, 2)},
    }
    assert found["labels_per_image"]["train"]["mean"] == 1.2
    assert found["co_occurrence"]["counts"][0] == [3, 1, 2, 1]


def test_what_unknown_labels_make_impossible_is_warned_of(folder: Path) -> None:
    texts = {warning.text.partition(";")[0] for warning in check.check(folder).warnings}
    assert texts == {
        "1 of 4 classes is unknown in every image of train: bat",
        "1 of 4 classes is known only where train shows them: owl",
        "1 of 5 images in train is unknown in every class (the first: images/train2.png)",
    }


def test_the_log_the_result_and_the_page_tell_it(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    result = check_dataset.run(configure(folder, tmp_path / "output"))
    told = ["train.txt: 10 labels are unknown (50.0 %): a training leaves out such labels"]
    assert [text for text in caplog.messages if "leaves out" in text] == told
    assert msgspec.to_builtins(result)["report"]["unknown_labels"]["train"]["labels"] == 10
    write_set(folder, ROWS, ["1,0,1,1", "0,1,0,-1"])
    check_dataset.run(configure(folder, tmp_path / "output2"))
    of_val = "val.txt: 1 label is unknown (12.5 %): an evaluation leaves out such labels"
    assert of_val in caplog.messages
    page = (tmp_path / "output" / "check_dataset" / "report.html").read_text("utf-8")
    assert "10 pairs of image and class (35.7 %) are unknown" in page
    rows = page.partition("Images where a class is known:")[2].partition("</table>")[0]
    assert rows.index("bat") < rows.index("owl") < rows.index("cat") < rows.index("dog")
    assert "<td>2</td><td>40.0 %</td>" in rows


def test_a_known_set_has_nothing_of_it(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", ["1,0,1,0", "0,1,0,1"], ["1,0,1,1", "0,1,0,0"])
    result = check_dataset.run(configure(root, tmp_path / "output"))
    assert "unknown_labels" not in msgspec.to_builtins(result)["report"]
    page = (tmp_path / "output" / "check_dataset" / "report.html").read_text("utf-8")
    assert "Unknown labels" not in page


def test_a_split_and_a_repair_keep_every_value(folder: Path) -> None:
    before = annotation.read(folder)
    values = {
        path: targets.row(images.values, i).tolist()
        for images in (before.train, before.val)
        for i, path in enumerate(images.paths)
    }
    rewrite.resplit(folder, Division(val_percent=40))
    after = annotation.read(folder)
    assert type(after.train.values) is type(before.train.values)
    assert values == {
        path: targets.row(images.values, i).tolist()
        for images in (after.train, after.val)
        for i, path in enumerate(images.paths)
    }


def test_images_without_a_label_are_left_out_alike(folder: Path) -> None:
    parsed = annotation.parse(folder)
    left = tidy.leave_out(parsed, check.inspect(parsed), ["empty"])
    assert left.dataset.train.paths == [f"images/train{i}.png" for i in (0, 1, 3)]
    assert targets.dense(left.dataset.train.values)[:, 3].tolist() == [-1, -1, -1]


def test_a_dense_and_a_sparse_list_have_one_digest(tmp_path: Path) -> None:
    dense = annotation.read(write_set(tmp_path / "a", ROWS, ["1,0,1,1"]))
    for name, rows in (("b", IDS), ("c", KNOWN)):
        sparse = annotation.read(write_set(tmp_path / name, rows, ["@0,2,3"]))
        assert isinstance(sparse.train.values, SparseTargets)
        assert annotation.digest(dense.train) == annotation.digest(sparse.train)
        assert annotation.digest(dense.val) == annotation.digest(sparse.val)


def test_a_line_named_twice_is_the_same_only_with_the_same_unknown_labels(folder: Path) -> None:
    lines = (folder / "train.txt").read_text().splitlines()
    other = lines[0].replace("-1", "0").replace("?2,3", "").replace("!1", "")
    for line, text in ((lines[0], "fix:   leave such lines out"), (other, "with other labels")):
        (folder / "train.txt").write_text("\n".join([*lines, line]) + "\n")
        with pytest.raises(PaddlexMLError, match="already in line 1") as caught:
            annotation.read(folder)
        assert text in str(caught.value)


def test_a_wrong_line_is_named_by_file_and_number(folder: Path) -> None:
    lines = (folder / "train.txt").read_text().splitlines()
    lines[1] = "images/train1.png\t@1,9"
    lines[3] = "images/train3.png\t1,0,2,0"
    (folder / "train.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(PaddlexMLError) as caught:
        annotation.read(folder)
    assert "there is no class 9: label.txt names 4 classes" in str(caught.value)
    assert "train.txt:2" in str(caught.value)
    assert "the value of class 2 is '2', neither 0 nor 1" in str(caught.value)
    assert "train.txt:4" in str(caught.value)


def test_a_damaged_label_file_hides_no_fault_of_sparse_lines(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", ["@0", "@5", "@1,1"], ["@0"])
    (root / "label.txt").write_text("0 cat\n2 dog\n")
    with pytest.raises(PaddlexMLError) as caught:
        annotation.read(root)
    assert "class 1 is named twice" in str(caught.value)
    assert "class 5" not in str(caught.value)


@pytest.mark.parametrize("mostly_known", [0.0, 0.4, 0.9])
def test_known_absent_labels_are_divided_as_well(mostly_known: float) -> None:
    rng = np.random.default_rng(0)
    table = np.full((400, 2), -1, np.int8)
    table[:, 0] = rng.random(400) < 0.3
    table[:40, 1] = np.arange(40) % 10 == 0  # 4 present and 36 absent, all others unknown
    table[40:, 1] = np.where(rng.random(360) < mostly_known, 0, -1)
    wanted = targets.count(table).absent[1] / 4
    for values in (table, targets.to_sparse(table)):
        images = annotation.ImageList(Path(), [f"{i}.jpg" for i in range(400)], values)
        lists = split.divide(images, Division(val_percent=25))
        counts = targets.count(lists["val"].values)
        assert counts.present[1] == 1
        assert abs(counts.absent[1] - wanted) <= 1


def test_the_share_of_a_class_is_that_of_the_images_where_it_is_known() -> None:
    table = np.array([[1, 1], [0, -1], [0, -1], [0, -1]], np.int8)
    for values in (table, targets.to_sparse(table)):
        assert sampling.repeat_factors(values, 1.0).tolist() == [2.0, 1.0, 1.0, 1.0]
    table[1:, 1] = 0
    table[0] = [0, 1]
    assert sampling.repeat_factors(table, 1.0).tolist() == [2.0, 1.0, 1.0, 1.0]
