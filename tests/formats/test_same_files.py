# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.formats import same_files


def test_only_files_of_one_size_are_read(
    plant: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    digest = same_files._digest
    monkeypatch.setattr(same_files, "_digest", lambda p: (read.append(p.name), digest(p))[1])
    root = plant({"a": "12", "b": "34", "c": "12", "d": "123", "e": "", "f": ""})
    steps: list[int] = []
    copies = same_files.find_copies(root, ["c", *"abdefg"], lambda: steps.append(1))
    assert copies == ({"a": "c"}, {})
    assert read == ["c", "a", "b"]
    assert len(steps) == 7


def test_a_file_that_cannot_be_read_is_told(
    plant: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(same_files, "_digest", refuse)
    copies, unreadable = same_files.find_copies(
        plant({"a": "1", "b": "2"}), ["a", "b"], lambda: None
    )
    assert (copies, unreadable) == ({}, dict.fromkeys("ab", "Permission denied"))


def test_large_files_are_compared_to_their_end(plant: Callable[..., Path]) -> None:
    long = b"x" * 2_500_000
    root = plant({"a": long + b"1", "b": long + b"2", "c": long + b"1"})
    assert same_files.find_copies(root, ["a", "b", "c"], lambda: None)[0] == {"c": "a"}
