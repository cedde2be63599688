# SPDX-License-Identifier: Apache-2.0
"""run.json: which training an output folder belongs to, and what it was started with.

The id and the digests stand in every checkpoint, every export and every result of the model too
(`RunIdentity`), so that files of two runs are never taken for those of one.
"""

from __future__ import annotations

import hashlib
import platform
import socket
import sys
import uuid
from datetime import datetime
from importlib import metadata
from pathlib import Path

import msgspec

from paddlex_ml.storage.files import write_json

FORMAT_VERSION = 1
_PACKAGES = ("paddlex-ml", "paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "numba")


class RunIdentity(msgspec.Struct, frozen=True):
    """Which training made a model, on which lists and with which configuration."""

    id: str
    digests: dict[str, str]
    """File -> SHA-256 of its content: label.txt, train.txt, val.txt and config.yaml."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a training."""

    start: str
    """Time, as ISO 8601 writes it."""
    command: list[str]
    host: str
    versions: dict[str, str]
    resumed_from: str | None
    """Path of the checkpoint; None: a new run."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of run.json; `command` and the like are those of the last start."""

    id: str
    digests: dict[str, str]
    start: str
    command: list[str]
    host: str
    versions: dict[str, str]
    resumed_from: str | None
    replaces: str | None
    """Folder of the run that this one overwrites; None as soon as that is removed."""
    earlier_starts: list[Start]
    format_version: int = FORMAT_VERSION

    @property
    def identity(self) -> RunIdentity:
        """What checkpoints and results hold of it."""
        return RunIdentity(self.id, self.digests)


def begin(
    digests: dict[str, str],
    *,
    continued: RunRecord | None = None,
    resumed_from: Path | None = None,
    replaces: Path | None = None,
) -> RunRecord:
    """The record of a training that starts now, on this machine.

    continued: the record of the same run, which keeps its id; None gives the run a new one.
    """
    earlier = []
    if continued is not None:
        names = Start.__struct_fields__
        last = Start(**{name: getattr(continued, name) for name in names})
        earlier = [*continued.earlier_starts, last]
    return RunRecord(
        id=uuid.uuid4().hex if continued is None else continued.id,
        digests=digests,
        start=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=list(sys.orig_argv),
        host=socket.gethostname(),
        versions=_find_versions(),
        resumed_from=None if resumed_from is None else str(resumed_from),
        replaces=None if replaces is None else str(replaces),
        earlier_starts=earlier,
    )


def read(path: Path) -> RunRecord | None:
    """The record in a run.json; None where there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunRecord)
    except (OSError, msgspec.DecodeError):
        return None


def write(path: Path, record: RunRecord) -> None:
    """Write run.json. Raises OSError as the system does."""
    write_json(path, msgspec.to_builtins(record))


def digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _find_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
