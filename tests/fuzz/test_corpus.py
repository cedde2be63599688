# SPDX-License-Identifier: Apache-2.0
"""What the search found once stays answered, every reader of the package is tried, and the search
sees each kind of fault."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.storage import temporary
from tests.fuzz import harness
from tests.fuzz.harness import Reader, judge, pack, plant
from tests.fuzz.mutations import LONGEST, mutate
from tests.fuzz.run import CORPUS, GROUPS, findings, readers

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is measured as Linux tells it"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for `judge`, in which all folders of this user are."""
    place = Path(os.path.realpath(tmp_path), "run")
    (place / "tmp").mkdir(parents=True)
    for name in ("PADDLEX_ML_CACHE", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(place / name))
    monkeypatch.setattr(tempfile, "tempdir", str(place / "tmp"))
    monkeypatch.setattr(temporary, "own_folder", lambda: place / "own")  # /tmp for long paths
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield place


@pytest.mark.parametrize("group", GROUPS)
def test_sound_inputs_are_read_and_findings_answered(group: str, folder: Path) -> None:
    for reader in readers(group):
        outcomes = [judge(reader, seed, folder) for seed in reader.seeds()]
        assert any(outcome.is_read for outcome in outcomes), (reader.name, outcomes)
        found = {path: judge(reader, path.read_bytes(), folder) for path in findings(reader)}
        faults = [outcome.fault for outcome in (*outcomes, *found.values()) if outcome.fault]
        assert faults == [], reader.name


def test_every_format_has_a_reader_and_each_finding_too() -> None:
    names = [reader.name for group in GROUPS for reader in readers(group)]
    assert len(names) == len({*names})
    assert {*registry.FORMATS, registry.AUTO} <= {*names}
    assert {path.name for path in CORPUS.iterdir()} <= {*names}


def test_what_is_damaged_differs_and_stays_small() -> None:
    random, seed = Random(0), pack({"a.json": b'{"id": 1, "name": "cat"}', "b.txt": b"1 2\n3\n"})
    damaged = {mutate(seed, random, [seed], [b"word"]) for _ in range(300)}
    assert len(damaged) > 200
    assert max(map(len, damaged)) <= LONGEST
    assert any(b"word" in each for each in damaged)


def test_several_files_in_one_input(tmp_path: Path) -> None:
    files = {"a/b.txt": b"=== no name\n\n", "猫": b""}
    plant(pack({**files, "../c": b"", "/d": b"", "e\0": b"", "f" * 256: b""}), tmp_path / "set")
    found = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {"set/a/b.txt", "set/猫"}
    assert (tmp_path / "set/a/b.txt").read_bytes() == files["a/b.txt"]


def _refuse(inside: Path, _: bytes) -> None:
    raise PaddlexMLError("damaged", where=str(inside), fix="another file")


def _hide_memory_error(inside: Path, _: bytes) -> None:
    try:
        raise MemoryError
    except MemoryError as error:
        raise PaddlexMLError("damaged", where="here", fix="another file") from error


def _hide_process(inside: Path, _: bytes) -> None:
    try:
        subprocess.run([sys.executable, "-V"], check=True)
    except Exception as error:
        raise PaddlexMLError("damaged", where="here", fix="another file") from error


def _never_end(inside: Path, _: bytes) -> None:
    while True:
        pass


def _connect(inside: Path, _: bytes) -> None:
    import socket

    socket.create_connection(("127.0.0.1", 9), timeout=1)


Read = Callable[[Path, bytes], object]


def _take_memory(*_: object) -> None:
    """Of the system: an array could get what this process has kept of earlier tests."""
    with mmap.mmap(-1, 100 << 20) as taken:
        for place in range(0, len(taken), mmap.PAGESIZE):
            taken[place] = 1


FAULTS: list[tuple[Read, str]] = [
    (lambda *_: None, ""),
    (_refuse, ""),
    (lambda inside, _: (inside / "a").write_bytes(b""), ""),
    (lambda inside, _: (inside / "../../beside").write_bytes(b""), "writes"),
    (lambda inside, _: (inside / "../../beside").mkdir(), "os.mkdir"),
    (lambda inside, _: inside.rename(inside.parents[1] / "beside"), "os.rename"),
    (
        lambda inside, _: (inside / "a").symlink_to("/etc") or (inside / "a/passwd").read_text(),
        "reads",
    ),
    (lambda *_: Path("left").write_bytes(b""), "files in the working folder: ['left']"),
    (lambda *_: os.system("true"), "os.system"),
    (lambda *_: {"a": 1}["key"], "KeyError"),
    (lambda *_: np.ones(100 << 20, np.uint8) and None, "ValueError"),
    (_take_memory, "MiB of memory, at most 50 are allowed"),
    (_hide_process, "subprocess.Popen"),
    (_hide_memory_error, "MemoryError became"),
    (_never_end, "more than 0.2 s"),
    (_connect, "socket."),
    (lambda *_: time.sleep(60), "more than 0.2 s"),
]


@pytest.mark.parametrize(("read", "fault"), FAULTS)
def test_each_kind_of_fault_is_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, read: Read, fault: str
) -> None:
    if "0.2 s" in fault:  # on a busy machine the others take longer, too
        monkeypatch.setattr(harness, "SECONDS", 0.2)
    outcome = judge(Reader("example", read, lambda: [b""], memory=50 << 20), b"", folder)
    assert fault in outcome.fault
    assert bool(fault) == bool(outcome.fault)
    assert not (folder.parent / "beside").exists()
