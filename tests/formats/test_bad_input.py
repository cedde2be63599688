# SPDX-License-Identifier: Apache-2.0
"""Sources and lists with damage of every kind: a result or one clear error, never a change."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import rewrite
from paddlex_ml.formats.found import Options

COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
}
LABELME = {
    "version": "5.0", "flags": {"cat": True, "dog": False}, "imagePath": "a.jpg",
    "imageData": None, "shapes": [{"label": "dog", "points": [[0, 0], [1, 1]]}],
}  # fmt: skip
VOC = """<annotation><filename>a.jpg</filename><object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>1</xmin></bndbox></object></annotation>"""
YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"

# Files of a sound source; images are empty files and are never damaged.
SOURCES: dict[str, dict[str, str]] = {
    "COCO": {
        "annotations/instance_train.json": json.dumps(COCO),
        "annotations/instance_val.json": json.dumps(COCO),
        "images/a.jpg": "",
        "images/b.jpg": "",
    },
    "VOC": {
        "Annotations/a.xml": VOC,
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/val.txt": "a\n",
        "JPEGImages/a.jpg": "",
    },
    "LabelMe": {"a.json": json.dumps(LABELME), "a.jpg": ""},
    "YOLO": {
        "data.yaml": YAML,
        "labels/train/a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n",
        "labels/val/b.txt": "",
        "images/train/a.jpg": "",
        "images/val/b.jpg": "",
    },
    "CSV": {
        "train.csv": 'image,cat,dog\na.jpg,1,0\n"b.jpg",0,1\n',
        "val.csv": "image,cat,dog\na.jpg,1,1\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "CSV names": {"all.csv": 'image,labels,split\na.jpg,"cat|dog",train\n', "a.jpg": ""},
    "ImageFolder": {"classes.txt": "cat\ndog\n", "cat/a.jpg": "", "dog/b.jpg": ""},
    "JSONL": {
        "train.jsonl": '{"path": "a.jpg", "labels": ["cat"]}\n{"path": "b.jpg", "labels": []}\n',
        "a.jpg": "",
        "b.jpg": "",
    },
    "lists": {
        "label.txt": "0 cat\n1 dog\n",
        "train.txt": "a.jpg\t0,1\n",
        "val.txt": "b.jpg\t1,0\n",
        "a.jpg": "",
        "b.jpg": "",
    },
}
NASTY = [
    b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\t", b"\n\n", b'"', b",", b"-1", b"1e999",
    b"NaN", b"null", b"{}", b"[]", b"true", b"../", b"/etc/passwd", b"C:\\x.jpg", b"\\", b"9999999",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<", b"\xe7\x8c\xab", b"!!python/object:a.b", b"*a",
    b"&a [*a]", b"[" * 200, b'{"a":' * 200, b"0.5.5", b"2", b" ",
]  # fmt: skip


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(root.rglob("*"))}


@st.composite
def damage(draw: st.DrawFn, files: dict[str, str]) -> tuple[str, bytes | None]:
    """A file of the source, and what it holds instead; None: a folder stands in its place."""
    name = draw(st.sampled_from([name for name in files if not name.endswith(".jpg")]))
    content = files[name].encode()
    match draw(st.integers(0, 9)):
        case 0:
            return name, None
        case 1:
            return name, draw(st.binary(max_size=40))
        case 2:
            return name, draw(st.text(max_size=40)).encode("utf-8", "surrogatepass")
        case 3:  # a line lost, or twice
            lines = content.splitlines(keepends=True) or [b""]
            at = draw(st.integers(0, len(lines) - 1))
            return name, b"".join(lines[:at] + lines[at : at + 1] * draw(st.sampled_from([0, 2])))
        case 4:  # one value of many
            words = re.split(rb"(\W+)", content)
            at = draw(st.integers(0, len(words) - 1))
            words[at] = draw(st.sampled_from(NASTY))
            return name, b"".join(words)
        case _:
            start = draw(st.integers(0, len(content)))
            end = draw(st.integers(start, min(len(content), start + 12)))
            put = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=6)))
            return name, content[:start] + put + content[end:]


def act(kind: str) -> Callable[[Path], object]:
    if kind == "lists":
        return annotation.read
    return lambda root: rewrite.READERS[kind.partition(" ")[0]](root, Options())


@pytest.mark.parametrize("kind", SOURCES)
def test_damage_gives_a_result_or_one_clear_error_and_changes_nothing(tmp_path, kind):
    files = SOURCES[kind]

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(damage(files), min_size=1, max_size=2))
    def run(damages: list[tuple[str, bytes | None]]) -> None:
        root = tmp_path / "set"
        shutil.rmtree(root, ignore_errors=True)
        write(root, files)
        for name, content in damages:
            place = root / name
            if content is None:
                if place.is_file():
                    place.unlink()
                place.mkdir(exist_ok=True)
            elif place.is_file():
                place.write_bytes(content)
        before = snapshot(root)
        told: PaddlexMLError | None
        try:
            act(kind)(root)
        except PaddlexMLError as error:
            told = error
        else:
            told = None
        assert told is None or str(root) in str(told)
        assert told is None or not re.search(r"Traceback|<class '|object at 0x", str(told))
        assert snapshot(root) == before

    run()


@pytest.mark.parametrize("kind", SOURCES)
def test_the_sound_source_is_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path, SOURCES[kind])
    act(kind)(tmp_path)
