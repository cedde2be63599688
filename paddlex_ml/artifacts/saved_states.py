# SPDX-License-Identifier: Apache-2.0
"""The content of .pdstates, validated by type and range when it is read.

A checkpoint may come from a stranger. What is outside of these types is refused, so that no other
code meets a text where it expects a number; the only path that is built from a value of the file is
`epoch_<number>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np

from paddlex_ml.artifacts.run_folder import EMA, OPTIMIZER, WEIGHTS
from paddlex_ml.artifacts.train_result import Best, Count, EpochRow, Seconds, StartedFrom
from paddlex_ml.errors import PaddlexMLError

Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
Checksum: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


@dataclass
class Progress:
    """How far a training is; saved with every checkpoint, as plain values under these names."""

    epoch: Count = 0
    """Finished epochs."""
    step: Count = 0
    """Finished steps of the current epoch."""
    loss_sum: Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)] = 0.0
    """Sum of those steps' losses."""
    best: Best | None = None
    evaluations_since_best: Count = 0
    history: list[EpochRow] = field(default_factory=list)
    """One row for every finished epoch."""
    saved_epochs: list[Count] = field(default_factory=list)
    """Epochs that have a folder epoch_N."""
    seconds: Seconds = 0.0
    """Time of steps and evaluations so far, over all runs."""
    waited: Seconds = 0.0
    """Part of it in which steps waited for their data."""
    evaluation_seconds: Seconds = 0.0
    """How long the last evaluation took."""
    started_from: StartedFrom | msgspec.UnsetType = msgspec.UNSET
    """Weights of other classes that the training began with, if it did."""


@dataclass
class _SavedProgress(Progress):
    ema_updates: Count = 0

    def __post_init__(self) -> None:
        if any(not 1 <= epoch <= self.epoch for epoch in self.saved_epochs):
            raise ValueError(f"saved_epochs outside of 1 to {self.epoch}, the finished epochs")
        if len(set(self.saved_epochs)) < len(self.saved_epochs):
            raise ValueError("saved_epochs with an epoch twice")


class _States(msgspec.Struct):
    """The plain values of .pdstates but for ModelInfo."""

    progress: _SavedProgress
    settings: dict[str, Any]
    use_ema: bool
    format_version: Annotated[int, msgspec.Meta(ge=0)] = 0
    checksums: dict[str, tuple[Size, Checksum]] = {}


class _OptimizerState(msgspec.Struct):
    """The content of .pdopt: entry/moment -> array, of 16-bit trainings with a mapping below."""

    moments: dict[str, Any]
    scaler: dict[str, Any]
    estimates: dict[str, Any] = {}
    """The table of estimated labels (`training.role`), where there is one."""


def validate_states(states: Mapping[str, Any], path: Path) -> None:
    """Raise PaddlexMLError unless every field of a .pdstates has its type and its range."""
    try:
        read = msgspec.convert(dict(states), _States)
        if others := read.checksums.keys() - {WEIGHTS, EMA, OPTIMIZER}:  # paths are built from them
            raise msgspec.ValidationError(f"a checksum of {min(others)!r}")
        raw = states.get("raw_weights")
        if states["use_ema"] and not _are_arrays(raw):
            raise msgspec.ValidationError("raw_weights are no arrays")
    except ValueError as error:  # of msgspec, also for a text that is not Unicode
        raise _damaged(path, str(error)) from error


def validate_optimizer(state: Any, path: Path) -> None:
    """Raise PaddlexMLError unless a .pdopt holds what `Checkpoint.optimizer` describes."""
    try:
        msgspec.convert(state, _OptimizerState)
    except ValueError as error:  # of msgspec, also for a text that is not Unicode
        raise _damaged(path, str(error)) from error


def _are_arrays(value: Any) -> bool:
    with np.errstate(over="ignore"):  # what is infinite as the model holds it is refused
        return isinstance(value, dict) and all(
            isinstance(name, str)
            and isinstance(item, np.ndarray)
            and bool(np.isfinite(item.astype(np.float32, copy=False)).all())
            for name, item in value.items()
        )


def _damaged(path: Path, why: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"the checkpoint is damaged, or not of this tool: {why[:300]}",
        where=str(path),
        fix="resume from another checkpoint, or start a new run: -o Train.resume_path=null",
    )
