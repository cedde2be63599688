# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml.data import folds, soft_targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.errors import PaddlexMLError

ROOT = Path("set")


def make(count: int, prefix: str = "a", seed: int = 0) -> ImageList:
    rng = np.random.default_rng(seed)
    values = (rng.random((count, 3)) < [0.5, 0.2, 0.1]).astype(np.int8)
    return ImageList(ROOT, [f"images/{prefix}{i // 4}_{i}.jpg" for i in range(count)], values)


def divide(*lists: ImageList, count: int = 5, **options: Any) -> list[folds.Fold]:
    chosen: dict[str, Any] = {"strategy": "stratified", "seed": 1, "group_regex": None} | options
    return folds.divide(lists, count, **chosen)


@pytest.mark.parametrize("count", [2, 3, 5, 7])
def test_each_image_is_in_the_val_list_of_one_fold_and_in_the_train_lists_of_the_others(count):
    train, val = make(160), make(40, "b", 1)
    found = divide(train, val, count=count)
    paths = sorted([*train.paths, *val.paths])
    assert sorted(path for _, each in found for path in each.paths) == paths
    for own_train, own_val in found:
        assert sorted([*own_train.paths, *own_val.paths]) == paths
        assert own_val.paths == sorted(own_val.paths)
        assert abs(len(own_val) - 200 / count) <= 2


def test_every_fold_has_its_part_of_each_class():
    images = make(400)
    shares = images.targets.sum(axis=0) / 5
    for _, val in divide(images):
        assert np.abs(val.targets.sum(axis=0) - shares).max() <= 2


def test_groups_stay_together():
    found = divide(make(80), group_regex=r"(a\d+)_")
    for train, val in found:
        names = [{path.split("_")[0] for path in each.paths} for each in (train, val)]
        assert not names[0] & names[1]


@pytest.mark.parametrize("strategy", ["stratified", "random"])
@pytest.mark.parametrize(
    ("sizes", "count"),
    [([1] * 20, 20), ([1] * 150, 150), ([30, 3, 1, 1, 3, 1, 3, 3, 10], 7), ([9, 1, 1, 1], 4)],
)
def test_no_fold_is_empty_however_the_sizes_of_the_groups_differ(sizes, count, strategy):
    paths = [f"g{number:03}_{i}.jpg" for number, size in enumerate(sizes) for i in range(size)]
    values = make(len(paths)).values
    found = divide(
        ImageList(ROOT, paths, values), count=count, strategy=strategy, group_regex=r"(g\d+)_"
    )
    groups = [{path.split("_")[0] for path in val.paths} for _, val in found]
    assert all(groups)
    assert sum(map(len, groups)) == len(sizes)


def test_groups_may_be_used_up_before_single_images_are():
    paths = ["g1_1.jpg", "g1_2.jpg", "g1_3.jpg", "g2_1.jpg", *(f"x{i}.jpg" for i in range(4))]
    for seed in range(20):
        images = ImageList(ROOT, paths, make(8).values)
        found = divide(images, count=5, seed=seed, group_regex=r"(g\d+)_")
        assert all(len(val) for _, val in found)


def test_the_same_seed_gives_the_same_folds_whatever_the_order_of_the_images():
    images = make(60)
    turned = images.take(np.arange(60)[::-1])
    first, again, other = (
        [val.paths for _, val in divide(each, seed=seed)]
        for each, seed in ((images, 1), (turned, 1), (images, 2))
    )
    assert first == again
    assert first != other


def test_images_with_soft_values_are_in_every_training_list_and_weights_go_along():
    images = make(40)
    soft = soft_targets.from_cells(np.array([3, 7]), np.array([0, 1]), np.array([0.25, 0.75]), 40)
    weights = np.arange(40, dtype=np.float32)
    images = ImageList(ROOT, images.paths, images.values, soft, weights)
    for train, val in divide(images, count=3):
        assert {images.paths[3], images.paths[7]} <= {*train.paths}
        assert val.soft is None or len(val.soft.ids) == 0
        assert val.weights is not None
        assert [images.paths[int(weight)] for weight in val.weights] == val.paths


@pytest.mark.parametrize(
    ("images", "regex", "words", "fix"),
    [
        (4, None, "4 images with certain labels cannot be divided into 5 folds", "--folds 4"),
        (16, r"(a\d+)_", "4 groups of images", "--folds 4"),
        (1, None, "1 image with", "leave out --folds"),
    ],
)
def test_too_few_images_are_refused(images, regex, words, fix):
    with pytest.raises(PaddlexMLError) as caught:
        divide(make(images), group_regex=regex)
    assert words in caught.value.what
    assert fix in caught.value.fix
