# SPDX-License-Identifier: Apache-2.0
"""run.json: which training an output folder belongs to, and what it was started with.

The id and the digests stand in every checkpoint, every export and every result of the model too
(`RunIdentity`), so that files of two runs are never taken for those of one.
"""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec

from paddlex_ml.artifacts.conditions import Conditions, Digest
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import regular_file, signature
from paddlex_ml.storage.files import write_json

FORMAT_VERSION = 1
_PACKAGES = (
    *("paddlex-ml", "paddlepaddle", "paddlepaddle-gpu", "numpy", "pillow", "numba", "llvmlite"),
    "opencv-python-headless",
)
"""Those that compute numbers or read images."""


Id: TypeAlias = Annotated[str, msgspec.Meta(max_length=200)]
PathText: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=4096, pattern=r"\A[^\0]*\Z")
]
"""A path as a text: only looked at, never joined to another."""


class RunIdentity(msgspec.Struct, frozen=True):
    """Which training made a model, on which lists and with which configuration."""

    id: Id
    digests: dict[str, Digest]
    """File -> SHA-256 of its content: label.txt, train.txt, val.txt and config.yaml."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """One start of a training."""

    start: str
    """Time, as ISO 8601 writes it."""
    command: list[str]
    host: str
    versions: dict[str, str]
    resumed_from: PathText | None
    """Path of the checkpoint; None: a new run."""
    conditions: Conditions | None = None
    """None: an older release has started it."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of run.json; `command` and the like are those of the last start."""

    id: Id
    digests: dict[str, Digest]
    start: str
    command: list[str]
    host: str
    versions: dict[str, str]
    resumed_from: PathText | None
    replaces: PathText | None
    """Folder of the run that this one overwrites; None as soon as that is removed."""
    earlier_starts: list[Start]
    conditions: Conditions | None = None
    """None: an older release has started it."""
    format_version: Annotated[int, msgspec.Meta(ge=0)] = FORMAT_VERSION
    signature: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Of `id` and `resumed_from`, by the user who started it; "" where there is nothing to sign."""

    @property
    def identity(self) -> RunIdentity:
        """What checkpoints and results hold of it."""
        return RunIdentity(self.id, self.digests)

    @property
    def starts(self) -> list[Start]:
        """All starts, the first one first."""
        names = Start.__struct_fields__
        return [*self.earlier_starts, Start(**{name: getattr(self, name) for name in names})]


def begin(
    digests: dict[str, str],
    *,
    continued: RunRecord | None = None,
    resumed_from: Path | None = None,
    replaces: Path | None = None,
    conditions: Conditions | None = None,
    command: Sequence[str] | None = None,
) -> RunRecord:
    """The record of a training that starts now, on this machine.

    continued: the record of the same run, which keeps its id; None gives the run a new one.
    command: None: that of this process. Its URLs are kept without passwords and tokens.
    """
    run_id = uuid.uuid4().hex if continued is None else continued.id
    origin, signed = None if resumed_from is None else str(resumed_from), ""
    if origin is not None:
        with suppress(OSError):  # no place for a secret: the start of a later command says so
            signed = signature.sign(_signed(run_id, origin))
    return RunRecord(
        id=run_id,
        digests=digests,
        start=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=[without_secrets(text) for text in command or sys.orig_argv],
        host=socket.gethostname(),
        versions=find_versions(),
        resumed_from=origin,
        replaces=None if replaces is None else str(replaces),
        earlier_starts=[] if continued is None else continued.starts,
        conditions=conditions,
        signature=signed,
    )


def is_own(record: RunRecord) -> bool:
    """Whether a start of this user wrote `resumed_from`: a stranger's would lead anywhere."""
    return signature.is_own(_signed(record.id, record.resumed_from), record.signature)


def _signed(run_id: str, origin: str | None) -> bytes:
    return msgspec.json.encode(["run.json", run_id, os.fsencode(origin or "").hex()])


def read(path: Path) -> RunRecord | None:
    """The record in a run.json; None where there is none that can be read."""
    try:
        content = regular_file.read(path, regular_file.LARGEST_RESULT)
        return msgspec.json.decode(content, type=RunRecord)
    except (OSError, ValueError, RecursionError):  # the second: errors of msgspec too
        return None


def write(path: Path, record: RunRecord) -> None:
    """Write run.json. Raises OSError as the system does."""
    write_json(path, msgspec.to_builtins(record))


def digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def find_versions() -> dict[str, str]:
    """Of Python, of this package, and of those that compute numbers or read images."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
