# SPDX-License-Identifier: Apache-2.0
"""The numbers of a training as event files, which TensorBoard and similar programs draw.

Only the record writer of tensorboardX is used. Its SummaryWriter passes everything to a thread of
its own, which a full disk ends without a word.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.storage.files import make_folder
from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Upload

ENVIRONMENT: dict[str, str] = {}


def begin(run: TrackedRun) -> EventFile:
    """A new event file in the folder `events` of the output folder.

    Its first record makes TensorBoard drop later points of older files: a run that was killed has
    written points beyond its last checkpoint.
    """
    return EventFile(run)


class EventFile:
    """The numbers alone: parameters and files lie beside it, in the output folder."""

    def __init__(self, run: TrackedRun) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # optional, and slow to import
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder = RunFolder(run.output).events
        make_folder(folder)
        self.known_steps = range(sys.maxsize)  # the older files have them
        self._writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{run.step}")
        start = SessionLog(status=SessionLog.START)
        record = Event(wall_time=time.time(), step=run.step + 1, session_log=start)
        self._writer.write_event(record)

    def log(self, points: Sequence[Point]) -> None:
        """Write them so that a reader sees them at once. Raises OSError when the disk is full."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for point in points:
            for name, value in point.numbers.items():
                summary = scalar(name, value)
                record = Event(wall_time=point.time, step=point.step, summary=summary)
                self._writer.write_event(record)
        self._writer.flush()

    def upload(self, upload: Upload) -> None:
        """Nothing: the files lie beside the events."""

    def close(self, outcome: Outcome) -> None:
        """Close the file."""
        self._writer.close()
