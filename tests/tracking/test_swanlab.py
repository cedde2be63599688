# SPDX-License-Identifier: Apache-2.0
"""In SwanLab's local mode, read back from the folder that `swanlab watch` shows."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from paddlex_ml.tracking import sending

Run = Callable[..., tuple[int, str]]
MORE = ("Train.track=[swanlab]", "Train.log_interval=2")

pytestmark = [
    pytest.mark.skipif(
        find_spec("swanlab") is None or find_spec("swanboard") is None,
        reason="SwanLab is not installed (pip install 'swanlab[dashboard]', 50 MB)",
    ),
    pytest.mark.story,
    pytest.mark.filterwarnings("ignore"),  # those of SwanLab's own imports
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where SwanLab writes, in its local mode."""
    monkeypatch.setenv("SWANLAB_MODE", "local")
    monkeypatch.setenv("SWANLAB_LOG_DIR", str(tmp_path / "swanlog"))
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path / "home"))
    monkeypatch.setattr(sending, "PATIENCE", 120.0)  # busy machines
    return tmp_path / "swanlog"


def experiments(folder: Path) -> list[tuple[str, Path]]:
    """Name and folder of each experiment, the oldest first."""
    with closing(sqlite3.connect(folder / "runs.swanlab")) as database:
        rows = database.execute("select name, run_id from experiment order by id").fetchall()
    return [(name, folder / run) for name, run in rows]


def curves(folder: Path, run: Path) -> dict[str, dict[int, float]]:
    """Name of a number -> step -> value, as the page of SwanLab draws it."""
    with closing(sqlite3.connect(folder / "runs.swanlab")) as database:
        query = "select t.name, t.folder from tag t join experiment e on t.experiment_id = e.id"
        tags = database.execute(f"{query} where e.run_id = ?", [run.name]).fetchall()
    found: dict[str, dict[int, float]] = {}
    for name, place in tags:
        lines = (run / "logs" / place / "1000.log").read_text().splitlines()
        points = map(json.loads, lines)
        found[name] = {point["index"]: point["data"] for point in points}
    return found


def test_a_training_and_its_resume_have_all_numbers_and_files(
    run: Run, toy: Path, tmp_path: Path, folder: Path
) -> None:
    output = tmp_path / "sweep" / "out"
    assert run("train", toy, output, "Train.epochs_iters=1", *MORE)[0] == 0
    resume = ("Train.epochs_iters=2", "Train.resume_path=auto")
    code, err = run("train", toy, output, *resume, *MORE)
    assert code == 0, err
    assert "did not arrive" not in err
    # On a disk each start has a folder, under the id of the run; the last one has every epoch.
    (first, first_folder), (second, last) = experiments(folder)
    assert (first, second) == ("out", "out-2")
    run_id = json.loads((output / "run.json").read_text())["id"]
    assert first_folder.name.endswith(run_id)
    assert last.name.endswith(run_id)
    found = curves(folder, last)
    with (output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = {"raw_map": "mAP/raw", "ema_map": "mAP/ema"}
    for column in rows[0]:
        if column == "step":
            continue
        sent = found[names.get(column, f"epoch/{column}")]
        assert sent == {int(row["step"]): float(row[column]) for row in rows}, column
    assert list(found["train/loss"]) == [5, 6]
    kept = last / "files"
    parameters = (kept / "config.yaml").read_text()
    assert "Train.epochs_iters" in parameters
    own = output / "best_model" / "best_model.pdparams"
    assert (kept / "best_model" / "best_model.pdparams").read_bytes() == own.read_bytes()
    assert (kept / "curves.png").is_file()


def test_an_evaluation_adds_its_measures_and_its_page(
    run: Run, toy: Path, copy_of_run: Path, folder: Path
) -> None:
    code, err = run("evaluate", toy, copy_of_run, *MORE)
    assert code == 0, err
    ((_, only),) = experiments(folder)
    result = json.loads((copy_of_run / "evaluate_result.json").read_text())
    sent = curves(folder, only)["evaluate/MultiLabelMAP"]
    assert sent == {0: result["metrics"]["MultiLabelMAP"]}
    page = only / "files" / "evaluate" / "report.html"
    assert page.read_bytes() == (copy_of_run / "evaluate" / "report.html").read_bytes()


def test_the_command_and_the_machine_are_not_sent(
    run: Run, toy: Path, tmp_path: Path, folder: Path
) -> None:
    assert run("train", toy, tmp_path / "out", "Train.epochs_iters=1", *MORE)[0] == 0
    ((_, only),) = experiments(folder)
    kept = only / "files" / "swanlab-metadata.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    assert not {"command", "hostname", "cwd", "cpu", "memory"} & set(known)


def test_without_a_login_the_training_goes_on(
    run: Run, toy: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWANLAB_MODE", "online")
    monkeypatch.delenv("SWANLAB_API_KEY", raising=False)
    monkeypatch.setattr(sending, "PATIENCE", 1.0)
    code, err = run("train", toy, tmp_path / "out", "Train.epochs_iters=1", *MORE)
    assert code == 0, err
    assert err.count("swanlab does not take the numbers of this training") == 1
    assert "no API key" in err
    assert "did not arrive" in err
