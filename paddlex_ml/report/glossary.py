# SPDX-License-Identifier: Apache-2.0
"""What each metric is called on the page, and what it means in one line."""

from __future__ import annotations

from collections.abc import Iterable

_TOP_3 = "as above, but every image gets its three highest labels, whatever the thresholds"
_LOWER = "; lower is better"

TERMS: dict[str, tuple[str, str]] = {
    "MultiLabelMAP": (
        "Mean average precision",
        "how well each class ranks the images that show it above the others, averaged over the "
        "classes; needs no threshold",
    ),
    "MultiLabelMAP_ci95": (
        "Its 95 % interval",
        "where it may lie on other images of the same kind (bootstrap)",
    ),
    "MultiLabelMAP_11point": (
        "Mean AP, 11 points",
        "the same by the older rule of eleven recall levels, to compare with old papers",
    ),
    "constant_predictor": (
        "Constant predictor",
        "mean average precision of a model that says the same for every image: the zero mark",
    ),
    "images": ("Images", "on which all this was measured"),
    "macro_f1": (
        "Macro F1",
        "F1 of each class at its threshold, averaged: rare classes count as much as frequent ones",
    ),
    "CP": ("CP", "class precision: of the labels given, how many are right; mean of the classes"),
    "CR": ("CR", "class recall: of the labels present, how many are found; mean of the classes"),
    "CF1": ("CF1", "harmonic mean of CP and CR"),
    "OP": ("OP", "overall precision: of all labels together, so frequent classes rule it"),
    "OR": ("OR", "overall recall: of all labels together"),
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
        "how far down the ranked labels of an image one must go to meet all of its own" + _LOWER,
    ),
    "ranking_loss": (
        "Ranking loss",
        "share of pairs of a present and an absent label that stand in the wrong order" + _LOWER,
    ),
    "label_ranking_average_precision": (
        "Label-ranking AP",
        "how high the labels of an image stand in its own ranking",
    ),
    "expected_calibration_error": (
        "Calibration error",
        "mean distance between a score and the share of such answers that are right" + _LOWER,
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
}
"""Columns of a class that may be undefined."""
LOWER_IS_BETTER = frozenset(name for name, (_, text) in TERMS.items() if text.endswith(_LOWER))


def in_order(names: Iterable[str]) -> list[str]:
    """Return the names in the order of TERMS; unknown ones follow."""
    given = list(names)
    return [name for name in TERMS if name in given] + [n for n in given if n not in TERMS]


def title_of(name: str) -> str:
    """Return what a metric is called; an unknown one by its own name."""
    return TERMS[name][0] if name in TERMS else name


def meaning_of(name: str) -> str:
    """Return what a metric means; '' for an unknown one."""
    return TERMS[name][1] if name in TERMS else ""
