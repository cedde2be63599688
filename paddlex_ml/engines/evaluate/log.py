# SPDX-License-Identifier: Apache-2.0
"""What an evaluation says in the log: the same numbers as its result, for a reader in a hurry."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

logger = logging.getLogger(__name__)
_ABSENT = "undefined (no positive image)"
_WIDEST = 40  # characters of a name that push the numbers of all to the right
_GAIN = 0.005  # of macro F1: below it the report says to keep the thresholds in use


def tell_classes(result: Mapping[str, Any]) -> None:
    """A line for each class, the best first, and the means."""
    rows = result["per_class"]
    width = min(_WIDEST, max(len(row["name"]) for row in rows))
    for row in sorted(rows, key=lambda row: -(row["average_precision"] or 0.0)):
        name, value = row["name"].ljust(width), row["average_precision"]
        if value is None:
            logger.info("  %s  %s", name, _ABSENT)
        else:
            logger.info("  %s  %.4f  F1 %s", name, value, _number(row["f1"]))
    metrics = result["metrics"]
    logger.info(
        "MultiLabelMAP(integral) %s%s (constant predictor %s)",
        _number(metrics["MultiLabelMAP"]),
        _interval(metrics["MultiLabelMAP_ci95"]),
        _number(metrics["constant_predictor"]),
    )
    if metrics["MultiLabelMAP"] is None:  # and with it nearly everything
        logger.warning("no image of val.txt has a label: there is nothing to measure")
        return
    for name, reason in metrics["undefined"].items():
        if name == "precision" or name in metrics:  # what the lines of classes do not tell
            logger.warning("%s is undefined: %s", name, reason)


def tell_thresholds(told: Mapping[str, Any]) -> None:
    """What the thresholds in use and the tuned ones are worth."""
    measures = ("macro_f1", "CP", "CR") if told["method"] != "f1" else ("macro_f1",)
    for measure in measures:
        before, tuned, held_out = (
            _number(told[k][measure]) for k in ("before", "tuned", "held_out")
        )
        logger.info(
            "%s: %s with the thresholds in use, %s with tuned ones on the same images, "
            "%s on images that they were not tuned on",
            measure, before, tuned, held_out,
        )  # fmt: skip
    if not told["saved"] and _is_worth_saving(told):
        logger.info("-o Evaluate.save_threshold=true writes the tuned ones into the exported model")
    if told["unreached"]:
        logger.warning(
            "no threshold reaches the %s %g of %s",
            told["method"], told["target"], _list(told["unreached"]),
        )  # fmt: skip


def _is_worth_saving(told: Mapping[str, Any]) -> bool:
    """Whether tuned thresholds raise F1 on new images, as the report asks; or were promised."""
    if told["method"] != "f1":
        return True
    before, held_out = told["before"]["macro_f1"], told["held_out"]["macro_f1"]
    return None not in (before, held_out) and bool(held_out - before >= _GAIN)


def tell_comparison(compared: Mapping[str, Any]) -> None:
    """The difference in mAP, where both have one, and whether it is more than chance."""
    for row in compared["metrics"]:
        if row["name"] == "MultiLabelMAP":
            logger.info(
                "mAP %+.4f%s against %s",
                row["difference"],
                _interval(compared["MultiLabelMAP_difference_ci95"], "+"),
                compared["with"],
            )
    if not compared["same_images"]:
        logger.warning("%s was measured on other images or labels", compared["with"])


def tell_label_errors(told: Mapping[str, Any]) -> None:
    """How many labels look wrong or missing."""
    for name, counts in told["lists"].items():
        logger.info(
            "%s: %d labels of %d images look doubtful: %d missing, %d wrong",
            name, counts["suspected"], counts["images"], counts["missing"], counts["wrong"],
        )  # fmt: skip


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _interval(bounds: list[float] | None, sign: str = "") -> str:
    if bounds is None:
        return ""
    return f" (95 % interval {bounds[0]:{sign}.4f} to {bounds[1]:{sign}.4f})"


def _list(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
