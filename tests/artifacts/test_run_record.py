# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.artifacts import run_record


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
