# SPDX-License-Identifier: Apache-2.0
"""The lists of a data set, label.txt, and the records of changes in it."""

from __future__ import annotations

import dataclasses
import io
import json
from contextlib import suppress
from pathlib import Path

import msgspec
from PIL import Image

from paddlex_ml.data import annotation, check, journal
from paddlex_ml.data.journal import Transaction
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import rewrite
from paddlex_ml.storage import signature
from tests.fuzz.harness import Reader, pack, plant


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "png")
    return content.getvalue()


def _write_sets() -> list[bytes]:
    images = {f"images/{name}": _picture() for name in ("a.png", "b.png", "猫 1.png")}
    labels = b"0 cat\n1 red car\n2 \xe7\x8c\xab\n"
    train = b"images/a.png\t1,0,1\nimages/b.png\t0,1,0\n"
    val = "images/猫 1.png\t1,1,1\n".encode()
    lists = {"label.txt": labels, "train.txt": train, "val.txt": val}
    with_mark = {name: b"\xef\xbb\xbf" + text for name, text in lists.items()}
    utf16 = {name: text.decode().encode("utf-16") for name, text in lists.items()}
    relations = b"implies: {red car: cat}\nexclusive: [[cat, \xe7\x8c\xab]]\n"
    unknown = {"train.txt": b"images/a.png\t1,,-1\nimages/b.png\t0,1,0\n"}
    sparse = {"train.txt": b"images/a.png\t@0?1,2\nimages/b.png\t@\n", "relations.yaml": relations}
    open_ = {"train.txt": b"images/a.png\t@0!1\nimages/b.png\t@!2\n"}
    soft = {"train.txt": b"images/a.png\t0.7,,1\t2.5\nimages/b.png\t@0:0.25,2!1\t.5\n"}
    others = [
        lists | open_,
        lists | soft,
        lists | unknown,
        lists | sparse,
        lists | unknown | {"val.txt": lists["train.txt"]},
    ]
    return [pack(each | images) for each in (lists, with_mark, utf16, *others)]


def _check(folder: Path, content: bytes) -> object:
    """Check a set with all that may be repaired, then as it is; a sound one can be trained with."""
    root = folder / "set"
    plant(content, root)
    with suppress(PaddlexMLError):
        draft = rewrite.draft_lists(root, repair=True, drop=("missing", "duplicates"))
        known, _ = check.read_relations(draft.parsed, required=False)
        if known is not None:
            draft.complete(known)
    with suppress(PaddlexMLError):
        _write_again(root)
    report = check.check(root, workers=0)
    if report.faults:
        return sorted({fault.kind for fault in report.faults})
    check.summarise(report)
    annotation.read(root)
    return [warning.text[:20] for warning in report.warnings]


def _write_again(root: Path) -> None:
    """Lists with soft values that are read are the same ones when they are written and read."""
    found = annotation.read(root, soft_labels=True)
    path = root / annotation.TRAIN_FILE
    before, again = path.read_bytes(), found.train.text()
    path.write_text(again, "utf-8", newline="\n")
    if annotation.digest(annotation.read(root, soft_labels=True).train) != annotation.digest(
        found.train
    ):
        raise AssertionError(f"the list became another one: {again[:200]!r}")
    path.write_bytes(before)


def _change() -> Transaction:
    return Transaction(
        "split again",
        aside=[("train.txt", "train.txt.bak")],
        arrive=[(".paddlex_ml/0001.new/0", "train.txt"), (".paddlex_ml/0001.new/1", "val.txt")],
        when="2026-01-01T00:00:00+00:00",
    )


def _write_records() -> list[bytes]:
    record = json.dumps(dataclasses.asdict(_change())).encode()
    back = dataclasses.replace(_change(), undoes=1)
    files = {
        ".paddlex_ml/0001.json": record,
        ".paddlex_ml/0001.new/0": b"images/a.png\t1\n",
        ".paddlex_ml/0001.new/1": b"images/b.png\t1\n",
        **{"train.txt": b"old", "train.txt.bak": b"older", "label.txt": b"0 cat\n"},
    }
    undone = json.dumps(dataclasses.asdict(back)).encode()
    return [pack(files), pack(files | {".paddlex_ml/0002.json": undone})]


def _sign(path: Path) -> None:
    """Give a record the signature of this user, as only the user could: it is followed then."""
    try:
        change = msgspec.convert(json.loads(path.read_bytes()), Transaction)
        signed = journal._signed_content(int(path.stem), change)
    except (ValueError, RecursionError, OSError):
        return
    record = dataclasses.asdict(dataclasses.replace(change, signature=signature.sign(signed)))
    path.write_text(json.dumps(record), "utf-8")


def _follow(folder: Path, content: bytes, *, is_signed: bool) -> object:
    root = folder / "set"
    plant(content, root)
    (folder / "set.txt").write_text("of the user beside the set")
    for path in (root / journal.FOLDER).glob("*.json"):
        if is_signed:
            _sign(path)
    journal.finish_interrupted(root)
    told: list[object] = []
    for newest in (False, True):
        try:
            told.append(len(journal.undo(root, newest=newest).lines()))
        except PaddlexMLError as error:
            told.append(error.what[:30])
    if (folder / "set.txt").read_text() != "of the user beside the set":
        raise AssertionError("a file outside of the set has changed")
    return told


_PLACES = (
    *(b"../set.txt", b"images/../../set.txt", b".paddlex_ml/0001.new/0", b".paddlex_ml/0001.json"),
    *(b"train.txt.bak", b"val.txt", b"label.txt", b"annotations/a.json", b".bashrc", b"x.txt"),
    *(b'["train.txt", "../set.txt"]', b'"undoes": 1', b'"undoes": 0', b"\n=== .paddlex_ml/0002."),
)
_WORDS = (
    *(b"images/a.png", b"images/b.png", b"0 cat", b"1,0,1", b"\t", b"-1", b"1,-1,0", b"0.5", b"2"),
    *(b"@0,1", b"@", b"?2", b"@999999999", b",,", b"implies:", b"exclusive:", b"[cat, cat]"),
    *(b"!1", b"@!", b"0:0.7", b":.5", b"\t2.5", b"\t0", b"1e400", b"nan", b"0.00000001", b"1."),
    *(b"\n=== label.txt ===\n", b"\n=== train.txt ===\n", b"\n=== train.txt/x ===\n"),
)
READERS = [
    Reader("lists", _check, _write_sets, _WORDS),
    Reader("journal", lambda *given: _follow(*given, is_signed=False), _write_records, _PLACES),
    Reader(
        "signed_journal", lambda *given: _follow(*given, is_signed=True), _write_records, _PLACES
    ),
]
