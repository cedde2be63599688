# SPDX-License-Identifier: Apache-2.0
"""Warnings about images; those about counts are in test_check.py."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from paddlex_ml.data import annotation, check
from paddlex_ml.data import findings as findings_module
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.findings import Finding
from paddlex_ml.data.split import Division, divide


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
    assert finding.text.startswith("1 image of val looks like one of train: copy.jpg = t2.jpg;")


def test_different_pictures_and_plain_ones_are_no_copies(tmp_path: Path) -> None:
    plain = {f"plain{i}.png": Image.new("RGB", (50, 50), (i, i, i)) for i in range(4)}
    train = {**{f"t{i}.jpg": photo(i) for i in range(20)}, "plain0.png": plain["plain0.png"]}
    val = {f"v{i}.jpg": photo(100 + i) for i in range(20)}
    assert findings(tmp_path, train, {**val, "plain1.png": plain["plain1.png"]}) == []


def test_an_equal_file_is_a_copy_and_not_also_a_near_duplicate(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, {"t.png": photo(1)}, {"v.png": photo(1), "w.png": photo(2)})
    assert (
        "the same image (by content) is in train and val 1 time: train.txt:1 = val.txt:1"
        in finding.text
    )
    assert not finding.alike


def frames(count: int, seed: int = 1, moving: bool = True) -> list[Image.Image]:
    """What a camera that stands still sees: one scene, in which something walks by."""
    random = np.random.default_rng(seed)
    seen = []
    for _ in range(count):
        frame = photo(seed, (320, 240))
        if moving:
            place = (int(random.integers(0, 290)), int(random.integers(0, 190)))
            frame.paste((20, 20, 40), (*place, place[0] + 14, place[1] + 34))
        noise = random.normal(0, 3, (240, 320, 3))
        seen.append(Image.fromarray((np.asarray(frame) + noise).clip(0, 255).astype(np.uint8)))
    return seen


def name_cameras(cameras: int, count: int, name: str) -> dict[str, Image.Image]:
    return {
        name.format(camera, i): frame
        for camera in range(cameras)
        for i, frame in enumerate(frames(count, camera + 1))
    }


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("cam{}_{:04}.jpg", r"^(.*\D)\d+\D*$"),
        ("cam{}-12-30-{:02}.jpg", r"^(.*\D)\d+\D*$"),
        ("{}{:02}00.jpg", r"^(.*\d)\d\d\d\D*$"),
    ],
)
def test_frames_of_a_fixed_camera_are_no_copies_and_the_groups_are_proposed(
    tmp_path: Path, name: str, pattern: str
) -> None:
    seen = name_cameras(4, 6, name)
    train = {path: frame for i, (path, frame) in enumerate(seen.items()) if i % 3}
    val = {path: frame for i, (path, frame) in enumerate(seen.items()) if not i % 3}
    (finding,) = findings(tmp_path, train, val)
    assert finding.text.startswith("8 images of val show nearly the same view as one of train: ")
    assert "copies" not in finding.text
    assert len(finding.images) == 8
    assert finding.alike
    command = shlex.split(finding.text.partition("on one side: ")[2].removesuffix(")"))
    assert f"CheckDataset.split.group_regex={pattern}" in command
    assert command[3:6:2] == [
        "CheckDataset.split.train_percent=67",
        "CheckDataset.split.val_percent=33",
    ]
    dataset = annotation.read(tmp_path)
    images = ImageList(
        tmp_path,
        dataset.train.paths + dataset.val.paths,
        np.concatenate([dataset.train.targets, dataset.val.targets]),
    )
    lists = divide(images, Division(val_percent=33, group_regex=pattern))
    cameras = [{re.sub(r"\D", "", path)[0] for path in lists[key].paths} for key in lists]
    assert not cameras[0] & cameras[1]


def test_frames_in_which_nothing_moves_are_called_frames_where_others_are(tmp_path: Path) -> None:
    still = frames(3, moving=False)
    moving = frames(12)
    train = {f"t{i}.jpg": frame for i, frame in enumerate([*moving[:6], still[0]])}
    val = {f"v{i}.jpg": frame for i, frame in enumerate([*moving[6:], still[1]])}
    (finding,) = findings(tmp_path, train, val)
    assert "nearly the same view" in finding.text
    assert len(finding.images) == 7


def test_copies_and_frames_in_one_set_are_two_warnings(tmp_path: Path) -> None:
    moving = frames(6)
    train = {f"t{i}.jpg": frame for i, frame in enumerate([*moving[:3], photo(50)])}
    val = {f"v{i}.jpg": frame for i, frame in enumerate([*moving[3:], photo(50).resize((99, 75))])}
    copies, views = findings(tmp_path, train, val)
    assert copies.images == [("t3.jpg", "v3.jpg")]
    assert "most likely copies" in copies.text
    assert [pair[1] for pair in views.images] == ["v0.jpg", "v1.jpg", "v2.jpg"]
    assert "CheckDataset.split.group_regex keeps it on one side" in views.text


def test_of_many_pairs_some_are_looked_at_and_stand_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings_module, "_COMPARED", 3)
    train = {f"t{i}.jpg": photo(i) for i in range(9)}
    (finding,) = findings(tmp_path, train, {f"v{i}.jpg": photo(i, (100, 75)) for i in range(9)})
    assert "9 images of val look like one of train" in finding.text


@pytest.mark.parametrize(
    ("paths", "pairs", "pattern"),
    [
        (["train/cam1_1.jpg", "val/cam1_2.jpg", "train/cam2_1.jpg", "val/cam2_2.jpg"],
         [("train/cam1_1.jpg", "val/cam1_2.jpg"), ("train/cam2_1.jpg", "val/cam2_2.jpg")],
         r"([^/]*\D)\d+\D*$"),
        ([f"frame_{i:06}.png" for i in range(1000)],
         [(f"frame_{i:06}.png", f"frame_{i + 1:06}.png") for i in range(0, 1000, 2)],
         r"^(.*\d)\d\d\D*$"),
        (["a.jpg", "b.jpg"], [("a.jpg", "b.jpg")], ""),
        ([f"{i:04}.jpg" for i in range(100)], [("0003.jpg", "0091.jpg")], ""),
    ],
)  # fmt: skip
def test_groups_are_proposed_from_the_names(
    paths: list[str], pairs: list[tuple[str, str]], pattern: str
) -> None:
    assert findings_module.propose_groups(paths, pairs) == pattern


def test_small_images_are_named(tmp_path: Path) -> None:
    (finding,) = findings(
        tmp_path, {"t.png": photo(1), "s.png": photo(3, (200, 31))}, {"v.png": photo(2, (32, 32))}
    )
    assert finding.text.startswith("1 image is less than 32 pixels wide or high: s.png;")
    assert finding.images == [("s.png",)]


def test_real_photographs_have_the_copies_that_were_seen(shared: Path) -> None:
    warnings = check.check(shared / "data" / "natural_scenes").warnings
    (near_duplicates,) = [finding for finding in warnings if finding.alike]
    assert len(near_duplicates.images) == 9
    assert ("images/0043.jpg", "images/0039.jpg") in near_duplicates.images
