# SPDX-License-Identifier: Apache-2.0
"""New damaged bytes through every reader, for FUZZ_SECONDS in each group of readers.

The 53 readers have 20 s for each of their nine groups, not for each reader: three minutes instead
of eighteen, and the formats, half of them, share most of their code. The inputs are those of one
FUZZ_SEED, so that a change fails by its own fault and not by chance; `make fuzz SECONDS=3600` draws
others, and gives each reader its own time. A finding fails the test and lies in the corpus
afterwards: commit it with the repair, and `test_corpus.py` reads it from then on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fuzz import run

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="memory is measured as Linux tells it"
)
SECONDS = float(os.environ.get("FUZZ_SECONDS", "20"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))


@pytest.mark.heavy
@pytest.mark.story
@pytest.mark.parametrize("group", run.GROUPS)
def test_damaged_bytes_are_read_or_refused(group: str) -> None:
    found = run.search(group, SECONDS, seed=SEED)
    assert [str(finding) for finding in found.findings] == []
    assert min(found.executions.values()) > 0


@pytest.mark.story
@pytest.mark.parametrize(("name", "told"), [("raising", "KeyError"), ("crashing", "-11")])
def test_a_fault_is_found_kept_and_told_with_its_command(
    tmp_path: Path, name: str, told: str
) -> None:
    found = run.search("example", 2, only=name, corpus=tmp_path)
    finding = found.findings[0]
    assert told in finding.fault
    assert finding.path.parent == tmp_path / name
    assert b"bad" in finding.path.read_bytes()
    assert f"-m tests.fuzz.run {name}/{finding.path.name}" in str(finding)
