# SPDX-License-Identifier: Apache-2.0
"""The script of an array job: what Slurm and bash make of it, without Slurm."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paddlex_ml import cli
from paddlex_ml.artifacts.sweep_folder import SweepFolder
from paddlex_ml.config import validation
from paddlex_ml.engines.sweep import slurm
from paddlex_ml.errors import PaddlexMLError
from tests.running import LIMIT

RATES = "Train.learning_rate=1e-4,5e-4"
ODD = "an odd 'folder' #1 of 100% $5"

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def run_task(
    script: Path, task: int, folder: Path, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run the script as Slurm does, in a folder of its own."""
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task), **more}
    return subprocess.run(
        ["bash", str(script)], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=LIMIT, check=False,
    )  # fmt: skip


@needs_bash
def test_each_task_has_the_command_of_the_dry_run(command, toy, tmp_path, capsys):
    output = tmp_path / ODD
    place = validation.assignment("Global.output", str(output))
    arguments = [*command("train", toy, output, place), "--sweep", RATES, "--seeds", "2"]
    _, dry, _ = call([*arguments, "--dry-run"], capsys)
    code, said, _ = call([*arguments, "--emit", "slurm"], capsys)
    assert code == 0
    script = SweepFolder(output).slurm
    text = script.read_text("utf-8")
    tasks = re.findall(r"^    (\d+)\) exec (.*) ;;$", text, re.MULTILINE)
    assert tasks == [(str(n), line) for n, line in enumerate(dry.splitlines())]
    assert len(tasks) == 4
    assert "#SBATCH --array=0-3\n" in text
    folder = str(output).replace("%", "%%")
    assert f'#SBATCH --output="{folder}/logs/slurm-%A_%a.txt"\n' in text
    assert re.search(r"^#SBATCH --job-name=sweep_[\w.-]+$", text, re.MULTILINE)
    assert "#SBATCH --requeue\n" in text
    assert all("Train.resume_path=auto" in line for _, line in tasks)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert f"submit: sbatch '{tmp_path}" in said
    assert "paddlex_ml.tools.runs" in said
    started = [path.name for path in output.iterdir() if (path / "run.json").exists()]
    assert started == []
    other = run_task(script, 9, tmp_path)
    assert (other.returncode, other.stderr) == (2, "this script has no run 9\n")


def test_jobs_are_tasks_at_a_time_and_folds_have_their_data_sets(command, toy, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [*command("train", toy, output), "--sweep", RATES, "--folds", "2", "--jobs", "3"]
    code, said, _ = call([*arguments, "--emit", "slurm"], capsys)
    assert code == 0
    assert "#SBATCH --array=0-3%3\n" in SweepFolder(output).slurm.read_text("utf-8")
    assert SweepFolder(output).fold(2, 2).is_dir()
    assert "the same command without --emit" in said


def test_runs_of_other_options_are_refused_before_a_script_is_written(
    command, toy, copy_of_run, tmp_path, capsys
):
    output = tmp_path / "out"
    output.mkdir()
    copy_of_run.rename(output / "learning_rate=1e-4")
    arguments = [*command("train", toy, output, "Train.epochs_iters=9"), "--sweep", RATES]
    code, _, err = call([*arguments, "--emit", "slurm"], capsys)
    assert code == 2
    assert "error: the run there has other options than this sweep: Train.epochs_iters" in err
    assert not SweepFolder(output).slurm.exists()


def write(folder: Path, code: str) -> Path:
    """A script with one task, which runs Python."""
    line = subprocess.list2cmdline([sys.executable, "-c"]) + " '" + code.replace("'", "'\\''") + "'"
    script = folder / "a.sbatch"
    script.write_text(slurm.write_script([line], SweepFolder(folder / ODD), None), "utf-8")
    return script


@needs_bash
def test_a_task_runs_in_the_folder_of_the_command_and_has_its_exit_code(tmp_path, monkeypatch):
    here = tmp_path / ODD
    here.mkdir()
    monkeypatch.chdir(here)
    script = write(tmp_path, "import os, sys; print(os.getcwd()); sys.exit(7)")
    done = run_task(script, 0, tmp_path)
    assert (done.returncode, done.stdout) == (7, f"{here}\n")


@needs_bash
@pytest.mark.parametrize(
    ("number", "is_short", "asks"),
    [
        (signal.SIGUSR1, False, True),
        (signal.SIGUSR1, True, False),  # else it would go round for ever
        (signal.SIGTERM, False, False),
    ],
)
def test_a_signal_goes_on_to_the_training_and_the_end_of_its_time_asks_for_the_rest(
    tmp_path, number, is_short, asks
):
    code = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: (print('saved'), sys.exit({128 + number})))\n"
        "open('ready', 'w').close()\n"
        "time.sleep(600)\n"
    )
    script = write(tmp_path, code)
    text = re.sub(r"^cd -- .*$", f"cd {tmp_path}", script.read_text(), flags=re.MULTILINE)
    assert '"$SECONDS" -ge 60' in text
    script.write_text(text if is_short else text.replace("-ge 60", "-ge 0"))
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text('#!/bin/sh\necho "$@" > asked\n')
    (tools / "scontrol").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "0",
        "SLURM_ARRAY_JOB_ID": "12",
    }
    process = subprocess.Popen(
        ["bash", str(script)], env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + LIMIT
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    said, _ = process.communicate(timeout=LIMIT)
    assert (process.returncode, said) == (128 + number, "saved\n")
    asked = tmp_path / "asked"
    assert asked.exists() == asks
    if asks:
        assert asked.read_text() == "requeue 12_0\n"


def test_a_path_that_slurm_cannot_read_is_refused(tmp_path):
    for name in ('a"b', "a\\b", "a\nb"):
        with pytest.raises(PaddlexMLError, match="Slurm reads no path"):
            slurm.write_script(["true"], SweepFolder(tmp_path / name), None)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--emit", "slurm"], "--emit is for a sweep"),
        (["--sweep", RATES, "--emit", "pbs"], "argument --emit: invalid choice: 'pbs'"),
        (
            ["--sweep", "Train.learning_rate=1e-5..1e-2", "--search", "tpe", "--trials", "4",
             "--emit", "slurm"],
            "a search chooses its combinations while it runs",
        ),
        (["--sweep", RATES, "--max-runs", "1", "--emit", "slurm"], "these are 2 runs"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(command, toy, tmp_path, capsys, words, what):
    output = tmp_path / "out"
    code, _, err = call([*command("train", toy, output), *words], capsys)
    assert code == 2
    assert f"error: {what}" in err
    assert not output.exists()
