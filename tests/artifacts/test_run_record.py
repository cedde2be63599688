# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddlex_ml.artifacts import conditions, run_record


def test_a_record_is_read_back(tmp_path: Path) -> None:
    record = run_record.begin({"val.txt": "abc"}, resumed_from=Path("a/latest"))
    run_record.write(tmp_path / "run.json", record)
    assert run_record.read(tmp_path / "run.json") == record
    assert record.identity == run_record.RunIdentity(record.id, {"val.txt": "abc"})
    assert record.resumed_from == str(Path("a/latest"))


@pytest.mark.parametrize("content", [None, "", "[]", '{"id": 3}', "\xff"])
def test_what_is_no_record_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_bytes(content.encode("latin-1"))
    assert run_record.read(tmp_path / "run.json") is None


def test_each_new_run_has_an_id_of_its_own() -> None:
    assert run_record.begin({}).id != run_record.begin({}).id


def test_the_digest_of_a_text_is_its_sha_256() -> None:
    assert run_record.digest("abc").startswith("ba7816bf8f01cfea")


def test_a_record_of_an_older_release_is_read(tmp_path: Path) -> None:
    start = {"start": "2026-01-01", "command": [], "host": "h", "versions": {}}
    old = {
        "id": "1", "digests": {"val.txt": "a"}, "start": "2026-01-02", "command": ["python"],
        "host": "h", "versions": {"numpy": "1.26"}, "resumed_from": None, "replaces": None,
        "earlier_starts": [{**start, "resumed_from": None}],
    }  # fmt: skip
    (tmp_path / "run.json").write_text(json.dumps(old))
    record = run_record.read(tmp_path / "run.json")
    assert record is not None
    assert [start.start for start in record.starts] == ["2026-01-01", "2026-01-02"]
    assert [start.conditions for start in record.starts] == [None, None]


def test_a_start_keeps_its_conditions_when_the_run_is_resumed(tmp_path: Path) -> None:
    found = [
        conditions.describe(device="cpu", processes=1, weights=text, lists={}) for text in "ab"
    ]
    first = run_record.begin({}, conditions=found[0])
    second = run_record.begin({}, continued=first, resumed_from=Path("x"), conditions=found[1])
    run_record.write(tmp_path / "run.json", second)
    record = run_record.read(tmp_path / "run.json")
    assert record is not None
    assert [start.conditions for start in record.starts] == found
    assert record.starts[1].resumed_from == "x"


def test_versions_name_what_computes() -> None:
    assert {"python", "numpy", "pillow"} <= run_record.find_versions().keys()
