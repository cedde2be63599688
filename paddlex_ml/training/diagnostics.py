# SPDX-License-Identifier: Apache-2.0
"""Signs that a training goes wrong, as messages that name the likely cause and the repair."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from paddlex_ml.artifacts.train_result import Best, EpochRow
from paddlex_ml.data import targets
from paddlex_ml.data.targets import Targets
from paddlex_ml.evaluation import LEAST_SPREAD
from paddlex_ml.metrics.average_precision import constant_predictor_map
from paddlex_ml.metrics.bootstrap import beats_guessing
from paddlex_ml.metrics.known import is_present
from paddlex_ml.wording import count, first_names

logger = logging.getLogger(__name__)

GROWTH = 1.5
"""The loss grows when the last quarter of an epoch exceeds its first quarter by this factor."""
FIRST_EPOCHS = 3
"""Epochs in which a growing loss is reported: in later ones it is often harmless."""
HARMLESS_RATE = 1e-4
"""The published peak rate: at it and below, no training collapses because of its rate."""
WAITING = 0.2
"""Share of an epoch's time that may be spent waiting for data."""
WORTH = 10.0
"""Seconds of waiting in an epoch below which there is no message."""
BEHIND = 0.02
"""mAP by which averaged weights may end below the raw ones."""
COMPARABLE = 100
"""Updates below which averaged and raw weights cannot be compared yet."""
JUDGED = 100
"""Updates below which equal scores say that nothing is learned yet, whatever the rate: a random
start at 1e-3 had them after 10 updates, and learned in the next 10."""
FEW = 5
"""Training images of a class below which it is hardly learned."""
SMALL_LIST = 50
"""Validation images below which mAP is unreliable."""
_NAMED = 10
_LACKS = {
    ("train", "none"): (
        "no image in train.txt",
        "a class without images is never predicted; add images, or remove it from label.txt",
    ),
    ("train", "unseen"): (
        "only unknown labels in train.txt",
        "nothing is learned of a class that nobody has looked for; label some images, with it and "
        "without it",
    ),
    ("train", "unseen, weak_negative"): (
        "only unknown labels in train.txt",
        "-o Train.loss.unknown=weak_negative teaches that such a class is nowhere; label some "
        "images, with it and without it",
    ),
    ("train", "unseen, em"): (
        "only unknown labels in train.txt",
        "-o Train.loss.unknown=em draws the scores of such a class to 0.5; label some images, with "
        "it and without it",
    ),
    ("train", "unseen, role"): (
        "only unknown labels in train.txt",
        "-o Train.loss.unknown=role draws the scores of such a class to estimates that begin by "
        "chance; label some images, with it and without it",
    ),
    ("train", "nowhere absent"): (
        "no image in train.txt that is known not to show it",
        "a model learns that such a class is everywhere; label some images without it, or train "
        "with -o Train.loss.unknown=em",
    ),
    ("train", "few"): (
        f"fewer than {FEW} images in train.txt",
        "that is hardly enough to learn from; add images, or draw these more often with "
        "-o Train.sampler=repeat_factor",
    ),
    ("val", "none"): (
        "no image in val.txt",
        "mAP ignores a class without validation images; move images to val.txt, or split all "
        "images again: mode check_dataset with -o CheckDataset.split.enable=true",
    ),
    ("val", "unseen"): (
        "only unknown labels in val.txt",
        "mAP ignores a class that nobody has looked for; label some images, with it and without it",
    ),
    ("val", "nowhere absent"): (
        "no image in val.txt that is known not to show it",
        "its average precision is 1 whatever the model does; label some images without it",
    ),
}
"""What classes of a list lack, and what follows, with a repair."""


@dataclass(frozen=True)
class Diagnostics:
    """Logs a warning for each sign, once in a run."""

    loader_repairs: Sequence[str] = ()
    """Options that would bring data faster, best first."""
    _warned: set[str] = field(default_factory=set, repr=False)

    def after_epoch(
        self,
        row: EpochRow,
        *,
        losses: Sequence[float],
        waited: float,
        peak_rate: float,
        is_constant: bool,
    ) -> None:
        """Check an epoch that has just ended.

        `losses` are those of its steps, without steps before a resume; `waited` is the time without
        data in seconds; `is_constant`: it was evaluated, and all images had the same scores.
        """
        is_high = peak_rate > HARMLESS_RATE
        if is_constant:
            is_collapse = is_high and row.step >= JUDGED
            sign = "collapse" if is_collapse else "constant"  # each is told, the second one later
            self._warn(sign, _explain_constant(row.step, peak_rate, is_collapse=is_collapse))
        quarter = len(losses) // 4
        if row.epoch <= FIRST_EPOCHS and quarter >= 2:
            first, last = fmean(losses[:quarter]), fmean(losses[-quarter:])
            if last > GROWTH * first:
                self._warn(
                    "growth",
                    f"the loss grew within epoch {row.epoch}, from {first:.2f} in its first "
                    f"quarter to {last:.2f} in its last one. "
                    + (
                        "The likely cause is a learning rate that is too large; try "
                        f"-o Train.learning_rate={peak_rate / 3:.0e}, or a longer warm-up "
                        "(Train.warmup_steps)"
                        if is_high
                        else f"A rate of {peak_rate:g} is not the cause: batches differ, as they "
                        "do in a small or an unbalanced data set"
                    ),
                )
        if row.data_wait > WAITING and waited >= WORTH:
            self._warn(
                "loader",
                f"{row.data_wait:.0%} of the epoch's time ({waited:.0f} s) was spent waiting for "
                "data: images are read and augmented more slowly than the model trains. "
                + (
                    "Try " + ", or ".join(self.loader_repairs)
                    if self.loader_repairs
                    else "All loader options are already on; only more CPU cores would help"
                ),
            )

    def at_end(self, history: Sequence[EpochRow], decay: float, updates: int) -> None:
        """Check whether the averaged weights ended below the raw ones in the last evaluation.

        They do when the model learns faster than the average of its weights follows.
        """
        scored = [row for row in history if row.raw_map is not None]
        raw, ema = (scored[-1].raw_map, scored[-1].ema_map) if scored else (None, None)
        if raw is None or ema is None or raw - ema <= BEHIND or updates < COMPARABLE:
            return
        window = averaging_window(decay, updates)
        shorter = max(0.0, 1 - 4 / window)
        self._warn(
            "average",
            f"the averaged weights ended at mAP {ema:.4f}, the raw ones at {raw:.4f}: an average "
            f"over the last {window:.0f} of {updates} updates is too slow for this training; "
            + (
                f"-o Train.ema_decay={shorter:.3g} averages over a quarter of them"
                if shorter
                else "-o Train.ema_decay=0 switches averaging off"
            ),
        )

    def check_best(self, best: Best | None, truth: np.ndarray) -> None:
        """Check whether the best model ranks images better than by chance; targets [N, C]."""
        constant = constant_predictor_map(truth)
        if best is not None and not is_present(truth).any():
            self._warn(
                "unmeasured",
                "no label of val.txt is known to be present: mAP is undefined and stands as 0, so "
                "the best model was chosen by no score. Label images of val.txt, or split all "
                "images again: mode check_dataset with -o CheckDataset.split.enable=true",
            )
            return
        if best is None or beats_guessing(best.score, best.interval, constant):
            return
        interval = ""
        if best.interval is not None:
            interval = " (95 % interval {:.4f} to {:.4f})".format(*best.interval)
        self._warn(
            "guessing",
            f"the best model is not better than guessing: its mAP is {best.score:.4f}{interval}, "
            f"that of a model that gives every image the same scores {constant:.4f}. Train for "
            "more epochs (-o Train.epochs_iters=...), start from pretrained weights (-o "
            "Train.pretrain_weight_path=...), and see with mode check_dataset whether the labels "
            "belong to the images"
            + ("; with more images in val.txt the interval gets narrower" if interval else ""),
        )

    def _warn(self, sign: str, message: str) -> None:
        if sign not in self._warned:
            self._warned.add(sign)
            logger.warning(message)


def _explain_constant(updates: int, peak_rate: float, *, is_collapse: bool) -> str:
    """Why all images may have the same scores after so many updates, and what to do."""
    if is_collapse:
        return (
            "the scores no longer differ between images: the training has collapsed. The likely "
            "cause is a learning rate that is too large; try "
            f"-o Train.learning_rate={peak_rate / 10:.0e}"
        )
    few = (
        f"{updates:,} updates are few"
        if updates < JUDGED
        else f"a learning rate of {peak_rate:g} is low"
    )
    return (
        f"the scores of a class differ by less than {LEAST_SPREAD:g} between images: nothing was "
        f"learned so far; {few}. Train for more epochs (-o Train.epochs_iters=...) or from "
        "pretrained weights (-o Train.pretrain_weight_path=...)"
    )


def loader_repairs(cache: str, workers: int, cores: int, *, reduced_decode: bool) -> list[str]:
    """Options that would speed up a slow loader, best first; `workers`, `cores` of one process."""
    repairs = []
    if workers < cores:
        repairs.append(f"-o Train.num_workers={cores}")
    if cache == "none":
        repairs.append("-o Train.cache=ram (or disk)")
    if not reduced_decode:
        repairs.append("-o Train.reduced_decode=true")
    return repairs


def averaging_window(decay: float, updates: int) -> float:
    """Updates that the averaged weights are a mean of, at the end of `updates` of them.

    That is 1 / (1 - decay). The decay is warmed up (`training.ema`), so that the window never
    exceeds (10 + updates) / 9: the averaged weights cannot be older than the run.
    """
    return min(1 / (1 - decay), (10 + updates) / 9)


def check_lists(
    names: Sequence[str], train: Targets, val: Targets, *, unknown: str = "ignore"
) -> list[str]:
    """What the lists of a data set cannot teach or measure.

    `unknown` is what a training makes of the unknown labels of `train` (Train.loss.unknown).
    """
    messages = []
    for name, values in (("train", train), ("val", val)):
        counts = targets.count(values)
        shown, known = counts.present, counts.known
        unseen = (known == 0) & (len(values) > 0)  # an empty list has no unknown label
        for kind, chosen in (
            ("none", (shown == 0) & ~unseen),
            ("unseen", unseen),
            ("nowhere absent", (shown > 0) & (known == shown) & (known < len(values))),
            ("few", (shown > 0) & (shown < FEW)),
        ):
            classes = [names[i] for i in np.flatnonzero(chosen).tolist()]
            if kind == "few":
                classes = [f"{names[i]} ({shown[i]})" for i in np.flatnonzero(chosen).tolist()]
            if (name, kind) == ("train", "nowhere absent") and unknown != "ignore":
                continue
            if (name, f"{kind}, {unknown}") in _LACKS:
                kind = f"{kind}, {unknown}"
            if classes and (name, kind) in _LACKS:
                number = count(len(classes), "class has", "classes have")
                lack, advice = _LACKS[name, kind]
                messages.append(f"{number} {lack} ({first_names(classes, _NAMED)}): {advice}")
    single = [names[i] for i in np.flatnonzero(shown == 1).tolist()]  # of val, the last list
    reasons = [f"val.txt has only {count(len(val), 'image')}"] if len(val) < SMALL_LIST else []
    if single:
        each = "each of " if len(single) > 1 else ""
        reasons.append(f"only one image in val.txt shows {each}{first_names(single, _NAMED)}")
    if reasons:
        messages.append(
            f"mAP on val.txt is unreliable: {' and '.join(reasons)}. Ignore small differences, or "
            "move images to val.txt"
        )
    return messages
