# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from paddlex_ml.data.image_finder import Guess, ImageFinder, ImageProblem

FOLDERS = ("images", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set with images of many spellings, and a folder beside it."""
    root = tmp_path / "my set"
    for name in ["images/a.jpg", "images/b c 猫.JPG", "images/deep/er/d.png", "e.jpg", "e f/g.jpg"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "x.jpg").touch()
    return root


def find(root: Path, name: str, folders: tuple[str, ...] = FOLDERS) -> str | ImageProblem:
    return ImageFinder(root).find(name, folders)


def problem(root: Path, name: str, folders: tuple[str, ...] = FOLDERS) -> ImageProblem:
    absent = find(root, name, folders)
    assert isinstance(absent, ImageProblem)
    return absent


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "images/a.jpg"),
        ("b c 猫.JPG", "images/b c 猫.JPG"),
        ("e.jpg", "e.jpg"),
        ("images/a.jpg", "images/a.jpg"),
        ("e f/g.jpg", "e f/g.jpg"),
        ("deep/er/d.png", "images/deep/er/d.png"),
        ("./a.jpg", "images/a.jpg"),
        ("deep/../a.jpg", "images/a.jpg"),
        ("../e.jpg", "e.jpg"),
        ("deep//er/./d.png", "images/deep/er/d.png"),
        ("deep\\er\\d.png", "images/deep/er/d.png"),
        (".\\images\\a.jpg", "images/a.jpg"),
        ("..\\e.jpg", "e.jpg"),
        ("deep\\er/d.png", "images/deep/er/d.png"),
    ],
)
def test_a_name_becomes_the_path_that_will_stand_in_the_list(
    root: Path, name: str, path: str
) -> None:
    assert find(root, name) == path


def test_folders_are_asked_in_their_order(root: Path) -> None:
    (root / "a.jpg").touch()
    assert find(root, "a.jpg", ("images", "")) == "images/a.jpg"
    assert find(root, "a.jpg", ("", "images")) == "a.jpg"
    assert find(root, "a.jpg", ("none", "images")) == "images/a.jpg"


@pytest.mark.parametrize("folder", ["images", "images/", "./images", "e f/../images", "images//."])
def test_a_folder_may_be_spelt_in_any_way(root: Path, folder: str) -> None:
    assert find(root, "a.jpg", (folder,)) == "images/a.jpg"
    assert find(root, "deep/er/d.png", (folder,)) == "images/deep/er/d.png"


@pytest.mark.parametrize("folder", ["../beside", "..", "/"])
def test_a_folder_outside_the_data_set_is_not_looked_into(root: Path, folder: str) -> None:
    (root.parent / "x.jpg").touch()
    assert problem(root, "x.jpg", (folder,)).kind == "path outside the data set"
    assert find(root, "a.jpg", (folder, "images")) == "images/a.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "../../beside/x.jpg",
        "..\\..\\beside\\x.jpg",
        "/etc/hosts",
        "C:\\photos\\a.jpg",
        "D:/photos/a.jpg",
        "../../my set/../beside/x.jpg",
    ],
)
def test_a_path_that_leads_outside_is_no_missing_image(root: Path, name: str) -> None:
    absent = problem(root, name)
    assert absent.kind == "path outside the data set"
    assert absent.text == f"{name} lies outside the data set"
    assert "move the image into the data set" in absent.fix


def test_an_absolute_path_inside_becomes_relative(root: Path) -> None:
    assert find(root, f"{root}/images/a.jpg") == "images/a.jpg"
    assert find(root, f"{root}/images/../e.jpg") == "e.jpg"
    assert problem(root, f"{root.parent}/beside/x.jpg").kind == "path outside the data set"
    assert problem(root, f"{root} 2/x.jpg").kind == "path outside the data set"
    assert problem(root, f"{root}/images/no.jpg").kind == "image missing"


def test_a_relative_root_is_understood(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert find(Path("my set"), "a.jpg") == "images/a.jpg"
    assert find(Path("my set"), f"{root}/images/a.jpg") == "images/a.jpg"


def test_a_symlinked_root_may_be_named_by_both_of_its_paths(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert find(link, "a.jpg") == "images/a.jpg"
    assert find(link, f"{link}/images/a.jpg") == "images/a.jpg"
    assert find(link, f"{root}/images/a.jpg") == "images/a.jpg"


def test_symlinks_count_as_what_they_lead_to_and_keep_their_name(root: Path) -> None:
    (root / "images" / "link.jpg").symlink_to(root.parent / "beside" / "x.jpg")
    (root / "elsewhere").symlink_to(root.parent / "beside")
    (root / "images" / "dead.jpg").symlink_to(root / "none.jpg")
    assert find(root, "link.jpg") == "images/link.jpg"
    assert find(root, "x.jpg", ("elsewhere",)) == "elsewhere/x.jpg"
    assert problem(root, "dead.jpg").kind == "image missing"


def test_a_folder_is_no_image(root: Path) -> None:
    assert problem(root, "deep").kind == "image missing"
    assert problem(root, "images/").kind == "image missing"


def test_a_file_may_have_a_backslash_in_its_name(root: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows allows no backslash in a name")
    (root / "images" / "x\\y.jpg").touch()
    assert find(root, "x\\y.jpg") == "images/x\\y.jpg"
    (root / "images" / "deep" / "d\\er\\d.png").touch()
    assert find(root, "deep/d\\er\\d.png") == "images/deep/d\\er\\d.png"


def test_a_missing_image_tells_where_was_looked(root: Path) -> None:
    absent = problem(root, "no.jpg")
    assert absent.text == "no.jpg is not there (looked in images/, the data set folder)"
    assert "-o CheckDataset.convert.skip_missing=true" in absent.fix


@pytest.mark.parametrize("name", ["", "\0", "a.jpg\0", "images/\0/a.jpg"])
def test_what_can_be_no_name_is_told_so(root: Path, name: str) -> None:
    absent = problem(root, name)
    assert absent.kind == "image name"
    assert absent.text == f"{name!r} cannot be the name of an image"


@pytest.mark.parametrize("name", ["\ud800.jpg", "\ud800/a.jpg", "a" * 5000, "a/" * 3000, ".", ".."])
def test_a_name_that_no_file_system_has_is_missing(root: Path, name: str) -> None:
    assert problem(root, name, ("images",)).kind == "image missing"


def test_a_folder_is_listed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (listed.append(folder), scandir(folder))[1])
    finder = ImageFinder(root)
    for name in ["a.jpg", "images/a.jpg", "no.jpg", "NO.jpg", "e.jpg"] * 3:
        finder.find(name, FOLDERS)
    assert sorted(listed) == [root, root / "images", root / "images" / "images"]


def guess(root: Path, name: str, folders: tuple[str, ...] = FOLDERS) -> Guess | ImageProblem | None:
    finder = ImageFinder(root)
    assert isinstance(finder.find(name, folders), ImageProblem)
    return finder.guess(name, folders)


@pytest.mark.parametrize(
    ("name", "path", "how"),
    [
        ("A.jpg", "images/a.jpg", "with other capitals"),
        ("b c 猫.jpg", "images/b c 猫.JPG", "with other capitals"),
        ("deep/er/D.png", "images/deep/er/d.png", "with other capitals"),
        ("d.png", "images/deep/er/d.png", "in another folder"),
        ("photos/e.jpg", "e.jpg", "in another folder"),
        ("/home/anna/set/images/a.jpg", "images/a.jpg", "in another folder"),
        ("C:\\Users\\anna\\my set\\images\\a.jpg", "images/a.jpg", "in another folder"),
        ("gs://bucket/x/a.jpg", "images/a.jpg", "in another folder"),
        ("https://x.org/data/a.jpg?token=1#z", "images/a.jpg", "in another folder"),
        ("/data/e%20f/g.jpg", "e f/g.jpg", "in another folder"),
        ("a", "images/a.jpg", "without the ending"),
        ("images/A", "images/a.jpg", "without the ending"),
        ("a.png", "images/a.jpg", "with another ending"),
        ("d.jpeg", "images/deep/er/d.png", "with another ending"),
    ],
)
def test_the_only_image_that_can_be_meant_is_found(
    root: Path, name: str, path: str, how: str
) -> None:
    assert guess(root, name) == Guess(path, how)


def test_both_forms_of_unicode_are_the_same_name(root: Path) -> None:
    composed, apart = "caf\u00e9.jpg", "cafe\u0301.jpg"
    assert unicodedata.normalize("NFD", composed) == apart
    (root / "images" / apart).touch()
    assert guess(root, composed) == Guess(f"images/{apart}", "in another form of Unicode")
    (root / "images" / apart).rename(root / "images" / composed)
    assert guess(root, apart) == Guess(f"images/{composed}", "in another form of Unicode")


def test_the_longest_end_of_the_path_decides(root: Path) -> None:
    for path in ("x/2020/1.jpg", "x/2021/1.jpg", "y/2021/1.jpg"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    assert guess(root, "/disk/x/2021/1.jpg") == Guess("x/2021/1.jpg", "in another folder")
    assert guess(root, "2020/1.jpg") == Guess("x/2020/1.jpg", "in another folder")
    twice = guess(root, "2021/1.jpg")
    assert isinstance(twice, ImageProblem)
    assert twice.kind == "image ambiguous"
    assert twice.text == "2021/1.jpg may be x/2021/1.jpg or y/2021/1.jpg"
    inside = ImageFinder(root).guess("z/1.jpg", ("y", ""))
    assert inside == Guess("y/2021/1.jpg", "in another folder")


def test_equal_capitals_decide_between_two(root: Path) -> None:
    for name in ("p/B.jpg", "p/b.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    assert guess(root, "q/B.jpg") == Guess("p/B.jpg", "in another folder")
    assert isinstance(guess(root, "q/b.JPG"), ImageProblem)


def test_the_digits_of_an_upload_are_left_out_only_where_no_file_has_them(root: Path) -> None:
    name = "/data/upload/1/0a1B2c3d-cat 1.jpg"
    (root / "images" / "cat 1.jpg").touch()
    assert guess(root, name) == Guess("images/cat 1.jpg", "without the digits of an upload")
    (root / "images" / "0a1B2c3d-cat 1.jpg").touch()
    assert guess(root, name) == Guess("images/0a1B2c3d-cat 1.jpg", "in another folder")
    assert guess(root, "0a1b2c3-cat 1.jpg") is None


def test_a_dot_in_a_name_without_ending_is_no_ending(root: Path) -> None:
    (root / "IMG.0001.jpg").touch()
    (root / "IMG.jpg").touch()
    assert guess(root, "IMG.0001") == Guess("IMG.0001.jpg", "without the ending")
    assert guess(root, "IMG.0002") is None


@pytest.mark.parametrize("name", ["z.jpg", "aa.jpg", "er", "a.txt", "..", "x/"])
def test_what_is_not_there_is_not_guessed(root: Path, name: str) -> None:
    assert guess(root, name) is None


def test_a_link_to_nowhere_is_no_candidate(root: Path) -> None:
    (root / "deep.jpg").symlink_to(root / "none.jpg")
    assert guess(root, "x/deep.jpg") is None


def test_many_guesses_take_no_quadratic_time(root: Path) -> None:
    for i in range(2_000):
        (root / "images" / f"{i}.png").touch()
    finder = ImageFinder(root)
    found = [finder.guess(f"{i}.jpg", FOLDERS) for i in range(2_000)]
    assert found == [Guess(f"images/{i}.png", "with another ending") for i in range(2_000)]


def test_guesses_among_many_files_of_one_name_take_no_quadratic_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(300):
        (root / f"film{i}").mkdir()
        (root / f"film{i}" / "0001.png").touch()
    finder = ImageFinder(root)
    looked: list[str] = []
    isfile = os.path.isfile

    def count(path: Path) -> bool:
        looked.append(str(path))
        return isfile(path)

    monkeypatch.setattr(os.path, "isfile", count)
    found = [finder.guess(f"D:\\films\\Film{i}\\0001.PNG", FOLDERS) for i in range(300)]
    assert found == [Guess(f"film{i}/0001.png", "with other capitals") for i in range(300)]
    assert len(looked) == 300


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("123", "000123.jpg"),
        ("123.0", "000123.jpg"),
        ("0123", "000123.jpg"),
        ("7.0", "7.png"),
        ("007", "7.png"),
        ("0", "000.jpg"),
    ],
)
def test_a_number_finds_the_only_image_of_its_value(tmp_path: Path, name: str, path: str) -> None:
    for each in ("000123.jpg", "7.png", "000.jpg", "IMG_8.jpg", "12.3.jpg"):
        (tmp_path / each).touch()
    finder = ImageFinder(tmp_path)
    assert finder.guess(name, ("",)) == Guess(path, "by the number")
    assert finder.guess(name, ("",), by_number=False) is None
    assert [finder.guess(other, ("",)) for other in ("8", "124", "12.30", "-7")] == [None] * 4


def test_a_number_that_may_be_two_images_is_a_fault(tmp_path: Path) -> None:
    for each in ("0123.jpg", "00123.png"):
        (tmp_path / each).touch()
    problem = ImageFinder(tmp_path).guess("123", ("",))
    assert isinstance(problem, ImageProblem)
    assert problem.text == "123 may be 00123.png or 0123.jpg"


@pytest.mark.parametrize("name", ["123", "123.0", "0123"])
def test_zeros_that_a_spreadsheet_took_away_leave_two_images(tmp_path: Path, name: str) -> None:
    for each in ("123.jpg", "000123.jpg"):
        (tmp_path / each).touch()
    finder = ImageFinder(tmp_path)
    problem = finder.guess(name, ("",))
    assert isinstance(problem, ImageProblem)
    assert problem.text == f"{name} may be 000123.jpg or 123.jpg"
    assert "zeros" in problem.fix
    assert finder.guess("000123", ("",)) == Guess("000123.jpg", "without the ending")
    assert finder.guess("123", ("",), by_number=False) == Guess("123.jpg", "without the ending")
