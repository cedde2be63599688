# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from paddlex_ml.storage import file_state


def test_a_file_that_takes_the_place_of_another_is_described_otherwise(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(path.name.encode())
        os.utime(path, ns=(1, 1))
    described = file_state.describe(one)
    assert file_state.describe(one) == described
    two.replace(one)
    assert file_state.describe(one) != described


def test_a_new_file_proves_nothing_and_an_old_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    os.utime(path, ns=(1, 1))  # the time of the last change of the entry is now all the same
    assert file_state.describe_settled(path) is None
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert file_state.describe_settled(path) == file_state.describe(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_state.describe(tmp_path / "none")
