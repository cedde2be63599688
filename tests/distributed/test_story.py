# SPDX-License-Identifier: Apache-2.0
"""Training in two processes through main.py: stopped, broken, killed, on two machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from paddlex_ml.artifacts import checkpoint
from tests.running import ENVIRONMENT, MAIN, Background, run, wait_until_gone

pytestmark = pytest.mark.story

Training = Callable[..., list[str]]
SameEnding = Callable[[Path, Path], None]
TWO = "Global.device=cpu:0,1"
AUTO = "Train.resume_path=auto"
STOPPED_WORKER = Path(__file__).with_name("main_with_a_stopped_worker.py")


@pytest.fixture(scope="module")
def training(toy: Path, start_weights: Path, command: Callable[..., list[str]]) -> Training:
    """Arguments of two epochs of three steps, each of 8 images in two processes."""

    def write(output: Path, *overrides: str, data: Path = toy) -> list[str]:
        keys = [f"Train.pretrain_weight_path={start_weights}", "Train.batch_size=4"]
        keys += ["Train.num_workers=1", "Train.log_interval=1", *overrides]
        return command("train", data, output, *keys)

    return write


@pytest.fixture(scope="module")
def unbroken(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of an uninterrupted training in two processes."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = run(*training(folder / "out", TWO), folder=folder)
    assert done.returncode == 0, done.stderr
    assert "starting 2 processes: cpu:0, cpu:1" in done.stderr
    assert "Traceback" not in done.stderr
    return folder / "out"


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The training processes of a command, by rank; other child processes are left out."""
    children = psutil.Process(process.pid).children()
    spawned = [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    return sorted(spawned, key=lambda child: child.create_time())


def test_two_processes_write_what_one_writes(
    unbroken: Path, training: Training, tmp_path: Path, numbers: Callable[[Path], list[dict]]
) -> None:
    done = run(*training(tmp_path / "one", "Train.batch_size=8"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(unbroken) == files(tmp_path / "one")
    both, alone = numbers(unbroken), numbers(tmp_path / "one")
    assert [row["lr"] for row in both] == [row["lr"] for row in alone]  # by the global batch
    for row, other in zip(both, alone, strict=True):  # dropout and batch norm differ a little
        assert float(row["loss"]) == pytest.approx(float(other["loss"]), rel=0.2)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.heavy
def test_a_stop_in_the_middle_of_an_epoch_goes_on_bit_for_bit(
    training: Training, unbroken: Path, assert_same_ending: SameEnding, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = Background(training(output, TWO), tmp_path)
    process.wait_for("[Train][Epoch 1/2][Iter 1/3]")
    assert process.send(signal.SIGTERM) == 143, process.text()
    assert "Traceback" not in process.text()
    wait_until_gone(output)
    progress = checkpoint.read_progress(output / "latest")
    assert progress is not None
    assert (progress["epoch"], progress["step"]) in {(0, 1), (0, 2), (0, 3)}
    done = run(*training(output, TWO, AUTO), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_ending(output, unbroken)


@pytest.mark.heavy
def test_an_image_deleted_meanwhile_is_named_and_the_state_saved(
    training: Training, unbroken: Path, assert_same_ending: SameEnding, toy: Path, tmp_path: Path
) -> None:
    data, output = shutil.copytree(toy, tmp_path / "data"), tmp_path / "out"
    lost = data / "images" / "train_5.png"
    process = Background(training(output, TWO, data=data), tmp_path)
    process.wait_for("[Train][Epoch 1/2][Iter 1/3]")
    lost.rename(tmp_path / "kept.png")
    text = process.end()
    assert process.process.returncode == 2, text
    message = f"error: the image cannot be opened: No such file or directory\n  where: {lost}"
    assert message in text
    assert "the state is saved, and -o Train.resume_path=auto goes on from it" in text
    assert "Traceback" not in text
    assert checkpoint.is_complete(output / "latest")
    (tmp_path / "kept.png").rename(lost)
    done = run(*training(output, TWO, AUTO, data=data), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_ending(output, unbroken)


def test_a_process_that_dies_ends_the_training_within_a_minute(
    training: Training, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = Background(training(output, TWO, "Train.epochs_iters=500"), tmp_path)
    process.wait_for("[Train][Epoch 1/500][Iter 2/3]")
    began = time.monotonic()
    os.kill(workers(process.process)[1].pid, signal.SIGKILL)
    assert process.wait() == 2
    assert time.monotonic() - began < 60
    text = process.text()
    assert "error: process 1 (cpu:1) was killed by the system" in text
    assert "Traceback" not in text
    wait_until_gone(output)


@pytest.mark.heavy
def test_a_stopped_process_ends_the_training(training: Training, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = training(output, TWO, "Train.epochs_iters=500")
    process = Background(arguments, tmp_path, STOPPED_WORKER)
    text = process.end()
    assert process.process.returncode == 2, text
    assert "[Train][Epoch 1/500][Iter 2/3]" in text
    assert "error: process 1 (cpu:1) hangs: the others waited for it too long" in text
    assert "Traceback" not in text
    wait_until_gone(output)


@pytest.mark.heavy
def test_processes_die_with_the_command_that_started_them(
    training: Training, tmp_path: Path
) -> None:
    process = Background(training(tmp_path / "out", TWO, "Train.epochs_iters=500"), tmp_path)
    process.wait_for("[Train][Epoch 1/500][Iter 2/3]")
    orphans = workers(process.process)
    assert len(orphans) == 2
    assert process.send(signal.SIGKILL) == -signal.SIGKILL
    _, alive = psutil.wait_procs(orphans, timeout=20)
    assert [child.pid for child in alive] == []


def free_port() -> int:
    """A port with some free ones above it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1]) - 10


def start(
    arguments: list[str], folder: Path, name: str, **environment: str
) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.txt").open("w") as said:
        return subprocess.Popen(
            arguments, cwd=folder, stdout=said, stderr=said, env={**ENVIRONMENT, **environment}
        )


@pytest.mark.heavy
def test_two_machines_train_as_two_processes_of_one(
    training: Training, unbroken: Path, assert_same_ending: SameEnding, tmp_path: Path
) -> None:
    ips, port = "127.0.0.1,127.0.0.2", str(free_port())
    running = [
        start(
            [sys.executable, str(MAIN), *training(tmp_path / name, f"Train.dist_ips={ips}")],
            tmp_path,
            name,
            POD_IP=address,
            PADDLE_PORT=port,
            OMP_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
        )
        for name, address in zip(("first", "second"), ips.split(","), strict=True)
    ]
    codes = [process.wait(timeout=180) for process in running]
    said = [(tmp_path / f"{name}.txt").read_text() for name in ("first", "second")]
    assert codes == [0, 0], said
    assert_same_ending(tmp_path / "first", unbroken)
    assert "[Epoch" not in said[1]  # only the main process logs and writes
    assert said[1].endswith("done: the results are on the first machine\n")
    assert not (tmp_path / "second").exists()


def test_a_machine_that_does_not_come_is_named(training: Training, tmp_path: Path) -> None:
    code = (
        "import sys; from paddlex_ml import paddle_runtime; paddle_runtime.prepare();"
        "from paddlex_ml.distributed import group; group.START_LIMIT = 3;"
        "shared = group.SharedState([0], [0], [0]);"
        "group.join(shared, 0, 1, ['cpu:0 of 127.0.0.1', 'cpu:0 of 127.0.0.2'])"
    )
    ranks = {"PADDLE_TRAINER_ID": "0", "PADDLE_TRAINERS_NUM": "2"}
    process = start(
        [sys.executable, "-c", code],
        MAIN.parent,
        str(tmp_path / "said"),
        PADDLE_MASTER=f"127.0.0.1:{free_port()}",
        **ranks,
    )
    assert process.wait(timeout=60) == 1
    said = (tmp_path / "said.txt").read_text()
    assert "1 of 2 processes did not start within 3 seconds: 1 (cpu:0 of 127.0.0.2)" in said


@pytest.mark.heavy
def test_a_job_of_paddles_launcher_trains_as_one(
    training: Training, unbroken: Path, assert_same_ending: SameEnding, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "log"]
    process = start(
        [sys.executable, *launcher, str(MAIN), *training(output)],
        tmp_path,
        "said",
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
    )
    code = process.wait(timeout=180)
    said = (tmp_path / "said.txt").read_text()
    assert code == 0, said
    assert_same_ending(output, unbroken)
    result: Any = json.loads((output / "train_result.json").read_text())
    assert result["done_flag"] is True
