# SPDX-License-Identifier: Apache-2.0
"""Against a real MLflow server on loopback."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from paddlex_ml.tracking import sending

Run = Callable[..., tuple[int, str]]
MORE = ("Train.track=[mlflow]", "Train.log_interval=2")

pytestmark = [
    pytest.mark.skipif(
        find_spec("mlflow") is None or find_spec("flask") is None,
        reason="the server of MLflow is not installed (pip install mlflow, 320 MB)",
    ),
    pytest.mark.story,
    pytest.mark.filterwarnings("ignore"),  # those of MLflow's own imports and of the server
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with an empty database."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    options += ["--backend-store-uri", f"sqlite:///{folder}/runs.db"]
    options += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *options],
            cwd=folder, env={**os.environ, **quiet}, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 300
    try:
        while not _answers(url):
            assert process.poll() is None, (folder / "log.txt").read_text()
            assert time.monotonic() < end, (folder / "log.txt").read_text()
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def client(server: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of the server, to which trainings send as well."""
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setattr(sending, "PATIENCE", 120.0)  # busy machines
    return MlflowClient(server)


def only_run(client: Any, experiment: str) -> Any:
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    return run


def curve(client: Any, run: Any, name: str) -> dict[int, float]:
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}


def files(client: Any, run: Any, folder: str = "") -> set[str]:
    found: set[str] = set()
    for item in client.list_artifacts(run.info.run_id, folder):
        found |= files(client, run, item.path) if item.is_dir else {item.path}
    return found


def test_a_training_its_resume_and_its_evaluation_are_one_run(
    run: Run, toy: Path, tmp_path: Path, client: Any
) -> None:
    output = tmp_path / "sweep 1" / "out"
    code, err = run("train", toy, output, "Train.epochs_iters=1", *MORE)
    assert code == 0, err
    first = only_run(client, "sweep 1")
    assert first.info.status == "FINISHED"
    resume = ("Train.epochs_iters=2", "Train.resume_path=auto")
    code, err = run("train", toy, output, *resume, *MORE)
    assert code == 0, err
    code, err = run("evaluate", toy, output, *MORE)
    assert code == 0, err
    found = only_run(client, "sweep 1")
    assert found.info.run_id == first.info.run_id
    assert found.info.run_name == "out"
    assert found.info.status == "FINISHED"
    assert found.data.params["Train.epochs_iters"] == "1"
    assert found.data.tags["resumed.Train.epochs_iters"] == "2"
    assert found.data.params["Train.loss.name"] == "asymmetric"
    with (output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    names = {"raw_map": "mAP/raw", "ema_map": "mAP/ema"}
    for column in rows[0]:
        if column == "step":
            continue
        sent = curve(client, found, names.get(column, f"epoch/{column}"))
        assert sent == {int(row["step"]): float(row[column]) for row in rows}, column
    assert list(curve(client, found, "train/loss")) == [2, 3, 5, 6]
    assert found.data.metrics["evaluate/MultiLabelMAP"] > 0
    assert found.data.metrics["best/mAP"] == max(
        float(row[key]) for row in rows for key in ("raw_map", "ema_map")
    )
    assert {
        "training/curves.png", "training/config.yaml", "training/metrics.csv",
        "best_model/best_model.pdparams", "best_model/inference/inference.yml",
        "evaluate/report.html", "evaluate/per_class.csv", "best_model/MODEL_CARD.md",
        "evaluate/MODEL_CARD.md",
    } <= files(client, found)  # fmt: skip
    weights = client.download_artifacts(found.info.run_id, "best_model/best_model.pdparams")
    own = output / "best_model" / "best_model.pdparams"
    assert Path(weights).read_bytes() == own.read_bytes()


def test_epochs_that_a_dead_server_missed_arrive_with_a_resume(
    run: Run, toy: Path, tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "missed" / "out"
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens there
        patch.setattr(sending, "PATIENCE", 1.0)
        code, err = run("train", toy, output, "Train.epochs_iters=1", *MORE)
    assert code == 0, err
    assert err.count("mlflow does not take the numbers of this training") == 1
    assert "did not arrive" in err
    assert client.get_experiment_by_name("missed") is None
    resume = ("Train.epochs_iters=2", "Train.resume_path=auto")
    code, err = run("train", toy, output, *resume, *MORE)
    assert code == 0, err
    found = only_run(client, "missed")
    assert list(curve(client, found, "epoch/loss")) == [3, 6]
    assert list(curve(client, found, "train/loss")) == [5, 6]


def test_no_secret_of_the_address_or_of_the_configuration_is_kept(
    run: Run, toy: Path, tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch,
    site: Any, start_weights: Path,
) -> None:  # fmt: skip
    address = os.environ["MLFLOW_TRACKING_URI"].replace("://", "://ann:hunter22@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    site["/w.pdparams?token=hunter44"] = start_weights.read_bytes()
    weights = site.url("/w.pdparams").replace("://", "://bob:hunter33@") + "?token=hunter44"
    output = tmp_path / "secret" / "out"
    more = (*MORE, "Train.epochs_iters=1", f"Train.pretrain_weight_path={weights}")
    code, err = run("train", toy, output, *more)
    assert code == 0, err
    found = only_run(client, "secret")
    sent = str(found.data.to_dictionary())
    assert "w.pdparams" in found.data.params["Train.pretrain_weight_path"]
    for path in files(client, found):
        if path.startswith("training/") and not path.endswith(".png"):
            sent += Path(client.download_artifacts(found.info.run_id, path)).read_text()
    sent += err + (output / "train.log").read_text()
    assert "hunter" not in sent
