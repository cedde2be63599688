# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import runpy
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.data import annotation

DOOR = Path(__file__).resolve().parents[2] / "dataset_tools" / "prepare_nus_wide.py"
Run = Callable[..., tuple[int, str, str]]


def text(*lines: str) -> str:
    return "".join(f"{line}\r\n" for line in lines)


FILES = {
    "ConceptsList/Concepts81.txt": text("airport", "lake", "sky"),
    "ImageList/TrainImagelist.txt": text("actor\\0001_21.jpg", "boats\\0002_3.jpg"),
    "ImageList/TestImagelist.txt": text("actor\\0005_7.jpg"),
    "ImageList/Imagelist.txt": text("actor\\0001_21.jpg", "actor\\0005_7.jpg", "boats\\0002_3.jpg"),
    "Groundtruth/TrainTestLabels/Labels_airport_Train.txt": text("0", "0"),
    "Groundtruth/TrainTestLabels/Labels_airport_Test.txt": text("1"),
    "Groundtruth/TrainTestLabels/Labels_lake_Train.txt": text("0", "1"),
    "Groundtruth/TrainTestLabels/Labels_lake_Test.txt": text("0"),
    "Groundtruth/TrainTestLabels/Labels_sky_Train.txt": text("1", "1"),
    "Groundtruth/TrainTestLabels/Labels_sky_Test.txt": text("0"),
    "Groundtruth/AllLabels/Labels_lake.txt": text("0", "0", "1"),
}
BAD = "Groundtruth/TrainTestLabels/Labels_lake_Train.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The lists, unpacked, and the folder of images beside them."""
    for name, content in FILES.items():
        change(tmp_path / "lists", name, content)
    for name in ("actor/0001_21.jpg", "boats/0002_3.jpg", "actor/0005_7.jpg", "actor/other.jpg"):
        change(tmp_path / "photos", name, f"image {name}")
    return tmp_path


def change(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode())


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the tool on the lists and photos of `folder`: exit code, stdout, stderr."""

    def call(*arguments: object, lists: bool = True) -> tuple[int, str, str]:
        options = ["--images", folder / "photos", "--output", folder / "wide"]
        options += ["--archives", folder / "lists"] if lists else []
        monkeypatch.setattr("sys.argv", [str(DOOR), *map(str, [*options, *arguments])])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(DOOR), run_name="__main__")
        out, err = capsys.readouterr()
        return int(str(caught.value.code)), out, err

    return call


def test_lists_and_images_become_a_data_set(folder: Path, run: Run) -> None:
    code, out, err = run("--any-size")
    assert code == 0, err
    assert "2 train, 1 val images, 3 classes" in out
    dataset = annotation.read(folder / "wide")
    assert dataset.label_names == ["airport", "lake", "sky"]
    assert dataset.train.paths == ["images/actor/0001_21.jpg", "images/boats/0002_3.jpg"]
    assert dataset.train.targets.tolist() == [[0, 0, 1], [0, 1, 1]]
    assert dataset.val.targets.tolist() == [[1, 0, 0]]
    assert sorted(path.name for path in (folder / "wide").iterdir()) == [
        "images",
        "label.txt",
        "train.txt",
        "val.txt",
    ]


def test_images_get_a_second_name_and_keep_the_first(folder: Path, run: Run) -> None:
    run("--any-size")
    first, second = folder / "photos/actor/0001_21.jpg", folder / "wide/images/actor/0001_21.jpg"
    assert os.path.samefile(first, second)
    shutil.rmtree(folder / "wide")
    assert first.read_text() == "image actor/0001_21.jpg"


def test_images_are_copied_where_the_disk_knows_no_links(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert run("--any-size")[0] == 0
    first, second = folder / "photos/actor/0001_21.jpg", folder / "wide/images/actor/0001_21.jpg"
    assert not os.path.samefile(first, second)
    assert first.read_bytes() == second.read_bytes()


def test_a_link_is_followed_to_the_file(folder: Path, run: Run) -> None:
    image = folder / "photos/actor/0001_21.jpg"
    image.rename(folder / "real.jpg")
    image.symlink_to(folder / "real.jpg")
    run("--any-size")
    assert not (folder / "wide/images/actor/0001_21.jpg").is_symlink()
    assert os.path.samefile(folder / "real.jpg", folder / "wide/images/actor/0001_21.jpg")


@pytest.mark.parametrize("subfolder", ["Flickr", "."])
def test_images_may_lie_in_flickr_or_without_their_folders(
    folder: Path, run: Run, subfolder: str
) -> None:
    photos, target = folder / "photos", folder / "new" / subfolder
    target.mkdir(parents=True)
    for image in photos.glob("*/*.jpg"):
        within = (
            target / image.parent.name / image.name
            if subfolder == "Flickr"
            else target / image.name
        )
        within.parent.mkdir(exist_ok=True)
        image.rename(within)
    code, _, err = run("--any-size", "--images", folder / "new")
    assert code == 0, err
    assert len(annotation.read(folder / "wide").train) == 2


def test_the_archives_serve_as_they_are(folder: Path, run: Run) -> None:
    for name in ("ConceptsList", "ImageList", "Groundtruth"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path in sorted((folder / "lists" / name).rglob("*.txt")):
                archive.write(path, path.relative_to(folder / "lists"))
    shutil.rmtree(folder / "lists")
    code, _, err = run("--any-size", "--archives", folder, lists=False)
    assert code == 0, err
    (folder / "wide").rename(folder / "first")
    options = ["--concepts", folder / "ConceptsList.zip", "--image-list", folder / "ImageList.zip"]
    code, _, err = run(
        *options, "--groundtruth", folder / "Groundtruth.zip", "--any-size", lists=False
    )
    assert code == 0, err
    assert (folder / "wide/train.txt").read_text() == (folder / "first/train.txt").read_text()


def test_another_number_of_images_or_classes_is_refused(folder: Path, run: Run) -> None:
    code, _, err = run()
    assert code == 2
    assert "Concepts81.txt names 3 classes, the published one 81" in err
    assert "--any-size" in err


def test_images_that_vanished_are_refused_unless_skipped(folder: Path, run: Run) -> None:
    (folder / "photos/boats/0002_3.jpg").unlink()
    code, _, err = run("--any-size")
    assert code == 2
    assert "boats\\0002_3.jpg is not there" in err
    assert "TrainImagelist.txt:2" in err
    assert "--skip-missing" in err
    assert not (folder / "wide").exists()
    code, out, err = run("--any-size", "--skip-missing")
    assert code == 0, err
    assert "1 image is not there, left out: boats\\0002_3.jpg" in out
    assert annotation.read(folder / "wide").train.targets.tolist() == [[0, 0, 1]]


def test_a_list_without_any_image_is_refused(folder: Path, run: Run) -> None:
    (folder / "photos/actor/0005_7.jpg").unlink()
    code, _, err = run("--any-size", "--skip-missing")
    assert code == 2
    assert "no image of TestImagelist.txt is there" in err


def test_the_known_bad_label_is_taken_from_the_labels_of_all_images(folder: Path, run: Run) -> None:
    change(folder / "lists", BAD, text("0", "-1130179"))
    code, out, err = run("--any-size")
    assert code == 0, err
    message = "Labels_lake_Train.txt:2: the label is '-1130179', neither 0 nor 1"
    message += "; taken from Labels_lake.txt: 1"
    assert message in out
    assert annotation.read(folder / "wide").train.targets.tolist() == [[0, 0, 1], [0, 1, 1]]


@pytest.mark.parametrize("missing", ["ImageList/Imagelist.txt", "Groundtruth/AllLabels"])
def test_a_bad_label_that_stands_nowhere_else_is_refused(
    folder: Path, run: Run, missing: str
) -> None:
    change(folder / "lists", BAD, text("0", "7"))
    (folder / "lists" / missing).rename(folder / "away")
    code, _, err = run("--any-size")
    assert code == 2
    assert "Labels_lake_Train.txt:2" in err
    assert "the label is '7', neither 0 nor 1" in err


def test_an_image_that_is_listed_twice_becomes_one_line(folder: Path, run: Run) -> None:
    change(
        folder / "lists",
        "ImageList/TrainImagelist.txt",
        text("actor\\0001_21.jpg", "actor\\0001_21.jpg"),
    )
    code, out, err = run("--any-size")
    assert code == 0, err
    assert "1 image is named more than once: their labels were merged" in out
    assert annotation.read(folder / "wide").train.targets.tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (BAD, text("0"), "it has 1 label, but 2 images are listed"),
        (BAD, "", "it has 0 labels, but 2 images are listed"),
        ("ConceptsList/Concepts81.txt", text("sky", "lake", "sky"), "'sky' is there twice"),
        ("ConceptsList/Concepts81.txt", text("sky", "", "lake"), "the class name '' is empty"),
        ("ConceptsList/Concepts81.txt", text("sky", "moon"), "there is no Labels_moon_Train.txt"),
        ("ImageList/TestImagelist.txt", text("..\\..\\x.jpg"), "lies outside the data set"),
        ("other/Concepts81.txt", text("sky"), "two files are called Concepts81.txt"),
    ],
)
def test_wrong_lists_are_refused(
    folder: Path, run: Run, name: str, content: str, message: str
) -> None:
    if "''" in message:
        for split in ("Train", "Test"):
            change(
                folder / "lists",
                f"Labels__{split}.txt",
                text("0", "0") if split == "Train" else "0",
            )
    change(folder / "lists", name, content)
    code, _, err = run("--any-size")
    assert code == 2
    assert message in err
    assert not (folder / "wide").exists()


def test_lists_in_another_encoding_are_refused(folder: Path, run: Run) -> None:
    (folder / "lists/ConceptsList/Concepts81.txt").write_bytes("天空\n".encode("gbk"))
    code, _, err = run("--any-size")
    assert (code, "the file is not UTF-8 text" in err) == (2, True)


def test_what_is_missing_is_named(folder: Path, run: Run) -> None:
    (folder / "lists/ImageList/TrainImagelist.txt").unlink()
    code, _, err = run("--any-size")
    assert (code, "there is no TrainImagelist.txt" in err) == (2, True)
    code, _, err = run("--any-size", lists=False)
    assert (code, "the archive ImageList.zip is not given" in err) == (2, True)
    shutil.rmtree(folder / "photos")
    code, _, err = run("--any-size")
    assert (code, "the folder of images does not exist" in err) == (2, True)


def test_a_full_output_is_refused(folder: Path, run: Run) -> None:
    change(folder / "wide", "mine.txt", "mine")
    code, _, err = run("--any-size")
    assert (code, "nothing is overwritten" in err) == (2, True)
    assert (folder / "wide/mine.txt").read_text() == "mine"
