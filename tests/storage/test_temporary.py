# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from paddlex_ml.storage import temporary


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    temporary.own_folder.cache_clear()
    yield folder
    temporary.own_folder.cache_clear()


def test_each_process_of_a_user_finds_the_same_folder_that_others_cannot_write(
    own_temporary_folder: Path,
) -> None:
    found = temporary.own_folder()
    assert found.parent == own_temporary_folder
    assert found.stat().st_mode & 0o777 == 0o700
    temporary.own_folder.cache_clear()  # as in another process
    assert temporary.own_folder() == found


def test_to_ask_makes_no_folder(own_temporary_folder: Path) -> None:
    assert not temporary.has_own_folder()
    assert os.listdir(own_temporary_folder) == []
    temporary.own_folder()
    assert temporary.has_own_folder()


@pytest.mark.parametrize("kind", ["writable by all", "link", "file"])
def test_a_folder_that_others_have_prepared_is_not_used(
    own_temporary_folder: Path, tmp_path: Path, kind: str
) -> None:
    name = own_temporary_folder / f"paddlex_ml-{os.getuid()}"
    (tmp_path / "trap").mkdir(mode=0o700)
    if kind == "link":
        name.symlink_to(tmp_path / "trap")
    elif kind == "file":
        name.touch()
    else:
        name.mkdir()
        name.chmod(0o777)
    found = temporary.own_folder()
    assert found != name
    assert found.resolve() == found
    assert found.stat().st_mode & 0o777 == 0o700
    found.rmdir()
