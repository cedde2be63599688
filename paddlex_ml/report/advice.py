# SPDX-License-Identifier: Apache-2.0
"""A verdict on the model and advice what to do next, by the rules in this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup

from paddlex_ml.metrics.known import has_unknown, is_known
from paddlex_ml.report.figures import Figures
from paddlex_ml.wording import first_names

FEW = 20  # positive images; with fewer, one image moves recall by more than 0.05
_LEARNT = 0.1  # of the way from the constant predictor to a perfect ranking
_WEAK = 0.5  # F1
_LOPSIDED = 0.15  # difference of precision and recall
_MOVED = 0.02  # of a threshold
_CLASS_GAIN = 0.01  # of F1 of a class
_MUCH = 0.05  # of macro F1: with so much to gain, the thresholds in use are poor
_CALIBRATION_GAP = 0.05  # difference of the mean score and the share of positives
_MOVES = 4  # thresholds that are named

Level = Literal["good", "note", "warning", "alarm"]


@dataclass(frozen=True)
class Advice:
    """A title, and the sentences below it."""

    level: Level
    title: str
    text: Markup
    items: tuple[Markup, ...] = ()


def not_learnt(figures: Figures) -> list[int]:
    """Return the classes whose ranking is hardly better than chance, the worst first."""
    classes = []
    for i in figures.worst_first():
        row, chance = figures.rows[i], figures.share(i)
        if chance == 1:  # every image shows it: there is nothing to rank
            continue
        interval = row.average_precision_ci95
        assert row.average_precision is not None  # or it would not be in the list
        is_unsure = interval is not None and interval[0] <= chance
        if is_unsure or row.average_precision - chance < _LEARNT * (1 - chance):
            classes.append(i)
    return classes


def weak_at_any_threshold(figures: Figures) -> list[int]:
    """Return the classes that were learnt, but with a low F1 even where it was tuned."""
    failed = set(not_learnt(figures))
    weak = []
    for i in figures.worst_first():
        row = figures.rows[i]
        tuned_f1 = row.tuned.f1 if row.tuned else None
        if max(row.f1 or 0.0, tuned_f1 or 0.0) < _WEAK and i not in failed:
            weak.append(i)
    return weak


def give_verdict(figures: Figures) -> Advice:
    """Answer whether the model is ready, as far as figures can."""
    metrics, thresholds = figures.result.metrics, figures.result.thresholds
    defined, failed = figures.worst_first(), not_learnt(figures)
    if not defined:
        return Advice(
            "alarm", "Nothing can be measured", Markup("No image of val.txt has a label.")
        )
    interval = Markup("")
    if metrics.MultiLabelMAP_ci95 is not None:
        ends = figures.interval("metrics.MultiLabelMAP_ci95")
        interval = Markup(" (95&nbsp;% interval {})").format(ends)
    text = Markup("The mean average precision is {}{}; a model that gives every image the same "
        "scores gets {}.").format(
        figures.show("metrics.MultiLabelMAP"), interval, figures.show("metrics.constant_predictor")
    )  # fmt: skip
    if (exact := metrics.subset_accuracy) is not None:
        text += Markup(" At the thresholds in use, {}&nbsp;% of the images get exactly the right "
            "labels{}.").format(
            f"{100 * exact:.{0 if exact >= 0.1 else 1}f}",
            ", as far as they are known" * bool(figures.result.unknown_labels),
        )  # fmt: skip
    if metrics.better_than_guessing is False:
        text += Markup(" So no figure of this page says anything about new images.")
        return Advice("alarm", "Not usable: not better than guessing", text)
    if len(failed) == len(defined):
        return Advice("alarm", "Not usable: no class is ranked better than by chance", text)
    good = len(defined) - len(failed)
    weak = weak_at_any_threshold(figures)
    if failed:
        text += Markup(" Not learnt: {}.").format(figures.links(failed))
    if weak:
        text += Markup(" Weak at any threshold: {}.").format(figures.links(weak))
    title = "The class was learnt"
    if len(defined) > 1:
        title = f"Learnt: {good:,} of {len(defined):,} classes"
    is_far_off = thresholds is not None and (thresholds.gain or 0.0) >= _MUCH
    if is_far_off:
        title += ", but the thresholds are poor"
        text += Markup(" Tuned thresholds raise macro F1 from {} to {} (held out).").format(
            *_before_and_held_out(figures)
        )
    return Advice("warning" if failed or weak or is_far_off else "good", title, text)


def _before_and_held_out(figures: Figures) -> list[Markup]:
    return [figures.show(f"thresholds.{key}.macro_f1") for key in ("before", "held_out")]


def advise(figures: Figures, scores: np.ndarray, targets: np.ndarray) -> list[Advice]:
    """Return what to do next, the most urgent first; each rule gives one advice at most."""
    candidates = (
        _advise_on_undefined(figures),
        _advise_on_unseen(figures),
        _advise_on_no_negative(figures),
        _advise_on_not_learnt(figures),
        _advise_on_suspected(figures),
        _advise_on_thresholds(figures),
        _advise_on_weak(figures),
        _advise_on_rare(figures),
        _advise_on_calibration(figures, scores, targets),
    )
    return [advice for advice in candidates if advice is not None]


def _advise_on_undefined(figures: Figures) -> Advice | None:
    unseen = map(figures.is_unseen, range(len(figures.rows)))
    empty = [i for i, skip in enumerate(unseen) if not (skip or figures.rows[i].positives)]
    if not empty:
        return None
    title = f"{_count(empty, 'class has', 'classes have')} no image in the validation list"
    text = Markup("{}: a class without images in val.txt cannot be measured. Move some of its "
        "images there, or remove it from label.txt.").format(figures.links(empty))  # fmt: skip
    return Advice("warning", title, text)


def _advise_on_unseen(figures: Figures) -> Advice | None:
    unseen = [i for i in range(len(figures.rows)) if figures.is_unseen(i)]
    if not unseen:
        return None
    title = f"Nobody has looked for {_count(unseen, 'class', 'classes')} in the validation list"
    text = Markup("{}: all labels of such a class in val.txt are unknown, so it cannot be "
        "measured. Label some images, with and without it.").format(
        figures.links(unseen)
    )  # fmt: skip
    return Advice("warning", title, text)


def _advise_on_no_negative(figures: Figures) -> Advice | None:
    certain = [i for i, row in enumerate(figures.rows) if row.positives and row.negatives == 0]
    if not certain:
        return None
    title = f"{_count(certain, 'class is', 'classes are')} known to be absent nowhere"
    text = Markup("{}: average precision is 1 whatever the scores are, and raises its mean. Add "
        "images that are known not to show it, or do not count on these figures.").format(
        figures.links(certain)
    )  # fmt: skip
    return Advice("warning", title, text)


def _advise_on_not_learnt(figures: Figures) -> Advice | None:
    failed = not_learnt(figures)
    if not failed:
        return None
    title = f"{_count(failed, 'class was', 'classes were')} not learnt"
    named = figures.links(
        failed,
        lambda i: f"{figures.rows[i].average_precision:.3f}, by guessing {figures.share(i):.3f}",
    )
    text = Markup("Average precision: {}. That is close to guessing: less than a tenth of the way "
        "to a perfect ranking, or guessing lies within the interval. Check the photographs below: "
        "are the labels right, is the class visible at this image size, are there enough images "
        "for training?").format(named)  # fmt: skip
    return Advice("alarm", title, text)


def _advise_on_suspected(figures: Figures) -> Advice | None:
    errors = figures.result.label_errors
    if errors is None or not any(counts.suspected for counts in errors.lists.values()):
        return None
    counts = [
        Markup("{} in {} ({} missing, {} wrong{})").format(
            figures.show(f"label_errors.lists.{name}.suspected"),
            name,
            figures.show(f"label_errors.lists.{name}.missing"),
            figures.show(f"label_errors.lists.{name}.wrong"),
            _likely(figures, name),
        )
        for name in errors.lists
    ]
    text = Markup("Suspected: {}. Check <a href='#labels'>the list</a> first: wrong labels in val "
        "make every figure here too low, and from wrong labels in train the model learns errors. "
        "The others on the list are right, and the model errs.").format(
        Markup("; ").join(counts)
    )  # fmt: skip
    return Advice("warning", "Some labels look wrong", text)


def _likely(figures: Figures, name: str) -> Markup:
    """How many of the suspected labels of a list are errors, where that is known."""
    errors = figures.result.label_errors
    if errors is None or errors.lists[name].likely_true is None:
        return Markup("")
    share = figures.show(f"label_errors.lists.{name}.likely_true", digits=2)
    return Markup(", a share of {} probably errors").format(share)


def _advise_on_thresholds(figures: Figures) -> Advice:
    tuned = figures.result.thresholds
    if tuned is None:
        text = Markup("One threshold for all classes is rarely best. <code>-o "
        "Evaluate.tune_threshold=f1</code> finds one for each.")  # fmt: skip
        return Advice("note", "The thresholds were not tuned", text)
    moves = tuple(_find_moves(figures))
    if not tuned.is_better:
        text = Markup("No other thresholds are better than those in use, not even on the images "
        "that were searched: these stay.")  # fmt: skip
        return Advice("note", "Keep the thresholds: tuning does not help", text)
    if tuned.method != "f1":
        mean = figures.show(f"thresholds.held_out.{'CP' if tuned.method == 'precision' else 'CR'}")
        text = Markup("They aim at a {} of at least {}. On images that were not used to tune them, "
        "its mean is {}.").format(
            tuned.method, figures.show("thresholds.target"), mean
        )  # fmt: skip
        if tuned.unreached:
            names = first_names(tuned.unreached, 6)
            text += Markup(" No threshold reaches it for {}.").format(names)
        return Advice("note", f"Tuned thresholds aim at {tuned.method}", text, moves)
    if tuned.gain is None:
        text = Markup("Their effect on other images could not be measured.")
        return Advice("note", "Thresholds were tuned on few images", text, moves)
    before, held_out = _before_and_held_out(figures)
    if tuned.is_worth_saving:
        text = Markup("On images that were not used to tune them, they raise macro F1 from {} to "
        "{}. ").format(before, held_out)  # fmt: skip
        if tuned.saved:
            text += "This evaluation saves them in the exported model."
        else:
            text += Markup("<code>-o Evaluate.save_threshold=true</code> saves them in the "
            "exported model.")  # fmt: skip
        return Advice("note", "Use the tuned thresholds", text, moves)
    text = Markup("On images that were not used to tune them, macro F1 is {} before and {} after: "
    "the thresholds in use are as good.").format(before, held_out)  # fmt: skip
    return Advice("note", "Keep the thresholds: tuning does not help", text)


def _find_moves(figures: Figures) -> list[Markup]:
    """Return which thresholds should move and why, those of the classes that gain most first."""
    gains = []
    for i, row in enumerate(figures.rows):
        if row.tuned is None or row.f1 is None or row.tuned.f1 is None or row.positives < FEW:
            continue
        if row.precision is None or row.recall is None:
            continue
        move, gain = row.tuned.threshold - row.threshold, row.tuned.f1 - row.f1
        lopsided = row.recall - row.precision
        if gain >= _CLASS_GAIN and abs(move) >= _MOVED and move * lopsided > 0:
            hits = round(row.precision * row.predicted)
            missed = row.positives - round(row.recall * row.positives)
            what = f"{missed:,} of {row.positives:,} are missed: lower"
            if lopsided > 0:
                what = f"{row.predicted - hits:,} of {row.predicted:,} alarms are false: raise"
            gains.append((gain, i, abs(lopsided) >= _LOPSIDED, what))
    sentence = Markup("{}: {} the threshold from {} to {} (F1 {} instead of {} on these images)")
    keys = ("threshold", "tuned.threshold", "tuned.f1", "f1")
    return [
        sentence.format(
            figures.link(i), what, *(figures.show(f"per_class.{i}.{k}", digits=2) for k in keys)
        )
        for _, i, is_lopsided, what in sorted(gains, reverse=True)[:_MOVES]
        if is_lopsided
    ]


def _advise_on_weak(figures: Figures) -> Advice | None:
    weak = weak_at_any_threshold(figures)
    if not weak:
        return None
    title = f"{_count(weak, 'class is', 'classes are')} weak at any threshold"
    text = Markup("{}: learnt, but F1 stays below {}. More images of the class, a "
        "larger <code>Train.image_size</code> or a larger model help most.").format(
        figures.links(weak), _WEAK
    )  # fmt: skip
    return Advice("warning", title, text)


def _advise_on_rare(figures: Figures) -> Advice | None:
    rare = [i for i, row in enumerate(figures.rows) if 0 < row.positives < FEW]
    rare.sort(key=lambda i: figures.rows[i].positives)
    if not rare:
        return None
    title = f"{_count(rare, 'class has', 'classes have')} fewer than {FEW} images here"
    text = Markup("{}: their figures are uncertain, look at the intervals. Do not tune on them, "
        "and do not choose between models by them.").format(
        figures.links(rare, lambda i: f"{figures.rows[i].positives}")
    )  # fmt: skip
    return Advice("note", title, text)


def _advise_on_calibration(
    figures: Figures, scores: np.ndarray, targets: np.ndarray
) -> Advice | None:
    if has_unknown(targets):
        scores, targets = scores[is_known(targets)], targets[is_known(targets)]
    if not scores.size:
        return None
    mean, present = float(scores.mean(dtype=np.float64)), float(targets.mean(dtype=np.float64))
    if abs(mean - present) < _CALIBRATION_GAP:
        return None
    title = f"Scores are too {'high' if mean > present else 'low'} to be read as probabilities"
    text = Markup("Their mean is {:.2f}, but {:.2f} of the labels are present (calibration error "
        "{}). Thresholds correct for that, but a score of 0.8 does not mean 8 of 10. See "
        "<a href='#calibration'>the calibration curve</a>.").format(
        mean, present, figures.show("metrics.expected_calibration_error")
    )  # fmt: skip
    return Advice("note", title, text)


def compare(figures: Figures) -> Advice | None:
    """Answer whether the two evaluations differ by more than chance."""
    comparison = figures.result.comparison
    if comparison is None:
        return None
    interval = comparison.MultiLabelMAP_difference_ci95
    if interval is None:
        reason = (
            "an interval needs the scores of both (the model, not the result file, in "
            "<code>Evaluate.compare_with</code>), <code>Evaluate.bootstrap</code> above 0, and "
            "images that have labels"
            if comparison.same_images
            else "the two were measured on different images"
        )
        why = "It is unknown whether the difference is more than chance: "
        text = Markup(why + reason + ".")  # noqa: S704  our words alone
        return Advice("note", "The difference may be chance", text)
    key = "comparison.MultiLabelMAP_difference_ci95"
    text = Markup("95&nbsp;% interval of the difference in mean average precision, both on the "
    "same resampled images: {}.").format(figures.interval(key, signed=True))  # fmt: skip
    if interval[0] > 0:
        return Advice("good", "Better, by more than chance", text)
    if interval[1] < 0:
        return Advice("alarm", "Worse, by more than chance", text)
    return Advice("note", "No difference beyond chance", text + " It contains zero.")


def _count(classes: list[int], one: str, many: str) -> str:
    return f"1 {one}" if len(classes) == 1 else f"{len(classes):,} {many}"
