# SPDX-License-Identifier: Apache-2.0
"""The table of many runs: which is the best, and which differences hold.

The terminal, leaderboard.csv and leaderboard.html read this object. Runs are ranked where they were
scored on the same list of images, and nowhere else.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from paddlex_ml.artifacts.train_result import WeightsKind

CSV, PAGE = "leaderboard.csv", "leaderboard.html"

Verdict: TypeAlias = Literal["best", "equal", "worse", "unknown"]
"""Against the best one: itself, no difference beyond chance, a difference that holds, or the scores
of one of the two are not there."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run or a configuration stands against the best one of the same list."""

    rank: int
    """1 is the highest mAP."""
    verdict: Verdict
    difference: float
    """mAP minus that of the best one: 0 or below."""
    p_value: float | None = None
    """Corrected for all pairs of the table; None: not known."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long the recommended export of a run takes for an image, as its benchmark says."""

    seconds: float
    """Median, of the network alone."""
    export: str
    """Format and run mode."""
    machine: str
    """Device, processor and threads: others are not comparable."""


class RankedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run."""

    name: str
    """Its folder, relative to the folder that was searched."""
    path: str
    options: dict[str, str]
    """The options that differ between the runs, as config.yaml has them."""
    seed: str
    fold: str
    """As "2 of 5"; "" for a run on a list of its own."""
    map: float
    interval: tuple[float, float] | None
    weights: WeightsKind
    epoch: int
    """Of the best model."""
    epochs: int
    seconds: float
    memory_mib: float
    model_bytes: int | None
    """Of the best weights; None: the file is not there."""
    latency: Latency | None = None
    """None: the best model has not been benchmarked."""
    history: list[tuple[int, float]]
    """mAP of each evaluated epoch, the better one of both weights."""
    per_class: list[float | None]
    """Average precision of each class; empty where the scores are not there."""
    standing: Standing
    evaluate: str = ""
    """The command that makes the scores which are not there; "": they are."""


class RankedList(msgspec.Struct, frozen=True, kw_only=True):
    """The runs that were scored on one list, the best first."""

    digest: str
    """Of val.txt."""
    images: int | None
    label_names: list[str]
    """Empty where no run has kept its scores."""
    runs: list[RankedRun]
    rounds: int
    """Of the bootstrap behind the verdicts; 0: by the influence of each image."""


class RankedConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that differ by their seed or fold alone."""

    options: dict[str, str]
    runs: list[str]
    """Their names."""
    seeds: int
    folds: int
    mean: float
    deviation: float | None
    """Standard deviation of the mAP of the runs; None for one run."""
    standing: Standing


class RankedConfigurations(msgspec.Struct, frozen=True, kw_only=True):
    """Configurations whose runs were scored on the same lists, the best mean first."""

    digests: list[str]
    configurations: list[RankedConfiguration]


class OtherRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run without a result."""

    name: str
    path: str
    problem: str
    """Why: it failed with this text, or did not come to its end."""


class Leaderboard(msgspec.Struct, frozen=True, kw_only=True):
    """All runs that were found."""

    lists: list[RankedList]
    configurations: list[RankedConfigurations]
    others: list[OtherRun]
    options: list[str]
    """Keys of the options that differ."""
