# SPDX-License-Identifier: Apache-2.0
"""Signs that a training goes wrong: from numbers to what is told, with cause and repair.

Each function looks at one sign and returns what is to be said, or None. Each is said once a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

GROWTH = 1.5
"""Last quarter of an epoch's losses over its first: beyond it the loss grows."""
FIRST_EPOCHS = 3
"""Epochs in which it is looked at: later a loss moves for better reasons."""
WAITING = 0.2
"""Share of an epoch's time that may pass without data."""
WORTH = 10.0
"""Seconds of waiting in an epoch below which a repair is not worth its line."""
BEHIND = 0.02
"""mAP by which averaged weights may end below the raw ones."""
SETTLED = 100
"""Updates below which nobody knows yet which weights are better."""
FEW = 5
"""Images of a class below which it is hardly learned."""
SMALL_LIST = 50
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Numbers of an epoch that has just ended."""

    number: int
    """1, 2, ..."""
    peak_rate: float
    losses: Sequence[float]
    """Of its steps; only those since the resume, if it began before."""
    data_share: float
    """Share of its time spent waiting for data."""
    waited: float
    """Seconds of that."""
    died: bool = False
    """Whether it was evaluated and all scores were equal."""


@dataclass(frozen=True)
class Diagnostics:
    """Says what the functions below find, each of them once."""

    loader_repairs: Sequence[str] = ()
    """What would bring data faster, best first."""
    _told: set[str] = field(default_factory=set, repr=False)

    def after_epoch(self, epoch: Epoch) -> None:
        """Look at an epoch that has just ended."""
        self._say("dead", dead(epoch.died, epoch.peak_rate))
        self._say("growth", growing(epoch.number, epoch.losses, epoch.peak_rate))
        self._say("loader", starving(epoch.data_share, epoch.waited, self.loader_repairs))

    def at_end(self, history: Sequence[Mapping[str, Any]], decay: float, updates: int) -> None:
        """Look at the last row that has scores, if there is one."""
        scored = [row for row in history if row["raw_map"] is not None]
        row = scored[-1] if scored else {}
        self._say("average", lagging(row.get("raw_map"), row.get("ema_map"), decay, updates))

    def _say(self, name: str, text: str | None) -> None:
        if text is not None and name not in self._told:
            self._told.add(name)
            logger.warning(text)


def dead(died: bool, peak_rate: float) -> str | None:
    """Scores that are equal for all images."""
    if not died:
        return None
    return (
        "the scores no longer differ between images: the model has died. The likely cause is a "
        f"learning rate that is too large; try -o Train.learning_rate={peak_rate / 10:.0e}"
    )


def growing(number: int, losses: Sequence[float], peak_rate: float) -> str | None:
    """A loss that grows within one of the first epochs."""
    quarter = len(losses) // 4
    if number > FIRST_EPOCHS or quarter < 2:
        return None
    first, last = fmean(losses[:quarter]), fmean(losses[-quarter:])
    if last <= GROWTH * first:
        return None
    return (
        f"the loss grew within epoch {number}, from {first:.2f} in its first quarter to "
        f"{last:.2f} in its last one. The likely cause is a learning rate that is too large; try "
        f"-o Train.learning_rate={peak_rate / 3:.0e}, or a longer -o Train.warmup_steps=..."
    )


def starving(share: float, seconds: float, repairs: Sequence[str]) -> str | None:
    """Steps that wait for their data."""
    if share <= WAITING or seconds < WORTH:
        return None
    return (
        f"{share:.0%} of the epoch's time ({seconds:.0f} s) went by waiting for data: images are "
        "read and augmented more slowly than the model learns. "
        + (
            "Try " + ", or ".join(repairs)
            if repairs
            else "What helps is on already, but for more cores"
        )
    )


def loader_repairs(cache: str, workers: int, cores: int, *, reduced_decode: bool) -> list[str]:
    """What is not yet done about a slow loader, best first; `workers` and `cores` of a process."""
    repairs = []
    if workers < cores:
        repairs.append(f"-o Train.num_workers={cores}")
    if cache == "none":
        repairs.append("-o Train.cache=ram (or disk)")
    if not reduced_decode:
        repairs.append("-o Train.reduced_decode=true")
    return repairs


def averaging_window(decay: float, updates: int) -> float:
    """Updates that the averaged weights are a mean of, at the end of `updates` of them.

    That is 1 / (1 - decay). The decay is warmed up (`training.ema`), so that the window never
    exceeds (10 + updates) / 9: the averaged weights cannot be older than the run.
    """
    return min(1 / (1 - decay), (10 + updates) / 9)


def lagging(raw: float | None, ema: float | None, decay: float, updates: int) -> str | None:
    """Averaged weights that end far below the raw ones: the model learns faster than they."""
    if raw is None or ema is None or raw - ema <= BEHIND or updates < SETTLED:
        return None
    window = averaging_window(decay, updates)
    fitting = max(0.0, 1 - 4 / window)
    return (
        f"the averaged weights ended at mAP {ema:.4f}, the raw ones at {raw:.4f}: an average over "
        f"the last {window:.0f} of {updates} updates is slower than this training; "
        + (
            f"-o Train.ema_decay={fitting:.3g} averages over a quarter of them"
            if fitting
            else "-o Train.ema_decay=0 switches it off"
        )
    )


def of_lists(names: Sequence[str], train: np.ndarray, val: np.ndarray) -> list[str]:
    """What the lists of a data set cannot teach or measure; targets [N, C], 0 or 1."""
    in_train, in_val = train.sum(axis=0), val.sum(axis=0)
    found = [
        unseen(names, in_train),
        rare(names, in_train),
        unmeasured(names, in_val),
        jumping(names, len(val), in_val),
    ]
    return [text for text in found if text is not None]


def unseen(names: Sequence[str], counts: np.ndarray) -> str | None:
    """Classes without an image to learn from."""
    return _about(
        [name for name, count in zip(names, counts, strict=True) if count == 0],
        "no image in train.txt",
        "the model never names what it has not seen; add images, or shorten label.txt",
    )


def rare(names: Sequence[str], counts: np.ndarray) -> str | None:
    """Classes with so few images that they are learned by heart, if at all."""
    return _about(
        [f"{name} ({n})" for name, n in zip(names, counts, strict=True) if 0 < n < FEW],
        f"fewer than {FEW} images in train.txt",
        "hardly enough to learn from; add images, or show these more often with "
        "-o Train.sampler=repeat_factor",
    )


def unmeasured(names: Sequence[str], counts: np.ndarray) -> str | None:
    """Classes without an image to be judged by."""
    return _about(
        [name for name, count in zip(names, counts, strict=True) if count == 0],
        "no image in val.txt",
        "mAP leaves out what has no average precision; move images to val.txt, or "
        "divide all of them anew: mode check_dataset with -o CheckDataset.split.enable=true",
    )


def jumping(names: Sequence[str], images: int, counts: np.ndarray) -> str | None:
    """A validation list on which the score moves by chance."""
    single = [name for name, count in zip(names, counts, strict=True) if count == 1]
    reasons = [f"it has {images} images"] if images < SMALL_LIST else []
    if single:
        reasons.append(f"one image alone judges {_listed(single)}")
    if not reasons:
        return None
    return (
        f"mAP on val.txt will jump by chance, for {' and '.join(reasons)}: do not read much into "
        "small differences, or move images to val.txt"
    )


def _about(names: Sequence[str], have: str, meaning: str) -> str | None:
    if not names:
        return None
    count = "1 class has" if len(names) == 1 else f"{len(names)} classes have"
    return f"{count} {have} ({_listed(names)}): {meaning}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
