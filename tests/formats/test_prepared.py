# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import prepared
from paddlex_ml.formats.collector import SourceDataset


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_the_folder_appears_when_it_is_complete(tmp_path: Path, before: str) -> None:
    output = tmp_path / "deep" / "my set"
    if before != "nothing":
        output.mkdir(parents=True)
    with prepared.building(output) as fresh:
        (fresh / "a.txt").write_text("a")
        assert not (output / "a.txt").exists()
    assert names(output) == ["a.txt"]
    assert names(output.parent) == ["my set"]


def test_others_may_look_into_the_folder_as_the_system_says(tmp_path: Path) -> None:
    with prepared.building(tmp_path / "set") as fresh:
        (fresh / "images").mkdir()
    modes = [(tmp_path / "set" / name).stat().st_mode for name in ("", "images")]
    assert modes[0] == modes[1]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def build() -> None:
        with prepared.building(tmp_path / "set") as fresh:
            (fresh / "a.txt").write_text("a")
            raise KeyboardInterrupt

    (tmp_path / "set").mkdir()
    with pytest.raises(KeyboardInterrupt):
        build()
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == []


@pytest.mark.parametrize(
    ("full", "what"), [("set/a", "a folder with files in it"), ("set", "a file")]
)
def test_nothing_is_overwritten(tmp_path: Path, full: str, what: str) -> None:
    (tmp_path / full).parent.mkdir(exist_ok=True)
    (tmp_path / full).write_text("mine")
    with pytest.raises(PaddlexMLError, match=what), prepared.building(tmp_path / "set"):
        raise AssertionError
    assert (tmp_path / full).read_text() == "mine"


def test_a_link_to_nowhere_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "set").symlink_to(tmp_path / "none")
    with pytest.raises(PaddlexMLError, match="nothing is overwritten"):
        prepared.refuse_full(tmp_path / "set")


def test_what_a_kill_left_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".set.abc.unfinished").mkdir()
    with prepared.building(tmp_path / "set"):
        pass
    assert f"{tmp_path / '.set.abc.unfinished'} was left" in caplog.text
    assert (tmp_path / ".set.abc.unfinished").is_dir()


def test_what_was_written_is_told_with_the_next_command(tmp_path: Path) -> None:
    images = ImageList(tmp_path, ["a.jpg", "b.jpg"], np.array([[1], [0]], np.uint8))
    found = SourceDataset(["cat"], {"train": images, "val": images}, [], ["a note"])
    prepared.write(tmp_path, found)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    assert annotation.read(tmp_path).val.targets.tolist() == [[1], [0]]
    told = prepared.describe(Path("my set"), found).told()
    assert told[:2] == ["a note", "wrote my set: 2 train, 2 val images, 1 classes"]
    assert told[2].endswith("-o Global.mode=check_dataset -o 'Global.dataset_dir=my set'")
