# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.pictures import dataset_page, thumbnails
from paddlex_ml.pictures.dataset_page import DatasetPage, PageList, PageWarning

NASTY = '<script>alert(1)</script> & "猫" \''


class Reader(HTMLParser):
    """Collects tags, what they refer to, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def make(root: Path, names: list[str], images: int = 6) -> DatasetPage:
    paths = [f"a & b {i}.png" for i in range(images)]
    for i, path in enumerate(paths):
        Image.new("RGB", (60, 40 + i), (40 * i % 256, 90, 10)).save(root / path)
    targets = np.zeros((images, len(names)), np.uint8)
    targets[np.arange(images), np.arange(images) % max(1, len(names) - 1)] = 1
    half = images // 2
    return DatasetPage(
        root=root,
        label_names=names,
        train=PageList(paths[:half], targets[:half]),
        val=PageList(paths[half:], targets[half:]),
        warnings=[
            PageWarning(f"doubtful: {NASTY}", [(path,) for path in paths]),
            PageWarning("alike", [(paths[0], paths[1])], alike=True),
        ],
        pairs=targets.astype(np.int64).T @ targets,
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


def test_many_classes_are_cut_and_the_page_gives_their_number(tmp_path):
    page = read(tmp_path, make(tmp_path, [f"class {i}" for i in range(150)], images=300))
    assert "The 100 most frequent classes; 50 others are left out" in page.text
    assert "The 60 most frequent classes; 90 others are left out" in page.text
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_a_set_without_warnings_has_a_sentence_instead(tmp_path):
    content = make(tmp_path, ["cat", "dog"])
    page = read(tmp_path, DatasetPage(**{**vars(content), "warnings": []}))
    assert "None: every image can be read" in page.text


@pytest.mark.parametrize("mode", ["I;16", "LA", "CMYK", "P", "1"])
def test_images_of_every_kind_are_shrunk(tmp_path, mode):
    content = make(tmp_path, ["cat", "dog"])
    name = "a & b 0.tif" if mode == "CMYK" else "a & b 0.png"
    source = Image.new("L", (300, 200), 255)
    if mode == "I;16":
        source = Image.fromarray(np.full((200, 300), 255 << 8, np.uint16))
    else:
        source = source.convert(mode)
    source.save(tmp_path / name)
    paths = [name, *content.train.paths[1:]]
    page = read(
        tmp_path,
        DatasetPage(
            **{**vars(content), "train": PageList(paths, content.train.targets), "warnings": []}
        ),
    )
    bright = []
    for source_text in page.sources:
        with Image.open(io.BytesIO(base64.b64decode(source_text.partition(",")[2]))) as image:
            bright.append(image.convert("L").getpixel((80, 80)))
    assert max(bright) >= 250
