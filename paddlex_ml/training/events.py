# SPDX-License-Identifier: Apache-2.0
"""The numbers of a training as event files, which TensorBoard and similar programs draw.

Only the record writer of tensorboardX is used. Its SummaryWriter passes everything to a thread of
its own, and a training would wait forever for a thread that ended because the disk is full.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from paddlex_ml import program
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage.files import make_folder
from paddlex_ml.training.plan import Scalars


def require_package() -> None:
    """Raise PaddlexMLError unless the package that writes event files is installed."""
    if find_spec("tensorboardX") is None:
        raise PaddlexMLError(
            "event files need the package tensorboardX, which is not installed",
            where="Train.tensorboard",
            fix=program.pip_install("'paddlex-ml[tensorboard]'")
            + ", or -o Train.tensorboard=false",
        )


@contextmanager
def writing(folder: Path, step: int) -> Iterator[Scalars]:
    """Write a new event file in `folder`, for a training that has made `step` updates.

    Its first record makes TensorBoard drop later points of older files: a run that was killed has
    written points beyond its last checkpoint. A full disk loses points but stops no training.
    """
    from tensorboardX.event_file_writer import EventsWriter  # optional, and slow to import
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar

    make_folder(folder)
    writer = EventsWriter(str(folder / "events"), f".{os.getpid()}.{step}")

    def write(number: int, scalars: Mapping[str, float]) -> None:
        with suppress(OSError):
            for name, value in scalars.items():
                summary = scalar(name, value)
                writer.write_event(Event(wall_time=time.time(), step=number, summary=summary))
            writer.flush()

    start = SessionLog(status=SessionLog.START)
    writer.write_event(Event(wall_time=time.time(), step=step + 1, session_log=start))
    try:
        yield write
    finally:
        with suppress(OSError):
            writer.close()
