# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from collections import Counter
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data import augment
from paddlex_ml.data.dataset import Augmentation, SampleIndex


@pytest.fixture(scope="module")
def reference(refdata):
    return refdata.load_json("transforms", "augment.json")


@pytest.fixture(scope="module")
def pictures(refdata):
    return refdata.load_npz("transforms", "randaugment_ops.npz")


@pytest.fixture
def photo():
    """Noise [48, 48]: no change of it can go unnoticed."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8))


def cases(pictures):
    for key, expected in pictures.items():
        if found := re.fullmatch(r"(\w+)_(\d)_(plus|minus)", key):
            yield key, found[1], int(found[2]), found[3] == "minus", expected


def test_every_operation_gives_the_published_picture_bit_for_bit(pictures):
    base = Image.fromarray(pictures["base"])
    seen = Counter()
    for key, name, step, negative, expected in cases(pictures):
        if name == "cutout":
            continue
        found = np.asarray(augment.apply_operation(base, name, step, negative=negative))
        assert np.array_equal(found, expected), key
        seen[name] += 1
    assert set(seen) == set(augment.OPERATIONS)
    assert all(
        count == (6 if augment.OPERATIONS[n].either_way else 3)
        for n, count in seen.items()
        if n != "rotate"
    )  # the published rotation turns one way only


class Fixed:
    """A generator that draws the integers it was given."""

    def __init__(self, *values):
        self.values = list(values)

    def integers(self, _high):
        return self.values.pop(0)


@pytest.mark.parametrize("step", [1, 5, 9])
def test_some_centre_of_the_small_cutout_gives_the_published_picture(pictures, step):
    base, expected = Image.fromarray(pictures["base"]), pictures[f"cutout_{step}_plus"]
    centres = [
        (row, column)
        for row in range(49)
        for column in range(49)
        if np.array_equal(
            np.asarray(augment._small_cutout(base, step, cast(Any, Fixed(row, column)))), expected
        )
    ]
    assert len(centres) == 1


def test_strengths_are_the_published_table(reference):
    table = reference["randaugment_magnitudes_index_0_to_9"]
    assert reference["randaugment_policies"] == (len(augment.NAMES) * augment.STEPS) ** 2
    for name, kind in augment.OPERATIONS.items():
        if table.get(name) is None or table[name][0] is None:
            assert kind.strength(9) == 0.0
            continue
        strengths = [kind.strength(step) for step in range(10)]
        if name == "posterize":
            strengths = [float(round(bits)) for bits in strengths]
        assert strengths == pytest.approx(table[name], abs=1e-12), name


def test_squares_are_the_published_ones(reference):
    assert len(reference["cutout_boxes"]) == 6
    for box in reference["cutout_boxes"]:
        grey = Image.new("RGB", (box["w"], box["h"]), (128, 128, 128))
        covered = augment.cover(grey, box["centre_y"], box["centre_x"], 112, (10, 20, 30))
        rows, columns = np.nonzero((np.asarray(covered) == (10, 20, 30)).all(axis=2))
        assert [rows.min(), rows.max()] == box["rows_inclusive"]
        assert [columns.min(), columns.max()] == box["cols_inclusive"]
        assert len(rows) == box["pixels"]
        assert grey.getpixel((box["centre_x"], box["centre_y"])) == (128, 128, 128)


def test_the_square_has_the_wanted_share_of_the_side_and_one_colour():
    grey = Image.new("RGB", (448, 448), (128, 128, 128))
    widest = 0
    for seed in range(40):
        covered = np.asarray(augment.cutout(grey, 0.5, np.random.default_rng(seed)))
        rows, columns = np.nonzero((covered != 128).any(axis=2))
        assert len(np.unique(covered[rows, columns], axis=0)) == 1
        widest = max(widest, int(np.ptp(columns)) + 1)
    assert widest == 225  # both ends of centre -/+ 112 are covered


def test_a_quarter_of_the_images_stays_untouched(monkeypatch, photo):
    applied = Counter()
    monkeypatch.setattr(
        augment,
        "apply_operation",
        lambda image, name, step, negative: (
            applied.update([name, f"step {step}", f"negative {negative}"]) or image
        ),
    )
    monkeypatch.setattr(
        augment, "_small_cutout", lambda image, step, rng: applied.update(["cutout"]) or image
    )
    rng = np.random.default_rng(0)
    touched = 0
    for _ in range(4000):
        before = applied.total()
        augment.randaugment(photo, rng)
        touched += applied.total() > before
    assert touched / 4000 == pytest.approx(0.75, abs=0.03)
    for name in augment.NAMES:  # 8000 draws, half of them applied, 15 kinds
        assert applied[name] == pytest.approx(4000 / 15, rel=0.25), name
    for step in range(1, 10):
        assert applied[f"step {step}"] == pytest.approx(4000 * 14 / 15 / 9, rel=0.2)
    assert applied["step 0"] == applied["step 10"] == 0
    assert applied["negative True"] == pytest.approx(applied["negative False"], rel=0.1)


def test_rotation_goes_either_way(photo):
    left = np.asarray(augment.apply_operation(photo, "rotate", 5))
    right = np.asarray(augment.apply_operation(photo, "rotate", 5, negative=True))
    mirrored = augment.apply_operation(
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "rotate", 5
    )
    assert not np.array_equal(left, right)
    flipped = np.asarray(mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert (flipped == right).mean() > 0.9  # except pixels at half-way positions


def test_no_operation_changes_the_input_image(photo):
    before = photo.tobytes()
    for name in augment.OPERATIONS:
        augment.apply_operation(photo, name, 9)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        augment.randaugment(augment.cutout(photo, 0.5, rng), rng)
        augment.randaugment(photo, rng)
    assert photo.tobytes() == before


@pytest.mark.parametrize("size", [(48, 48), (33, 70), (1, 1)])
def test_size_and_mode_stay(size):
    image = Image.new("RGB", size, (10, 200, 30))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        changed = augment.randaugment(augment.cutout(image, 0.5, rng), rng)
        assert (changed.size, changed.mode) == (size, "RGB")


def test_the_same_draw_gives_the_same_picture_and_any_other_another(photo):
    both = Augmentation(seed=1, cutout=0.5, randaugment=True)
    first = both.apply(photo, SampleIndex(epoch=2, sample=3)).tobytes()
    assert both.apply(photo, SampleIndex(epoch=2, sample=3)).tobytes() == first
    assert both.apply(photo, SampleIndex(epoch=3, sample=3)).tobytes() != first
    assert both.apply(photo, SampleIndex(epoch=2, sample=4)).tobytes() != first
    assert both.apply(photo, SampleIndex(epoch=3, sample=2)).tobytes() != first
    assert both._replace(seed=2).apply(photo, SampleIndex(epoch=2, sample=3)).tobytes() != first


def test_both_operations_can_be_switched_off(photo):
    draws = [SampleIndex(0, sample) for sample in range(20)]
    off = Augmentation(seed=1, cutout=0.0, randaugment=False)
    assert all(off.apply(photo, draw).tobytes() == photo.tobytes() for draw in draws)
    square = Augmentation(seed=1, cutout=0.5, randaugment=False)
    assert all(square.apply(photo, draw).tobytes() != photo.tobytes() for draw in draws)


def test_what_mirrors_says_is_what_apply_does(photo):
    """A teacher's scores are kept by it."""
    mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    for flip in (True, False):
        changes = Augmentation(seed=1, cutout=0.0, randaugment=False, flip=flip)
        assert not changes.is_endless
        draws = [SampleIndex(epoch, 3, copy) for epoch in range(20) for copy in range(2)]
        found = [changes.apply(photo, draw).tobytes() == mirrored for draw in draws]
        assert found == [changes.mirrors(draw) for draw in draws]
        assert any(found) == flip
    assert changes._replace(cutout=0.5).is_endless
    assert changes._replace(randaugment=True).is_endless
    assert changes._replace(mixup=0.2).is_endless


def test_flip_mirrors_half_of_the_images(photo):
    flip = Augmentation(seed=1, cutout=0.0, randaugment=False, flip=True)
    mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    found = Counter(flip.apply(photo, SampleIndex(0, sample)).tobytes() for sample in range(400))
    assert set(found) == {photo.tobytes(), mirrored}
    assert found[mirrored] == pytest.approx(200, abs=40)


def test_half_of_the_images_are_mirrored_left_to_right() -> None:
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    mirrored = np.asarray(image)[:, ::-1]
    flip = Augmentation(seed=1, cutout=0.0, randaugment=False, flip=True)
    shown = [np.asarray(flip.apply(image, SampleIndex(0, k))) for k in range(400)]
    count = sum(np.array_equal(pixels, mirrored) for pixels in shown)
    assert 160 < count < 240
    assert count + sum(np.array_equal(pixels, np.asarray(image)) for pixels in shown) == 400


def test_a_second_copy_in_an_epoch_looks_different(photo):
    both = Augmentation(seed=1, cutout=0.5, randaugment=True)
    first = both.apply(photo, SampleIndex(epoch=2, sample=3)).tobytes()
    assert both.apply(photo, SampleIndex(epoch=2, sample=3, copy=0)).tobytes() == first
    second = both.apply(photo, SampleIndex(epoch=2, sample=3, copy=1)).tobytes()
    assert len({first, second, both.apply(photo, SampleIndex(2, 3, copy=2)).tobytes()}) == 3
