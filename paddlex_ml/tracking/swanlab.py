# SPDX-License-Identifier: Apache-2.0
"""SwanLab: in the cloud, or at home with SWANLAB_MODE=local, as the variables of its client say.

The client keeps what it could not send in the folder swanlog, from where `swanlab sync` sends it.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Upload, plain_name

if TYPE_CHECKING:
    import swanlab

ENVIRONMENT: dict[str, str] = {}
_STATE = {"finished": "success", "stopped": "aborted", "failed": "crashed"}


def begin(run: TrackedRun) -> SwanlabRun:
    """The experiment of a training: in the cloud that of its earlier starts, or a new one.

    On a disk (modes local and offline) SwanLab begins a new folder with each start; with the same
    id, and the epochs of the earlier starts are written into it again. Raises what the client
    raises where the server does not answer, or nobody is logged in.
    """
    import swanlab  # optional, and slow to import

    # The command, the environment and the console may have passwords in them.
    quiet = swanlab.Settings(
        interactive=False,
        terminal={"proxy_type": "none"},
        probe={
            name: False
            for name in ("hardware", "runtime", "requirements", "conda", "git", "monitor")
        },
    )
    chosen = swanlab.Settings()  # from the environment
    begun = swanlab.init(
        project=chosen.project.name or plain_name(run.experiment),
        group=chosen.experiment.group or plain_name(run.experiment),
        name=run.name,
        id=run.id,
        resume="allow",
        config={**run.parameters, **run.tags},
        settings=quiet,
    )
    return SwanlabRun(begun, run.output)


class SwanlabRun:
    """One SwanLab experiment. The client sends in threads of its own."""

    def __init__(self, begun: swanlab.Run, output: Path) -> None:
        self._run, self._output = begun, output.absolute()
        self.known_steps: tuple[int, ...] = ()  # SwanLab itself ignores what it has already

    def log(self, points: Sequence[Point]) -> None:
        """Give them to the client."""
        for point in points:
            self._run.log(dict(point.numbers), step=point.step)

    def upload(self, upload: Upload) -> None:
        """Under the paths that the files have in the output folder."""
        for path in upload.files.values():
            pattern = glob.escape(str(path.absolute()))
            self._run.save(pattern, base_path=self._output, policy="now")

    def close(self, outcome: Outcome) -> None:
        """Send what is left."""
        self._run.finish(_STATE[outcome], error=None if outcome == "finished" else outcome)
