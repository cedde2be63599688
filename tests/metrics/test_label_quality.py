# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from paddlex_ml.metrics import label_quality
from paddlex_ml.metrics.label_quality import (
    Suspect,
    calibrate,
    find_doubtful,
    find_learned,
    find_suspects,
    review,
)


def draw(images=2000, classes=4, share=0.05, seed=0, low=0.25):
    """Scores that know the truth, and targets of which `share` are wrong: scores, targets, flips.

    Absent classes score `low` on average, as an asymmetric loss leaves them.
    """
    rng = np.random.default_rng(seed)
    truth = rng.random((images, classes)) < np.linspace(0.1, 0.5, classes)
    centre = np.log(low / (1 - low))
    odds = rng.standard_normal(truth.shape) + np.where(truth, centre + 4, centre)
    flat = np.zeros(truth.size, bool)
    flat[rng.choice(truth.size, round(share * truth.size), replace=False)] = True
    flips = flat.reshape(truth.shape)
    return (1 / (1 + np.exp(-odds))).astype(np.float32), (truth ^ flips).astype(np.uint8), flips


def in_loops(scores, targets):
    """The doubts by their definition, cell by cell."""
    doubted = []
    for image in range(len(scores)):
        for label in range(scores.shape[1]):
            groups = [
                [float(scores[i, label]) for i in range(len(scores)) if targets[i, label] == given]
                for given in (0, 1)
            ]
            if not all(groups):
                continue
            without, with_label = (sum(group) / len(group) for group in groups)
            score = scores[image, label]
            if score >= with_label if targets[image, label] == 0 else score <= without:
                doubted.append((image, label))
    return doubted


def test_doubts_by_hand():
    # Means: (0.9 + 0.8 + 0.1) / 3 = 0.6 with the label,
    # (0.1 + 0.2 + 0.1 + 0.7) / 4 = 0.275 without.
    scores = np.array([[0.9], [0.8], [0.1], [0.1], [0.2], [0.1], [0.7]])
    targets = np.array([[1], [1], [1], [0], [0], [0], [0]])
    found = find_doubtful(scores, targets).ravel().tolist()
    assert found == [False, False, True, *[False] * 3, True]


def test_doubts_agree_with_their_definition_in_loops():
    scores, targets, _ = draw(images=120)
    found = [tuple(cell) for cell in np.argwhere(find_doubtful(scores, targets)).tolist()]
    assert found == in_loops(scores, targets)
    assert len(found) >= 20


def test_a_class_that_the_scores_do_not_tell_is_not_doubted(monkeypatch):
    rng = np.random.default_rng(3)
    scores, targets, _ = draw(images=300, classes=3)
    scores[:, 1] = rng.random(300) + 0.11 * targets[:, 1]  # knows little
    scores[:, 2] = 1 - scores[:, 2]  # knows the contrary
    square = [np.corrcoef(scores[:, k], targets[:, k])[0, 1] ** 2 for k in range(3)]
    assert 0.005 < square[1] < label_quality.LEAST_CORRELATION < square[2]
    assert find_learned(scores, targets).tolist() == [True, False, False]
    assert not find_doubtful(scores, targets)[:, 1:].any()
    for bound, known in ((0.999, True), (1.001, False)):
        monkeypatch.setattr(label_quality, "LEAST_CORRELATION", bound * square[0])
        assert find_learned(scores, targets)[0] == known


def find_before_noise(scores, targets):
    """What confident learning and the quality doubt together; the list leaves some of it out."""
    quality = label_quality.label_quality(scores, targets)
    return find_doubtful(scores, targets) & (quality < label_quality.QUALITY_LIMIT)


def test_planted_errors_come_first():
    scores, targets, flips = draw()
    suspects = find_suspects(scores, targets)
    hits = [flips[s.image, s.class_id] for s in suspects]
    assert flips.sum() == 400
    assert sum(hits[:100]) >= 95
    assert sum(hits) >= 0.63 * 400  # a mean is the threshold: a good part stays below it
    assert flips[find_before_noise(scores, targets)].sum() >= 0.65 * 400
    assert sum(hits) >= 0.9 * len(hits)


@pytest.mark.parametrize("low", [0.02, 0.1, 0.4])
def test_scores_of_absent_classes_may_be_high(low):
    scores, targets, flips = draw(low=low)
    hits = [flips[s.image, s.class_id] for s in find_suspects(scores, targets)]
    assert sum(hits[:100]) >= 95
    assert 230 < len(hits) < 320
    assert 270 < find_before_noise(scores, targets).sum() < 320


def test_a_suspect_says_what_it_is():
    scores, targets, flips = draw()
    suspects = find_suspects(scores, targets)
    quality = label_quality.label_quality(scores, targets)
    for suspect in suspects[:50]:
        cell = suspect.image, suspect.class_id
        assert suspect.given == targets[cell]
        assert suspect.score == scores[cell]
        assert suspect.quality == quality[cell]
        assert (suspect.score > 0.5) == (suspect.given == 0) or not flips[cell]
    assert {s.given for s in suspects[:50]} == {0, 1}


def test_the_worst_come_first_and_ties_in_the_order_of_images():
    scores, targets, _ = draw(images=300)
    scores = np.concatenate([scores, scores])  # every quality occurs twice
    targets = np.concatenate([targets, targets])
    suspects = find_suspects(scores, targets)
    order = [(s.quality, s.image, s.class_id) for s in suspects]
    assert order == sorted(order)
    assert suspects[0].image + 300 == suspects[1].image
    assert find_suspects(scores, targets) == suspects


def test_the_order_of_the_images_changes_nothing():
    scores, targets, _ = draw(images=400)
    turned = find_suspects(scores[::-1], targets[::-1])
    straight = find_suspects(scores, targets)
    cells = {(s.image, s.class_id): s.quality for s in straight}
    assert {(399 - s.image, s.class_id) for s in turned} == set(cells)
    for suspect in turned:
        expected = cells[399 - suspect.image, suspect.class_id]
        assert suspect.quality == pytest.approx(expected, rel=1e-5)


def test_quality_by_hand():
    # Three of eight have the label: Platt's targets are 4/5 and 1/7. Two scores alone, so the
    # sigmoid passes through the mean target of each: at 0.9 (4/5 * 2 + 1/7) / 3, at 0.2 else.
    scores = np.array([[0.9], [0.9], [0.2], [0.9], [0.2], [0.2], [0.2], [0.2]])
    targets = np.array([[1], [1], [1], [0], [0], [0], [0], [0]])
    high, low = (2 * 4 / 5 + 1 / 7) / 3, (4 / 5 + 4 / 7) / 5
    assert calibrate(scores, targets).ravel() == pytest.approx(
        [high, high, low, high, low, low, low, low], abs=1e-6
    )
    # The label is the rarer value: prior odds (3 + 1) / (5 + 1), half of which is forgiven.
    odds = low / (1 - low) / math.sqrt(4 / 6)
    quality = label_quality.label_quality(scores, targets).ravel()
    assert quality[2] == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert quality[4] == pytest.approx(1 - low, abs=1e-6)


def test_calibration_agrees_with_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    scores, targets, _ = draw(images=3000, classes=2)
    answers = 5 * scores - 20
    found = calibrate(answers, targets)
    for number in range(2):
        column = answers[:, [number]]
        model = LogisticRegression(C=1e6).fit(column, targets[:, number])
        # 300 positives and more: Platt's targets are 1 and 0, nearly
        assert found[:, number] == pytest.approx(model.predict_proba(column)[:, 1], abs=0.01)


def test_calibration_keeps_the_order_and_falls_back_to_the_mean():
    rising = np.arange(100.0)[:, None]
    falling_targets = (rising < 20).astype(np.uint8)
    found = calibrate(rising, falling_targets)
    mean = (20 * 21 / 22 + 80 / 82) / 100
    assert found.ravel() == pytest.approx(np.full(100, mean))
    found = calibrate(rising, 1 - falling_targets).ravel()  # separable: the sigmoid stays finite
    assert (np.diff(found) >= 0).all()
    assert 0 < found[0] < 0.05
    assert 0.99 < found[99] < 1


@pytest.mark.parametrize("given", [0, 1])
def test_a_class_with_one_value_has_no_suspects(given):
    scores, targets, _ = draw(images=800, classes=2)
    targets[:, 1] = given
    assert {s.class_id for s in find_suspects(scores, targets)} == {0}
    assert np.isfinite(label_quality.label_quality(scores, targets)).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 0.7, 1.0])
def test_constant_scores_have_no_suspects(value, kind):
    _, targets, _ = draw(images=777, classes=20)
    scores = np.full(targets.shape, value, kind)  # whose means differ in the last digit
    assert find_suspects(scores, targets) == []
    assert np.isfinite(label_quality.label_quality(scores, targets)).all()


@pytest.mark.parametrize("images", [0, 1, 2])
def test_few_images_are_no_error(images):
    scores, targets, _ = draw()
    scores, targets = scores[:images], targets[:images]
    assert find_suspects(scores, targets) == []
    assert label_quality.label_quality(scores, targets).shape == (images, 4)


def test_saturated_scores_are_no_error():
    scores, targets, _ = draw()
    scores = (scores > 0.6).astype(np.float32)
    found = review(scores, targets)  # one level for all that it takes for present, right or wrong
    assert found.suspects == []
    assert not found.is_able
    assert found.likely_true is None


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("apart", [2.0, 2.5, 4.0])
def test_at_least_half_of_the_list_is_wrong_and_the_list_knows_how_much(share, apart):
    rng = np.random.default_rng(int(100 * share))
    truth = rng.random((600, 8)) < np.linspace(0.1, 0.5, 8)
    odds = rng.standard_normal(truth.shape) + np.where(truth, apart, 0) - 1.5
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    flips = rng.random(truth.shape) < share
    found = review(scores, (truth ^ flips).astype(np.uint8))
    hits = np.array([flips[s.image, s.class_id] for s in found.suspects])
    assert len(hits) >= 20
    assert hits.mean() >= 0.5
    assert found.likely_true == pytest.approx(hits.mean(), abs=0.25)
    assert found.is_able
    assert all(s.probability > 0.5 for s in found.suspects)


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.0, 3.0, 5.0])
def test_right_labels_are_not_suspected_however_weak_the_model(apart):
    rng = np.random.default_rng(7)
    truth = rng.random((240, 10)) < np.linspace(0.08, 0.3, 10)
    odds = rng.standard_normal(truth.shape) + np.where(truth, apart, 0) - 1.5
    found = review((1 / (1 + np.exp(-odds))).astype(np.float32), truth.astype(np.uint8))
    assert found.suspects == []
    assert found.is_able == (apart > 1.5)


def test_the_list_does_not_open_with_every_positive_of_a_rare_class():
    rng = np.random.default_rng(5)
    scores, targets, flips = draw(classes=2)
    rare = np.zeros((2000, 1), np.uint8)
    rare[:20] = 1
    doubtful = 1 / (1 + np.exp(3 - rng.standard_normal((2000, 1)) - 2 * rare))
    scores, targets = np.hstack([scores, doubtful]), np.hstack([targets, rare])
    first = find_suspects(scores, targets)[:50]
    assert [s for s in first if s.class_id == 2] == []
    assert all(flips[s.image, s.class_id] for s in first)


def test_two_suspects_are_equal_when_their_fields_are():
    assert Suspect(1, 2, 0, 0.9, 0.1) == Suspect(1, 2, 0, 0.9, 0.1)


@pytest.mark.parametrize("share", [0.45, 0.6, 0.8])
def test_a_weak_model_that_takes_one_thing_for_another_lists_nothing(share: float) -> None:
    """Its surest images have another class, whose labels are right: no noise of these labels."""
    rng = np.random.default_rng(3)
    targets = np.zeros((240, 10), np.uint8)
    targets[:, 2:] = rng.random((240, 8)) < 0.2
    targets[:40, 0] = targets[100:130, 1] = 1
    odds = 0.1 * rng.standard_normal((240, 10))
    odds[:40, 0] += 1.5 * rng.random(40)
    other = 40 + np.arange(round(share * 40))
    odds[other, 0] += 1.6 + 0.3 * rng.random(len(other))
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    found = review(scores, targets)
    assert found.suspects == []
    assert not found.is_able
