# SPDX-License-Identifier: Apache-2.0
"""Log lines of an evaluation: the most important numbers of its result."""

from __future__ import annotations

import logging

from paddlex_ml.artifacts.evaluate_result import Comparison, LabelErrorResult, TunedResult
from paddlex_ml.artifacts.export_report import ExportReport
from paddlex_ml.artifacts.run_folder import EXPORT_REPORT
from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.measures import ClassMeasures, Interval, Summary
from paddlex_ml.wording import count, first_names

logger = logging.getLogger(__name__)
_MOST, _ENDS = 200, 25  # classes: of more, so many of both ends
_WIDEST = 40  # characters of a name; a longer one does not move the numbers of the other lines


def log_classes(summary: Summary, *, rounds: int = 0) -> None:
    """A line for each class, the best first, and the means; of very many, both ends.

    rounds: of the bootstrap that was asked for.
    """
    rows, metrics = summary.per_class, summary.metrics
    _log_rows(rows, metrics.images)
    logger.info(
        "MultiLabelMAP(integral) %s%s (constant predictor %s)",
        _number(metrics.MultiLabelMAP),
        _interval(metrics.MultiLabelMAP_ci95),
        _number(metrics.constant_predictor),
    )
    if rounds * metrics.images * len(rows) > bootstrap.MOST:
        logger.info(
            "the intervals are computed from the influence of each image (infinitesimal jackknife):"
            " %d rounds of the bootstrap would take long",
            rounds,
        )
    if summary.unknown:
        logger.info(
            "%d of the %d labels of val.txt are unknown: no measure counts them",
            summary.unknown, metrics.images * len(rows),
        )  # fmt: skip
    if certain := [row.name for row in rows if row.positives and row.negatives == 0]:
        logger.warning(
            "no image is known to be without %s: an average precision of 1 says nothing there",
            first_names(certain),
        )
    if metrics.MultiLabelMAP is None:  # and so is nearly every other measure
        logger.warning("no image of val.txt has a label: there is nothing to measure")
        return
    if not metrics.better_than_guessing:
        logger.warning(
            "this model is not better than guessing: %s",
            "its mAP is no higher than that of the constant predictor"
            if metrics.MultiLabelMAP_ci95 is None
            else "the interval of its mAP holds that of the constant predictor",
        )
    for name, reason in metrics.undefined.items():
        if name == "precision" or hasattr(metrics, name):  # the lines of classes show the others
            logger.warning("%s is undefined: %s", name, reason)


def _log_rows(rows: list[ClassMeasures], images: int) -> None:
    width = min(_WIDEST, max(len(name) for name in ("class", *(row.name for row in rows))))
    ordered = sorted(rows, key=lambda row: -(row.average_precision or 0.0))
    logger.info("  %s  AP      F1 at the thresholds in use", "class".ljust(width))
    left_out = len(ordered) - 2 * _ENDS if len(ordered) > _MOST else 0
    for number, row in enumerate(ordered):
        if left_out and number == _ENDS:
            logger.info("  ... %s other classes: per_class.csv has all", f"{left_out:,}")
        if left_out and _ENDS <= number < len(ordered) - _ENDS:
            continue
        name = row.name.ljust(width)
        if row.average_precision is None:
            looked = row.positives or row.negatives or not images
            reason = "no positive image" if looked else "nobody has looked for it"
            logger.info("  %s  undefined (%s)", name, reason)
        else:
            logger.info("  %s  %.4f  %s", name, row.average_precision, _number(row.f1))


def log_thresholds(tuned: TunedResult) -> None:
    """What the thresholds in use and the tuned ones reach."""
    for measure in ("macro_f1", "CP", "CR") if tuned.method != "f1" else ("macro_f1",):
        logger.info(
            "%s: %s with the thresholds in use, %s with tuned ones on the same images, "
            "%s on images that they were not tuned on",
            measure,
            *(_number(getattr(q, measure)) for q in (tuned.before, tuned.tuned, tuned.held_out)),
        )
    if not tuned.is_better:
        logger.info(
            "no other thresholds are better than those in use on these images: these stay, and %s",
            "the exports that have others get them" if tuned.saved else "nothing is saved",
        )
    elif tuned.saved and (tuned.gain or 0.0) < 0:
        logger.warning(
            "the tuned thresholds are better on the images that they were tuned on, and worse on "
            "images that they were not tuned on: they are saved as asked, but more images in "
            "val.txt are needed to trust them"
        )
    elif not tuned.saved and tuned.is_worth_saving:
        logger.info("-o Evaluate.save_threshold=true writes the tuned ones into the exported model")
    if tuned.unreached:
        logger.warning(
            "no threshold reaches a %s of %g for %s",
            tuned.method, tuned.target, first_names(tuned.unreached),
        )  # fmt: skip


def log_comparison(compared: Comparison) -> None:
    """The difference in mAP, where both have one, with its interval."""
    for row in compared.metrics:
        if row.name == "MultiLabelMAP":
            interval = _interval(compared.MultiLabelMAP_difference_ci95, "+")
            logger.info("mAP %+.4f%s against %s", row.difference, interval, compared.other)
    if not compared.same_images:
        logger.warning("%s was measured on other images or labels", compared.other)


def log_precision(report: ExportReport) -> None:
    """What the export that is evaluated has cost."""
    logger.info(
        "an export in %s: %.1f MB in place of %.1f; when it was made, %.2f %% of the decisions on "
        "%d images of val.txt were other ones than in fp32 (%s)",
        *(report.precision, report.bytes / 1e6, report.bytes_fp32 / 1e6),
        *(100 * report.changed_decisions, report.images, EXPORT_REPORT),
    )


def log_label_errors(doubtful: LabelErrorResult) -> None:
    """How many labels look wrong or missing."""
    for name, counts in doubtful.lists.items():
        if not counts.is_able:
            logger.warning(
                "%s: this model is too weak to find wrong labels: that it doubts none says nothing "
                "about them",
                name,
            )
            continue
        likely = ""
        if counts.likely_true is not None:
            likely = f": about {counts.likely_true:.0%} of them are probably errors"
        found = f"{counts.suspected:,}" if counts.suspected else "none found"
        logger.info(
            "labels to check in %s: %s (%d perhaps missing, %d perhaps wrong; %s searched)%s",
            name, found, counts.missing, counts.wrong, count(counts.images, "image"), likely,
        )  # fmt: skip


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _interval(bounds: Interval | None, sign: str = "") -> str:
    if bounds is None:
        return ""
    return f" (95 % interval {bounds[0]:{sign}.4f} to {bounds[1]:{sign}.4f})"
