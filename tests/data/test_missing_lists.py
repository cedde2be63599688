# SPDX-License-Identifier: Apache-2.0
"""A data set folder that is none: the error names the one that is meant."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from paddlex_ml.data import annotation, missing_lists
from paddlex_ml.data.missing_lists import LABEL_FILE, VAL_FILE
from paddlex_ml.errors import PaddlexMLError


@pytest.fixture
def scenes(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "all" / "my scenes"))


@pytest.mark.parametrize(
    ("named", "what"),
    [
        ("all/my scenes/images", "has no lists: they are in "),
        ("all", "has no lists: they are in "),
        ("all/my scene", "does not exist"),
    ],
)
def test_the_folder_that_is_meant_is_named(
    scenes: Path, tmp_path: Path, named: str, what: str
) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        missing_lists.refuse(tmp_path / named, (LABEL_FILE, VAL_FILE))
    assert what in caught.value.what
    assert caught.value.fix.startswith(f"-o 'Global.dataset_dir={scenes}'")
    (fault,) = annotation.parse(tmp_path / named).faults
    assert fault.fix == caught.value.fix


def test_nothing_is_guessed_between_two_folders(scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "all" / "others")
    fault = missing_lists.find_folder_fault(tmp_path / "all")
    assert fault is None
    with pytest.raises(PaddlexMLError, match=r"has 2 faults of 1 kind: file missing \(2\)"):
        missing_lists.refuse(tmp_path / "all", (LABEL_FILE, VAL_FILE))


def test_a_file_or_what_cannot_be_entered_is_not_the_folder_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scenes.txt").touch()
    for name in ("scenes", "x" * 300):
        fault = missing_lists.find_folder_fault(tmp_path / name)
        assert fault is not None
        assert fault.fix.startswith("-o Global.dataset_dir=dataset/my_set ")
    monkeypatch.setattr(os, "scandir", _fail)
    assert missing_lists.find_folder_fault(tmp_path) is None


def _fail(*_: object) -> None:
    raise PermissionError(13, "Permission denied")
