# SPDX-License-Identifier: Apache-2.0
"""MLflow: the server that MLFLOW_TRACKING_URI names, with the other variables of its client."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Upload

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # We try again ourselves; the client would be silent for minutes before it raises.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_RUN = "paddlex_ml.run"
"""The tag by which a resumed training is found again."""
_EPOCH = "epoch/epoch"
"""A number that every epoch has."""
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST = 6000  # letters of a parameter, and of a tag
_MOST_PARAMETERS = 100  # of one request
_MOST_METRICS = 1000  # of one request


def begin(run: TrackedRun) -> MlflowRun:
    """The MLflow run of a training: the one of its earlier starts, or a new one.

    Raises what the client raises where the server does not answer.
    """
    from mlflow import MlflowClient  # optional, and slow to import

    client = MlflowClient()
    experiment = _find_experiment(client, run.experiment)
    found = client.search_runs([experiment], f"tags.`{_RUN}` = '{run.id}'", max_results=1)
    if found:
        if run.ended is None:
            client.update_run(found[0].info.run_id, status="RUNNING")
        return MlflowRun(client, found[0], run, keeps_state=run.ended is not None)
    tags = {name: value[:_LONGEST] for name, value in run.tags.items()} | {_RUN: run.id}
    created = client.create_run(experiment, run_name=run.name, tags=tags)
    return MlflowRun(client, created, run)


class MlflowRun:
    """One run of an MLflow experiment."""

    def __init__(
        self, client: MlflowClient, found: Run, run: TrackedRun, *, keeps_state: bool = False
    ) -> None:
        self._client, self._id, self._keeps_state = client, found.info.run_id, keeps_state
        past = client.get_metric_history(self._id, _EPOCH)
        self.known_steps = {metric.step for metric in past}
        self._log_parameters(found, run)

    def _log_parameters(self, found: Run, run: TrackedRun) -> None:
        """Parameters of a run never change in MLflow: what a resume changes becomes a tag."""
        from mlflow.entities import Param

        before = found.data.params
        values = {key: value[:_LONGEST] for key, value in run.parameters.items()}
        new = [Param(key, value) for key, value in values.items() if key not in before]
        for start in range(0, len(new), _MOST_PARAMETERS):
            self._client.log_batch(self._id, params=new[start : start + _MOST_PARAMETERS])
        for key, value in values.items():
            if before.get(key, value) != value:
                self._client.set_tag(self._id, f"resumed.{key}", value)

    def log(self, points: Sequence[Point]) -> None:
        """Send them in as few requests as the server takes."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(point.time * 1000), point.step)
            for point in points
            for name, value in point.numbers.items()
        ]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[start : start + _MOST_METRICS])

    def upload(self, upload: Upload) -> None:
        """Artifacts in a folder with the name of the upload."""
        for name, path in upload.files.items():
            folder = "/".join([upload.name, *name.split("/")[:-1]])
            self._client.log_artifact(self._id, str(path), folder)

    def close(self, outcome: Outcome) -> None:
        """Set the status that the page of the experiment shows, unless the server has it."""
        if not self._keeps_state:
            self._client.set_terminated(self._id, _STATUS[outcome])


def _find_experiment(client: MlflowClient, name: str) -> str:
    """The id of the experiment: of the environment, or with the name of the training's."""
    from mlflow.exceptions import MlflowException

    if chosen := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return chosen
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or name
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:  # another training of a sweep was faster
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
