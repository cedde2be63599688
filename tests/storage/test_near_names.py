# SPDX-License-Identifier: Apache-2.0
"""A mistyped path is compared with what is there, part by part."""

from __future__ import annotations

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
        ("demo/photographs", None),
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
