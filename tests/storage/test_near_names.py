# SPDX-License-Identifier: Apache-2.0
"""A mistyped path is compared with what is there, part by part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddlex_ml.storage import near_names


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("demo/scene/images/1.jpg", "demo/scenes/images/1.jpg"),
        ("demos/scenes/image", "demo/scenes/images"),
        ("demo/scenes/images/1.jpeg", "demo/scenes/images/1.jpg"),
        ("./demo/scene", "demo/scenes"),
        ("demo/scenes", None),
        ("Demo/SCENES", "demo/scenes"),
        ("demo/photographs", None),
        ("demo/scenes/" + "x" * 300, None),
        ("demo/scenes/images/1.jpg/more", None),
        ("", None),
    ],
)
def test_the_path_whose_parts_are_alike_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, meant: str | None
) -> None:
    (tmp_path / "demo" / "scenes" / "images").mkdir(parents=True)
    (tmp_path / "demo" / "scenes" / "images" / "1.jpg").touch()
    monkeypatch.chdir(tmp_path)
    expected = None if meant is None else Path(meant)
    assert near_names.find(Path(typed)) == expected
    assert near_names.find(tmp_path / typed) == (None if meant is None else tmp_path / meant)


def test_a_folder_that_cannot_be_entered_has_no_near_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", fail)
    monkeypatch.setattr(os, "listdir", fail)
    assert near_names.find(tmp_path / "photos" / "1.jpg") is None


def test_of_very_many_names_those_with_the_same_digits_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"photo_{number:04}.jpg" for number in range(5000)]
    monkeypatch.setattr(os, "listdir", lambda _: names)
    assert near_names.find(tmp_path / "phto_4321.jpg") == tmp_path / "photo_4321.jpg"
    assert near_names.find(tmp_path / "photo_99999.jpg") is None
