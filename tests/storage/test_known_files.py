# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, fetch, files, known_files, signature


@pytest.fixture
def shared(open_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the cache that every user of this machine may change."""
    monkeypatch.setenv(cache.VARIABLE, str(open_folder))
    monkeypatch.setattr(signature, "state_folder", lambda: tmp_path / "state")
    path = cache.path_for("https://example.org/weights.pdparams")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    path.chmod(0o666)
    return path


def get() -> Path:
    return fetch.cached("https://example.org/weights.pdparams", check=lambda _: None, fix="none")


def test_the_first_use_is_told_and_the_next_is_silent(
    shared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert get() == shared
    assert f"other users may change {shared}" in caplog.text
    caplog.clear()
    assert get() == shared
    assert caplog.text == ""


def test_a_file_that_was_changed_is_refused_and_the_repair_works(shared: Path) -> None:
    get()
    shared.write_bytes(b"other weights")
    with pytest.raises(PaddlexMLError, match="another user has changed this file") as caught:
        get()
    note = Path(caught.value.fix.rpartition("rm ")[2])
    note.unlink()
    assert get() == shared


def test_a_file_that_only_this_user_can_change_is_not_looked_at(
    shared: Path, tmp_path: Path
) -> None:
    shared.chmod(0o644)
    shared.parent.chmod(0o700)
    known_files.check(shared)
    assert not (tmp_path / "state").exists()


def test_a_file_of_this_user_that_others_may_replace_is_the_one_of_the_first_use(
    shared: Path,
) -> None:
    shared.chmod(0o644)
    shared.parent.chmod(0o777)
    get()
    other = shared.with_name("theirs")
    other.write_bytes(b"other weights")
    other.replace(shared)
    with pytest.raises(PaddlexMLError, match="another user has changed this file"):
        get()


def test_a_full_disk_of_the_state_is_told_as_such(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_text", fill)
    with pytest.raises(PaddlexMLError, match="cannot be kept: No space left") as caught:
        get()
    assert "state" in caught.value.where
    assert "PADDLEX_ML_CACHE=/another/folder" in caught.value.fix
