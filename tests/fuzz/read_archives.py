# SPDX-License-Identifier: Apache-2.0
"""Archives: published data sets and models."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType

from paddlex_ml.formats import coco2017, nus_wide_lists, voc2007
from paddlex_ml.inference import published_model
from paddlex_ml.progress import ignore_progress
from paddlex_ml.storage import archives
from tests.fuzz.harness import Reader, pack, plant
from tests.fuzz.read_formats import NUS_WIDE

_FILES = {
    "model/inference.yml": b"Global: {}\n",
    "model/inference.json": b"{}",
    "model/inference.pdiparams": b"0" * 100,
    "images/a.jpg": b"1",
}


def _tar(form: int, names: Mapping[str, bytes], kinds: tuple[bytes, ...] = ()) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for name, text in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
        for kind in kinds:
            info = tarfile.TarInfo("x")
            info.type, info.linkname = kind, "../victim/secret.txt"
            archive.addfile(info)
    return content.getvalue()


def _zip(method: int, files: Mapping[str, bytes] = _FILES) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def _write() -> list[bytes]:
    long = {f"{'d' * 90}/{'e' * 90}/{'f' * 90}.jpg": b"1", **_FILES}
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE)
    usual = _tar(tarfile.USTAR_FORMAT, _FILES)
    return [
        *(usual, _tar(tarfile.GNU_FORMAT, long), _tar(tarfile.PAX_FORMAT, {"猫.jpg": b"", **long})),
        *(_tar(tarfile.GNU_FORMAT, _FILES, (kind,)) for kind in kinds),
        *map(_zip, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)),
        gzip.compress(usual),
    ]


def _unpack(folder: Path, content: bytes) -> object:
    path, target = folder / "archive", folder / "unpacked"
    path.write_bytes(content)
    with archives.opened(path, size_limit=1 << 24) as (members, open_member):
        archives.unpack_members(members, open_member, path, target)
    return len(list(target.iterdir()))


def _unpack_model(folder: Path, content: bytes) -> object:
    path = folder / "model.tar"
    path.write_bytes(content)
    published_model._unpack(path)
    published_model._unpack(path, folder / "model")
    return sorted(each.name for each in (folder / "model").iterdir())


def _write_coco() -> list[bytes]:
    boxes = (
        b'{"categories": [{"id": 1, "name": "person"}, {"id": 9, "name": "cat"}], "images": '
        b'[{"id": 7, "file_name": "7.jpg"}], "annotations": [{"image_id": 7, "category_id": 9}]}'
    )
    names = ("instances_train2017.json", "instances_val2017.json")
    files = {
        "train.zip": {"train2017/7.jpg": b"seven"},
        "val.zip": {"val2017/": b"", "val2017/7.jpg": b"five"},
        "boxes.zip": {f"annotations/{name}": boxes for name in names},
    }
    return [pack({name: _zip(zipfile.ZIP_STORED, inner) for name, inner in files.items()})]


def _write_voc() -> list[bytes]:
    parts = {}
    for subset, stem in (("trainval", "000005"), ("test", "000001")):
        xml = f"<annotation><filename>{stem}.jpg</filename><object><name>cat</name></object>"
        files = {
            f"ImageSets/Main/{subset}.txt": f"{stem}\n".encode(),
            f"Annotations/{stem}.xml": f"{xml}</annotation>".encode(),
            f"JPEGImages/{stem}.jpg": b"1",
        }
        inner = {f"VOCdevkit/VOC2007/{name}": text for name, text in files.items()}
        parts[f"{subset}.tar"] = _tar(tarfile.USTAR_FORMAT, inner)
    return [pack(parts)]


def _prepare(folder: Path, content: bytes, *, kind: ModuleType, names: Sequence[str]) -> object:
    plant(content, folder / "archives")
    paths = [folder / "archives" / name for name in names]
    if not all(path.is_file() for path in paths):  # the command looks for them before
        return None
    watch = lambda _: nullcontext(ignore_progress)  # noqa: E731
    return kind.prepare(paths, folder / "set", watch, skip_missing=len(content) % 2 == 0)


def _read_nus_wide(folder: Path, content: bytes) -> object:
    path = folder / "lists.zip"
    path.write_bytes(content)
    return nus_wide_lists.read([path], any_size=True).label_names


_WORDS = (
    *(b"ustar\x0000", b"ustar  \x00", b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x07"),
    *(bytes([each]) for each in b"0123457gLKSxN"),
    *(b"GNU.sparse.major=1\n", b"25 GNU.sparse.realsize=9\n", b"30 path=../victim/secret.txt\n"),
    *(
        b"19 size=99999999999\n",
        b"12 size=-1\n",
        b"\x80" + b"\xff" * 11,
        b"77777777777 ",
        bytes(512),
    ),
    *(
        b"model/inference.yml",
        b"images",
        b"n" * 300 + b".jpg",
        b"\x0e\x00",
        b"\x08\x00",
        b"\x63\x00",
    ),
)
READERS = [
    Reader("archive", _unpack, _write, _WORDS),
    Reader("model_archive", _unpack_model, _write, _WORDS),
    Reader(
        "coco2017",
        partial(_prepare, kind=coco2017, names=("train.zip", "val.zip", "boxes.zip")),
        _write_coco,
        _WORDS,
    ),
    Reader(
        "voc2007",
        partial(_prepare, kind=voc2007, names=("trainval.tar", "test.tar")),
        _write_voc,
        _WORDS,
    ),
    Reader(
        "NUS-WIDE_zip",
        _read_nus_wide,
        lambda: [_zip(zipfile.ZIP_DEFLATED, NUS_WIDE), _tar(tarfile.USTAR_FORMAT, NUS_WIDE)],
        _WORDS,
    ),
]
