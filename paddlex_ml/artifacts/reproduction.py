# SPDX-License-Identifier: Apache-2.0
"""reproduction.json: whether a run could be had again. It lies in the folder of the second run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from paddlex_ml.artifacts.train_result import WeightsKind
from paddlex_ml.storage import regular_file
from paddlex_ml.storage.files import write_json

FORMAT_VERSION = 1

Outcome: TypeAlias = Literal["begun", "reproduced", "different", "different_conditions"]
"""Still training, or ended before its time; equal bit for bit; other numbers under the conditions
of the first run; other numbers, and some of the conditions differ or are not known."""


class ChangedCondition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was when the run was trained."""

    name: str
    before: str
    now: str
    decides: bool
    """Whether it can change a number."""
    meaning: str
    """What follows from it, or what to do."""


class ComparedEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one epoch in both runs: column of metrics.csv -> number."""

    epoch: int
    is_same: bool
    before: dict[str, float | None]
    now: dict[str, float | None]


class ComparedWeights(msgspec.Struct, frozen=True, kw_only=True):
    """A file of weights in both runs."""

    name: str
    """Relative to the folder of the run."""
    entries: int
    """Arrays in it."""
    differing: int
    """Arrays that are not the same, bit for bit."""
    largest: float | None
    """Difference of two numbers; None: arrays are missing, or of other shapes."""
    problem: str = ""
    """Why the files were not compared; "": they were."""


class BestScore(msgspec.Struct, frozen=True, kw_only=True):
    """The best model of a run."""

    map: float
    epoch: int
    weights: WeightsKind
    interval: tuple[float, float] | None
    """95 % interval of the mAP; None: undefined."""


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """The content of reproduction.json."""

    format_version: int = FORMAT_VERSION
    outcome: Outcome
    run: str
    """The folder of the first run."""
    run_id: str
    """"" where its run.json cannot be read."""
    changed: list[ChangedCondition]
    unknown: list[str]
    """Conditions that the first run has not recorded."""
    before: BestScore
    now: BestScore | None = None
    """None: the training has not come to its end."""
    epochs_before: int
    epochs_now: int = 0
    epochs: list[ComparedEpoch] = []
    """Those that both runs have."""
    weights: list[ComparedWeights] = []
    verdict: str = ""
    """One sentence."""


def read(path: Path) -> Reproduction:
    """Raises OSError where it cannot be read, and ValueError where it holds another thing."""
    content = regular_file.read(path, regular_file.LARGEST_RESULT)
    return regular_file.decode_json(content, Reproduction)


def write(path: Path, content: Reproduction) -> None:
    """Raises OSError as the system does."""
    write_json(path, msgspec.to_builtins(content))
