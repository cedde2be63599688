# SPDX-License-Identifier: Apache-2.0
"""What a tracker gets of a training, and what each of them must be able to do.

A tracker is a service that keeps the numbers and files of many trainings, so that a team can
compare them. Each has a module of its own beside this one, with a function `begin(run) -> Tracker`
and `ENVIRONMENT`, variables that are set before its package is imported, unless they are set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

from paddlex_ml import program
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import CUT, one_line, without_secrets

PACKAGES = {
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "wandb": "wandb",
    "tensorboard": "tensorboardX",
}
"""Tracker -> the package that it needs. Our own extra has the name of the tracker."""

Outcome: TypeAlias = Literal["finished", "stopped", "failed"]
"""How a training ended: as planned, by a signal, by an error."""

_SECRET = re.compile(r"KEY|TOKEN|PASSW|SECRET|CREDENTIAL|USERNAME")


class Point(NamedTuple):
    """Numbers that were measured at one step."""

    step: int
    """Updates so far, over all epochs."""
    numbers: Mapping[str, float]
    time: float
    """Seconds since 1970."""


class Upload(NamedTuple):
    """Files that belong together."""

    name: str
    files: Mapping[str, Path]
    """Path within the upload, with `/` -> the file."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A training as trackers know it. Nothing in it is secret."""

    id: str
    """That of run.json, in letters and digits alone. A resumed training has the same one."""
    experiment: str
    """The name of what it is compared with: trackers say experiment, project or group."""
    name: str
    output: Path
    step: int
    """Updates that it has made before it begins."""
    parameters: Mapping[str, str]
    """Key of the configuration -> value."""
    tags: Mapping[str, str]
    """Further facts about the training, such as the digests of its lists."""
    ended: Outcome | None = None
    """How it has ended before; what is sent now, such as an evaluation, leaves that state."""


class Tracker(Protocol):
    """One training at one service. Every method may block, and may raise any exception."""

    known_steps: Container[int]
    """Steps at the ends of epochs whose numbers the service has, from earlier starts."""

    def log(self, points: Sequence[Point]) -> None:
        """Send numbers. After an exception all of them are sent again."""

    def upload(self, upload: Upload) -> None:
        """Send files. After an exception all of them are sent again."""

    def close(self, outcome: Outcome) -> None:
        """Send what is left, and say how the training ended."""


def require(names: Sequence[str]) -> None:
    """Raise PaddlexMLError unless the packages of these trackers are installed."""
    missing = [name for name in names if find_spec(PACKAGES[name]) is None]
    if missing:
        left = ", ".join(name for name in names if name not in missing)
        packages = " and ".join(PACKAGES[name] for name in missing)
        raise PaddlexMLError(
            f"to track a training, {packages} must be installed",
            where="Train.track",
            fix=program.pip_install(f"paddlex-ml[{','.join(missing)}]")
            + f", or -o Train.track=[{left}]",
        )


def load(name: str) -> Callable[[TrackedRun], Tracker]:
    """The function that begins a training at a tracker, its package imported.

    It is imported in the main thread before the first step: an import takes seconds, in which a
    step would wait. Raises PaddlexMLError where that fails.
    """
    try:
        adapter = import_module(f"{__package__}.{name}")
        for variable, value in adapter.ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        import_module(PACKAGES[name])
        begin: Callable[[TrackedRun], Tracker] = adapter.begin
        return begin
    except Exception as error:  # versions of packages that do not fit raise whatever they like
        raise PaddlexMLError(
            f"the package {PACKAGES[name]} cannot be imported: {describe(error)}",
            where="Train.track",
            fix=program.pip_install("--upgrade", f"paddlex-ml[{name}]")
            + f", or leave {name} out of Train.track",
        ) from error


def plain_name(text: str) -> str:
    """A name that every service takes: letters and digits of ASCII, and . _ -"""
    return re.sub(r"[^0-9A-Za-z._-]+", "_", text)[:100].strip("_") or "paddlex_ml"


def describe(error: BaseException) -> str:
    """An error of a tracker in one line, without the secrets of its URLs and of the environment."""
    text = one_line(str(error)) or type(error).__name__
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= 4:
            text = text.replace(value, CUT)
    text = without_secrets(text)
    return f"{text[:300]}..." if len(text) > 300 else text
