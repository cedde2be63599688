# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data.transforms import read_image
from paddlex_ml.pictures import dataset_page, thumbnails
from paddlex_ml.pictures.dataset_page import DatasetPage, PageList, PagePairs, PageWarning

NASTY = '<script>alert(1)</script> & "猫" \''


class Reader(HTMLParser):
    """Collects tags, what they refer to, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.scripts: dict[str, str] = {}
        """Text of the script elements by their id."""
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._script = (dict(attrs).get("id") or "") if tag == "script" else None
        self.attributes += [name for name, _ in attrs]
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._script = None if tag == "script" else self._script


def page_list(paths: Sequence[str], targets: np.ndarray) -> PageList:
    images, classes = np.nonzero(targets)
    known = np.full(targets.shape[1], len(targets))
    return PageList(paths, (images, classes), targets.sum(axis=0, dtype=np.int64), known)


def make(root: Path, names: list[str], images: int = 6) -> DatasetPage:
    paths = [f"a & b {i}.png" for i in range(images)]
    for i, path in enumerate(paths):
        Image.new("RGB", (60, 40 + i), (40 * i % 256, 90, 10)).save(root / path)
    targets = np.zeros((images, len(names)), np.uint8)
    targets[np.arange(images), np.arange(images) % max(1, len(names) - 1)] = 1
    half = images // 2
    frequent = np.argsort(-targets.sum(axis=0, dtype=np.int64), kind="stable")
    frequent = frequent[: dataset_page.MOST_TOGETHER]
    shown = targets[:, frequent].astype(np.int64)
    return DatasetPage(
        read=read_image,
        root=root,
        label_names=names,
        train=page_list(paths[:half], targets[:half]),
        val=page_list(paths[half:], targets[half:]),
        warnings=[
            PageWarning(f"doubtful: {NASTY}", [(path,) for path in paths]),
            PageWarning("alike", [(paths[0], paths[1])], alike=True),
        ],
        pairs=PagePairs(frequent, shown.T @ shown),
        sizes={side: {"min": 1, "median": 2000, "max": 3} for side in ("width", "height")},
        formats={"PNG": images},
    )


def read(tmp_path: Path, content: DatasetPage) -> Reader:
    dataset_page.write(tmp_path / "report.html", content)
    return Reader((tmp_path / "report.html").read_text("utf-8"))


def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script(tmp_path):
    page = read(tmp_path, make(tmp_path, ["cat", NASTY, "empty"]))
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert page.sources
    assert {source.partition(",")[0] for source in page.sources} == {"data:image/jpeg;base64"}


def test_texts_of_the_user_arrive_as_they_are(tmp_path):
    page = read(tmp_path, make(tmp_path, ["cat", NASTY, "empty"]))
    assert NASTY in page.text
    assert f"doubtful: {NASTY}" in page.text


def test_every_warning_names_its_files_and_alike_pairs_are_side_by_side(tmp_path):
    content = make(tmp_path, ["cat", "dog", "empty"])
    page = read(tmp_path, content)
    for path in [*content.train.paths, *content.val.paths]:
        assert path in page.text
    assert "a & b 0.png  =  a & b 1.png" in page.text
    assert "1 pair" in page.text
    assert "6 images" in page.text


def test_each_class_has_samples_and_a_class_without_image_is_marked(tmp_path):
    page = read(tmp_path, make(tmp_path, ["cat", "dog", "empty"]))
    assert page.tags.count("img") == 2 + 6  # the pair, and the images of two classes
    assert "no image" in page.text
    picture = base64.b64decode(page.sources[0].partition(",")[2])
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (thumbnails.SIDE, thumbnails.SIDE)


def test_many_classes_are_a_list_for_the_script_with_every_name_and_some_pictures(tmp_path):
    names = [f"class {i}" for i in range(149)] + [f"last {NASTY} </script>"]
    page = read(tmp_path, make(tmp_path, names, images=300))
    assert page.tags.count("script") == 3
    data, pictures = (json.loads(page.scripts[name]) for name in ("data", "pictures"))
    assert [row[0] for row in data["classes"]] == names
    assert [row[1] + row[2] for row in data["classes"]] == [3] * 2 + [2] * 147 + [0]
    for i, (_, _, _, samples) in enumerate(data["classes"]):
        assert all(i in data["images"][place][1] for place in samples)
    assert len(pictures) == 300
    with Image.open(io.BytesIO(base64.b64decode(pictures["0"]))) as image:
        assert image.size == (80, 80)
    assert "149 classes have an image in train" in page.text
    assert "The 60 most frequent classes; 90 others are left out" in page.text


def test_pictures_of_many_classes_fill_the_room_that_is_left_and_no_more(tmp_path, monkeypatch):
    content = make(tmp_path, [f"class {i}" for i in range(150)], images=300)
    monkeypatch.setattr(dataset_page, "_LARGEST", 0)
    assert json.loads(read(tmp_path, content).scripts["pictures"]) == {}
    room = (tmp_path / "report.html").stat().st_size + 60_000
    monkeypatch.setattr(dataset_page, "_LARGEST", room)
    page = read(tmp_path, content)
    assert 10 < len(json.loads(page.scripts["pictures"])) < 200
    assert room - 5_000 < (tmp_path / "report.html").stat().st_size <= room
    data = json.loads(page.scripts["data"])
    assert all(samples for _, _, _, samples in data["classes"][:-1])  # from files, on demand


def test_samples_begin_with_train_and_are_shared_by_classes(tmp_path):
    content = make(tmp_path, ["a", "b"], images=20)
    targets = np.ones((10, 2), np.uint8)
    content = replace(
        content,
        train=page_list(content.train.paths, targets),
        val=page_list(content.val.paths, targets),
    )
    first, second = dataset_page._Images(content).choose(12)
    assert first == second
    assert sorted(first[:10]) == list(range(10))
    assert min(first[10:]) >= 10
    assert dataset_page._Images(content).choose(3)[0] == first[:3]


def test_long_names_of_the_table_are_cut_and_one_class_has_no_table(tmp_path):
    names = ["x" * 30, "猫" * 12, "👨\u200d👩\u200d👧" * 9, "short"]
    page = read(tmp_path, make(tmp_path, names))
    for name in ("x" * 18 + "...", "猫" * 9 + "...", "short"):
        assert page.text.count(name) >= 2
    assert "Classes that occur together" in page.text
    one = read(tmp_path, make(tmp_path, ["cat"]))
    assert "Classes that occur together" not in one.text
    assert "table.heat" not in one.text


@pytest.mark.parametrize("name", ["x" * 400, "猫" * 400, "e\u0301" * 400, "👨\u200d👩" * 400])
def test_a_cut_name_is_narrow_and_ends_with_a_whole_character(name):
    short = dataset_page._shorten(name)
    assert short.endswith("...")
    assert name.startswith(short[:-3])
    assert len(short.encode("utf-16-le")) // 2 <= 60
    assert short[-4] != "\u200d"


def test_all_names_of_a_warning_are_on_the_page(tmp_path):
    names = [f"name {i} {NASTY}" for i in range(2000)]
    content = make(tmp_path, ["cat", "dog"])
    page = read(tmp_path, replace(content, warnings=[PageWarning("absent", names=names)]))
    assert "2,000 classes" in page.text
    assert all(name in page.text for name in names)


def test_the_account_of_a_conversion_is_shown_whole(tmp_path):
    account = {
        "annotation_files": {"seen": 5, "used": 3},
        "records": {"read": 1200, "dropped": {"an unknown image": 12, "iscrowd": 3}},
        "images": {
            "seen": 40, "with_labels": 30, "without_labels": 2, "not_annotated": 1, "not_named": 8,
        },
        "classes": {
            "names": ["cat"], "merged": {"cat": ["Cat", NASTY]}, "left_out": {"no_label": "none"},
        },
        "left_out": {"no annotation names it": 2000, "captions": 1},
        "left_out_files": {"no annotation names it": ["x0.jpg"], "captions": ["captions.json"]},
        "encodings": {"GB18030": 2},
        "unknown_labels": 4321,
        "guesses": [[f"C:\\{i}.JPG", f"{i}.png", "by its ending", "a.csv"] for i in range(900)],
    }  # fmt: skip
    page = read(tmp_path, replace(make(tmp_path, ["cat", "dog"]), account=account))
    for text in (
        "What became of the annotations", "5 seen, 3 used", "1,200 read, 15 dropped",
        "2 reasons for dropped records:", "an unknown image",
        "900 images were not found as written", "C:\\899.JPG", "899.png", NASTY,
        "1 name left out", "no_label",
        "2,000 files or folders left out: no annotation names it", "x0.jpg",
        "all are in conversion.csv", "captions.json", "2 text files are read as GB18030",
        "labels that the source leaves open", "4,321 are unknown",
    ):  # fmt: skip
        assert text in page.text
    assert "What became" not in read(tmp_path, make(tmp_path, ["cat", "dog"])).text


def test_a_set_without_warnings_has_a_sentence_instead(tmp_path):
    content = make(tmp_path, ["cat", "dog"])
    page = read(tmp_path, DatasetPage(**{**vars(content), "warnings": []}))
    assert "None: every image can be read" in page.text


@pytest.mark.parametrize("mode", ["I;16", "I;12", "I", "F", "LA", "CMYK", "P", "1"])
def test_images_of_every_kind_are_shrunk(tmp_path, mode):
    content = make(tmp_path, ["cat", "dog"])
    name = "a & b 0.tif" if mode in ("CMYK", "I", "F") else "a & b 0.png"
    source = Image.new("L", (300, 200), 255)
    if mode == "I;16":
        source = Image.fromarray(np.full((200, 300), 255 << 8, np.uint16))
    elif mode == "I;12":
        source = Image.fromarray(np.full((200, 300), 4090, np.uint16))
    elif mode in ("I", "F"):
        kind = np.int32 if mode == "I" else np.float32
        source = Image.fromarray(np.full((200, 300), 65_535 if mode == "I" else 0.999, kind))
    else:
        source = source.convert(mode)
    source.save(tmp_path / name)
    paths = [name, *content.train.paths[1:]]
    page = read(
        tmp_path,
        DatasetPage(
            **{**vars(content), "train": replace(content.train, paths=paths), "warnings": []}
        ),
    )
    bright = []
    for source_text in page.sources:
        with Image.open(io.BytesIO(base64.b64decode(source_text.partition(",")[2]))) as image:
            bright.append(image.convert("L").getpixel((80, 80)))
    assert max(bright) >= 250
