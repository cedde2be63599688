# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.storage import cache, signature, temporary, user_folders


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for the state of programs, where nothing is yet."""
    folder = tmp_path / "state" / "paddlex_ml"
    monkeypatch.setattr(user_folders, "find", lambda *_: folder)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(temporary, "own_folder", lambda: tmp_path / "temporary")
    monkeypatch.setattr(temporary, "has_own_folder", (tmp_path / "temporary").is_dir)
    return folder


def test_only_the_same_content_has_the_signature(state: Path) -> None:
    made = signature.sign(b"content")
    assert signature.is_own(b"content", made)
    assert not signature.is_own(b"other", made)
    assert not signature.is_own(b"content", "")
    assert not signature.is_own(b"content", "\udcff")
    assert made == signature.sign(b"content")


def test_nobody_else_can_read_the_secret(state: Path) -> None:
    signature.sign(b"content")
    assert os.listdir(state) == ["secret"]
    assert (state / "secret").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700


def test_another_user_has_another_secret(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = signature.sign(b"content")
    monkeypatch.setattr(user_folders, "find", lambda *_: tmp_path / "other")
    assert not signature.is_own(b"content", theirs)


def test_to_ask_makes_no_secret_and_no_folder(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(temporary, "own_folder", lambda: made.append("") or state)
    assert not signature.is_own(b"content", "0" * 64)
    assert not state.exists()
    assert made == []


def test_a_secret_that_another_user_may_write_is_not_used(state: Path) -> None:
    state.mkdir(parents=True)
    (state / "secret").write_bytes(b"known to all")
    state.chmod(0o777)
    assert not signature.is_own(b"content", signature._digest(b"known to all", b"content"))


def test_without_a_folder_for_states_the_cache_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(user_folders, "find", lambda *_: tmp_path / "file" / "x")
    made = signature.sign(b"content")
    assert signature.is_own(b"content", made)
    assert [path.parent.name for path in (tmp_path / "cache").rglob("secret")] == [
        f".state-{os.getuid()}"
    ]


def test_where_the_disk_of_the_home_folder_is_full_the_cache_keeps_it(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, handles = os.fdopen, []

    def fill(handle: int, mode: str) -> Any:
        handles.append(handle)
        if len(handles) > 1:
            return opened(handle, mode)
        os.close(handle)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fdopen", fill)
    made = signature.sign(b"content")
    assert signature.is_own(b"content", made)
    assert os.listdir(state) == []
    (secret,) = (tmp_path / "cache").rglob("secret")
    assert secret.parent.name == f".state-{os.getuid()}"


def test_what_was_signed_before_the_home_folder_could_be_written_stays_own(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(user_folders, "find", lambda *_: None)
        made = signature.sign(b"content")
    assert signature.sign(b"content") == made  # no second secret is made
    assert signature.is_own(b"content", made)


def test_two_processes_make_one_secret(state: Path) -> None:
    start = threading.Barrier(8)

    def sign(_: int) -> str:
        start.wait(60)
        return signature.sign(b"content")

    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(sign, range(8))}) == 1
    assert os.listdir(state) == ["secret"]
