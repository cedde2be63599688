# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from paddlex_ml.data import annotation, check, inspect_images
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.errors import PaddlexMLError

NAMES = ["cat", "dog", "owl"]


def draw(path: Path, seed: int, size: tuple[int, int] = (50, 40)) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def build(root: Path, train: list[list[int]], val: list[list[int]]) -> Path:
    annotation.write_labels(root / "label.txt", NAMES)
    for seed, (key, rows) in enumerate((("train", train), ("val", val))):
        paths = [f"images/{key}{i}.png" for i in range(len(rows))]
        for i, path in enumerate(paths):
            draw(root / path, 1000 * seed + i)
        annotation.write_list(root / f"{key}.txt", paths, np.array(rows, np.uint8))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path, [[1, 0, 0], [0, 1, 1], [1, 1, 0]], [[1, 1, 1]])


def test_a_sound_set_has_no_faults_and_no_warnings(folder: Path) -> None:
    report = check.check(folder)
    assert (report.faults, report.warnings) == ([], [])
    assert check.summarise(report) == {
        "class_counts": {
            "train": {"cat": 2, "dog": 2, "owl": 1},
            "val": {"cat": 1, "dog": 1, "owl": 1},
        },
        "labels_per_image": {
            "train": {"mean": 1.667, "images_by_number_of_labels": {"1": 1, "2": 2}},
            "val": {"mean": 3.0, "images_by_number_of_labels": {"3": 1}},
        },
        "image_sizes": {
            "width": {"min": 50, "median": 50, "max": 50},
            "height": {"min": 40, "median": 40, "max": 40},
        },
        "image_formats": {"PNG": 4},
        "co_occurrence": {"classes": NAMES, "counts": [[3, 2, 1], [2, 3, 2], [1, 2, 2]]},
        "warnings": [],
    }


def test_worker_processes_find_the_same_as_this_process(folder: Path) -> None:
    (folder / "images" / "train1.png").write_bytes(b"no image")
    here, there = check.check(folder, workers=0), check.check(folder, workers=2)
    assert [image[:3] for image in here.images.values()] == [
        image[:3] for image in there.images.values()
    ]
    assert [fault.where for fault in here.faults] == ["train.txt:2"]
    assert [fault.where for fault in there.faults] == ["train.txt:2"]


def test_progress_ends_at_the_total(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    check.check(folder, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (4, 4)


def test_broken_images_are_named_with_their_line_also_where_the_values_are_wrong(
    folder: Path,
) -> None:
    whole = (folder / "images" / "train0.png").read_bytes()
    (folder / "images" / "train0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "images" / "val0.png").write_bytes(b"")
    lines = (folder / "train.txt").read_text().splitlines()
    lines[0] = "images/train0.png\t1"
    (folder / "train.txt").write_text("\n".join(lines))
    faults = {(fault.where, fault.kind): fault.text for fault in check.check(folder).faults}
    assert faults["train.txt:1", "wrong number of values"].startswith("label vector has 1 value,")
    assert "cannot be decoded" in faults["train.txt:1", "image not decodable"]
    assert "is empty (0 bytes)" in faults["val.txt:1", "image not decodable"]


def test_sixteen_bit_alpha_cmyk_grey_palette_and_turned_images_pass(tmp_path: Path) -> None:
    grey = np.arange(200, dtype=np.uint8).reshape(10, 20)
    images = {
        "16bit.png": Image.fromarray(grey.astype(np.uint16) * 256),
        "alpha.png": Image.fromarray(grey).convert("RGBA"),
        "grey.png": Image.fromarray(grey),
        "cmyk.jpg": Image.fromarray(grey).convert("CMYK"),
        "palette.gif": Image.fromarray(grey).convert("P"),
        "turned.jpg": Image.fromarray(grey),
    }
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    for name, image in images.items():
        image.save(tmp_path / name)
    images["turned.jpg"].save(tmp_path / "turned.jpg", exif=exif)
    names, targets = list(images), np.ones((len(images), 3), np.uint8)
    annotation.write_labels(tmp_path / "label.txt", NAMES)
    annotation.write_list(tmp_path / "train.txt", names[:3], targets[:3])
    annotation.write_list(tmp_path / "val.txt", names[3:], targets[3:])
    report = check.check(tmp_path)
    assert report.faults == []
    assert (report.images["turned.jpg"].width, report.images["turned.jpg"].height) == (10, 20)


def test_the_same_bytes_in_train_and_val_are_warned_of_with_both_lines(folder: Path) -> None:
    (folder / "images" / "val0.png").write_bytes((folder / "images" / "train2.png").read_bytes())
    (warning, other) = check.check(folder).warnings
    assert "1 time: train.txt:3 = val.txt:1" in warning.text
    assert warning.images == [("images/train2.png", "images/val0.png")]
    assert other.text.startswith("the same image (by content) has different labels 1 time: ")


def test_identical_lists_are_warned_of_once(folder: Path) -> None:
    (folder / "val.txt").write_bytes((folder / "train.txt").read_bytes())
    (warning,) = check.check(folder).warnings
    assert warning.text.startswith("train.txt and val.txt name the same images")


def test_absent_classes_and_unlabelled_images_are_warned_of(tmp_path: Path) -> None:
    build(tmp_path, [[1, 0, 0], [1, 1, 0]], [[0, 0, 1], [0, 0, 0]])
    warnings = [finding.text for finding in check.check(tmp_path).warnings]
    assert warnings[0].startswith("1 of 3 classes has no image in train: owl;")
    assert warnings[1].startswith("2 of 3 classes have no image in val: cat, dog;")
    assert "1 of 2 images in val has no label at all (the first: images/val1.png)" in warnings[2]


def test_all_absent_classes_are_in_the_result(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(300)]
    annotation.write_labels(tmp_path / "label.txt", names)
    draw(tmp_path / "t.png", 1)
    draw(tmp_path / "v.png", 2)
    annotation.write_list(tmp_path / "train.txt", ["t.png"], np.ones((1, 300), np.uint8))
    few = np.zeros((1, 300), np.uint8)
    few[0, :10] = 1
    annotation.write_list(tmp_path / "val.txt", ["v.png"], few)
    report = check.check(tmp_path)
    (warning,) = check.summarise(report)["warnings"]
    assert warning["text"].startswith("290 of 300 classes have no image in val: class 10, class 11")
    assert "class 19 and 280 more;" in warning["text"]
    assert warning["names"] == names[10:]


def test_all_images_of_a_warning_are_in_the_result(tmp_path: Path) -> None:
    build(tmp_path, [[0, 0, 0]] * 1200 + [[1, 1, 1]], [[1, 1, 1]])
    warnings = check.summarise(check.check(tmp_path))["warnings"]
    (warning,) = [each for each in warnings if "no label at all" in each["text"]]
    assert warning["count"] == len(warning["images"]) == 1200


@pytest.mark.parametrize("at_once", [1 << 21, 50])
def test_the_strongest_pairs_of_many_classes_are_those_of_the_whole_table(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(check, "_PAIRS", at_once)
    monkeypatch.setattr(check, "_TABLE", 50 * at_once)
    targets = (np.random.default_rng(0).random((500, 300)) < 0.02).astype(np.uint8)
    lists = [ImageList(Path(), [""] * len(part), part) for part in (targets[:400], targets[400:])]
    names = [str(i) for i in range(300)]
    table = targets.astype(np.int64).T @ targets
    first, second = np.triu_indices(300, 1)
    strongest = np.argsort(-table[first, second], kind="stable")[:50]
    assert check._describe_pairs(lists, names) == {
        "pairs": [
            [names[first[i]], names[second[i]], table[first[i], second[i]]] for i in strongest
        ]
    }
    assert (check.count_pairs(lists) == table).all()
    few = np.array([7, 3])
    assert (check.count_pairs(lists, few) == table[few][:, few]).all()


def test_imbalance_is_warned_of_beyond_fifty_times_and_not_at_fifty(tmp_path: Path) -> None:
    fifty = build(tmp_path / "a", [[1, 0, 1]] * 49 + [[1, 1, 1]], [[1, 1, 1]])
    more = build(tmp_path / "b", [[1, 0, 1]] * 50 + [[1, 1, 1]], [[1, 1, 1]])
    assert check.check(fifty).warnings == []
    (warning,) = check.check(more).warnings
    assert "owl has 51 images, dog 1 (51 times fewer" in warning.text


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_worker_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_images, "_CHUNK", 1)
    build(tmp_path, [[1, 1, 1]] * 200, [[1, 1, 1]])

    def kill(_done: int, _total: int) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(
        PaddlexMLError, match=r"was killed by the system, most likely for memory\n.*near images"
    ) as error:
        check.check(tmp_path, kill, workers=2)
    assert (
        "2 worker processes, each with an image that takes up to 1.0 GB, after" in error.value.where
    )
    assert "GB are free now" in error.value.where
    assert "look for a huge image there" in error.value.fix


def test_real_photographs_pass(shared: Path) -> None:
    report = check.check(shared / "data" / "coco_mini_open")
    assert report.faults == []
    assert len(report.images) == 63


def test_pages_and_frames_beyond_the_first_are_counted_and_named(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), (80 * i, 90, 200)) for i in range(3)]
    small = Image.new("RGB", (20, 20))
    for name in ("a.gif", "b.tif", "c.png", "d.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    for name in ("e.gif", "f.tif", "g.png", "h.webp"):
        frames[1].save(tmp_path / name)
    content = io.BytesIO()  # a file would be closed twice, which Python 3.13 tells
    with TiffImagePlugin.AppendingTiffWriter(content, new=True) as file:
        frames[2].save(file, "TIFF")
        file.newFrame()
        small.save(file, "TIFF", tiffinfo={254: 1})  # a smaller copy of the page before
    (tmp_path / "i.tif").write_bytes(content.getvalue())
    names = sorted(path.name for path in tmp_path.iterdir())
    annotation.write_labels(tmp_path / "label.txt", NAMES)
    annotation.write_list(tmp_path / "train.txt", names, np.ones((9, 3), np.uint8))
    annotation.write_list(tmp_path / "val.txt", names, np.ones((9, 3), np.uint8))
    report = check.check(tmp_path, workers=0)
    assert [report.images[name].frames for name in names] == [3, 3, 3, 3, 1, 1, 1, 1, 1]
    (warning,) = [w for w in report.warnings if "pages or frames" in w.text]
    assert warning.text.startswith("4 images have several pages or frames, of which only the first")
    assert warning.images == [(name,) for name in names[:4]]


def test_damaged_later_pages_leave_the_first_usable(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 40), (80 * i, 90, 200)) for i in range(3)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[-300:] = b"\xff" * 300
    (tmp_path / "a.tif").write_bytes(content)
    (inspected,) = inspect_images.inspect_chunk(str(tmp_path), ["a.tif"])
    assert (inspected.problem, inspected.width) == ("", 40)


def test_scaled_samples_are_warned_of_by_their_range(folder: Path) -> None:
    ramp = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    Image.fromarray(ramp).save(folder / "images/train0.png")
    Image.fromarray((ramp[::-1] * 2).copy()).save(folder / "images/train1.png")
    Image.fromarray(ramp.astype(np.float32) / 1600).save(folder / "images/val0.png", "TIFF")
    texts = [warning.text for warning in check.check(folder, workers=0).warnings]
    assert [text.partition(" by their largest")[0] for text in texts] == [
        "2 images show 12 bits in 16-bit samples",
        "1 image shows floats from 0 to 1",
    ]


def test_a_list_without_any_label_is_a_fault(tmp_path: Path) -> None:
    build(tmp_path, [[0, 0, 0], [0, 0, 0]], [[1, 1, 1]])
    (fault,) = check.check(tmp_path, workers=0).faults
    assert (fault.kind, fault.where) == ("no labels", "train.txt")
    assert fault.text == "none of the 2 images of train has a label"


def test_spellings_of_one_class_are_warned_of(folder: Path) -> None:
    annotation.write_labels(folder / "label.txt", ["traffic light", "Traffic\u200b  Light", "owl"])
    (warning,) = check.check(folder, workers=0).warnings
    assert warning.text.startswith("1 class is named in several spellings")
    assert "'traffic light' and 'Traffic\\u200b  Light'" in warning.text


def test_broken_images_of_lists_that_are_not_written_are_named_by_their_paths(
    folder: Path,
) -> None:
    (folder / "images/val0.png").write_bytes(b"<html><body>404</body></html>")
    parsed = annotation.parse(folder)
    images = check.inspect(parsed, workers=0)
    problem = "not an image, but an HTML page"
    for is_written, told in (
        (True, ("val.txt:1", f"images/val0.png: {problem}")),
        (False, ("images/val0.png", problem)),
    ):
        (fault,) = check.find_faults(parsed, images, is_written=is_written)
        assert (fault.where, fault.text) == told
        assert fault.fix.endswith("leave such lines out: -o 'CheckDataset.drop=[broken]'")


def test_hashes_are_those_of_the_package_imagehash() -> None:
    """Written down from imagehash 4.3.2, whose SciPy is not installed for them."""
    rows, columns = np.mgrid[:32, :32]
    hashes = {
        "8000000000000000": 4 * rows + 3 * columns,
        "8000000000000000 ": 120 * (columns // 4 % 2) + 60,  # most frequencies are exactly 0
        "970b1cb11e2fa53c": (3 * rows * rows + 7 * columns) % 256,
        "ce3031cececece30": 200 * ((abs(rows - 16) < 8) & (abs(columns - 12) < 5)),
        "89120b5b1f427b3f": (11 * rows * columns + rows) % 251,
    }
    for expected, grey in hashes.items():
        assert inspect_images.perceptual_hash(grey.astype(np.uint8)).hex() == expected.strip()
