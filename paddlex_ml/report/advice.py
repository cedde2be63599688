# SPDX-License-Identifier: Apache-2.0
"""What the figures say in words: a verdict, and what to do next, by rules that stand here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from paddlex_ml.report.figures import Figures

FEW = 20  # positive images; with fewer, one image moves recall by more than 0.05
_LEARNT = 0.1  # of the way from the constant predictor to a perfect ranking
_WEAK = 0.5  # F1
_LOPSIDED = 0.15  # precision below recall, or above
_MOVED = 0.02  # of a threshold
_GAIN = 0.01  # of F1
_MUCH = 0.05  # of macro F1: with so much to gain the thresholds in use are no choice
_PROMISED = 0.05  # mean score above the share of positives

Level = Literal["good", "note", "warning", "alarm"]


@dataclass(frozen=True)
class Advice:
    """A few words, and the sentences below them."""

    level: Level
    title: str
    text: Markup
    items: tuple[Markup, ...] = ()


def not_learnt(figures: Figures) -> list[int]:
    """Return the classes whose ranking is hardly better than chance, the worst first."""
    return [i for i in figures.worst_first() if not _is_learnt(figures, i)]


def _is_learnt(figures: Figures, i: int) -> bool:
    chance = figures.share(i)
    row = figures.rows[i]
    interval = row.get("average_precision_ci95")
    if chance == 1:  # every image shows it: there is nothing to rank
        return True
    if interval is not None and interval[0] <= chance:
        return False
    return bool(row["average_precision"] - chance >= _LEARNT * (1 - chance))


def weak_at_any_threshold(figures: Figures) -> list[int]:
    """Return the classes that were learnt, but with a low F1 even where it was tuned."""
    failed = set(not_learnt(figures))
    weak = []
    for i in figures.worst_first():
        row = figures.rows[i]
        best = max(row["f1"] or 0.0, (row.get("tuned") or {}).get("f1") or 0.0)
        if best < _WEAK and i not in failed:
            weak.append(i)
    return weak


def judge(figures: Figures) -> Advice:
    """Answer whether the model is ready, as far as figures can."""
    defined, failed = figures.worst_first(), not_learnt(figures)
    if not defined:
        text = Markup("No image of the list has a label, so there is nothing to measure against.")
        return Advice("alarm", "Nothing can be said", text)
    text = Markup("The mean average precision is {}{}; a model that says the same for every image "
        "gets {}. {}").format(
        figures.show("metrics.MultiLabelMAP"),
        _in_brackets(figures, "metrics.MultiLabelMAP_ci95"),
        figures.show("metrics.constant_predictor"),
        _decisions(figures),
    )  # fmt: skip
    if len(failed) == len(defined):
        return Advice("alarm", "Not usable: no class is ranked better than by chance", text)
    good = len(defined) - len(failed)
    weak = weak_at_any_threshold(figures)
    if failed:
        text += Markup(" Not learnt: {}.").format(figures.links(failed))
    if weak:
        text += Markup(" Weak at any threshold: {}.").format(figures.links(weak))
    title = f"Learnt: {good:,} of {len(defined):,} classes"
    if len(defined) == 1 and good:
        title = "The class was learnt"
    gain = _held_out_gain(figures)
    if gain is not None and gain >= _MUCH:
        title += ", but the thresholds are far off"
        text += Markup(" Tuned thresholds raise macro F1 from {} to {} (held out).").format(
            *_held_out(figures)
        )
    is_good = not failed and not weak and (gain is None or gain < _MUCH)
    return Advice("good" if is_good else "warning", title, text)


def _held_out_gain(figures: Figures) -> float | None:
    """Return what tuning for F1 adds on images that it has not seen; None where unknown."""
    before, tuned = (
        figures.value(f"thresholds.{name}.macro_f1") for name in ("before", "held_out")
    )
    if figures.value("thresholds.method") != "f1" or before is None or tuned is None:
        return None
    return float(tuned - before)


def _in_brackets(figures: Figures, key: str) -> Markup:
    if figures.value(key) is None:
        return Markup("")
    return Markup(" (95&nbsp;% interval {})").format(figures.interval(key))


def _decisions(figures: Figures) -> Markup:
    exact = figures.value("metrics.subset_accuracy")
    if exact is None:
        return Markup("")
    return Markup(
        "At the thresholds in use, {}&nbsp;% of the images get exactly the right labels."
    ).format(f"{100 * exact:.{0 if exact >= 0.1 else 1}f}")


def advise(figures: Figures, scores: np.ndarray, targets: np.ndarray) -> list[Advice]:
    """Say what to do next, the most urgent first; each rule has at most one thing to say."""
    rules = (
        _undefined(figures),
        _failed(figures),
        _suspected(figures),
        _thresholds(figures),
        _weak(figures),
        _rare(figures),
        _calibration(figures, scores, targets),
    )
    return [advice for rule in rules for advice in rule]


def _undefined(figures: Figures) -> Iterator[Advice]:
    empty = [i for i, row in enumerate(figures.rows) if row["positives"] == 0]
    if empty:
        yield Advice(
            "warning",
            f"{_count(empty, 'class has', 'classes have')} no image in the validation list",
            Markup("{}: whether the model knows {} cannot be measured. Move images of {} into "
            "val.txt, or take {} out of label.txt.").format(
                figures.links(empty), *_pronoun(empty, 3)
            ),
        )  # fmt: skip


def _failed(figures: Figures) -> Iterator[Advice]:
    failed = not_learnt(figures)
    if failed:
        yield Advice(
            "alarm",
            f"{_count(failed, 'class was', 'classes were')} not learnt",
            Markup("Average precision: {}. That is less than a tenth of the way from guessing to a "
            "perfect ranking, or not surely above guessing. Look at the photographs below: are the "
            "labels right, is {} visible at this image size, are there enough images to "
            "train with?").format(
                figures.links(failed, lambda i: f"{figures.rows[i]['average_precision']:.3f}, by "
                f"guessing {figures.share(i):.3f}"), "it" if len(failed) == 1 else "the class"
            ),
        )  # fmt: skip


def _suspected(figures: Figures) -> Iterator[Advice]:
    lists = figures.value("label_errors.lists") or {}
    if not sum(found["suspected"] for found in lists.values()):
        return
    parts = [
        Markup("{} in {} ({} missing, {} wrong)").format(
            figures.show(f"label_errors.lists.{name}.suspected"),
            name,
            figures.show(f"label_errors.lists.{name}.missing"),
            figures.show(f"label_errors.lists.{name}.wrong"),
        )
        for name in lists
    ]
    yield Advice(
        "warning",
        "Some labels look wrong",
        Markup("Suspected: {}. Look at <a href='#labels'>the list</a> before anything else: wrong "
        "labels in val make every figure here too low, wrong labels in train teach errors. The "
        "weaker the model, the more of them are right after all.").format(
            Markup("; ").join(parts)
        ),
    )  # fmt: skip


def _thresholds(figures: Figures) -> Iterator[Advice]:
    if figures.value("thresholds") is None:
        text = Markup("One threshold for all classes is rarely best. <code>-o "
        "Evaluate.tune_threshold=f1</code> finds one for each.")  # fmt: skip
        yield Advice("note", "The thresholds were not tuned", text)
        return
    items = tuple(_moves(figures))
    goal, gain = figures.value("thresholds.method"), _held_out_gain(figures)
    if goal != "f1":
        reached = figures.show(f"thresholds.held_out.{'CP' if goal == 'precision' else 'CR'}")
        text = Markup("They were chosen for a {} of at least {}; on images that they were not "
        "chosen on, its mean is {}.{}").format(
            goal, figures.show("thresholds.target"), reached, _unreached(figures)
        )  # fmt: skip
        yield Advice("note", f"Tuned thresholds aim at {goal}", text, items)
    elif gain is None:
        text = Markup("Whether they help on other images could not be measured.")
        yield Advice("note", "Thresholds were tuned on few images", text, items)
    elif gain >= _GAIN / 2:
        text = Markup("On images that they were not chosen on, they raise macro F1 from {} to {}. "
        "{}").format(*_held_out(figures), _storing(figures))  # fmt: skip
        yield Advice("note", "Use the tuned thresholds", text, items)
    else:
        text = Markup("On images that they were not chosen on, macro F1 is {} before and {} after: "
        "the present thresholds are as good.").format(*_held_out(figures))  # fmt: skip
        yield Advice("note", "Keep the thresholds: tuning does not pay", text)


def _storing(figures: Figures) -> Markup:
    if figures.value("thresholds.saved"):
        return Markup("This evaluation was told to store them with the exported model.")
    return Markup(
        "<code>-o Evaluate.save_threshold=true</code> stores them with the exported model."
    )


def _held_out(figures: Figures) -> list[Markup]:
    return [figures.show(f"thresholds.{k}.macro_f1") for k in ("before", "held_out")]


def _unreached(figures: Figures) -> Markup:
    names = figures.value("thresholds.unreached") or []
    if not names:
        return Markup("")
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return Markup(" No threshold reaches it for {}.").format(shown)


def _moves(figures: Figures, most: int = 4) -> Iterator[Markup]:
    """Say of which classes the threshold should move, those that gain most first."""
    gains = []
    for i, row in enumerate(figures.rows):
        tuned = row.get("tuned") or {}
        values = (row["threshold"], row["f1"], tuned.get("threshold"), tuned.get("f1"))
        if None not in values and row["precision"] is not None and row["positives"] >= FEW:
            way, gain = tuned["threshold"] - row["threshold"], tuned["f1"] - row["f1"]
            lopsided = row["recall"] - row["precision"]
            if gain >= _GAIN and abs(way) >= _MOVED and way * lopsided > 0:
                gains.append((gain, i, abs(lopsided) >= _LOPSIDED))
    for _, i, is_lopsided in sorted(gains, reverse=True)[:most]:
        if is_lopsided:
            yield _move(figures, i)


def _move(figures: Figures, i: int) -> Markup:
    row = figures.rows[i]
    if row["recall"] > row["precision"]:
        hits = round(row["precision"] * row["predicted"])
        what = f"{row['predicted'] - hits:,} of {row['predicted']:,} alarms are false: raise"
    else:
        missed = row["positives"] - round(row["recall"] * row["positives"])
        what = f"{missed:,} of {row['positives']:,} are missed: lower"
    words = Markup("{}: {} the threshold from {} to {} (F1 {} instead of {} on these images)")
    return words.format(
        figures.link(i), what,
        figures.show(f"per_class.{i}.threshold", digits=2),
        figures.show(f"per_class.{i}.tuned.threshold", digits=2),
        figures.show(f"per_class.{i}.tuned.f1", digits=2),
        figures.show(f"per_class.{i}.f1", digits=2),
    )  # fmt: skip


def _weak(figures: Figures) -> Iterator[Advice]:
    weak = weak_at_any_threshold(figures)
    if weak:
        yield Advice(
            "warning",
            f"{_count(weak, 'class is', 'classes are')} weak at any threshold",
            Markup("{}: learnt, but F1 stays below {}. More images of {}, a larger "
            "<code>Train.image_size</code> or a larger model help most.").format(
                figures.links(weak), _WEAK, *_pronoun(weak, 1)
            ),
        )  # fmt: skip


def _rare(figures: Figures) -> Iterator[Advice]:
    rare = [i for i, row in enumerate(figures.rows) if 0 < row["positives"] < FEW]
    rare.sort(key=lambda i: figures.rows[i]["positives"])
    if rare:
        yield Advice(
            "note",
            f"{_count(rare, 'class has', 'classes have')} fewer than {FEW} images here",
            Markup("{}: their figures are uncertain, look at the intervals. Do not tune "
            "on them, and do not choose between models by them.").format(
                figures.links(rare, lambda i: f"{figures.rows[i]['positives']}")
            ),
        )  # fmt: skip


def _calibration(figures: Figures, scores: np.ndarray, targets: np.ndarray) -> Iterator[Advice]:
    if not scores.size:
        return
    promised, kept = float(scores.mean(dtype=np.float64)), float(targets.mean(dtype=np.float64))
    if abs(promised - kept) >= _PROMISED:
        yield Advice(
            "note",
            f"Scores are too {'high' if promised > kept else 'low'} to be read as probabilities",
            Markup("Their mean is {:.2f} where {:.2f} of the labels are present (calibration error "
            "{}). Thresholds make up for that; but 0.8 does not mean 8 of 10. See "
            "<a href='#calibration'>the calibration curve</a>.").format(
                promised, kept, figures.show("metrics.expected_calibration_error")
            ),
        )  # fmt: skip


def compare(figures: Figures) -> Advice | None:
    """Say whether the two evaluations differ by more than chance."""
    found: dict[str, Any] | None = figures.value("comparison")
    if found is None:
        return None
    key = "comparison.MultiLabelMAP_difference_ci95"
    interval = found["MultiLabelMAP_difference_ci95"]
    if interval is None:
        why = (
            "an interval needs the scores of both (the model, not the result file, in "
            "<code>Evaluate.compare_with</code>), <code>Evaluate.bootstrap</code> above 0, and "
            "images that have labels"
            if found["same_images"]
            else "the two were measured on different images"
        )
        text = Markup("Whether the difference is more than chance cannot be said: " + why + ".")
        return Advice("note", "The difference may be chance", text)
    text = Markup("95&nbsp;% interval of the difference in mean average precision, both on the "
    "same resampled images: {}.").format(figures.interval(key, signed=True))  # fmt: skip
    if interval[0] > 0:
        return Advice("good", "Better, and by more than chance explains", text)
    if interval[1] < 0:
        return Advice("alarm", "Worse, and by more than chance explains", text)
    text += " It holds zero."
    return Advice("note", "No difference that chance could not explain", text)


def _count(classes: list[int], one: str, many: str) -> str:
    return f"1 {one}" if len(classes) == 1 else f"{len(classes):,} {many}"


def _pronoun(classes: list[int], times: int) -> list[str]:
    return ["it" if len(classes) == 1 else "them"] * times
