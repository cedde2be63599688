# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data import annotation, journal, targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import exporters, registry, rewrite
from paddlex_ml.formats.collector import Options
from paddlex_ml.progress import ignore_progress

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["zebra, striped", 'a "cat"', "猫 & 狗", "never seen", "0"]

FOREIGN = sorted(exporters.WRITERS.keys() - {"PaddleX"})  # formats that a conversion reads


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five train and two val images of five classes, one of them on no image, one image bare."""
    root = tmp_path / "my set"
    (root / "图 片").mkdir(parents=True)
    paths = [f"图 片/a, {i}.png" for i in range(7)]
    for i, path in enumerate(paths):
        Image.new("RGB", (40 + i, 30)).save(root / path)
    targets = np.zeros((7, 5), np.uint8)
    targets[[0, 0, 1, 2, 3, 5, 6, 6], [0, 1, 2, 4, 0, 1, 2, 4]] = 1
    annotation.write_labels(root / "label.txt", NAMES)
    annotation.write_list(root / "train.txt", paths[:5], targets[:5])
    annotation.write_list(root / "val.txt", paths[5:], targets[5:])
    return root


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_export_into_the_data_set_converts_back_to_the_same_lists(root: Path, kind: str) -> None:
    lists = {name: (root / name).read_bytes() for name in ("label.txt", "train.txt", "val.txt")}
    exporters.export(root, kind)
    for name in lists:
        (root / name).rename(root / f"{name}.old")
    rewrite.convert(root, kind, Options())
    assert {name: (root / name).read_bytes() for name in lists} == lists


def test_coco_has_one_annotation_a_label_with_the_whole_image_as_box(root: Path) -> None:
    exporters.export(root, "COCO", root / "out")
    content = json.loads((root / "out/annotations/instance_val.json").read_text("utf-8"))
    assert [c["name"] for c in content["categories"]] == NAMES
    assert content["images"][1] == {
        "id": 7, "file_name": "图 片/a, 6.png", "width": 46, "height": 30,
    }  # fmt: skip
    box = {"bbox": [0, 0, 46, 30], "area": 1380, "iscrowd": 0}
    assert content["annotations"][1:] == [
        {"id": 2, "image_id": 7, "category_id": 3, **box},
        {"id": 3, "image_id": 7, "category_id": 5, **box},
    ]


def test_sizes_are_those_of_the_image_as_it_is_seen(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (46, 30)).save(root / "图 片/a, 6.png", exif=exif)
    exporters.export(root, "COCO", root / "out")
    content = json.loads((root / "out/annotations/instance_val.json").read_text("utf-8"))
    assert (content["images"][1]["width"], content["images"][1]["height"]) == (30, 46)


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_sizes_are_those_that_the_decoder_gives(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (46, 30)).save(path, exif=exif)
    assert exporters._measure(path) == read_image(path).size


def test_damaged_exif_does_not_keep_an_image_from_being_measured(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    Image.new("RGB", (46, 30)).save(path, exif=exif)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Exif\0\0MM\0*", b"Exif\0\0XX\0*"))
    assert path.read_bytes() != content
    assert exporters._measure(path) == read_image(path).size == (46, 30)


@pytest.mark.parametrize(
    "names", [["a;b;c", "d"], ["x\ty", "z"], ['"', '";'], ["image", "split"], ["a.jpg", "1"], ["1"]]
)
@pytest.mark.parametrize("kind", FOREIGN)
def test_odd_class_names_convert_back(root: Path, kind: str, names: list[str]) -> None:
    targets = np.eye(5, len(names), dtype=np.uint8)
    paths = [f"图 片/a, {i}.png" for i in range(5)]
    annotation.write_labels(root / "label.txt", names)
    annotation.write_list(root / "train.txt", paths, targets)
    annotation.write_list(root / "val.txt", paths[:1], targets[:1])
    exporters.export(root, kind)
    dataset = registry.FORMATS[kind].read(root, Options())
    assert dataset.label_names == names
    assert dataset.lists["train"].paths == paths
    assert np.array_equal(dataset.lists["train"].targets, targets)


def test_names_that_would_not_convert_back_are_refused(root: Path) -> None:
    targets = np.ones((1, 5), np.uint8)
    for path_of_image in ("a.png", " a.png", "images/a.png"):
        (root / path_of_image).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 3)).save(root / path_of_image)
    annotation.write_list(root / "val.txt", ["a.png"], targets)
    with pytest.raises(PaddlexMLError, match=r"COCO readers would read images/a\.png instead"):
        exporters.export(root, "COCO")
    exporters.export(root, "COCO", root / "out")  # a place where nothing is mistaken
    exporters.export(root, "CSV")
    assert registry.FORMATS["CSV"].read(root, Options()).lists["val"].paths == ["a.png"]
    annotation.write_list(root / "val.txt", [" a.png"], targets)
    with pytest.raises(PaddlexMLError, match="a CSV table loses the spaces around the name"):
        exporters.export(root, "CSV")
    exporters.export(root, "JSONL")
    assert registry.FORMATS["JSONL"].read(root, Options()).lists["val"].paths == [" a.png"]


def test_csv_and_jsonl_hold_what_the_lists_say(root: Path) -> None:
    exporters.export(root, "CSV", root / "csv")
    exporters.export(root, "JSONL", root / "jsonl")
    table = (root / "csv" / "val.csv").read_text("utf-8").splitlines()
    assert table[0] == '\ufeffimage,"zebra, striped","a ""cat""",猫 & 狗,never seen,0'
    assert table[2] == '"图 片/a, 6.png",0,0,1,0,1'
    lines = (root / "jsonl" / "val.jsonl").read_text("utf-8").splitlines()
    assert json.loads(lines[1]) == {"path": "图 片/a, 6.png", "labels": ["猫 & 狗", "0"]}
    assert (root / "jsonl" / "classes.txt").read_text("utf-8").splitlines() == NAMES


def test_a_list_that_is_not_there_is_not_exported(root: Path) -> None:
    (root / "val.txt").unlink()
    exporters.export(root, "CSV", root / "out")
    names = {path.name for path in (root / "out").iterdir()}
    assert names == {"train.csv", journal.FOLDER}


def test_files_that_are_there_become_backups_or_are_refused(root: Path) -> None:
    (root / "train.csv").write_text("mine")
    exporters.export(root, "CSV")
    assert (root / "train.csv.bak").read_text() == "mine"
    with pytest.raises(PaddlexMLError, match="the folder for the export is not empty"):
        exporters.export(root, "CSV", root / "图 片")
    with pytest.raises(PaddlexMLError, match="the folder for the export is a file"):
        exporters.export(root, "CSV", root / "label.txt")


def test_faults_are_refused_and_nothing_is_written(root: Path) -> None:
    (root / "图 片/a, 6.png").write_bytes(b"no image")
    with pytest.raises(PaddlexMLError, match="not an image, but a text file") as caught:
        exporters.export(root, "COCO", root / "out")
    assert caught.value.where == str(root / "图 片/a, 6.png")
    (root / "图 片/a, 2.png").write_bytes(b"")
    with pytest.raises(PaddlexMLError, match="image not decodable: 2"):
        exporters.export(root, "COCO", root / "out")
    with (root / "val.txt").open("a") as file:
        file.write("x.jpg\n")
    with pytest.raises(PaddlexMLError, match="no tab between path and values"):
        exporters.export(root, "JSONL", root / "out")
    assert not (root / "out").exists()


def test_the_tool_tells_what_it_wrote(root: Path) -> None:
    tool = [sys.executable, str(ROOT / "dataset_tools" / "export_dataset.py")]
    words = [*tool, str(root), "--format", "JSONL"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "classes.txt is written\ntrain.jsonl is written\nval.jsonl is written\n"
    shutil.rmtree(root / "图 片")
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert "image missing: 7" in done.stderr


def test_csv_names_that_look_like_formulas_do_not_run_and_are_read_back(tmp_path: Path) -> None:
    names, path = ["=HYPERLINK(1)", "+a", "-a", "@a", "'=a", "-1"], "=cmd|' -C calc'!A0.png"
    Image.new("RGB", (8, 8)).save(tmp_path / path)
    annotation.write_labels(tmp_path / "label.txt", names)
    targets = np.ones((1, len(names)), np.uint8)
    for key in ("train", "val"):
        annotation.write_list(tmp_path / f"{key}.txt", [path], targets)
    exporters.export(tmp_path, "CSV")
    head, row = (tmp_path / "val.csv").read_text("utf-8").splitlines()
    assert head == "image,'=HYPERLINK(1),'+a,'-a,'@a,''=a,-1"
    assert row == f"'{path},1,1,1,1,1,1"
    found = registry.FORMATS["CSV"].read(tmp_path, Options())
    assert found.lists["val"].paths == [path]
    assert found.label_names == names


def hide_some(root: Path, *, sparse: bool) -> None:
    """Write lists with unknown labels."""
    train = ["1,0,-1,0,0", "0,1,0,0,-1", "0,0,1,-1,-1", "1,0,0,0,0", "0,0,0,0,1"]
    if sparse:
        train = ["@0?2", "@1?4", "@2!0,1", "@0", "@4"]
    lines = [f"图 片/a, {i}.png\t{text}\n" for i, text in enumerate(train)]
    (root / "train.txt").write_text("".join(lines), "utf-8")
    (root / "val.txt").write_text(
        "图 片/a, 5.png\t0,1,0,0,0\n图 片/a, 6.png\t-1,0,1,0,-1\n", "utf-8"
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["CSV", "JSONL"])
def test_unknown_labels_come_back(root: Path, kind: str, sparse: bool) -> None:
    hide_some(root, sparse=sparse)
    before = annotation.read(root)
    exporters.export(root, kind)
    for name in ("label.txt", "train.txt", "val.txt"):
        (root / name).rename(root / f"{name}.old")
    account = rewrite.convert(root, kind, Options()).account
    after = annotation.read(root)
    assert after.label_names == before.label_names
    assert after.train.targets.tolist() == before.train.targets.tolist()
    assert after.val.targets.tolist() == before.val.targets.tolist()
    assert account is not None
    assert account.unknown == 6


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", ["COCO", "PaddleX"])
def test_unknown_labels_are_refused_where_they_cannot_be(
    root: Path, kind: str, sparse: bool
) -> None:
    hide_some(root, sparse=sparse)
    with pytest.raises(
        PaddlexMLError, match=rf"6 labels are unknown \(-1\), which {kind} cannot"
    ) as e:
        exporters.export(root, kind, root / "out")
    assert "--unknown negative" in e.value.fix
    assert not (root / "out").exists()
    exporters.export(root, kind, root / "out", unknown="negative")
    exporters.export(root, kind, root / "out2", unknown="positive")
    if kind == "PaddleX":
        texts = [(root / out / "train.txt").read_text("utf-8") for out in ("out", "out2")]
        assert [line.split("\t")[1] for line in texts[0].splitlines()] == [
            "1,0,0,0,0", "0,1,0,0,0", "0,0,1,0,0", "1,0,0,0,0", "0,0,0,0,1",
        ]  # fmt: skip
        assert texts[1].splitlines()[2].split("\t")[1] == "0,0,1,1,1"
        assert (root / "out" / "label.txt").read_bytes() == (root / "label.txt").read_bytes()
    else:
        files = [root / out / "annotations/instance_train.json" for out in ("out", "out2")]
        counts = [len(json.loads(file.read_text("utf-8"))["annotations"]) for file in files]
        assert counts == [5, 9]


def test_json_lines_name_the_unknown_or_the_absent_classes_whichever_are_shorter(
    tmp_path: Path,
) -> None:
    names = [f"class {i}" for i in range(1500)]
    values = targets.from_labels([{3, 7}, {0}, set()], [{1}, (), ()], 1500, [None, {2}, set()])
    images = ImageList(tmp_path, ["a.jpg", "b.jpg", "c.jpg"], values)
    for each in (values, targets.dense(values)):
        texts = exporters.WRITERS["JSONL"](
            {"train": replace(images, values=each)}, names, ignore_progress
        )
        rows = [json.loads(line) for line in texts["train.jsonl"].splitlines()]
        assert rows == [
            {"path": "a.jpg", "labels": ["class 3", "class 7"], "unknown": ["class 1"]},
            {"path": "b.jpg", "labels": ["class 0"], "absent": ["class 2"]},
            {"path": "c.jpg", "labels": [], "absent": []},
        ]
    for path in images.paths:
        (tmp_path / path).touch()
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    found = registry.FORMATS["JSONL"].read(tmp_path, Options())
    assert found.label_names == names
    assert found.lists["train"].targets.tolist() == targets.dense(values).tolist()


def test_unknown_labels_are_refused_where_the_user_says_so(root: Path) -> None:
    hide_some(root, sparse=False)
    with pytest.raises(PaddlexMLError, match="6 labels are unknown") as caught:
        exporters.export(root, "CSV", unknown="refuse")
    assert "leave --unknown refuse out" in caught.value.fix
    exporters.export(root, "CSV", root / "out", unknown="negative")
    assert "-1" not in (root / "out" / "train.csv").read_text("utf-8")


def test_a_table_without_a_zero_would_be_read_differently(root: Path) -> None:
    (root / "label.txt").write_text("0 cat\n")
    (root / "train.txt").write_text("图 片/a, 0.png\t1\n图 片/a, 1.png\t-1\n", "utf-8")
    (root / "val.txt").unlink()
    with pytest.raises(PaddlexMLError, match="where no label is known to be absent"):
        exporters.export(root, "CSV")
    exporters.export(root, "JSONL")


def test_the_tool_says_what_unknown_labels_may_become(root: Path) -> None:
    hide_some(root, sparse=True)
    tool = [sys.executable, str(ROOT / "dataset_tools" / "export_dataset.py"), str(root)]
    tool += ["--format", "PaddleX", "--output", str(root / "out")]
    failed = subprocess.run(tool, capture_output=True, text=True)
    assert failed.returncode == 2
    assert "--unknown negative" in failed.stderr
    subprocess.run([*tool, "--unknown", "negative"], check=True, capture_output=True)
    assert (root / "out" / "train.txt").exists()
