# SPDX-License-Identifier: Apache-2.0
"""What was measured in a few steps -> what the whole training takes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paddlex_ml.artifacts.plan_result import Cost
from paddlex_ml.engines.plan.trial import Times, TrialFindings


class Estimate(NamedTuple):
    """Times and bytes of a training."""

    step: Cost
    epoch: Cost
    validation: Cost
    checkpoint: Cost
    export: Cost
    start: Cost
    run: Cost
    disk_bytes: int


def estimate(report: TrialFindings) -> Estimate:
    """The costs of the training of a complete trial.

    Epochs that differ, as the first one with a cache, count as what they are. A checkpoint is
    written after every epoch, and the best model after every validation: fewer are, where the
    score does not rise.
    """
    facts, kinds, rest = report.facts, report.kinds, report.completion
    assert rest is not None  # a complete trial
    epochs = sum(kind.epochs for kind in kinds)
    step: Times = np.sum([kind.epochs * kind.step for kind in kinds], axis=0) / epochs
    validation = rest.begin_validation + facts.val_images * rest.per_image + rest.score
    run = report.start + epochs * facts.whole_steps * step + rest.first_validation
    run = run + facts.validations * (validation + rest.checkpoint)
    run = run + epochs * rest.checkpoint + rest.export + rest.end
    return Estimate(
        step=_cost(step),
        epoch=_cost(facts.whole_steps * step),
        validation=_cost(validation),
        checkpoint=_cost(rest.checkpoint),
        export=_cost(rest.export),
        start=_cost(report.start),
        run=_cost(run),
        disk_bytes=facts.kept_epochs * rest.checkpoint_bytes + rest.best_bytes + rest.export_bytes,
    )


def _cost(times: Times) -> Cost:
    seconds, processor = np.maximum(times, 0).tolist()
    return Cost(seconds=seconds, processor=processor)
