# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import runpy
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation
from paddlex_ml.formats import coco2017

DOOR = Path(__file__).resolve().parents[2] / "dataset_tools" / "prepare_coco2017.py"
Run = Callable[..., tuple[int, str, str]]


def zip_up(path: Path, files: Mapping[str, bytes | str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def describe(images: dict[int, str], labels: list[tuple[int, int]]) -> str:
    categories = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    content: dict[str, Any] = {"categories": categories}
    content["images"] = [{"id": i, "file_name": name} for i, name in images.items()]
    content["annotations"] = [{"image_id": i, "category_id": c} for i, c in labels]
    return json.dumps(content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The three archives with two images that train and one that validates."""
    folder = tmp_path / "archives"
    folder.mkdir()
    zip_up(folder / "train2017.zip", {"train2017/7.jpg": b"seven", "train2017/9.jpg": b"nine"})
    zip_up(folder / "val2017.zip", {"val2017/": b"", "val2017/5.jpg": b"five"})
    boxes = {
        "annotations/instances_train2017.json": describe({7: "7.jpg", 9: "9.jpg"}, [(7, 90)]),
        "annotations/instances_val2017.json": describe({5: "5.jpg"}, [(5, 1)]),
        "annotations/captions_val2017.json": "{}",
    }
    zip_up(folder / "annotations_trainval2017.zip", boxes)
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [str(DOOR), *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(DOOR), run_name="__main__")
        out, err = capsys.readouterr()
        return int(str(caught.value.code)), out, err

    return call


def test_the_archives_become_a_data_set(folder: Path, tmp_path: Path, run: Run) -> None:
    output = tmp_path / "coco"
    code, out, err = run("--archives", folder, "--output", output, "--any-size")
    assert code == 0, err
    assert f"wrote {output}: 2 train, 1 val images, 2 classes" in out
    assert "unpacked train2017: 2 of 2" in err
    dataset = annotation.read(output)
    assert dataset.label_names == ["person", "toothbrush"]
    assert dataset.train.paths == ["images/train2017/7.jpg", "images/train2017/9.jpg"]
    assert dataset.train.targets.tolist() == [[0, 1], [0, 0]]
    assert dataset.val.targets.tolist() == [[1, 0]]
    assert (output / "images/val2017/5.jpg").read_bytes() == b"five"
    assert sorted(path.name for path in output.iterdir()) == [
        "images",
        "label.txt",
        "train.txt",
        "val.txt",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives", "coco"]


def test_each_archive_may_be_a_file_or_a_url(
    folder: Path, tmp_path: Path, run: Run, site: Any, own_cache: Path
) -> None:
    site["/zips/val2017.zip"] = (folder / "val2017.zip").read_bytes()
    (folder / "val2017.zip").unlink()
    moved = (folder / "train2017.zip").rename(tmp_path / "t.zip")
    arguments = ["--archives", folder, "--train2017", moved, "--output", tmp_path / "coco"]
    code, _, err = run(*arguments, "--val2017", site.url("/zips/val2017.zip"), "--any-size")
    assert code == 0, err
    assert len(annotation.read(tmp_path / "coco").val) == 1


def test_an_archive_of_another_size_is_refused(folder: Path, tmp_path: Path, run: Run) -> None:
    code, _, err = run("--archives", folder, "--output", tmp_path / "coco")
    assert code == 2
    size = (folder / "train2017.zip").stat().st_size
    assert f"train2017.zip has {size:,} bytes, the published one 19,336,861,798" in err
    assert not (tmp_path / "coco").exists()


def test_a_full_output_is_refused_before_anything_is_fetched(
    folder: Path, run: Run, site: Any
) -> None:
    code, _, err = run("--val2017", site.url("/val2017.zip"), "--output", folder)
    assert code == 2
    assert "is a folder with files in it; nothing is overwritten" in err
    assert site.asked == []


def test_missing_images_are_refused_unless_skipped(folder: Path, tmp_path: Path, run: Run) -> None:
    zip_up(folder / "train2017.zip", {"train2017/7.jpg": b"seven"})
    arguments = ["--archives", folder, "--output", tmp_path / "coco", "--any-size"]
    code, _, err = run(*arguments)
    assert code == 2
    assert "instances_train2017.json: images[1] (id 9)" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]
    code, out, _ = run(*arguments, "--skip-missing")
    assert code == 0
    assert "1 image is not there, left out: 9.jpg" in out


def test_a_malicious_or_truncated_archive_leaves_nothing(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    sound = (folder / "val2017.zip").read_bytes()
    arguments = ["--archives", folder, "--output", tmp_path / "coco", "--any-size"]
    zip_up(folder / "val2017.zip", {"val2017/5.jpg": b"five", "../../evil.jpg": b"evil"})
    code, _, err = run(*arguments)
    assert (code, "'../../evil.jpg' leads out of the folder" in err) == (2, True)
    (folder / "val2017.zip").write_bytes(sound[:-10])
    code, _, err = run(*arguments)
    assert (code, "a damaged one" in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


def test_bad_arguments_end_with_code_2(run: Run) -> None:
    code, _, err = run("--archives", ".")
    assert code == 2
    assert "the following arguments are required: --output" in err


def test_the_published_sizes_are_those_on_record() -> None:
    sizes = {archive.name: archive.size for archive in coco2017.ARCHIVES}
    assert sizes == {
        "train2017.zip": 19336861798,
        "val2017.zip": 815585330,
        "annotations_trainval2017.zip": 252907541,
    }
