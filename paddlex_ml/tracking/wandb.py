# SPDX-License-Identifier: Apache-2.0
"""Weights & Biases: the server and the mode that the variables of its client name (WANDB_MODE...).

The client keeps what it could not send in the folder wandb, from where `wandb sync` sends it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from paddlex_ml.artifacts.run_folder import EXAMPLE
from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Upload, plain_name

if TYPE_CHECKING:
    import wandb

ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false"}
_EXIT_CODE = {"finished": 0, "stopped": 130, "failed": 1}


def begin(run: TrackedRun) -> WandbRun:
    """The run of a training: the one of its earlier starts, or a new one.

    Raises what the client raises where the server does not answer, or nobody is logged in.
    """
    import wandb  # optional, and slow to import

    is_online = wandb.setup().settings.mode not in ("offline", "dryrun", "disabled")
    if is_online and not wandb.login(prompt=False):  # a question would never be answered here
        raise RuntimeError("nobody is logged in: set WANDB_API_KEY, or WANDB_MODE=offline")
    group = plain_name(run.experiment)
    begun = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or group,
        group=os.environ.get("WANDB_RUN_GROUP") or group,
        name=run.name,
        id=run.id,
        resume="allow",
        config={**run.parameters, **run.tags},
        # The command, the environment and the console may have passwords in them.
        settings=wandb.Settings(
            silent=True,
            console="off",
            disable_code=True,
            disable_git=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
        ),
    )
    return WandbRun(begun)


class WandbRun:
    """One run of a W&B project. The client sends in a process of its own."""

    def __init__(self, begun: wandb.Run) -> None:
        self._run = begun
        self.known_steps = range(sys.maxsize) if begun.resumed else ()
        # Our steps as a column: W&B's own never go back, as a resume after a kill does.
        begun.define_metric("step", hidden=True)
        begun.define_metric("*", step_metric="step")

    def log(self, points: Sequence[Point]) -> None:
        """Give them to the client."""
        for point in points:
            self._run.log({**point.numbers, "step": point.step})

    def upload(self, upload: Upload) -> None:
        """One artifact, whose versions are those of the starts."""
        import wandb

        kind = "model" if upload.name == EXAMPLE.best_model.folder.name else "result"
        artifact = wandb.Artifact(f"{upload.name}-{self._run.id}", type=kind)
        for name, path in upload.files.items():
            artifact.add_file(str(path), name=name)
        self._run.log_artifact(artifact)

    def close(self, outcome: Outcome) -> None:
        """Send what is left."""
        self._run.finish(exit_code=_EXIT_CODE[outcome])
