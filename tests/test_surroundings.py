# SPDX-License-Identifier: Apache-2.0
"""Machines and containers that are set up in odd ways: every command works there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.running import ENVIRONMENT

Command = Callable[..., list[str]]

ALL = """
import json, sys
from paddlex_ml import cli
if __name__ == "__main__":
    for arguments in json.load(open(sys.argv[1])):
        code = cli.main(arguments)
        assert code == 0, (code, arguments)
"""


@pytest.fixture
def run_all(tmp_path: Path) -> Callable[..., str]:
    """Runs several commands in one process with these variables; returns what it said."""

    def run(commands: list[list[str]], folder: Path, **variables: str) -> str:
        script, listed = tmp_path / "all.py", tmp_path / "all.json"
        script.write_text(ALL)
        listed.write_text(json.dumps(commands))
        done = subprocess.run(
            [sys.executable, str(script), str(listed)],
            cwd=folder,
            env={**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[1]), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


@pytest.mark.story
def test_no_home_a_long_temporary_folder_and_the_working_folder_as_output(
    run_all: Callable[..., str], toy: Path, command: Command, tmp_path: Path
) -> None:
    long, work = tmp_path / ("t" * 138), tmp_path / "work"
    long.mkdir()
    work.mkdir()
    here = Path()
    said = run_all(
        [
            command("check_dataset", toy, here),
            command("train", toy, here, "Train.num_workers=1", "Train.epochs_iters=1"),
            command("evaluate", toy, here, "Train.num_workers=1"),
            command("export", toy, here),
            command("predict", None, here, f"Predict.input={toy}/images/val_0.png"),
        ],
        work,
        HOME=os.devnull,
        XDG_CACHE_HOME="",
        PADDLEX_ML_CACHE="",
        TMPDIR=str(long),
    )
    assert "training is slower" not in said
    assert "slower without it" not in said
    assert "atplotlib" not in said  # its warning about a folder of its own
    for mode in ("check_dataset", "train", "evaluate", "export", "predict"):
        assert json.loads((work / f"{mode}_result.json").read_text())["done_flag"]
    assert not (work / "~").exists()
    assert not [path for path in work.rglob("*") if path.name.startswith(".sources")]
