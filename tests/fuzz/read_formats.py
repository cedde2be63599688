# SPDX-License-Identifier: Apache-2.0
"""Annotations of every format: a folder is converted, and the lists that come of it are read."""

from __future__ import annotations

import importlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import nus_wide_lists, parquet, registry, rewrite
from paddlex_ml.formats.collector import Options
from tests.formats.layouts import WRITERS, draw
from tests.fuzz.harness import Reader, pack, pack_folder, plant

_BOXES = b'"image","xmin","ymin","xmax","ymax","label"\n"a.jpg",1,2,3,4,"red car"\n'
_VOTT = {
    "tags": [{"name": "person"}, {"name": "car"}],
    "assets": {"1": {"asset": {"name": "a.jpg"}, "regions": [{"tags": ["person"]}]}},
}
_ROWS = [["image", "tags", "n"], ["a.jpg", "cat|dog", 1.0], ["b.jpg", None, 2.5]]
NUS_WIDE: dict[str, bytes] = {
    "ConceptsList/Concepts81.txt": b"lake\r\nsky\r\n",
    "ImageList/TrainImagelist.txt": b"actor\\0001_21.jpg\r\nboats\\0002_3.jpg\r\n",
    "ImageList/TestImagelist.txt": b"actor\\0005_7.jpg\r\n",
    "ImageList/Imagelist.txt": b"actor\\0001_21.jpg\r\nactor\\0005_7.jpg\r\nboats\\0002_3.jpg\r\n",
    **{
        f"Groundtruth/TrainTestLabels/Labels_{name}_{part}.txt": text
        for name in ("lake", "sky")
        for part, text in (("Train", b"0\r\n1\r\n"), ("Test", b"1\r\n"))
    },
    "Groundtruth/AllLabels/Labels_lake.txt": b"0\r\n1\r\n1\r\n",
}


def _write(source: str) -> list[bytes]:
    """Sets of one format, in each of its layouts, as the test of the layouts draws them."""
    seeds = []
    for layout, (name, writer) in WRITERS.items():
        for number in range(3 if name == source else 0):
            random = Random(f"{layout} {number}")
            with tempfile.TemporaryDirectory() as folder:
                writer(Path(folder), draw(random), random)
                seeds.append(pack_folder(Path(folder)))
    return seeds


def _tar(members: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return content.getvalue()


def _write_vott() -> list[bytes]:
    images = {"x/a.jpg": b"1", "x/b.jpg": b"2"}
    return [
        pack({"x/a-export.csv": _BOXES, **images}),
        pack({"x/a-export.json": json.dumps(_VOTT).encode(), **images}),
    ]


def _write_webdataset() -> list[bytes]:
    unpacked = {"train-0/a.jpg": b"1", "val-0/b.jpg": b"3"}
    labels = {"train-0/a.json": b'{"labels": ["cat", "dog"]}', "val-0/b.cls": b"dog"}
    train = _tar({"a.jpg": b"1", "a.json": b'{"labels": ["cat", "dog"]}'})
    val = _tar({"b.jpg": b"3", "b.cls": b"dog"})
    tars = {"train-0.tar": train, "val-0.tar": val}
    return [pack(each) for each in (tars, tars | unpacked, unpacked | labels)]


def _write_parquet() -> list[bytes]:
    pyarrow, tables = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    features = {"info": {"features": {"labels": {"feature": {"names": ["cat", "red car"]}}}}}
    rows = [
        {"path": ["a.jpg", "b.jpg"], "tags": [["x", "y"], []]},
        {"image": [{"bytes": None, "path": "a.jpg"}], "labels": [[0, 1]]},
        {"image": ["a.jpg"], "label": [1]},
    ]
    seeds = []
    for columns in rows:
        table, file = pyarrow.table(columns), io.BytesIO()
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        tables.write_table(table, file)
        files = {"train.parquet": file.getvalue(), "classes.txt": b"w\nx\n"}
        seeds.append(pack({**files, "a.jpg": b"1", "b.jpg": b"2"}))
    return seeds


def _write_csv() -> list[bytes]:
    openpyxl, file = importlib.import_module("openpyxl"), io.BytesIO()
    book = openpyxl.Workbook()
    for row in _ROWS:
        book.active.append(row)
    book.save(file)
    workbook = pack({"labels.xlsx": file.getvalue(), "a.jpg": b"1", "b.jpg": b"2"})
    return [*_write("CSV"), workbook]


def _write_any() -> list[bytes]:
    return [seed for reader in READERS[:-3] for seed in reader.seeds()[:2]]


def _convert(source: str, folder: Path, content: bytes) -> None:
    """Convert a folder; what was converted must be readable."""
    root = folder / "set"
    plant(content, root)
    rewrite.convert(root, source, Options(merge_names=True if len(content) % 2 else None))
    try:
        annotation.read(root, rewrite.find_lists(root))
    except PaddlexMLError as error:
        raise AssertionError("lists of a conversion that are refused") from error


def _write_parquet_images() -> list[bytes]:
    pyarrow, tables = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    features = {"info": {"features": {"label": {"names": ["cat", "red car"]}}}}
    images = [{"bytes": b"\x89PNG1", "path": "a.png"}, {"bytes": b"GIF", "path": "b"}]
    table, file = pyarrow.table({"image": images, "label": [0, 1]}), io.BytesIO()
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    tables.write_table(table, file)
    return [pack({"train.parquet": file.getvalue()})]


def _unpack_parquet(folder: Path, content: bytes) -> object:
    plant(content, folder / "set")
    parquet.unpack(folder / "set", Options())
    return sorted(path.suffix for path in (folder / "set").rglob("*"))


def _read_nus_wide(folder: Path, content: bytes) -> None:
    root = folder / "lists"
    plant(content, root)
    nus_wide_lists.read([root], any_size=True)


_SEEDS: dict[str, Callable[[], Sequence[bytes]]] = {
    **{name: partial(_write, name) for name in registry.FORMATS},
    **{"VoTT": _write_vott, "WebDataset": _write_webdataset, "Parquet": _write_parquet},
    "CSV": _write_csv,
}
_WORDS = tuple(
    word.encode()
    for word in (
        *("images", "annotations", "categories", "file_name", "image_id", "category_id", "bbox"),
        *("id", "name", "names", "nc", "train", "val", "path", "imagePath", "shapes", "label"),
        *("labels", "flags", "version", "filename", "object", "annotation", "tags", "attributes"),
        *("iscrowd", "image", "choices", "rectanglelabels", "result", "data", "value", "Parent"),
        *("classes.txt", "train.txt", "data.yaml", "<name>", "</name>", "<object>", "</object>"),
        *("<!DOCTYPE a [<!ENTITY b 'x'>]>", "&b;", "cat", "red car", "001.jpg", "img.png", "1.5"),
        *(
            "\n=== x/data.yaml ===\n",
            "\n=== classes.txt ===\n",
            "\n=== a.json ===\n",
            "\n=== a ===",
        ),
        *("\n=== images/a.jpg ===\n", "\n=== README.md ===\n---\ndataset_info: &a [*a]\n---\n"),
        *("\n=== train.txt/x ===\n", "\n=== label.txt ===\na 0\n", "\n=== .paddlex_ml ===\n"),
    )
)
READERS = [
    *(Reader(name, partial(_convert, name), _SEEDS[name], _WORDS) for name in registry.FORMATS),
    Reader("auto", partial(_convert, registry.AUTO), _write_any, _WORDS),
    Reader("unpacked_parquet", _unpack_parquet, _write_parquet_images, _WORDS),
    Reader("NUS-WIDE", _read_nus_wide, lambda: [pack(NUS_WIDE)], _WORDS),
]
