# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event, SessionLog

from paddlex_ml.tracking import sending
from paddlex_ml.tracking.sending import observing
from paddlex_ml.tracking.tensorboard import EventFile, begin
from paddlex_ml.tracking.tracker import Point, TrackedRun

Run = Any


def masked(data: bytes) -> int:
    """The checksum of TFRecord files."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> Iterator[Event]:
    """Events of one file: length (8 bytes), its checksum (4), content, its checksum (4)."""
    content = path.read_bytes()
    while content:
        (size, check) = struct.unpack("<QI", content[:12])
        assert check == masked(content[:8])
        data, (check,) = content[12 : 12 + size], struct.unpack("<I", content[12 + size :][:4])
        assert check == masked(data)
        yield Event.FromString(data)
        content = content[16 + size :]


def drawn(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard draws: its rule is that a start forgets later steps of older files."""
    points: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        for event in records(path):
            if event.session_log.status == SessionLog.START:
                points = {
                    name: [point for point in line if point[0] < event.step]
                    for name, line in points.items()
                }
            for value in event.summary.value:
                line = points.setdefault(value.tag, [])
                line.append((event.step, round(value.simple_value, 6)))
    return points


def tracked(output: Path, step: int = 0) -> TrackedRun:
    return TrackedRun(
        id="a1", experiment="e", name="n", output=output, step=step, parameters={}, tags={}
    )


def write(file: EventFile, step: int, numbers: dict[str, float]) -> None:
    file.log([Point(step, numbers, 1.0)])


def test_numbers_come_back_with_their_steps(tmp_path: Path) -> None:
    with observing(["tensorboard"], tracked(tmp_path)) as observer:
        observer.log(20, {"train/loss": 2.5, "train/lr": 1e-3})
        observer.log(40, {"train/loss": 1.25})
    (path,) = (tmp_path / "events").iterdir()
    assert path.name.startswith("events.out.tfevents.")
    assert drawn(path.parent) == {
        "train/loss": [(20, 2.5), (40, 1.25)],
        "train/lr": [(20, 0.001)],
    }


def test_each_line_can_be_read_at_once(tmp_path: Path) -> None:
    file = begin(tracked(tmp_path))
    write(file, 20, {"train/loss": 2.5})
    assert drawn(tmp_path / "events") == {"train/loss": [(20, 2.5)]}
    file.close("finished")


def test_a_resumed_run_replaces_the_points_after_its_start(tmp_path: Path) -> None:
    file = begin(tracked(tmp_path))
    for step in (1, 2, 3, 4):
        write(file, step, {"train/loss": 1.0})
    file.close("failed")
    file = begin(tracked(tmp_path, step=2))  # killed after step 4, saved after step 2
    for step in (3, 4, 5):
        write(file, step, {"train/loss": 2.0})
    file.close("finished")
    assert drawn(tmp_path / "events") == {
        "train/loss": [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0), (5, 2.0)]
    }


def test_a_new_run_in_an_old_folder_forgets_the_old_one(tmp_path: Path) -> None:
    for step in (1, 2):
        file = begin(tracked(tmp_path))
        write(file, step, {"train/loss": float(step)})
        file.close("finished")
    assert drawn(tmp_path / "events") == {"train/loss": [(2, 2.0)]}


def test_a_full_disk_holds_up_points_but_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.02)
    with observing(["tensorboard"], tracked(tmp_path)) as observer:
        observer.log(1, {"train/loss": 1.0})
        while not any(path.stat().st_size for path in tmp_path.glob("events/*")):
            time.sleep(0.005)  # a writer that is made meanwhile would be left open
        with monkeypatch.context() as patch:
            patch.setattr("tensorboardX.event_file_writer.EventsWriter.write_event", no_room)
            observer.log(2, {"train/loss": 2.0})
            while "No space left on device" not in caplog.text:
                time.sleep(0.005)
        observer.log(3, {"train/loss": 3.0})
    points = drawn(tmp_path / "events")["train/loss"]
    assert sorted(points) == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_training_writes_its_numbers_and_a_resume_goes_on(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    output, more = tmp_path / "out", ("Train.tensorboard=true", "Train.log_interval=2")
    assert run("train", toy, output, "Train.epochs_iters=1", *more)[0] == 0
    resume = f"Train.resume_path={output / 'latest'}"
    assert run("train", toy, output, "Train.epochs_iters=2", resume, *more)[0] == 0
    found = drawn(output / "events")
    assert {name: [step for step, _ in line] for name, line in found.items()} == {
        "train/loss": [2, 3, 5, 6],
        "train/lr": [2, 3, 5, 6],
        "speed/images_per_second": [2, 3, 5, 6],
        "speed/data_wait": [2, 3, 5, 6],
        "speed/memory_mib": [2, 3, 5, 6],
        "mAP/raw": [3, 6],
        "mAP/ema": [3, 6],
        "epoch/epoch": [3, 6],
        "epoch/lr": [3, 6],
        "epoch/loss": [3, 6],
        "epoch/images_per_second": [3, 6],
        "epoch/data_wait": [3, 6],
        "epoch/memory_mib": [3, 6],
        "epoch/seconds": [3, 6],
        "best/mAP": [3, 6],
        "best/epoch": [3, 6],
    }
