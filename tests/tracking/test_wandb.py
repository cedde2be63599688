# SPDX-License-Identifier: Apache-2.0
"""In the offline mode of Weights & Biases, read back from the file that `wandb sync` sends."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.tracking import sending

Run = Callable[..., tuple[int, str]]
MORE = ("Train.track=[wandb]", "Train.log_interval=2")

pytestmark = [
    pytest.mark.skipif(
        find_spec("wandb") is None,
        reason="Weights & Biases is not installed (pip install wandb, 80 MB)",
    ),
    pytest.mark.story,
    pytest.mark.filterwarnings("ignore"),  # those of its own imports
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the client writes, in its offline mode. It reads its variables once in a process."""
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name))
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setattr(sending, "PATIENCE", 120.0)  # busy machines
    yield tmp_path / "wandb"
    wandb.teardown()


def records(folder: Path) -> Iterator[Any]:
    """The records of every start, in their order."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        for data in entries(path.read_bytes()):
            yield Record.FromString(data)


def entries(content: bytes) -> Iterator[bytes]:
    """Entries of a log as LevelDB writes it, behind a head of 7 bytes.

    Blocks of 32 KiB hold parts of entries: checksum (4), size (2), kind (1: whole, 2 to 4: first,
    middle and last part), content.
    """
    entry, place = b"", 7
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        entry += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):
            yield entry
            entry = b""


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name of a number -> step and value of its points."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records(folder):
        if not record.HasField("history"):
            continue
        items = {item.key or item.nested_key[0]: item for item in record.history.item}
        values = {name: json.loads(item.value_json) for name, item in items.items()}
        for name, value in values.items():
            found.setdefault(name, []).append((values["step"], value))
    return found


def test_a_training_and_its_resume_are_one_run_with_all_numbers(
    run: Run, toy: Path, tmp_path: Path, folder: Path
) -> None:
    output = tmp_path / "sweep" / "out"
    assert run("train", toy, output, "Train.epochs_iters=1", *MORE)[0] == 0
    resume = ("Train.epochs_iters=2", "Train.resume_path=auto")
    code, err = run("train", toy, output, *resume, *MORE)
    assert code == 0, err
    assert "did not arrive" not in err
    runs = [record.run for record in records(folder) if record.HasField("run")]
    own = json.loads((output / "run.json").read_text())["id"]
    assert {(each.run_id, each.project, each.run_group) for each in runs} == {
        (own, "sweep", "sweep")
    }
    assert {each.display_name for each in runs} == {"out"}
    parameters = {item.key: item.value_json for item in runs[0].config.update}
    assert parameters["Train.epochs_iters"] == '"1"'
    with (output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    found, names = curves(folder), {"raw_map": "mAP/raw", "ema_map": "mAP/ema"}
    for column in rows[0]:
        if column == "step":
            continue
        sent = dict(found[names.get(column, f"epoch/{column}")])
        assert sent == {int(row["step"]): float(row[column]) for row in rows}, column
    assert [step for step, _ in found["train/loss"]] == [2, 3, 5, 6]
    artifacts = [record.artifact for record in records(folder) if record.HasField("artifact")]
    assert {artifact.name for artifact in artifacts} == {f"best_model-{own}", f"training-{own}"}
    model = next(artifact for artifact in artifacts if artifact.type == "model")
    paths = {entry.path for entry in model.manifest.contents}
    assert {"best_model.pdparams", "inference/inference.yml"} <= paths


def test_the_command_is_not_sent(run: Run, toy: Path, tmp_path: Path, folder: Path) -> None:
    assert run("train", toy, tmp_path / "out", "Train.epochs_iters=1", *MORE)[0] == 0
    assert list(folder.glob("offline-run-*"))
    assert not list(folder.glob("offline-run-*/files/wandb-metadata.json"))
    assert not list(folder.glob("offline-run-*/files/output.log"))


def test_without_a_login_the_training_goes_on(
    run: Run, toy: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setattr(sending, "PATIENCE", 1.0)
    code, err = run("train", toy, tmp_path / "out", "Train.epochs_iters=1", *MORE)
    assert code == 0, err
    assert "nobody is logged in" in err
    assert "did not arrive" in err
