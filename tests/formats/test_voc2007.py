# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import runpy
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.data import annotation
from paddlex_ml.formats import voc2007

DOOR = Path(__file__).resolve().parents[2] / "dataset_tools" / "prepare_voc2007.py"
Run = Callable[..., tuple[int, str, str]]


def tar_up(path: Path, images: dict[str, list[str]], list_name: str, extra: str = "") -> None:
    """An archive in the shape of the official ones; `images` by stem, with their objects."""
    files = {f"ImageSets/Main/{list_name}.txt": "".join(f"{stem}\n" for stem in images)}
    files["ImageSets/Main/train.txt"] = "000005\n"
    files["SegmentationClass/000005.png"] = "png"
    for stem, objects in images.items():
        things = "".join(f"<object><name>{name}</name></object>" for name in objects)
        xml = f"<annotation><filename>{stem}.jpg</filename>{things}</annotation>"
        files[f"Annotations/{stem}.xml"] = xml
        files[f"JPEGImages/{stem}.jpg"] = f"image {stem}"
    with tarfile.open(path, "w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"VOCdevkit/VOC2007/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
        if extra:
            archive.addfile(tarfile.TarInfo(extra))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    trainval = {"000005": ["chair", "chair", "person"], "000007": ["car"]}
    tar_up(folder / "VOCtrainval_06-Nov-2007.tar", trainval, "trainval")
    tar_up(folder / "VOCtest_06-Nov-2007.tar", {"000001": ["dog"]}, "test")
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
    output = tmp_path / "voc"
    code, out, err = run("--archives", folder, "--output", output, "--any-size")
    assert code == 0, err
    assert f"wrote {output}: 2 train, 1 val images, 20 classes" in out
    dataset = annotation.read(output)
    assert dataset.label_names == sorted(voc2007.CLASSES)
    assert len(dataset.label_names) == 20
    assert dataset.train.paths == ["images/000005.jpg", "images/000007.jpg"]
    shown = [[dataset.label_names[i] for i in row.nonzero()[0]] for row in dataset.train.targets]
    assert shown == [["chair", "person"], ["car"]]
    assert dataset.val.paths == ["images/000001.jpg"]
    assert (output / "images/000001.jpg").read_text() == "image 000001"
    assert sorted(path.name for path in output.iterdir()) == [
        "images",
        "label.txt",
        "train.txt",
        "val.txt",
    ]


def test_a_class_that_is_none_of_the_twenty_is_refused(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    tar_up(folder / "VOCtest_06-Nov-2007.tar", {"000001": ["unicorn"]}, "test")
    code, _, err = run("--archives", folder, "--output", tmp_path / "voc", "--any-size")
    assert code == 2
    assert "the class 'unicorn' is used but not named" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


def test_wrong_sizes_and_contents_are_refused(
    folder: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--archives", folder, "--output", tmp_path / "voc"]
    code, _, err = run(*arguments)
    assert code == 2
    assert "VOCtrainval_06-Nov-2007.tar has 10,240 bytes, the published one 460,032,000" in err
    assert not (tmp_path / "voc").exists()


def test_a_malicious_or_truncated_archive_leaves_nothing(
    folder: Path, tmp_path: Path, run: Run
) -> None:
    arguments = ["--archives", folder, "--output", tmp_path / "voc", "--any-size"]
    path = folder / "VOCtest_06-Nov-2007.tar"
    path.write_bytes(path.read_bytes()[:3000])
    code, _, err = run(*arguments)
    assert (code, str(path) in err) == (2, True)
    tar_up(path, {"000001": ["dog"]}, "test", extra="../evil")
    code, _, err = run(*arguments)
    assert (code, "'../evil' leads out of the folder" in err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archives"]


def test_a_full_output_is_refused(folder: Path, run: Run) -> None:
    code, _, err = run("--archives", folder, "--output", folder, "--any-size")
    assert code == 2
    assert "nothing is overwritten" in err


def test_a_missing_archive_tells_its_option_and_its_url(tmp_path: Path, run: Run) -> None:
    code, _, err = run("--output", tmp_path / "voc")
    assert code == 2
    assert "the archive VOCtrainval_06-Nov-2007.tar is not given" in err
    assert "--trainval http://host.robots.ox.ac.uk/" in err


def test_the_published_sizes_and_checksums_are_those_on_record() -> None:
    assert [(archive.size, archive.md5) for archive in voc2007.ARCHIVES] == [
        (460032000, "c52e279531787c972589f7e41ab4ae64"),
        (451020800, "b6e924de25625d8de591ea690078ad9f"),
    ]
