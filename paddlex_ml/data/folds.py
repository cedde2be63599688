# SPDX-License-Identifier: Apache-2.0
"""Division into K folds for a cross-validation: each image is in the val list of one of them.

    all images -> fold 1 | the rest -> fold 2 | the rest -> ...    as `split` divides, K - 1 times

So folds are stratified and keep groups together as a split does. A fold that takes so many small
groups that fewer are left than folds gives the smallest ones back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paddlex_ml.data import split
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.stratify import Numbers, choose_by_chance, choose_by_class
from paddlex_ml.data.targets import Mask
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

Fold = tuple[ImageList, ImageList]
"""Training list and validation list."""


def divide(
    lists: Sequence[ImageList], folds: int, *, strategy: str, seed: int, group_regex: str | None
) -> list[Fold]:
    """K pairs of lists, each in the order of the paths; the same for the same images and seed.

    Images with soft values, and their groups, are in every training list and in no validation list,
    which has certain labels alone. Raises PaddlexMLError where the images, or their groups, are
    fewer than the folds, for a path that is listed twice, and as `split.group` does.
    """
    every = split.join(lists)
    split.refuse_repeated(every.paths)
    every = every.take(np.argsort(np.array(every.paths, object), kind="stable"))
    numbers = np.arange(len(every))
    if group_regex is not None:
        numbers = split.group(every.paths, group_regex)
    is_free = np.ones(len(every), np.bool_)
    if every.soft is not None:
        is_free = ~np.isin(numbers, numbers[np.diff(every.soft.starts) > 0])
    units = len(np.unique(numbers[is_free]))
    if units < folds:
        what = ("image",) if group_regex is None else ("group of images", "groups of images")
        raise PaddlexMLError(
            f"{count(units, *what)} with certain labels cannot be divided into {folds} folds",
            where=str(every.root),
            fix=f"--folds {units}" if units > 1 else "leave out --folds, or add images",
        )
    left, fold_of = np.flatnonzero(is_free), np.full(len(every), folds)
    fold_of[~is_free] = 0
    for number in range(1, folds):
        groups = np.unique(numbers[left], return_inverse=True)[1].astype(np.int64)
        percent = max(1, round(100 / (folds - number + 1)))
        if strategy == "random":
            drawn = choose_by_chance(groups, percent, seed)
        else:
            drawn = choose_by_class(every.take(left).values, groups, percent, seed)
        is_chosen = _leave_groups(drawn, groups, folds - number)
        fold_of[left[is_chosen]] = number
        left = left[~is_chosen]
    return [(every.take(fold_of != k), every.take(fold_of == k)) for k in range(1, folds + 1)]


def _leave_groups(drawn: Mask, groups: Numbers, least: int) -> Mask:
    """The images of a fold, without its smallest groups where fewer than `least` are left."""
    sizes = np.bincount(groups)
    chosen = np.unique(groups[drawn])
    too_many = len(chosen) + least - len(sizes)
    by_size = chosen[np.argsort(sizes[chosen], kind="stable")]
    kept: Mask = np.isin(groups, by_size[max(0, too_many) :])
    return kept
