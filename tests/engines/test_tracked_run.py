# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from paddlex_ml.artifacts import run_lock
from paddlex_ml.storage import files
from paddlex_ml.tracking import mlflow, sending, tracker
from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Upload

Run = Callable[..., tuple[int, str]]
MORE = ("Train.track=[wandb]", "Train.log_interval=2")


class Start:
    """One start of a training, as a tracker sees it."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self.known_steps: Container[int] = ()
        self.points: dict[str, dict[int, float]] = {}
        self.files: dict[str, bytes] = {}
        self.outcome: Outcome | None = None

    def log(self, points: Sequence[Point]) -> None:
        for point in points:
            for name, value in point.numbers.items():
                self.points.setdefault(name, {})[point.step] = value

    def upload(self, upload: Upload) -> None:
        for name, path in upload.files.items():
            self.files[f"{upload.name}/{name}"] = path.read_bytes()

    def close(self, outcome: Outcome) -> None:
        self.outcome = outcome


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Start]:
    """What the tracker wandb gets."""
    found: list[Start] = []

    def begin(run: TrackedRun) -> Start:
        found.append(Start(run))
        return found[-1]

    monkeypatch.setattr(tracker, "find_spec", lambda name: name)
    monkeypatch.setattr(tracker, "load", lambda name: begin)
    monkeypatch.setattr(sending, "PATIENCE", 120.0)  # busy machines
    return found


def test_a_tracker_gets_parameters_every_number_and_the_best_model(
    run: Run, toy: Path, tmp_path: Path, starts: list[Start], numbers: Callable[[Path], Any]
) -> None:
    output = tmp_path / "sweep" / "run_1"
    assert run("train", toy, output, *MORE)[0] == 0
    (start,) = starts
    assert (start.run.experiment, start.run.name) == ("sweep", "run_1")
    assert start.run.id == json.loads((output / "run.json").read_text())["id"]
    assert start.run.parameters["Train.batch_size"] == "8"
    assert start.run.parameters["Global.seed"] == "42"
    assert not [key for key in start.run.parameters if key.startswith("Predict.")]
    assert "sha256.train.txt" in start.run.tags
    rows = numbers(output)
    for column, name in {"lr": "epoch/lr", "loss": "epoch/loss", "raw_map": "mAP/raw"}.items():
        assert [str(value) for value in start.points[name].values()] == [
            row[column] for row in rows
        ]
    best = max(float(row[key]) for row in rows for key in ("raw_map", "ema_map"))
    assert list(start.points["best/mAP"].values()) == [best]
    weights = (output / "best_model" / "best_model.pdparams").read_bytes()
    assert start.files["best_model/best_model.pdparams"] == weights
    assert {"training/curves.png", "best_model/inference/inference.json"} <= set(start.files)
    card = (output / "best_model" / "MODEL_CARD.md").read_bytes()
    assert start.files["best_model/MODEL_CARD.md"] == card
    assert start.run.id.encode() in card
    assert not [name for name in start.files if name.endswith((".pdopt", ".pdstates"))]
    assert start.outcome == "finished"


def test_a_resumed_training_has_the_same_id_and_brings_its_earlier_epochs(
    run: Run, toy: Path, tmp_path: Path, starts: list[Start]
) -> None:
    output = tmp_path / "out"
    assert run("train", toy, output, "Train.epochs_iters=1")[0] == 0
    assert starts == []  # not tracked until now
    resume = ("Train.epochs_iters=2", "Train.resume_path=auto")
    code, err = run("train", toy, output, *resume, *MORE)
    assert code == 0, err
    (start,) = starts
    assert start.run.step == 3
    assert list(start.points["epoch/loss"]) == [3, 6]
    assert list(start.points["train/loss"]) == [5, 6]
    assert start.run.id == json.loads((output / "run.json").read_text())["id"]


def test_a_training_in_another_folder_is_another_one(
    run: Run, toy: Path, tmp_path: Path, starts: list[Start]
) -> None:
    for name in ("a", "b"):
        assert run("train", toy, tmp_path / name, "Train.epochs_iters=1", *MORE)[0] == 0
    assert starts[0].run.id != starts[1].run.id


def test_tracking_changes_no_number_of_a_training(
    run: Run, toy: Path, tmp_path: Path, starts: list[Start], numbers: Callable[[Path], Any]
) -> None:
    assert run("train", toy, tmp_path / "a", *MORE)[0] == 0
    assert run("train", toy, tmp_path / "b", "Train.log_interval=2")[0] == 0
    assert len(starts) == 1
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


def test_an_evaluation_goes_to_the_training_of_its_model(
    run: Run, toy: Path, copy_of_run: Path, starts: list[Start]
) -> None:
    assert run("evaluate", toy, copy_of_run, *MORE)[0] == 0
    (start,) = starts
    assert start.run.id == json.loads((copy_of_run / "run.json").read_text())["id"]
    metrics = json.loads((copy_of_run / "evaluate_result.json").read_text())["metrics"]
    assert start.points["evaluate/MultiLabelMAP"] == {0: metrics["MultiLabelMAP"]}
    assert start.points["evaluate/images"] == {0: 12.0}
    card = (copy_of_run / "best_model" / "MODEL_CARD.md").read_bytes()
    assert start.files.pop("evaluate/MODEL_CARD.md") == card
    assert b"## Limits found by the evaluation" in card
    assert set(start.files) == {"evaluate/report.html", "evaluate/per_class.csv"}


def test_an_evaluation_writes_no_event_file(
    run: Run, toy: Path, copy_of_run: Path, starts: list[Start]
) -> None:
    assert run("evaluate", toy, copy_of_run, "Train.track=[tensorboard]")[0] == 0
    assert starts == []


def test_an_evaluation_of_weights_without_a_training_says_that_it_is_not_tracked(
    run: Run, toy: Path, tmp_path: Path, starts: list[Start], start_weights: Path
) -> None:
    weights = f"Evaluate.weight_path={start_weights}"
    code, err = run("evaluate", toy, tmp_path / "out", weights, *MORE)
    assert code == 0, err
    assert "not tracked: the weights do not say which training made them" in err
    assert starts == []


def test_a_training_that_fails_is_marked_as_failed(
    run: Run, toy: Path, tmp_path: Path, starts: list[Start]
) -> None:
    more = ("Train.learning_rate=0.01", "Train.loss.gamma_neg=1e308", "Train.warmup_steps=0")
    assert run("train", toy, tmp_path / "out", *more, *MORE)[0] == 2
    assert [start.outcome for start in starts] == ["failed"]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [("Stopped", "stopped"), ("KeyboardInterrupt", "stopped"), ("PaddlexMLError", "failed")],
)
def test_an_evaluation_leaves_the_state_of_its_training(
    run: Run, toy: Path, copy_of_run: Path, starts: list[Start], kind: str, outcome: Outcome
) -> None:
    result = {"done_flag": False, "err_type": kind, "err_msg": ""}
    files.write_json(copy_of_run / "train_result.json", result)
    assert run("evaluate", toy, copy_of_run, *MORE)[0] == 0
    (start,) = starts
    assert (start.run.ended, start.outcome) == (outcome, outcome)


def test_an_evaluation_does_not_finish_a_training_that_was_killed(
    run: Run, toy: Path, copy_of_run: Path, starts: list[Start]
) -> None:
    (copy_of_run / "train_result.json").unlink()
    assert run("evaluate", toy, copy_of_run, *MORE)[0] == 0
    (start,) = starts
    assert (start.run.ended, start.outcome) == ("failed", "failed")


def test_an_evaluation_beside_a_running_training_is_not_tracked(
    run: Run, toy: Path, copy_of_run: Path, starts: list[Start]
) -> None:
    (copy_of_run / "train_result.json").unlink()
    results: list[tuple[int, str]] = []
    evaluation = Thread(target=lambda: results.append(run("evaluate", toy, copy_of_run, *MORE)))
    with run_lock.writing(copy_of_run, "train"):  # the lock is that of a thread
        evaluation.start()
        evaluation.join()
    ((code, err),) = results
    assert code == 0, err
    assert "not tracked: the training is still running; when it has ended, evaluate again" in err
    assert starts == []


class Client:
    """MLflow's client, with one run that is there."""

    def __init__(self) -> None:
        info = SimpleNamespace(run_id="7", status="KILLED")
        self.run = SimpleNamespace(info=info, data=SimpleNamespace(params={}))

    def get_experiment_by_name(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, *_: object, **__: object) -> list[SimpleNamespace]:
        return [self.run]

    def update_run(self, _: str, status: str) -> None:
        self.run.info.status = status

    set_terminated = update_run

    def get_metric_history(self, *_: object) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("ended", "status"), [(None, "FINISHED"), ("finished", "KILLED"), ("stopped", "KILLED")]
)
def test_an_mlflow_run_keeps_its_state_when_an_evaluation_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Outcome | None, status: str
) -> None:
    client = Client()
    fake = SimpleNamespace(MlflowClient=lambda: client)
    entities = SimpleNamespace(Param=None, Metric=None)
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", SimpleNamespace(MlflowException=OSError))
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    described = TrackedRun(
        id="a", experiment="e", name="n", output=tmp_path, step=0, parameters={}, tags={},
        ended=ended,
    )  # fmt: skip
    mlflow.begin(described).close(ended or "finished")
    assert client.run.info.status == status
