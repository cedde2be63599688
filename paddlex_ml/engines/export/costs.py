# SPDX-License-Identifier: Apache-2.0
"""What a lower precision costs on the images of val.txt, and whether that keeps to the budgets."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paddlex_ml.artifacts.export_report import (
    AloneReport,
    ClassChange,
    ExportReport,
    LayerReport,
    TrialReport,
)
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.int8 import Layer
from paddlex_ml.export.layer_search import Trial
from paddlex_ml.metrics import bootstrap, score_changes, threshold_search
from paddlex_ml.metrics.average_precision import mean_average_precision
from paddlex_ml.metrics.decisions import decide
from paddlex_ml.metrics.score_changes import ScoreChanges
from paddlex_ml.metrics.threshold_search import Goal, TunedThresholds
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.wording import first_names

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """A graph in lower precision on the images of val.txt."""

    scores: np.ndarray
    changes: ScoreChanges
    map: float
    map_loss: float
    """How much lower the mAP is than in float32; negative where it is higher."""
    size: int
    """Bytes of the file."""
    is_finite: bool
    """Whether all scores are numbers; those that are not count as 0."""


class Costs:
    """Compares graphs with the float32 one, whose scores and targets [N, C] it keeps."""

    def __init__(
        self,
        config: Config,
        label_names: Sequence[str],
        thresholds: np.ndarray,
        scores: np.ndarray,
        targets: np.ndarray,
    ) -> None:
        """thresholds: [C], at which both precisions decide."""
        self._config, self._names, self._thresholds = config, label_names, thresholds
        self._scores, self._targets = scores, targets
        self._map = mean_average_precision(scores, targets, noise=NOISE)

    def measure(self, scores: np.ndarray, size: int) -> Measured:
        """Compare the scores [N, C] of a graph whose file has `size` bytes."""
        is_finite = bool(np.isfinite(scores).all())
        scores = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)
        changes = score_changes.compare(self._scores, scores, self._thresholds)
        found = mean_average_precision(scores, self._targets, noise=NOISE)
        return Measured(scores, changes, found, self._map - found, size, is_finite)

    def holds(self, measured: Measured) -> bool:
        """Whether it keeps to both budgets."""
        wanted = self._config.Export
        is_near = measured.changes.share <= wanted.max_changed_decisions
        return measured.is_finite and is_near and measured.map_loss <= wanted.max_map_loss

    def tell(self, trial: Trial[Measured]) -> None:
        """Log what a trial gave."""
        found = trial.measured
        levels = ""
        if self._config.Export.precision == "int8":
            levels = f"{trial.count('int8')} of {len(trial.plan)} layers in 8 bits: "
        logger.info(
            "%s%s of the decisions changed, mAP %.4f -> %.4f, %.1f MB%s",
            *(levels, f"{found.changes.share:.2%}", self._map, found.map, found.size / 1e6),
            "" if self.holds(found) else " (over the budget)",
        )

    def refuse(self, trials: Sequence[Trial[Measured]]) -> PaddlexMLError:
        """Log what was tried; returns the error of an export that keeps to no budget."""
        wanted = self._config.Export
        for row in _tabulate(trials):
            logger.info("%s", row)
        if not any(each.measured.is_finite for each in trials):
            return PaddlexMLError(
                f"in {wanted.precision} the model gives scores that are no numbers: results of its "
                "layers are beyond this precision; nothing was exported",
                where=f"Export.precision={wanted.precision}",
                fix=override("Export.precision", "fp32"),
            )
        finite = [each for each in trials if each.measured.is_finite]
        best = min(finite, key=lambda each: (each.measured.changes.share, each.measured.map_loss))
        share, loss = best.measured.changes.share, best.measured.map_loss
        fixes: list[str] = []
        if share > wanted.max_changed_decisions:
            budget = math.ceil(share * 1000) / 1000
            fixes.append(override("Export.max_changed_decisions", budget))
        if loss > wanted.max_map_loss:
            fixes.append(override("Export.max_map_loss", math.ceil(loss * 1000) / 1000))
        return PaddlexMLError(
            f"no {wanted.precision} export keeps to the budgets "
            f"({wanted.max_changed_decisions:.2%} changed decisions, {wanted.max_map_loss:g} mAP); "
            "nothing was exported",
            where=f"Export.precision={wanted.precision}",
            fix=f"{' '.join(fixes)}, or {override('Export.precision', 'fp32')}",
        )

    def check_alone(self, alone: np.ndarray, chosen: Measured) -> AloneReport:
        """Compare scores [n, C] of the first n images, one at a time, with those of a batch.

        Raises PaddlexMLError where more decisions change than may.
        """
        wanted, in_batch = self._config.Export, chosen.scores[: len(alone)]
        found = score_changes.compare(in_batch, np.nan_to_num(alone), self._thresholds)
        if found.share > wanted.max_changed_decisions:
            raise PaddlexMLError(
                f"the {wanted.precision} export gives an image alone other scores than in a batch, "
                f"by up to {found.largest:.3f}: {found.share:.2%} of the decisions on {len(alone)} "
                f"images are other ones; nothing was exported",
                where=f"Export.precision={wanted.precision}",
                fix=f"{override('Export.batch_size', 8)}, which fills up smaller batches, or "
                f"{override('Export.precision', 'fp32')}",
            )
        return AloneReport(
            images=len(alone), largest_difference=found.largest, changed_decisions=found.share
        )

    def report(
        self,
        trials: Sequence[Trial[Measured]],
        chosen: Trial[Measured],
        layers: Sequence[Layer],
        effects: Mapping[str, float],
        *,
        size: int,
        batch_size: int,
        alone: AloneReport | None,
        val_digest: str,
        calibration_images: int,
    ) -> ExportReport:
        """The report; size: bytes of the float32 file, batch_size: images scored at a time."""
        wanted, found = self._config.Export, chosen.measured
        left = [each for each in layers if chosen.plan[each.name] in ("weights", "float")]
        left.sort(key=lambda layer: effects[layer.name], reverse=True)
        return ExportReport(
            precision=wanted.precision,
            images=len(self._scores),
            batch_size=batch_size,
            alone=alone,
            val_digest=val_digest,
            calibration_images=calibration_images,
            bytes=found.size,
            bytes_fp32=size,
            map=found.map,
            map_fp32=self._map,
            map_difference_ci95=self._interval(found.scores),
            mean_movement=found.changes.mean,
            largest_movement=found.changes.largest,
            changed_decisions=found.changes.share,
            max_changed_decisions=wanted.max_changed_decisions,
            max_map_loss=wanted.max_map_loss,
            layers=len(layers),
            left=[
                LayerReport(
                    name=each.name,
                    kind=each.kind,
                    shape=list(each.shape),
                    level=chosen.plan[each.name],
                    effect=effects[each.name],
                )
                for each in left
            ],
            per_class=self._list_classes(found),
            trials=[_summarise(each) for each in trials],
        )

    def choose_thresholds(self, scores: np.ndarray) -> tuple[np.ndarray, float]:
        """The thresholds [C] that the export gets, and the one for all classes.

        The best ones for these scores, if decisions at them keep to the budget too; else those in
        use, for which it was measured.
        """
        tuned = self.tune(scores)
        if tuned is not None:
            before = decide(self._scores, self._thresholds)
            share = float((decide(scores, tuned.thresholds) != before).mean())
            if share <= self._config.Export.max_changed_decisions:
                return tuned.thresholds, tuned.shared
            logger.info(
                "the best thresholds of this precision would change %.2f %% of the decisions: it "
                "keeps those of fp32; the best ones are in the report",
                100 * share,
            )
        return self._thresholds, float(np.mean(self._thresholds))

    def tell_result(self, report: ExportReport) -> None:
        """Log what was chosen."""
        interval = report.map_difference_ci95
        reach = ""
        if interval is not None:
            reach = f", 95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
        logger.info(
            "%s: %.1f MB in place of %.1f; on %d images of val.txt mAP %.4f in place of %.4f "
            "(%+.4f%s), %.2f %% of the decisions are other ones, scores move by %.3f at most",
            *(report.precision, report.bytes / 1e6, report.bytes_fp32 / 1e6, report.images),
            *(report.map, report.map_fp32, report.map - report.map_fp32, reach),
            *(100 * report.changed_decisions, report.largest_movement),
        )
        for level, what in (("float", "in float32"), ("weights", "in 8 bits only as weights")):
            if names := [each.name for each in report.left if each.level == level]:
                shown = first_names(names)
                logger.info("%d of %d layers are %s: %s", len(names), report.layers, what, shown)

    def _interval(self, scores: np.ndarray) -> tuple[float, float] | None:
        rounds = self._config.Evaluate.bootstrap
        if not rounds:
            return None
        low, high = bootstrap.difference(
            scores,
            self._scores,
            self._targets,
            rounds=rounds,
            seed=self._config.Global.seed,
            noise=NOISE,
        )
        return None if math.isnan(low) else (low, high)

    def _list_classes(self, found: Measured) -> list[ClassChange]:
        tuned = self.tune(found.scores)
        return [
            ClassChange(
                name=name,
                changed=int(changed),
                threshold=float(threshold),
                tuned_threshold=None if tuned is None else float(tuned.thresholds[number]),
            )
            for number, (name, changed, threshold) in enumerate(
                zip(self._names, found.changes.changed, self._thresholds, strict=True)
            )
        ]

    def tune(self, scores: np.ndarray) -> TunedThresholds | None:
        """The best thresholds for these scores, as in mode evaluate; None: none are asked for."""
        wanted = self._config.Evaluate
        if wanted.tune_threshold is None:
            return None
        target = None if wanted.tune_threshold == "f1" else wanted.tune_target
        goal = Goal(wanted.tune_threshold, target, wanted.tune_min_positives)
        return threshold_search.tune(scores, self._targets, goal, self._thresholds)


def _summarise(trial: Trial[Measured]) -> TrialReport:
    return TrialReport(
        int8=trial.count("int8"),
        weights=trial.count("weights"),
        fp32=trial.count("float"),
        changed_decisions=trial.measured.changes.share,
        map_loss=trial.measured.map_loss,
        bytes=trial.measured.size,
    )


def _tabulate(trials: Sequence[Trial[Measured]]) -> list[str]:
    """What was tried, as rows of text below their names."""
    head = f"{'8 bits':>8} {'weights':>8} {'float32':>8} {'changed':>9} {'mAP loss':>9} {'MB':>7}"
    return [
        head,
        *(
            f"{each.count('int8'):8} {each.count('weights'):8} {each.count('float'):8} "
            f"{each.measured.changes.share:9.2%} {each.measured.map_loss:9.4f} "
            f"{each.measured.size / 1e6:7.1f}"
            for each in trials
        ),
    ]
