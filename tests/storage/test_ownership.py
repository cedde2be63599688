# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddlex_ml.storage import ownership


def test_a_folder_of_this_user_alone_is_safe(open_folder: Path) -> None:
    folder = open_folder / "cache"
    folder.mkdir(mode=0o700)
    assert ownership.is_safe(folder)
    (open_folder / "link").symlink_to(folder)
    assert ownership.is_safe(open_folder / "link")


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_that_others_may_write_is_not_safe(open_folder: Path, mode: int) -> None:
    (open_folder / "cache").mkdir()
    (open_folder / "cache").chmod(mode)
    assert not ownership.is_safe(open_folder / "cache")


def test_nor_is_one_that_others_may_rename(open_folder: Path) -> None:
    folder = open_folder / "shared" / "deep" / "cache"
    folder.mkdir(parents=True, mode=0o700)
    (open_folder / "shared").chmod(0o777)
    assert not ownership.is_safe(folder)
    (open_folder / "shared").chmod(0o1777)  # like /tmp: each may rename only what he owns
    assert ownership.is_safe(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_nor_is_one_of_another_user(open_folder: Path) -> None:
    folder = open_folder / "theirs" / "cache"
    folder.mkdir(parents=True, mode=0o700)
    os.chown(open_folder / "theirs", 12345, 12345)
    assert not ownership.is_safe(folder)


def test_below_a_folder_that_nobody_else_may_enter_permissions_do_not_matter(
    open_folder: Path,
) -> None:
    path = open_folder / "private" / "shared" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    path.chmod(0o666)
    path.parent.chmod(0o777)
    assert not ownership.is_safe(path)
    (open_folder / "private").chmod(0o700)
    assert ownership.is_safe(path)
    (open_folder / "private").chmod(0o777)
    path.parent.chmod(0o700)
    assert not ownership.is_safe(path)  # the folder itself may be replaced


def test_a_group_of_this_user_alone_may_write(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (open_folder / "cache").mkdir()
    (open_folder / "cache").chmod(0o775)
    monkeypatch.setattr(ownership, "_own_group", lambda: (open_folder / "cache").stat().st_gid)
    assert ownership.is_safe(open_folder / "cache")
    monkeypatch.setattr(ownership, "_own_group", lambda: None)
    assert not ownership.is_safe(open_folder / "cache")
