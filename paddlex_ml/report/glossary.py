# SPDX-License-Identifier: Apache-2.0
"""The title of each metric on the page, and its meaning in one line."""

from __future__ import annotations

from collections.abc import Iterable

_TOP_3 = "as above, but every image gets its three highest labels; needs no threshold"
_LOWER = "; lower is better"

METRICS: dict[str, tuple[str, str]] = {
    "MultiLabelMAP": (
        "Mean average precision",
        "how well the scores of each class rank the images that show it above the others, mean of "
        "the classes; needs no threshold",
    ),
    "MultiLabelMAP_ci95": (
        "Its 95 % interval",
        "its range on other images of the same kind (bootstrap)",
    ),
    "MultiLabelMAP_11point": (
        "Mean AP, 11 points",
        "the same by the older rule of eleven recall levels, to compare with old papers",
    ),
    "constant_predictor": (
        "Constant predictor",
        "mean average precision of a model that gives every image the same scores: the floor",
    ),
    "images": ("Images", "number of images that all this was measured on"),
    "macro_f1": (
        "Macro F1",
        "F1 of each class at its threshold, averaged: rare classes count as much as frequent ones",
    ),
    "CP": ("CP", "class precision: share of the given labels that are right; mean of the classes"),
    "CR": ("CR", "class recall: share of the present labels that are found; mean of the classes"),
    "CF1": ("CF1", "harmonic mean of CP and CR"),
    "OP": ("OP", "overall precision: all labels together, so frequent classes dominate it"),
    "OR": ("OR", "overall recall: all labels together"),
    "OF1": ("OF1", "harmonic mean of OP and OR"),
    "CP_top3": ("CP, top 3", _TOP_3),
    "CR_top3": ("CR, top 3", _TOP_3),
    "CF1_top3": ("CF1, top 3", _TOP_3),
    "OP_top3": ("OP, top 3", _TOP_3),
    "OR_top3": ("OR, top 3", _TOP_3),
    "OF1_top3": ("OF1, top 3", _TOP_3),
    "subset_accuracy": ("Subset accuracy", "share of the images with exactly the right labels"),
    "HammingDistance": (
        "Hamming distance",
        "share of wrong answers among all pairs of image and class" + _LOWER,
    ),
    "coverage_error": (
        "Coverage error",
        "how many of the ranked labels of an image must be read to find all of its own" + _LOWER,
    ),
    "ranking_loss": (
        "Ranking loss",
        "share of pairs of a present and an absent label in the wrong order" + _LOWER,
    ),
    "label_ranking_average_precision": (
        "Label-ranking AP",
        "how high the labels of an image are in its own ranking",
    ),
    "expected_calibration_error": (
        "Calibration error",
        "mean distance between a score and the share of positives among such scores" + _LOWER,
    ),
}
COLUMNS = {
    "average_precision": "Average precision",
    "average_precision_ci95": "95 % interval",
    "average_precision_11point": "AP, 11 points",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "precision_top3": "Precision, top 3",
    "class_calibration_error": "Calibration error",
}
"""Columns of a class that may be undefined."""
LOWER_IS_BETTER = frozenset(name for name, (_, text) in METRICS.items() if text.endswith(_LOWER))


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names in the order of METRICS; unknown ones follow."""
    given = list(names)
    return [name for name in METRICS if name in given] + [n for n in given if n not in METRICS]


def title_of(name: str) -> str:
    """Return the title of a metric; of an unknown one its name."""
    return METRICS[name][0] if name in METRICS else name


def meaning_of(name: str) -> str:
    """Return the meaning of a metric; '' for an unknown one."""
    return METRICS[name][1] if name in METRICS else ""
