# SPDX-License-Identifier: Apache-2.0
"""Warnings about images; those about counts are in test_check.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from paddlex_ml.data import annotation, check
from paddlex_ml.data.findings import Finding


def photo(seed: int, size: tuple[int, int] = (200, 150)) -> Image.Image:
    """A picture of a few broad shapes, as photographs have them."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


def findings(
    root: Path, train: dict[str, Image.Image], val: dict[str, Image.Image]
) -> list[Finding]:
    annotation.write_labels(root / "label.txt", ["a"])
    for name, images in (("train", train), ("val", val)):
        for path, image in images.items():
            image.save(root / path, quality=90)
        annotation.write_list(
            root / f"{name}.txt", list(images), np.ones((len(images), 1), np.uint8)
        )
    report = check.check(root)
    assert report.faults == []
    return report.warnings


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "resized": lambda image: image.resize((120, 90)),
    "enlarged": lambda image: image.resize((800, 600)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "cropped": lambda image: image.crop((2, 2, 199, 148)),
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_in_val_is_found(tmp_path: Path, edit: str) -> None:
    train = {f"t{i}.jpg": photo(i) for i in range(4)}
    (finding,) = findings(tmp_path, train, {"new.jpg": photo(9), "copy.jpg": EDITS[edit](photo(2))})
    assert finding.images == [("t2.jpg", "copy.jpg")]
    assert finding.alike
    assert finding.text.startswith("1 images of val look like one of train: copy.jpg = t2.jpg;")


def test_different_pictures_and_plain_ones_are_no_copies(tmp_path: Path) -> None:
    plain = {f"plain{i}.png": Image.new("RGB", (50, 50), (i, i, i)) for i in range(4)}
    train = {**{f"t{i}.jpg": photo(i) for i in range(20)}, "plain0.png": plain["plain0.png"]}
    val = {f"v{i}.jpg": photo(100 + i) for i in range(20)}
    assert findings(tmp_path, train, {**val, "plain1.png": plain["plain1.png"]}) == []


def test_an_equal_file_is_a_copy_and_not_also_a_near_duplicate(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, {"t.png": photo(1)}, {"v.png": photo(1), "w.png": photo(2)})
    assert "the same image (by content) is in train and val 1 times" in finding.text
    assert not finding.alike


def test_small_images_are_named(tmp_path: Path) -> None:
    (finding,) = findings(
        tmp_path, {"t.png": photo(1), "s.png": photo(3, (200, 31))}, {"v.png": photo(2, (32, 32))}
    )
    assert finding.text.startswith("1 images are less than 32 pixels wide or high: s.png;")
    assert finding.images == [("s.png",)]


def test_real_photographs_have_the_copies_that_were_seen(shared: Path) -> None:
    warnings = check.check(shared / "data" / "natural_scenes").warnings
    (near_duplicates,) = [finding for finding in warnings if finding.alike]
    assert len(near_duplicates.images) == 9
    assert ("images/0043.jpg", "images/0039.jpg") in near_duplicates.images
