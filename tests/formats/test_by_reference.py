# SPDX-License-Identifier: Apache-2.0
"""A data set beside its source, which stays as it is."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from paddlex_ml import systems
from paddlex_ml.data import annotation
from paddlex_ml.data.split import Division
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import by_reference
from paddlex_ml.formats.by_reference import Understood, understand
from paddlex_ml.formats.collector import Options

CLASSES = ("cat", "dog", "owl")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten images of each class, in a folder of its name."""
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    for number in range(30):
        path = root / CLASSES[number % 3] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    return root


def list_files(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Understood]:
    """Understands a source, writes the data set, and compares the source with what it was."""

    def run(
        source: Path, division: Division | None = None, images: Path | None = None
    ) -> Understood:
        folder = source if source.is_dir() else source.parent
        before = list_files(folder)
        understood = understand(
            source, tmp_path / "output" / "dataset", Options(), division, images=images
        )
        if understood.is_written:
            understood.draft.divide(understood.division).write()
        after = {n: c for n, c in list_files(folder).items() if not n.startswith("output")}
        assert after == before
        return understood

    return run


def read(root: Path) -> annotation.MLClsDataset:
    """The data set that was written, whose images are all there."""
    dataset = annotation.read(root)
    for images in (dataset.train, dataset.val):
        assert all(images.path(i).is_file() for i in range(len(images)))
    return dataset


def test_folders_of_classes_are_divided_and_referred_to(
    photos: Path, make: Callable[..., Understood]
) -> None:
    understood = make(photos)
    dataset = read(understood.root)
    assert dataset.label_names == [*CLASSES]
    assert (len(dataset.train), len(dataset.val)) == (24, 6)
    assert dataset.val.values.sum(axis=0).tolist() == [2, 2, 2]
    assert os.readlink(understood.root / "images") == str(photos)
    assert understood.lines() == [
        f"{photos}: ImageFolder: folders cat, dog, owl, 30 images, 3 classes: cat, dog, owl",
        "nothing divides the images: 20 % become val.txt (stratified, seed 42)",
        f"written: {understood.root}, whose images are those of the source by a link; the source "
        "stays as it is",
    ]
    again = make(photos)  # the same lists: nothing is put aside
    assert [path.name for path in again.root.glob("*.bak*")] == []
    other = make(photos, Division(val_percent=50))
    assert len(read(other.root).val) == 15


def test_of_a_table_only_that_table_counts(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    names = sorted(path.relative_to(tmp_path) for path in photos.rglob("*.jpg"))
    rows = [f"{path},{path.parent.name}|pet\n" for path in names]
    (tmp_path / "labels.csv").write_text("file,tags\n" + "".join(rows))
    (tmp_path / "prices.csv").write_text("file,price\n" + "".join(f"{p},7\n" for p in names))
    understood = make(tmp_path / "labels.csv")
    assert read(understood.root).label_names == ["cat", "dog", "owl", "pet"]
    # The deepest folder of all images is linked: the output may lie beside the table.
    assert os.readlink(understood.root / "images") == str(photos)


def test_a_data_set_deep_below_the_folder_of_a_table_does_not_count(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    rows = [f"{path.name},{path.parent.name}\n" for path in sorted(photos.rglob("*.jpg"))]
    (tmp_path / "labels.csv").write_text("file,tags\n" + "".join(rows))
    other = tmp_path / "old" / "export"
    other.mkdir(parents=True)
    (other / "labels.txt").write_text("tree\nsea\n")
    (other / "train_list.txt").write_text("0.jpg 1\n")
    assert read(make(tmp_path / "labels.csv").root).label_names == ["cat", "dog", "owl"]


def test_the_images_may_lie_where_the_command_says(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    moved = tmp_path / "disk" / "archive"
    moved.parent.mkdir()
    shutil.move(photos, moved)
    rows = [
        f"/old/{path.parent.name}/{path.name},{path.parent.name}\n" for path in moved.rglob("*.jpg")
    ]
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "labels.csv").write_text("file,tags\n" + "".join(rows))
    understood = make(tables / "labels.csv", images=moved)
    assert len(read(understood.root).train) == 24
    with pytest.raises(PaddlexMLError):  # without it no image is found
        make(tables / "labels.csv")


def test_a_table_is_not_copied_through_the_link_to_an_earlier_source(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    first, second = tmp_path / "first" / "labels.csv", tmp_path / "second" / "labels.csv"
    for table, label in ((first, "pet"), (second, "animal")):
        table.parent.mkdir()
        rows = [f"{path.name},{label}|{path.parent.name}\n" for path in photos.rglob("*.jpg")]
        table.write_text("file,tags\n" + "".join(rows))
    before = first.read_bytes()
    make(first.parent, images=photos)
    assert "animal" in read(make(second, images=photos).root).label_names
    assert first.read_bytes() == before


@pytest.mark.parametrize("lists", [("train",), ("train", "val")])
def test_lists_of_ours_are_divided_only_where_val_is_missing(
    photos: Path, make: Callable[..., Understood], lists: tuple[str, ...]
) -> None:
    write_lists(photos)
    lines = (photos / "train.txt").read_text().splitlines(keepends=True)
    if "val" in lists:
        (photos / "train.txt").write_text("".join(lines[:20]))
        (photos / "val.txt").write_text("".join(lines[20:]))
    understood = make(photos)
    assert understood.is_written == ("val" not in lists)
    assert understood.root == (photos if "val" in lists else photos.parent / "output" / "dataset")
    dataset = read(understood.root)
    assert len(dataset.val) == (10 if "val" in lists else 6)
    assert ("used as it is" in understood.lines()[2]) == ("val" in lists)
    assert make(photos / "train.txt").root == understood.root


def write_lists(photos: Path, val: str = "") -> None:
    """Lists of ours in the folder of the images; val.txt only where it is given."""
    values = {"cat": "1,0,0", "dog": "0,1,0", "owl": "0,0,1"}
    paths = sorted(photos.rglob("*.jpg"))
    lines = [f"{path.relative_to(photos)}\t{values[path.parent.name]}\n" for path in paths]
    (photos / "label.txt").write_text("0 cat\n1 dog\n2 owl\n")
    (photos / "train.txt").write_text("".join(lines))
    if val:
        (photos / "val.txt").write_text(val)


def test_a_val_list_whose_first_line_is_wrong_is_not_passed_over(
    photos: Path, make: Callable[..., Understood]
) -> None:
    write_lists(photos, val="cat/0.jpg 1,0,0\n")
    with pytest.raises(PaddlexMLError, match=r"val\.txt"):
        make(photos)


def test_options_of_a_conversion_are_refused_for_lists_of_ours(
    photos: Path, tmp_path: Path
) -> None:
    write_lists(photos)
    options = Options(rename={"cat": "tiger"})
    with pytest.raises(PaddlexMLError, match=r"convert\.rename has no effect on lists of ours"):
        understand(photos, tmp_path / "o", options, None, images=None)


def test_relations_are_taken_along(photos: Path, make: Callable[..., Understood]) -> None:
    write_lists(photos)
    (photos / "relations.yaml").write_text("implies: {cat: dog}\n")
    understood = make(photos)
    copied = understood.root / "relations.yaml"
    assert copied.read_bytes() == (photos / "relations.yaml").read_bytes()
    assert understood.draft.notes[-1].endswith(f"was copied to {copied}")
    copied.write_text("implies: {dog: owl}\n")
    assert make(photos).draft.notes[-1].endswith("and stays")
    assert copied.read_text() == "implies: {dog: owl}\n"


def test_soft_values_are_refused_as_a_training_refuses_them(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    write_lists(photos)
    text = (photos / "train.txt").read_text()
    (photos / "train.txt").write_text(text.replace("\t1,0,0", "\t0.7,0,0"))
    with pytest.raises(PaddlexMLError, match=r"0\.7"):
        make(photos)
    soft = by_reference.ListOptions(soft_labels=True)
    understand(photos, tmp_path / "o", Options(), None, images=None, of_lists=soft)


def test_a_source_that_divides_its_images_is_told_that_they_are_divided_again(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    for name in ("train", "val"):
        for label in CLASSES:
            shutil.copytree(photos / label, tmp_path / "set" / name / label)
    shutil.rmtree(photos)
    told = make(tmp_path / "set", Division(val_percent=30)).lines()
    assert told[1].startswith("the source divides the images, which are divided again: 30 %")


def test_what_is_no_source_is_refused(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    with pytest.raises(PaddlexMLError, match="does not exist") as caught:
        understand(Path(f"{photos}s"), tmp_path / "o", Options(), None, images=None)
    assert caught.value.fix.startswith(f"-o Global.dataset_dir={photos} is there")
    with pytest.raises(PaddlexMLError, match="neither a folder nor a file of labels"):
        make(next(photos.rglob("*.jpg")))
    shutil.move(photos / "cat", tmp_path / "alone")
    with pytest.raises(PaddlexMLError, match="no format is recognised"):
        make(tmp_path / "alone")


def test_an_archive_is_answered_with_what_unpacks_it(tmp_path: Path) -> None:
    for name, told in (("my photos.zip", "-m zipfile -e"), ("photos.7z", "unpack it, and name")):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(PaddlexMLError, match="is an archive, which must be unpacked") as caught:
            understand(tmp_path / name, tmp_path / "o", Options(), None, images=None)
        assert told in caught.value.fix
        assert caught.value.fix.endswith(str(tmp_path / name.partition(".")[0]))


def test_a_folder_that_is_no_link_of_ours_stays(
    photos: Path, tmp_path: Path, make: Callable[..., Understood]
) -> None:
    own = tmp_path / "output" / "dataset" / "images"
    own.mkdir(parents=True)
    (own / "mine.jpg").touch()
    with pytest.raises(PaddlexMLError, match="another data set lies here"):
        make(photos)
    assert (own / "mine.jpg").exists()


def test_an_output_within_the_images_is_refused(photos: Path) -> None:
    with pytest.raises(PaddlexMLError, match="would be found again through a link") as caught:
        by_reference.make_link(photos / "output" / "dataset" / "images", photos)
    assert caught.value.fix == f"write elsewhere: -o Global.output={photos}_output"
    assert not (photos / "output").exists()


def test_another_source_replaces_the_link(photos: Path, tmp_path: Path) -> None:
    link = tmp_path / "output" / "dataset" / "images"
    by_reference.make_link(link, photos)
    by_reference.make_link(link, photos)
    by_reference.make_link(link, photos / "cat")
    assert os.readlink(link) == str(photos / "cat")


def test_windows_gets_a_junction(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As documented for `_winapi`; not run on Windows."""
    made: list[tuple[str, str]] = []

    class Windows:
        @staticmethod
        def CreateJunction(source: str, link: str) -> None:
            made.append((source, link))

    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    monkeypatch.setattr(importlib, "import_module", lambda _: Windows)
    link = tmp_path / "output" / "dataset" / "images"
    by_reference.make_link(link, photos)
    assert made == [(str(photos), str(link))]


def test_a_junction_to_another_folder_is_replaced_and_one_to_a_network_drive_is_explained(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Windows:
        @staticmethod
        def CreateJunction(source: str, link: str) -> None:
            raise OSError(errno.EINVAL, "The parameter is incorrect")

    class Described(NamedTuple):
        st_mode: int = stat.S_IFDIR
        st_reparse_tag: int = 0xA0000003

    link = tmp_path / "output" / "dataset" / "images"
    link.parent.mkdir(parents=True)
    link.symlink_to(photos / "cat")  # stands for a junction, which is no symbolic link
    lstat = os.lstat
    monkeypatch.setattr(
        os, "lstat", lambda path, **o: Described() if path == link else lstat(path, **o)
    )  # Python 3.13 names a folder too
    monkeypatch.setattr(Path, "is_symlink", lambda path: False)
    by_reference.make_link(link, photos / "dog")
    assert os.readlink(link) == str(photos / "dog")
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    monkeypatch.setattr(importlib, "import_module", lambda _: Windows)
    with pytest.raises(PaddlexMLError, match="no network drive"):
        by_reference.make_link(tmp_path / "other" / "images", photos)
