# SPDX-License-Identifier: Apache-2.0
"""The numbers of two runs, epoch by epoch, and their weights, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlex_ml.artifacts import weights
from paddlex_ml.artifacts.reproduction import ComparedEpoch, ComparedWeights
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.train_result import EpochRow
from paddlex_ml.errors import PaddlexMLError

COLUMNS = ("step", "lr", "loss", "raw_map", "ema_map")
"""The columns of metrics.csv that no clock tells."""


def compare_epochs(before: Sequence[EpochRow], now: Sequence[EpochRow]) -> list[ComparedEpoch]:
    """The epochs that both have."""
    compared = []
    for first, second in zip(before, now, strict=False):
        values = [{name: getattr(row, name) for name in COLUMNS} for row in (first, second)]
        compared.append(
            ComparedEpoch(
                epoch=first.epoch,
                is_same=first.epoch == second.epoch and values[0] == values[1],
                before=values[0],
                now=values[1],
            )
        )
    return compared


def compare_weights(before: RunFolder, now: RunFolder) -> list[ComparedWeights]:
    """The best weights of two runs, and the last ones, raw and averaged.

    What cannot be read is told, and not raised: a run may have been cleared up.
    """
    compared = []
    for first, second in (
        (before.best_model.weights, now.best_model.weights),
        (before.latest.weights, now.latest.weights),
        (before.latest.ema, now.latest.ema),
    ):
        name, problem = first.relative_to(before.output).as_posix(), ""
        entries, differing, largest = 0, 0, None
        try:
            theirs, ours = weights.read(first), weights.read(second)
            entries, (differing, largest) = len(theirs), _count(theirs, ours)
        except PaddlexMLError as error:
            problem = f"{error.where}: {error.what}"
        except OSError as error:
            problem = f"{error.filename or first}: {error.strerror or error}"
        compared.append(
            ComparedWeights(
                name=name, entries=entries, differing=differing, largest=largest, problem=problem
            )
        )
    return compared


def _count(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> tuple[int, float | None]:
    """Arrays that differ, and the largest difference; None where that cannot be computed."""
    names = {*before, *now}
    differing, largest = 0, 0.0
    are_alike = True
    for name in names:
        first, second = before.get(name), now.get(name)
        if first is None or second is None or first.shape != second.shape:
            differing, are_alike = differing + 1, False
        elif first.dtype != second.dtype or first.tobytes() != second.tobytes():
            differing += 1
            if first.size:
                apart = np.abs(first.astype(np.float64) - second.astype(np.float64)).max()
                largest = max(largest, float(apart))
    return differing, largest if are_alike else None
