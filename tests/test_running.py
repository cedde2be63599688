# SPDX-License-Identifier: Apache-2.0
"""A command of a test that never ends: the test fails, and tells where each program waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import running

STUCK = """
import subprocess, sys, time
if sys.argv[1:] == ["helper"]:
    def wait_in_the_helper():
        time.sleep(600)
    wait_in_the_helper()
else:
    def wait_in_the_program():
        subprocess.run([sys.executable, __file__, "helper"])
    print("started", flush=True)
    wait_in_the_program()
"""


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "stuck.py"
    script.write_text(STUCK)
    monkeypatch.setattr(running, "LIMIT", 2.0)
    monkeypatch.setattr(running, "MAIN", script)
    return script


def test_a_command_that_hangs_tells_where(stuck: Path, tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="did not end within 2") as caught:
        running.run(folder=tmp_path)
    assert "wait_in_the_program" in str(caught.value)
    assert "wait_in_the_helper" in str(caught.value)


def test_so_does_one_in_the_background(stuck: Path, tmp_path: Path) -> None:
    process = running.Background([], tmp_path, stuck)
    process.wait_for("started")
    with pytest.raises(pytest.fail.Exception, match="did not end") as caught:
        process.end()
    assert "wait_in_the_program" in str(caught.value)
