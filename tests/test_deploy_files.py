# SPDX-License-Identifier: Apache-2.0
"""The files of deploy/: their commands are read by the program, and they lack nothing."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from paddlex_ml import command_line
from paddlex_ml.config import load, shipped

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DOCKERFILES = ("Dockerfile", "Dockerfile.gpu")


def assert_is_a_training(words: list[str]) -> None:
    given = command_line.parse(words)
    config = load.load(shipped.find(given.config)[0], given.override).config
    assert config.Global.mode == "train"
    assert config.Train.resume_path == "auto"


def test_the_job_of_kubernetes_is_a_training_that_goes_on() -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes-job.yaml").read_text("utf-8"))
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert_is_a_training(container["args"])
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["containerName"] == container["name"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in pod["volumes"]
    }


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder in which `srun` ends as CODE says, and both programs note their words."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for name, code in (("srun", "${CODE:-0}"), ("scontrol", "0")):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> told\nexit {code}\n')
        program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("code", "ends", "is_requeued"),
    [(0, 0, False), (1, 1, False), (2, 2, False), (138, 0, True), (143, 0, True)],
)
def test_a_job_of_slurm_goes_on_where_its_state_was_saved(
    slurm: Path, code: int, ends: int, is_requeued: bool
) -> None:
    own = ["-c", "PP-LCNet_x1_0_ML", "-o", "Global.dataset_dir=my set"]
    path = f"{slurm / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", str(DEPLOY / "slurm.sbatch"), *own],
        cwd=slurm,
        env={**os.environ, "PATH": path, "CODE": str(code), "SLURM_JOB_ID": "4711"},
        check=False,
    )
    assert done.returncode == ends
    told = (slurm / "told").read_text().splitlines()
    assert told[:2] == ["srun", ".venv/bin/paddlex-ml"]
    words = told[2 : told.index("scontrol")] if is_requeued else told[2:]
    assert words[: len(own)] == own
    assert_is_a_training(words)
    assert (told[-3:] == ["scontrol", "requeue", "4711"]) is is_requeued


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_installs_extras_that_exist_and_copies_every_package(name: str) -> None:
    text = (DEPLOY / name).read_text("utf-8")
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    [extras] = re.findall(r"'\.\[([a-z,]+)\]'", text)
    assert {*extras.split(",")} <= {*setup["options.extras_require"]}
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in >= {"README.md", "LICENSE", "pyproject.toml", "setup.cfg", "paddlex_ml"}
    folders = re.findall(r"= (\S+)$", setup["options"]["package_dir"], re.MULTILINE)
    assert len(folders) == 3
    assert {folder.split("/")[0] for folder in folders} <= let_in
    assert all((ROOT / each).exists() for each in let_in)


def test_the_last_stages_of_both_images_differ_by_the_variables_for_gpus_alone() -> None:
    texts = [(DEPLOY / name).read_text("utf-8").rpartition("\nFROM ")[2] for name in DOCKERFILES]
    plain = [
        re.sub(r"^(#.*|    NVIDIA_\S+( \\)?)\n", "", text, flags=re.MULTILINE) for text in texts
    ]
    assert plain[0].replace("HOME=/tmp\n", "") == plain[1].replace("HOME=/tmp \\\n", "")


def test_the_commands_of_the_page_are_read() -> None:
    page = (ROOT / "docs" / "containers.md").read_text("utf-8")
    [line] = re.findall(r"^docker run .* paddlex_ml (--data .*)$", page, re.MULTILINE)
    assert command_line.parse(shlex.split(line)).data == "my_photos"
    assert {*re.findall(r"`deploy/([\w.-]+)` \|", page)} == {*os.listdir(DEPLOY)}
