# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.evaluate_result import (
    Comparison,
    EvaluationResult,
    LabelErrorCounts,
    LabelErrorResult,
    ThresholdQuality,
    TunedResult,
)
from paddlex_ml.metrics.measures import ClassMeasures, TunedMeasures, summarise
from paddlex_ml.metrics.threshold_search import Method
from paddlex_ml.report import advice
from paddlex_ml.report.figures import Figures

SCORES = np.full((100, 4), 0.3)
TARGETS = np.tile([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], (4, 10)).T  # 0.3 of each class


def tuned_at(**changes: Any) -> TunedMeasures:
    return TunedMeasures(**{"threshold": 0.5, "precision": 0.9, "recall": 0.9, "f1": 0.9} | changes)


def row(name: str, **changes: Any) -> ClassMeasures:
    """A class that does well: 30 of 100 images, 27 of them found, 3 false alarms."""
    good = ClassMeasures(
        name=name, positives=30, average_precision=0.9, average_precision_ci95=(0.85, 0.95),
        average_precision_11point=0.9, threshold=0.5, predicted=30, precision=0.9, recall=0.9,
        f1=0.9, expected_calibration_error=0.1, tuned=tuned_at(),
    )  # fmt: skip
    return replace(good, **changes)


def quality(macro_f1: float | None) -> ThresholdQuality:
    return ThresholdQuality(macro_f1=macro_f1, CP=0.875, CR=None)


def tuned_for(
    method: Method, before: float | None, held_out: float | None, **changes: Any
) -> TunedResult:
    result = TunedResult(
        method=method, target=None, min_positives=10, shared=0.5, shared_classes=[], unreached=[],
        before=quality(before), tuned=quality(None), held_out=quality(held_out), saved=[],
    )  # fmt: skip
    return replace(result, **changes)


def figures(*rows: ClassMeasures, **changes: Any) -> Figures:
    zero = np.zeros((1, 1))
    metrics = replace(
        summarise(zero, zero, ["cat"], np.ones(1)).metrics,
        MultiLabelMAP=0.8, MultiLabelMAP_ci95=(0.75, 0.85), constant_predictor=0.3, images=100,
        subset_accuracy=0.625, expected_calibration_error=0.123,
    )  # fmt: skip
    result = EvaluationResult(
        format_version=1, done_flag=True, weight_path="", val_digest="", metrics=metrics,
        per_class=list(rows), thresholds=tuned_for("f1", 0.71, 0.75), label_errors=None,
        comparison=None, per_class_csv="",
    )  # fmt: skip
    return Figures(replace(result, **changes), [one.name for one in rows])


def advise(found: Figures) -> dict[str, str]:
    """The sentences by their titles, without the tags."""
    steps = advice.advise(found, SCORES, TARGETS)
    return {s.title: " | ".join([s.text, *s.items]) for s in steps}


def text_of(sentence: Any) -> str:
    return str(sentence.striptags())


def test_a_good_model_is_told_so_with_its_figures():
    verdict = advice.give_verdict(figures(row("cat"), row("dog")))
    assert (verdict.level, verdict.title) == ("good", "Learnt: 2 of 2 classes")
    assert text_of(verdict.text).replace("\xa0", " ") == (
        "The mean average precision is 0.800 (95 % interval 0.750–0.850); a model that gives every "
        "image the same scores gets 0.300. At the thresholds in use, 62 % of the images get "
        "exactly the right labels."
    )


def test_a_good_model_with_bad_thresholds_is_not_called_good():
    thresholds = tuned_for("f1", 0.6, 0.8)
    verdict = advice.give_verdict(figures(row("cat"), row("dog"), thresholds=thresholds))
    assert verdict.level == "warning"
    assert verdict.title == "Learnt: 2 of 2 classes, but the thresholds are poor"
    assert "raise macro F1 from 0.600 to 0.800 (held out)" in text_of(verdict.text)


def test_classes_near_their_share_of_positives_are_not_learnt():
    # 0.3 + 0.1 * 0.7 = 0.37 is a tenth of the way
    low = row("low", average_precision=0.36, average_precision_ci95=None)
    enough = row("enough", average_precision=0.38, average_precision_ci95=None)
    unsure = row("unsure", average_precision=0.5, average_precision_ci95=[0.29, 0.7])
    found = figures(enough, low, unsure)
    assert advice.not_learnt(found) == [1, 2]
    assert advice.give_verdict(found).level == "warning"
    step = advice.advise(found, SCORES, TARGETS)[0]
    assert (step.level, step.title) == ("alarm", "2 classes were not learnt")
    assert "low (0.360, by guessing 0.300) and unsure" in text_of(step.text)


def test_a_class_that_every_image_shows_counts_as_learnt():
    assert advice.not_learnt(figures(row("all", positives=100, average_precision=1.0))) == []


def test_a_model_that_learnt_nothing_is_not_usable():
    verdict = advice.give_verdict(figures(row("cat", average_precision=0.3)))
    assert verdict.level == "alarm"
    assert verdict.title == "Not usable: no class is ranked better than by chance"


def test_without_any_positive_nothing_can_be_said():
    none = row("cat", positives=0, average_precision=None, average_precision_ci95=None)
    found = figures(none)
    assert advice.give_verdict(found).title == "Nothing can be measured"
    assert "1 class has no image in the validation list" in advise(found)


@pytest.mark.parametrize(("positives", "told"), [(19, True), (20, False), (0, False)])
def test_fewer_than_20_images_are_called_uncertain(positives, told):
    found = advise(figures(row("rare", positives=positives), row("cat")))
    assert ("1 class has fewer than 20 images here" in found) == told


def test_false_alarms_raise_the_threshold_and_misses_lower_it():
    higher, lower = tuned_at(threshold=0.71), tuned_at(threshold=0.2)
    loud = row("loud", predicted=60, precision=0.5, recall=1.0, f1=0.667, tuned=higher)
    shy = row("shy", predicted=6, precision=1.0, recall=0.2, f1=0.333, tuned=lower)
    step = advice.advise(figures(loud, shy, row("fine")), SCORES, TARGETS)[0]
    assert step.title == "Use the tuned thresholds"
    assert "raise macro F1 from 0.710 to 0.750" in text_of(step.text)
    assert [text_of(item) for item in step.items] == [
        "shy: 24 of 30 are missed: lower the threshold from 0.50 to 0.20 "
        "(F1 0.90 instead of 0.33 on these images)",
        "loud: 30 of 60 alarms are false: raise the threshold from 0.50 to 0.71 "
        "(F1 0.90 instead of 0.67 on these images)",
    ]


@pytest.mark.parametrize(
    ("before", "tuned", "title"),
    [
        (0.7, 0.75, "Use the tuned thresholds"),
        (0.7, 0.7, "Keep the thresholds: tuning does not help"),
        (0.7, 0.6, "Keep the thresholds: tuning does not help"),
        (None, None, "Thresholds were tuned on few images"),
    ],
)
def test_tuned_thresholds_are_judged_on_held_out_images(before, tuned, title):
    thresholds = tuned_for("f1", before, tuned)
    assert title in advise(figures(row("cat"), thresholds=thresholds))


def test_thresholds_that_no_search_makes_better_stay():
    thresholds = tuned_for("recall", 0.7, 0.7, is_better=False)
    text = advise(figures(row("cat"), thresholds=thresholds))
    assert "that were searched: these stay." in text["Keep the thresholds: tuning does not help"]


@pytest.mark.parametrize("saved", [[], ["inference/inference.yml"]])
def test_thresholds_that_are_stored_need_no_key_for_it(saved):
    thresholds = tuned_for("f1", 0.7, 0.75, saved=saved)
    text = advise(figures(row("cat"), thresholds=thresholds))["Use the tuned thresholds"]
    assert ("save_threshold=true" in text) == (not saved)
    assert ("This evaluation saves them" in text) == bool(saved)


def test_a_wanted_precision_that_is_not_reached_names_the_classes():
    thresholds = tuned_for("precision", 0.7, 0.6, target=0.9, unreached=["cow"])
    found = advise(figures(row("cat"), thresholds=thresholds))
    assert ">0.875</span>" in found["Tuned thresholds aim at precision"]
    assert "No threshold reaches it for cow." in found["Tuned thresholds aim at precision"]


def test_thresholds_that_were_not_tuned_say_how_to_tune():
    found = advise(figures(row("cat"), thresholds=None))
    assert "-o Evaluate.tune_threshold=f1" in found["The thresholds were not tuned"]


def test_a_low_f1_is_weak_only_where_tuning_does_not_help():
    weak = row("weak", f1=0.3, tuned=tuned_at(f1=0.45))
    helped = row("helped", f1=0.3, tuned=tuned_at(f1=0.6))
    found = advise(figures(weak, helped))
    assert "weak" in found["1 class is weak at any threshold"]
    assert "helped" not in found["1 class is weak at any threshold"]


def test_suspects_come_before_thresholds():
    counts = LabelErrorCounts(images=100, suspected=7, missing=5, wrong=2, scores="held out")
    errors = LabelErrorResult(lists={"val": counts}, csv="")
    found = advise(figures(row("cat"), label_errors=errors))
    assert next(iter(found)) == "Some labels look wrong"
    none = LabelErrorResult(lists={"val": replace(counts, suspected=0, missing=0, wrong=0)}, csv="")
    assert "Some labels look wrong" not in advise(figures(row("cat"), label_errors=none))


def test_scores_that_promise_too_much_or_too_little_are_named():
    found = figures(row("cat"))
    for level, word in ((0.4, "high"), (0.2, "low")):
        steps = advice.advise(found, SCORES * 0 + level, TARGETS)
        assert steps[-1].title == f"Scores are too {word} to be read as probabilities"
    assert len(advice.advise(found, SCORES * 0 + 0.32, TARGETS)) == 1


@pytest.mark.parametrize(
    ("interval", "same", "title"),
    [
        ([0.01, 0.03], True, "Better, by more than chance"),
        ([-0.03, -0.01], True, "Worse, by more than chance"),
        ([-0.01, 0.03], True, "No difference beyond chance"),
        (None, True, "The difference may be chance"),
        (None, False, "The difference may be chance"),
    ],
)
def test_a_difference_is_compared_with_chance(interval, same, title):
    comparison = Comparison(
        other="", this="", same_images=same, MultiLabelMAP_difference_ci95=interval, metrics=[],
        per_class=[],
    )  # fmt: skip
    found = advice.compare(figures(row("cat"), comparison=comparison))
    assert found.title == title
    assert ("different images" in found.text) == (not same)
    assert ("not the result file" in found.text) == (interval is None and same)
    assert advice.compare(figures(row("cat"))) is None


def test_names_are_escaped_in_sentences():
    found = figures(row("<b>", average_precision=0.3), row("cat"))
    assert "&lt;b&gt;" in advice.give_verdict(found).text
    assert "<b>" not in advice.give_verdict(found).text


def test_a_class_that_nobody_has_looked_for_is_no_class_without_images():
    unseen = row("yak", positives=0, negatives=0, average_precision=None)
    absent = row("cow", positives=0, negatives=60, average_precision=None)
    found = advise(figures(row("cat"), unseen, absent, unknown_labels=140))
    assert found["1 class has no image in the validation list"].count("cow") == 1
    assert "yak" not in found["1 class has no image in the validation list"]
    text = found["Nobody has looked for 1 class in the validation list"]
    assert "yak" in text
    assert "in val.txt are unknown" in text


def test_a_class_that_is_nowhere_absent_is_named_because_its_precision_says_nothing():
    found = advise(figures(row("cat", negatives=70), row("dog", negatives=0)))
    assert "dog" in found["1 class is known to be absent nowhere"]
    assert not any("absent nowhere" in title for title in advise(figures(row("cat", negatives=1))))


def test_the_share_of_a_class_is_that_of_the_images_where_it_is_known():
    found = figures(row("cat", positives=30, negatives=30, average_precision=0.52))
    assert found.share(0) == 0.5  # of 60 known images, and not 0.3 of all 100
    assert advice.not_learnt(found) == [0]


def test_exactly_right_is_said_of_known_labels():
    text = text_of(advice.give_verdict(figures(row("cat"), unknown_labels=3)).text)
    assert text.endswith("get exactly the right labels, as far as they are known.")


def test_unknown_labels_are_no_low_share_of_present_ones():
    scores = np.array([[0.5, 0.9], [0.5, 0.9]])
    known = np.array([[1, -1], [0, -1]], np.int8)
    titles = {each.title for each in advice.advise(figures(row("cat")), scores, known)}
    assert not any("too high" in title or "too low" in title for title in titles)
