# SPDX-License-Identifier: Apache-2.0
"""Labels that are probably wrong or missing: which to look at first.

    scores [N, C], targets [N, C] -> suspected [N, C], quality [N, C] -> suspects, worst first

A label is a suspect where three answers agree. The first is confident learning, the second its
quality, the third the noise that was fitted to all labels (`metrics.label_noise`): it leaves out
what is more probably an error of the model.

Which: confident learning (Northcutt et al. 2021, arXiv:1911.00068) for each class against all
others (Thyagarajan et al. 2022, arXiv:2211.13895). A missing label is suspected where the score
reaches the mean of the images that have the label; a wrong one where it does not exceed the mean of
those that have not. The model's own means are the thresholds, so it matters little that a loss with
low weights for negatives leaves absent classes at a score of 0.3.

In which order: by the probability of the given label, after one sigmoid per class has turned the
scores into probabilities (Platt 1999). The rarer of a class's two values always looks improbable,
so half of its rarity, in log odds, is not counted. If all of it counted, every positive of the
rarest class would come first; if none did, wrong positives would come too late. Half is the middle
between two assumptions on errors: every cell is equally likely to be wrong, or a class has as many
missing labels as superfluous ones.

N images, C classes. Scores must not come from a model that learned these very labels: see
`out_of_fold` for the list it was trained on. A label that is unknown (`metrics.known`) is no
suspect, and its score counts nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics import label_noise
from paddlex_ml.metrics.known import has_unknown, is_absent, is_known, is_present

PRIOR_SHARE = 0.5
"""Share of the log odds of a rare value that is not counted, 0 to 1."""
LEAST_CORRELATION = 0.02
"""Squared correlation of scores and labels below which a class is left out."""
QUALITY_LIMIT = 0.5
"""Labels of this quality are not suspected."""
LEAST_PROBABILITY = 0.5
"""Probability of an error from which a label is suspected: at least half of a list is wrong."""
LEAST_POWER = 0.2
"""Share of the errors that a model must be able to find: below, an empty list means nothing."""
MOST_NOISE = 1 / 3
"""Share of wrong or of missing labels that is not believed of a model below LEAST_POWER."""
_SMALLEST = 1e-7  # a float32 sigmoid is 1.0 for logits above 17, and the logit of 1.0 is infinite
_ROUNDS = 50  # of Newton's method, which takes 5 to 10
_HALVINGS = 30  # of one of its steps


@dataclass(frozen=True)
class Suspect:
    """A label to look at."""

    image: int
    class_id: int
    given: int
    """0: the label is probably missing. 1: the given label is probably wrong."""
    score: float
    """Score of the model, 0 to 1."""
    quality: float
    """0 to 1; low is suspicious. It gives the order; it is not a probability."""
    probability: float = 1.0
    """That the label is wrong, 0.5 to 1."""


@dataclass(frozen=True)
class Review:
    """What the scores of a model say about the labels of a list."""

    suspects: list[Suspect]
    """The suspected labels, the worst first."""
    is_able: bool
    """Whether the model knows enough to find errors: if not, an empty list means nothing."""

    @property
    def likely_true(self) -> float | None:
        """Share of the suspects that is probably wrong, 0.5..1; None where there is none."""
        if not self.suspects:
            return None
        return sum(suspect.probability for suspect in self.suspects) / len(self.suspects)


def find_suspects(scores: np.ndarray, targets: np.ndarray) -> list[Suspect]:
    """The suspected labels of `review`, worst first."""
    return review(scores, targets).suspects


def review(scores: np.ndarray, targets: np.ndarray) -> Review:
    """Find the labels to look at; scores [N, C] in 0..1, targets 0, 1 or UNKNOWN.

    Those that confident learning doubts (`find_doubtful`), whose quality is below one half, and
    that are more probably wrong than right (`label_noise`). None where a weak model would have it
    that more than MOST_NOISE of the labels of a kind are wrong: it takes one thing for another.
    Equal qualities are in the order of images, then of classes.
    """
    quality = label_quality(scores, targets)
    noise = label_noise.estimate(scores, targets, find_learned(scores, targets))
    suspected = find_doubtful(scores, targets) & (quality < QUALITY_LIMIT)
    if noise.power < LEAST_POWER and max(noise.wrong, noise.missing) > MOST_NOISE:
        suspected[:] = False
    images, classes = np.nonzero(suspected & (noise.probability > LEAST_PROBABILITY))
    order = np.argsort(quality[images, classes], kind="stable")
    suspects = [
        Suspect(
            image=int(image),
            class_id=int(label),
            given=int(is_present(targets[image, label])),
            score=float(scores[image, label]),
            quality=float(quality[image, label]),
            probability=float(noise.probability[image, label]),
        )
        for image, label in zip(images[order], classes[order], strict=True)
    ]
    return Review(suspects, is_able=bool(suspects) or noise.power >= LEAST_POWER)


def find_doubtful(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which labels confident learning doubts: [N, C], [N, C] -> bool [N, C]; see the head.

    None of a class that the model has not learned (`find_learned`). For the others it is, label for
    label, the off-diagonal of the confident joint that cleanlab 2.9 computes. Its list by confident
    learning (find_multilabel_issues_per_class) then leaves out the labels that the scores agree
    with, those above one half, as `find_suspects` does after the calibration.
    """
    present, absent = is_present(targets), is_absent(targets)
    with_label, without = _means(scores, present, absent)
    missing = absent & (scores >= with_label)
    wrong = present & (scores <= without)
    doubtful: np.ndarray = (missing | wrong) & find_learned(scores, targets)
    return doubtful


def find_learned(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Which classes the model has learned well enough to doubt their labels: bool [C].

    The squared correlation of score and label must reach LEAST_CORRELATION, and the images with the
    label must have the higher mean. Neither is so for a class that no image has, or every image.
    """
    present, absent = is_present(targets), is_absent(targets)
    with_label, without = _means(scores, present, absent)
    positives, negatives = present.sum(axis=0), absent.sum(axis=0)
    share = positives / np.maximum(positives + negatives, 1)
    between = share * (1 - share) * np.square(with_label - without)
    counted: np.ndarray | bool = True
    if has_unknown(targets):  # a class that is nowhere known is not learned, whatever its spread
        counted = is_known(targets) | (positives + negatives == 0)
    spread = np.zeros(len(share))
    if len(scores):
        spread = scores.var(axis=0, dtype=np.float64, where=counted)
    apart = with_label - without > _SMALLEST  # means of equal numbers may differ in the last digit
    learned: np.ndarray = apart & (between >= LEAST_CORRELATION * spread)
    return learned


def _means(scores: np.ndarray, *groups: np.ndarray) -> list[np.ndarray]:
    """Mean score of the images of each group, bool [N, C], for every class; NaN of none."""
    with np.errstate(invalid="ignore"):
        return [
            np.where(group, scores, 0).sum(axis=0, dtype=np.float64) / group.sum(axis=0)
            for group in groups
        ]


def label_quality(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How well each given label agrees with its score: [N, C] in 0..1, [N, C] -> float64 [N, C].

    NaN where no label is given: where it is unknown.
    """
    quality = np.full(targets.shape, np.nan)
    some_unknown = has_unknown(targets)
    for number in range(targets.shape[1]):
        rows = is_known(targets[:, number]) if some_unknown else slice(None)
        present = is_present(targets[rows, number])
        bounded = np.clip(scores[rows, number].astype(np.float64), _SMALLEST, 1 - _SMALLEST)
        odds = _log_odds_of_presence(np.log(bounded / (1 - bounded)), present)
        prior = np.log((present.sum() + 1) / ((~present).sum() + 1))
        given = np.where(present, odds, -odds)
        rarity = np.minimum(np.where(present, prior, -prior), 0)
        quality[rows, number] = _sigmoid(given - PRIOR_SHARE * rarity)
    return quality


def calibrate(answers: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Answers of any range -> probabilities, by one sigmoid per class: float64 [N, C].

    Platt 1999, with his targets: (P + 1) / (P + 2) for each of P positives, 1 / (M + 2) for each of
    M negatives. The order of the answers is kept: where a falling sigmoid would fit better, all
    images get the class's mean. NaN where a target is unknown.
    """
    probabilities = np.full(targets.shape, np.nan)
    some_unknown = has_unknown(targets)
    for number in range(targets.shape[1]):
        rows = is_known(targets[:, number]) if some_unknown else slice(None)
        column = answers[rows, number].astype(np.float64)
        probabilities[rows, number] = _sigmoid(
            _log_odds_of_presence(column, is_present(targets[rows, number]))
        )
    return probabilities


def _log_odds_of_presence(answers: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Answers [N] -> slope * answers + base, fitted to Platt's targets."""
    if not len(answers):
        return answers
    spread = answers.std()
    if spread < 1e-9 * max(1.0, abs(answers).max()):  # constant, except for rounding
        spread = np.inf
    standard = (answers - answers.mean()) / spread
    positives = int(present.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (len(present) - positives + 2)
    goals = np.where(present, high, low)
    mean = goals.mean()
    base = np.log(mean / (1 - mean))
    if standard @ (goals - mean) <= 0:  # the loss rises with the slope: it is convex, so 0 is best
        return np.full(len(answers), base)
    slope, base = _fit_sigmoid(standard, goals, base)
    odds: np.ndarray = slope * standard + base
    return odds


def _fit_sigmoid(x: np.ndarray, goals: np.ndarray, base: float) -> tuple[float, float]:
    """Slope and base that minimise the cross entropy of sigmoid(slope * x + base): Newton."""
    slope = 0.0
    odds = np.full(len(x), base)
    loss = _cross_entropy(odds, goals)
    for _ in range(_ROUNDS):
        share = _sigmoid(odds)
        error, weight = share - goals, share * (1 - share)
        weighted = weight * x
        by_slope, by_base = error @ x, error.sum()
        curve, mixed, flat = weighted @ x + 1e-9, weighted.sum(), weight.sum() + 1e-9
        area = curve * flat - mixed * mixed
        step = (flat * by_slope - mixed * by_base) / area
        lift = (curve * by_base - mixed * by_slope) / area
        for _ in range(_HALVINGS):
            new = (slope - step) * x + (base - lift)
            reached = _cross_entropy(new, goals)
            if reached <= loss:
                break
            step, lift = step / 2, lift / 2
        else:
            break  # it cannot get smaller: this is the minimum, to the last bit
        slope, base, odds, gain, loss = slope - step, base - lift, new, loss - reached, reached
        if gain <= 1e-12 * len(x):
            break
    return float(slope), float(base)


def _cross_entropy(odds: np.ndarray, goals: np.ndarray) -> float:
    return float((np.logaddexp(0, odds) - goals * odds).sum())


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
