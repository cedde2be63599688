# SPDX-License-Identifier: Apache-2.0
"""Sources and lists with damage of every kind: a result or one clear error, never a change."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_ml.data import annotation, label_file
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.formats.collector import Options, SourceDataset

# All that UTF-8 has. Without naming them Hypothesis tries each of a million: two seconds.
CHARACTERS = st.characters(exclude_categories=["Cs"])
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
        "annotations/instance_train.json": json.dumps(COCO, indent=1),
        "annotations/instance_val.json": json.dumps(COCO),
        "images/a.jpg": "",
        "images/b.jpg": "",
    },
    "VOC": {
        "Annotations/a.xml": VOC,
        "Annotations/b.xml": VOC.replace("a.jpg", "b.jpg").replace("cat", "猫"),
        "ImageSets/Main/train.txt": "a\n",
        "ImageSets/Main/val.txt": "b\r\na\n",
        "JPEGImages/a.jpg": "",
        "JPEGImages/b.jpg": "",
    },
    "VOC Roboflow": {
        "train/a.xml": VOC,
        "valid/b.xml": VOC.replace("a.jpg", "b.jpg"),
        "classes.txt": "dog\ncat\n",
        "train/a.jpg": "",
        "valid/b.jpg": "",
    },
    "LabelMe": {
        "train/a.json": json.dumps(LABELME, indent=1),
        "val/b.json": json.dumps({**LABELME, "imagePath": r"..\images\b.jpg"}),
        "train/a.jpg": "",
        "images/b.jpg": "",
    },
    "YOLO": {
        "data.yaml": YAML,
        "labels/train/a.txt": "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n",
        "labels/val/b.txt": "1 0.5 0.5 0.2 0.2",
        "images/train/a.jpg": "",
        "images/val/b.jpg": "",
    },
    "YOLO lists": {
        "set.yaml": "train: train.txt\nval:\n- val.txt\nnames: [cat, dog]\n",
        "train.txt": "./a.jpg\n",
        "val.txt": "sub\\b.jpg\na.jpg\n",
        "a.txt": "1 .1 .2 .3 .4 .5 .6\n",
        "a.jpg": "",
        "sub/b.jpg": "",
    },
    "YOLO names": {"classes.txt": "cat\ndog\n", "labels/a.txt": "1 0 0 1 1\n", "images/a.jpg": ""},
    "YOLO darknet": {
        "obj.data": "train = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
        "obj.names": "cat\ndog\n",
        "train.txt": "data/obj_train_data/a.jpg\n",
        "valid.txt": "/home/me/obj_valid_data/b.jpg\n",
        "obj_train_data/a.txt": "0 0.5 0.5 0.2 0.2\n",
        "obj_valid_data/b.txt": "1 0.5 0.5 0.2 0.2\n",
        "obj_train_data/a.jpg": "",
        "obj_valid_data/b.jpg": "",
    },
    "YOLO elsewhere": {
        "labels.txt": "cat\ndog\n",
        "train_list.txt": "JPEGImages/a.jpg Annotations/a.txt\n",
        "val_list.txt": "JPEGImages/b.jpg Annotations/b.txt\n",
        "Annotations/a.txt": "0 0.5 0.5 0.2 0.2\n",
        "Annotations/b.txt": "9 9 9 20 20 20 20 9 dog 0\n",
        "JPEGImages/a.jpg": "",
        "JPEGImages/b.jpg": "",
    },
    "CSV": {
        "train.csv": 'image,cat,dog\na.jpg,1,0\n"b.jpg",0,1\n',
        "val.csv": "image;dog;cat\r\na.jpg;1;1\r\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "CSV names": {
        "all.csv": 'image\tlabels\tsplit\na.jpg\t"cat|dog"\ttrain\nb.jpg\tdog\tval\n',
        "classes.txt": "cat\ndog\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "CSV lists": {
        "all.csv": "image,labels,is_valid\na.jpg,\"['cat', 'dog']\",False\nb.jpg,['dog'],True\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "VoTT": {
        "x-export.csv": '"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",1,2,3,4,"cat"\n',
        "a.jpg": "",
    },
    "OpenImages": {
        "class-descriptions.csv": "/m/1,Cat\n/m/2,Dog\n",
        "train-labels.csv": "ImageID,Source,LabelName,Confidence\na,verification,/m/1,1\n",
        "val-labels.csv": "ImageID,Source,LabelName,Confidence\nb,verification,/m/2,1\n",
        "val-images.csv": "ImageID,Subset\nb,validation\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "CelebA": {
        "list_attr_celeba.txt": "2\nBald Smiling\na.jpg -1  1\nb.jpg  1 -1\n",
        "list_eval_partition.txt": "a.jpg 0\nb.jpg 1\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "ImageFolder": {"classes.txt": "cat\ndog\n", "cat/a.jpg": "", "dog/b.jpg": ""},
    "JSONL": {
        "train.jsonl": '{"path": "a.jpg", "labels": ["cat"]}\n{"path": "b.jpg", "labels": []}\n',
        "val.jsonl": '{"file_name": "b.jpg", "label": "dog", "split": "val"}\r\n',
        "a.jpg": "",
        "b.jpg": "",
    },
    "Azure": {
        "train.jsonl": '{"image_url": "AmlDatastore://x/a.jpg", "label": ["cat"]}\n',
        "val.jsonl": '{"image_url": "b.jpg", "label": [{"label": "dog", "topX": 0.1}]}\r\n',
        "a.jpg": "",
        "b.jpg": "",
    },
    "Vertex": {
        "all.csv": 'TRAIN,gs://x/a.jpg,cat,"dog"\nVALIDATION,gs://x/b.jpg,dog\n,gs://x/a.jpg\n',
        "a.jpg": "",
        "b.jpg": "",
    },
    "Vertex JSONL": {
        "all.jsonl": '{"imageGcsUri": "gs://x/a.jpg", "classificationAnnotations": '
        '[{"displayName": "cat"}]}\n{"imageGcsUri": "gs://x/b.jpg", "boundingBoxAnnotations": '
        '[{"displayName": "dog", "xMin": 0.1}], "dataItemResourceLabels": {"a/ml_use": ""}}\n',
        "a.jpg": "",
        "b.jpg": "",
    },
    "SageMaker": {
        "output.manifest": '{"source-ref": "s3://x/a.jpg", "t": [0, 2], "t-metadata": '
        '{"class-map": {"0": "cat", "2": "dog"}}}\n{"source-ref": "b.jpg", "s": 1, "s-metadata": '
        '{"class-name": "cat", "type": "groundtruth/image-classification"}}\n',
        "a.jpg": "",
        "b.jpg": "",
    },
    "Labelbox": {
        "e.ndjson": '{"data_row": {"external_id": "a.jpg", "row_data": "https://x/a.jpg"}, '
        '"projects": {"p": {"labels": [{"annotations": {"objects": [{"name": "car"}], '
        '"classifications": [{"name": "t", "checklist_answers": [{"name": "cat"}]}]}}]}}}\n',
        "a.jpg": "",
    },
    "HuggingFace": {
        "train/metadata.jsonl": '{"file_name": "a.jpg", "labels": [0, 1]}\n',
        "validation/metadata.csv": 'file_name,labels\nb.jpg,"[1]"\n',
        "dataset_info.json": '{"features": {"labels": {"feature": {"names": ["cat", "dog"]}}}}',
        "train/a.jpg": "",
        "validation/b.jpg": "",
    },
    "TextList": {
        "train.txt": "a.jpg 0 2\nb.jpg\n",
        "val.txt": "b.jpg\t1\r\n",
        "synsets.txt": "cat\ndog\nred car\n",
        "a.jpg": "",
        "b.jpg": "",
    },
    "WebDataset": {
        "train/a.json": '{"labels": ["cat", "dog"]}',
        "train/a.txt": "A cat.",
        "val/b.json": '["dog"]',
        "train/a.jpg": "",
        "val/b.jpg": "",
    },
    "lists": {
        "label.txt": "0 cat\n1 dog\n",
        "train.txt": "a.jpg\t0,1\n",
        "val.txt": "b.jpg\t1,0\r\n",
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


# What is said of a source or a file as a whole: no line is to be named.
WHOLE = (
    "names? no|has no image|there is no|there is neither|UTF-16|cannot be read|has no line"
    "|is used but not named|are there for|is not a LabelMe file|is not a mapping with keys"
    "|names a path|does not exist|none of the .* has a label|have no (annotation|label file)"
    "|the only image of .* has no label"
    "|all .* records of .* would be dropped"
    "|differ only in capitals"
    "|has a label|have no annotation|several files"
)


def write(root: Path, files: Mapping[str, str | bytes | None]) -> None:
    """Write files; None makes a folder."""
    for name, content in files.items():
        path = root / name
        if path.is_dir():
            path.rmdir()
        if content is None:
            path.unlink(missing_ok=True)
            path.mkdir()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def snapshot(root: Path) -> dict[str, bytes | None]:
    return {
        os.path.join(folder, name): Path(folder, name).read_bytes() if name in names else None
        for folder, folders, names in os.walk(root)
        for name in [*folders, *names]
    }


@st.composite
def damage(draw: st.DrawFn, files: dict[str, str]) -> dict[str, bytes | None]:
    """One or two files of the source, and what they hold instead; None: a folder is there."""
    texts = [name for name in files if not name.endswith(".jpg")]
    names = draw(st.lists(st.sampled_from(texts), min_size=1, max_size=2, unique=True))
    return {name: draw(spoiled(files[name].encode())) for name in names}


@st.composite
def spoiled(draw: st.DrawFn, content: bytes) -> bytes | None:
    match draw(st.integers(0, 9)):
        case 0:
            return None
        case 1:
            return draw(st.binary(max_size=40))
        case 2:
            return draw(st.text(CHARACTERS, max_size=40)).encode("utf-8", "surrogatepass")
        case 3:  # a line lost, or twice
            lines = content.splitlines(keepends=True) or [b""]
            at = draw(st.integers(0, len(lines) - 1))
            return b"".join(lines[:at] + lines[at : at + 1] * draw(st.sampled_from([0, 2])))
        case 4 | 5:  # one value of many
            words = re.split(rb"(\W+)", content)
            at = draw(st.integers(0, len(words) - 1))
            words[at] = draw(st.sampled_from(NASTY))
            return b"".join(words)
        case 6:  # a bit
            at = draw(st.integers(0, max(0, len(content) * 8 - 1)))
            flipped = bytearray(content or b"0")
            flipped[at // 8] ^= 1 << at % 8
            return bytes(flipped)
        case _:
            start = draw(st.integers(0, len(content)))
            end = draw(st.integers(start, min(len(content), start + 12)))
            put = draw(st.one_of(st.sampled_from(NASTY), st.binary(max_size=6)))
            return content[:start] + put + content[end:]


def act(kind: str) -> Callable[[Path], SourceDataset | MLClsDataset]:
    if kind == "lists":
        return annotation.read
    return lambda root: registry.FORMATS[kind.partition(" ")[0]].read(root, Options())


def assert_sound(dataset: SourceDataset | MLClsDataset, root: Path) -> None:
    """What was read can be written, and comes back the same."""
    lists = (
        dataset.lists
        if isinstance(dataset, SourceDataset)
        else {"train": dataset.train, "val": dataset.val}
    )
    assert list(lists) in (["train"], ["train", "val"])
    texts = {f"{name}.txt": annotation.list_text(i.paths, i.targets) for name, i in lists.items()}
    for images in lists.values():
        assert images.targets.shape == (len(images), len(dataset.label_names))
        assert images.targets.max(initial=0) <= 1
        assert all((root / path).is_file() and ".." not in path for path in images.paths)
        assert len(set(images.paths)) == len(images)
    texts["label.txt"] = label_file.labels_text(dataset.label_names)
    written = root.parent / "written"
    write(written, texts)
    assert annotation.read_labels(written / "label.txt") == dataset.label_names


def assert_clear(error: PaddlexMLError, root: Path, names: Iterable[str]) -> None:
    """The error names a file of the source, with the line where it has lines."""
    text = str(error)
    assert str(root) in text
    assert not re.search(r"Traceback|<class '|object at 0x", text)
    named = [name for name in names if name in text]
    assert named or re.search(WHOLE, text), text
    if all(name.endswith((".csv", ".jsonl", ".txt", ".yaml")) for name in named):
        with_line = "|".join(f"{re.escape(name)}:[0-9]" for name in named) or WHOLE
        assert re.search(f"{with_line}|{WHOLE}", text), text


@pytest.mark.parametrize("kind", SOURCES)
def test_damage_gives_a_result_or_one_clear_error_and_changes_nothing(
    tmp_path: Path, kind: str
) -> None:
    files, root = SOURCES[kind], tmp_path / "set"
    write(root, files)

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(damage(files))
    def run(damaged: dict[str, bytes | None]) -> None:
        write(root, damaged)
        before = snapshot(root)
        try:
            dataset = act(kind)(root)
        except PaddlexMLError as error:
            assert_clear(error, root, files)
        else:
            assert_sound(dataset, root)
        finally:
            assert snapshot(root) == before
            write(root, {name: files[name] for name in damaged})

    run()


@pytest.mark.parametrize("kind", SOURCES)
def test_the_sound_source_is_read(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "set", SOURCES[kind])
    assert_sound(act(kind)(tmp_path / "set"), tmp_path / "set")
