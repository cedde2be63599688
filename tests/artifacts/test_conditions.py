# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from paddlex_ml.artifacts import conditions


def test_the_conditions_hold_what_decides_about_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in conditions.DECIDING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SESAME")
    found = conditions.describe(device="cpu", processes=2, weights="ab", lists={"val.txt": "c"})
    assert (found.device, found.processes, found.weights) == ("cpu", 2, "ab")
    assert found.lists == {"val.txt": "c"}
    assert found.environment == {"MKL_CBWR": "AVX2"}
    assert found.options == ""
    assert len(found.code) == 64
    assert found.processor.name
    assert "SESAME" not in repr(found)


def test_the_digest_of_options_knows_values_and_no_order() -> None:
    one = conditions.digest_options({"a": 1, "b": (0.5, None), "c": Path("x")})
    assert one == conditions.digest_options({"c": Path("x"), "b": [0.5, None], "a": 1})
    assert one != conditions.digest_options({"a": 2, "b": (0.5, None), "c": Path("x")})


def test_the_digest_of_a_file_is_its_sha_256(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"abc" * 10**6)
    expected = hashlib.sha256(b"abc" * 10**6).hexdigest()
    assert conditions.digest_file(tmp_path / "w") == expected
