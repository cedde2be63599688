# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.split import (
    Division,
    Row,
    count_classes,
    count_images,
    divide,
    find_one_sided,
    group,
    render,
)
from paddlex_ml.errors import PaddlexMLError

ROOT = Path("set")


def make_list(rows: list[list[int]], paths: list[str] | None = None) -> ImageList:
    return ImageList(
        ROOT, paths or [f"images/{i}.jpg" for i in range(len(rows))], np.array(rows, np.uint8)
    )


def draw_list(num_images: int, chances: list[float], seed: int = 0) -> ImageList:
    """Images whose classes are drawn, each with its own chance."""
    drawn = np.random.default_rng(seed).random((num_images, len(chances)))
    return make_list((drawn < chances).astype(int).tolist())


def list_lines(images: ImageList) -> list[tuple[str, tuple[int, ...]]]:
    return [
        (path, tuple(row)) for path, row in zip(images.paths, images.targets.tolist(), strict=True)
    ]


def count_val(lists: dict[str, ImageList]) -> list[int]:
    return lists["val"].targets.sum(axis=0, dtype=int).tolist()


def find_absent(lists: dict[str, ImageList]) -> list[int]:
    """Classes of at least two images that are on one side only."""
    train, val = (lists[name].targets.sum(axis=0, dtype=int) for name in ("train", "val"))
    return np.flatnonzero((train + val > 1) & ((train == 0) | (val == 0))).tolist()


small_lists = st.integers(1, 6).flatmap(
    lambda num_classes: st.lists(
        st.lists(st.integers(0, 1), min_size=num_classes, max_size=num_classes),
        min_size=2,
        max_size=8,
    ).map(make_list)
)
divisions = st.builds(
    Division,
    val_percent=st.integers(1, 99),
    strategy=st.sampled_from(["stratified", "random"]),
    seed=st.integers(0, 99),
    group_regex=st.none() | st.just(r"(\d)\.jpg"),
)


# Dividing


def test_each_side_gets_its_part_of_each_class_by_hand() -> None:
    images = make_list([[1, 0]] * 10 + [[0, 1]] * 20 + [[1, 1]] * 10 + [[0, 0]] * 60)
    for seed in range(5):
        lists = divide(images, Division(val_percent=20, seed=seed))
        assert len(lists["val"]) == 20
        assert count_val(lists) == [4, 6]


def test_a_class_of_two_images_is_on_both_sides_although_its_part_is_less_than_one() -> None:
    images = make_list([[1, 0]] * 2 + [[0, 1]] * 98)
    lists = divide(images, Division(val_percent=10))
    assert len(lists["val"]) == 10
    assert count_val(lists) == [1, 9]


def test_a_class_of_one_image_trains() -> None:
    images = make_list([[1, 0]] + [[0, 1]] * 9)
    assert count_val(divide(images, Division(val_percent=50))) == [0, 5]


def test_three_classes_in_a_triangle_cannot_all_be_on_both_sides_and_one_is_reported() -> None:
    images = make_list([[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    lists = divide(images, Division(val_percent=50))
    rows = count_classes({"train": images}, lists, ["a", "b", "c"], 50)
    assert len(find_one_sided(rows)) == 1
    assert {len(lists["train"]), len(lists["val"])} == {1, 2}


def test_both_lists_keep_the_order_of_the_images() -> None:
    images = draw_list(50, [0.5, 0.1])
    for strategy in ("stratified", "random"):
        lists = divide(images, Division(val_percent=30, strategy=strategy))
        for side in lists.values():
            positions = [images.paths.index(path) for path in side.paths]
            assert positions == sorted(positions)
            assert side.root == ROOT


@settings(deadline=None)
@given(small_lists, divisions)
def test_no_image_is_lost_invented_or_on_both_sides(images: ImageList, division: Division) -> None:
    lists = divide(images, division)
    train, val = list_lines(lists["train"]), list_lines(lists["val"])
    assert Counter(train + val) == Counter(list_lines(images))
    assert not {path for path, _ in train} & {path for path, _ in val}
    assert train
    assert val


@settings(deadline=None)
@given(small_lists, divisions)
def test_the_same_seed_gives_the_same_lists(images: ImageList, division: Division) -> None:
    first, second = divide(images, division), divide(images, division)
    assert first["val"].paths == second["val"].paths
    assert first["train"].paths == second["train"].paths


@pytest.mark.parametrize("strategy", ["stratified", "random"])
def test_another_seed_gives_other_lists(strategy: str) -> None:
    images = draw_list(50, [0.5, 0.1])
    found = {
        tuple(divide(images, Division(val_percent=20, strategy=strategy, seed=seed))["val"].paths)
        for seed in range(5)
    }
    assert len(found) == 5


@settings(max_examples=300, deadline=None)
@given(small_lists, st.integers(1, 99), st.integers(0, 99))
def test_every_class_is_on_both_sides_wherever_any_division_allows_it(
    images: ImageList, val_percent: int, seed: int
) -> None:
    count, totals = len(images), images.targets.sum(axis=0, dtype=int)
    every = np.arange(1, 2**count - 1)[:, None] >> np.arange(count) & 1  # all divisions
    in_val = every @ images.targets.astype(int)
    one_sided = (totals > 1) & ((in_val == 0) | (in_val == totals))
    if not one_sided.any(axis=1).all():
        assert find_absent(divide(images, Division(val_percent=val_percent, seed=seed))) == []


def test_hundreds_of_rare_classes_are_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    targets = np.zeros((3000, 400), np.uint8)
    for column in targets.T:
        column[rng.choice(3000, rng.integers(2, 12), replace=False)] = 1
    images = ImageList(ROOT, [f"{i}.jpg" for i in range(3000)], targets)
    for val_percent in (1, 20, 50, 99):
        assert find_absent(divide(images, Division(val_percent=val_percent))) == []


@pytest.mark.parametrize("val_percent", [1, 10, 25, 50, 99])
@pytest.mark.parametrize(
    "chances",
    [[0.3, 0.1, 0.05], [0.9, 0.8, 0.7, 0.2], list(np.geomspace(0.9, 0.02, 30)), [0.0, 1.0]],
    ids=["few labels", "many labels", "long tail", "none and all"],
)
def test_sizes_are_as_asked(chances: list[float], val_percent: int) -> None:
    for num_images in (100, 997, 5000):
        images = draw_list(num_images, chances)
        counts = images.targets.sum(axis=0, dtype=int)
        if 0 < counts[counts > 0].min() * min(val_percent, 100 - val_percent) < 100:
            continue  # a class so rare that one image of it is more than its part
        for strategy in ("stratified", "random"):
            lists = divide(images, Division(val_percent=val_percent, strategy=strategy))
            off = abs(len(lists["val"]) - num_images * val_percent / 100)
            assert off <= (max(1, num_images / 100) if strategy == "stratified" else 0.5)


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(1, 99))
def test_a_random_division_has_exactly_the_size(num_images: int, val_percent: int) -> None:
    images = make_list([[1]] * num_images)
    lists = divide(images, Division(val_percent=val_percent, strategy="random"))
    rounded = int(num_images * val_percent / 100 + 0.5)
    assert len(lists["val"]) == min(max(rounded, 1), num_images - 1)


@pytest.mark.parametrize(
    ("rows", "fewer"),
    [([[1]], "1 image cannot be divided in two"), ([], "0 images cannot be divided in two")],
)
def test_less_than_two_images_are_refused(rows: list[list[int]], fewer: str) -> None:
    images = ImageList(ROOT, ["a.jpg"] * len(rows), np.array(rows, np.uint8).reshape(-1, 1))
    with pytest.raises(PaddlexMLError, match=fewer):
        divide(images, Division(val_percent=20))


def test_an_image_that_is_listed_twice_is_refused_with_its_name() -> None:
    images = make_list([[1], [0], [1]], ["images/a.jpg", "b.jpg", "images/../images/a.jpg"])
    with pytest.raises(PaddlexMLError, match=r"1 image is listed more than once.*: images/a\.jpg"):
        divide(images, Division(val_percent=20))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"val_percent": 0}, "0 % of the images cannot be for validation"),
        ({"val_percent": 100}, "choose a whole number from 1 to 99"),
        ({"val_percent": 20, "strategy": "stratify"}, "choose stratified or random"),
    ],
)
def test_a_division_that_cannot_be_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(PaddlexMLError, match=what):
        Division(**options)


# Groups

frames = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 7)), min_size=2, max_size=40).filter(
    lambda rows: len({video for video, _ in rows}) > 1
)


@settings(deadline=None)
@given(frames, st.integers(1, 99), st.integers(0, 9), st.sampled_from(["stratified", "random"]))
def test_groups_never_cross(
    rows: list[tuple[int, int]], val_percent: int, seed: int, strategy: str
) -> None:
    paths = [f"images/video{video}_{i}.jpg" for i, (video, _) in enumerate(rows)]
    images = make_list([[bits & 1, bits >> 1 & 1, bits >> 2] for _, bits in rows], paths)
    division = Division(
        val_percent=val_percent, strategy=strategy, seed=seed, group_regex=r"(video\d+)_"
    )
    lists = divide(images, division)
    train, val = ({path.split("_")[0] for path in lists[name].paths} for name in ("train", "val"))
    assert not train & val
    assert train
    assert val


def test_a_class_of_two_groups_is_on_both_sides() -> None:
    rows = [[1, 0]] * 30 + [[1, 0]] * 3 + [[0, 1]] * 67
    paths = [f"a_{i}.jpg" for i in range(30)] + [f"b_{i}.jpg" for i in range(3)]
    paths += [f"{i}.jpg" for i in range(67)]
    lists = divide(make_list(rows, paths), Division(val_percent=20, group_regex="^([ab])_"))
    assert count_val(lists)[0] == 3
    assert len(lists["val"]) == 20


def test_the_size_is_met_as_closely_as_groups_allow() -> None:
    paths = [f"video{i // 10}_{i}.jpg" for i in range(100)]
    images = make_list([[i // 10 % 2] for i in range(100)], paths)
    for strategy in ("stratified", "random"):
        division = Division(val_percent=20, strategy=strategy, group_regex=r"video\d")
        assert len(divide(images, division)["val"]) == 20


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        (r"(v\d)_", [0, 0, 1, 0, 2]),
        (r"v\d_", [0, 0, 1, 0, 2]),
        (r"(\w)/(v\d)_", [0, 0, 1, 2, 3]),
        (r"(\d+)\.jpg|(still)", [0, 1, 0, 0, 2]),
        (r"^(.)/", [0, 0, 0, 1, 2]),
        (r"^\w/(v1)?", [0, 0, 1, 0, 2]),  # v2 matches, but nothing in the parentheses
    ],
)
def test_a_pattern_names_the_group_of_each_path(pattern: str, numbers: list[int]) -> None:
    paths = ["a/v1_1.jpg", "a/v1_2.jpg", "a/v2_1.jpg", "b/v1_1.jpg", "still.png"]
    assert group(paths, pattern).tolist() == numbers


@pytest.mark.parametrize("pattern", [r"(video\d+)_", "(x)?", "y*"])
def test_a_pattern_that_matches_no_image_is_refused_and_the_first_paths_are_shown(
    pattern: str,
) -> None:
    paths = [f"images/{i}.jpg" for i in range(9)]
    with pytest.raises(PaddlexMLError, match="matches no image") as caught:
        group(paths, pattern)
    assert "images/0.jpg, images/1.jpg, images/2.jpg" in str(caught.value)
    assert "images/8.jpg" not in str(caught.value)


def test_an_invalid_pattern_is_refused_with_the_position() -> None:
    with pytest.raises(PaddlexMLError, match="at position 3") as caught:
        group(["a.jpg"], "abc(d")
    assert "missing ), unterminated subpattern" in str(caught.value)


def test_a_pattern_that_makes_one_group_of_all_images_is_refused() -> None:
    with pytest.raises(PaddlexMLError, match="puts all 2 images into one group"):
        divide(make_list([[1], [0]]), Division(val_percent=20, group_regex="images"))


# The table


def test_the_rows_count_both_lists_before_and_after_and_the_worst_come_first() -> None:
    before = {
        "train": make_list([[1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 1]]),
        "val": make_list([[0, 1, 0, 1], [0, 1, 0, 1]]),
    }
    after = {
        "train": make_list([[1, 0, 0, 1], [1, 1, 0, 1], [0, 1, 0, 1]]),
        "val": make_list([[1, 0, 0, 1], [0, 1, 0, 1]]),
    }
    rows = count_classes(before, after, ["a", "b", "none", "all"], 40)
    assert rows == [
        Row("a", 3, 0, 2, 1),
        Row("b", 1, 2, 2, 1),
        Row("all", 3, 2, 3, 2),
        Row("none", 0, 0, 0, 0),
    ]
    assert [row.share for row in rows] == [pytest.approx(1 / 3), pytest.approx(1 / 3), 0.4, None]
    assert count_images(before, after) == Row("all images", 3, 2, 3, 2)


def test_a_source_of_one_list_has_no_images_in_val_before() -> None:
    images = make_list([[1]] * 10)
    lists = divide(images, Division(val_percent=20))
    assert count_classes({"train": images}, lists, ["a"], 20) == [Row("a", 10, 0, 8, 2)]
    assert count_images({"train": images}, lists) == Row("all images", 10, 0, 8, 2)


def test_classes_on_one_side_are_found_rarest_first() -> None:
    rows = [Row("a", 9, 0, 9, 0), Row("b", 5, 5, 8, 2), Row("c", 1, 0, 1, 0), Row("d", 0, 0, 0, 0)]
    assert [row.name for row in find_one_sided(rows)] == ["c", "a"]


def test_the_table_is_aligned_in_any_language() -> None:
    rows = [
        Row("all images", 12345, 6, 1600, 400),
        Row("红色圆形", 1, 2, 3, 4),
        Row("cafe\u0301", 0, 0, 0, 0),
        Row("a\x1b[31m", 1, 0, 1, 0),
    ]
    assert render(rows) == [
        "class       train before  val before  train after  val after  val share",
        "all images        12,345           6        1,600        400      20.0%",
        "红色圆形               1           2            3          4      57.1%",
        "cafe\u0301                   0           0            0          0",
        "a?[31m                 1           0            1          0       0.0%",
    ]


# Real photographs


def read_all(folder: Path) -> tuple[ImageList, list[str]]:
    dataset = annotation.read(folder)
    targets = np.concatenate([dataset.train.targets, dataset.val.targets])
    paths = [*dataset.train.paths, *dataset.val.paths]
    return ImageList(dataset.root, paths, targets), dataset.label_names


def measure_shares(images: ImageList, division: Division) -> list[float]:
    """How far the share of each class with images is from the one asked for."""
    names = [str(i) for i in range(images.targets.shape[1])]
    rows = count_classes({"train": images}, divide(images, division), names, division.val_percent)
    return [abs(row.share - division.val_percent / 100) for row in rows if row.share is not None]


@pytest.mark.parametrize("name", ["natural_scenes", "clothing_ccp"])
@pytest.mark.parametrize("val_percent", [10, 20])
def test_on_photographs_the_worst_class_is_five_times_nearer_than_by_chance(
    shared: Path, name: str, val_percent: int
) -> None:
    images, _ = read_all(shared / "data" / name)
    for seed in range(5):
        stratified, drawn = (
            measure_shares(images, Division(val_percent=val_percent, strategy=strategy, seed=seed))
            for strategy in ("stratified", "random")
        )
        assert max(stratified) < max(drawn) / 5
        assert max(stratified) < 0.01


def test_on_63_photographs_of_61_classes_every_class_that_can_is_on_both_sides(
    shared: Path,
) -> None:
    images, _ = read_all(shared / "data" / "coco_mini_open")
    for seed in range(5):
        lists = divide(images, Division(val_percent=20, seed=seed))
        assert find_absent(lists) == []
        # 16 is the smallest val that shows all of these classes, so the 13 asked for cannot be.
        assert len(lists["val"]) in (16, 17, 18)
        drawn = divide(images, Division(val_percent=20, strategy="random", seed=seed))
        assert len(find_absent(drawn)) > 10
        stratified, by_chance = (
            measure_shares(images, Division(val_percent=20, strategy=strategy, seed=seed))
            for strategy in ("stratified", "random")
        )
        # Equal as a rule: some image holds both the one photograph of its class and the second of
        # another class, and a class of one photograph in val is off by 0.8.
        assert max(stratified) <= max(by_chance)
