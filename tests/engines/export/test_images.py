# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.preprocess import standard
from paddlex_ml.engines.export import images as export_images


def draw(count: int) -> ImageList:
    """Images of which every tenth shows the second class."""
    cells = np.zeros((count, 2), np.int8)
    cells[:, 0] = 1
    cells[::10, 1] = 1
    return ImageList(Path("set"), [f"images/{n}.jpg" for n in range(count)], cells)


@pytest.mark.parametrize("count", [10, 50, 99])
def test_every_class_has_its_share_of_the_chosen_images(count: int) -> None:
    chosen = export_images.choose(draw(500), count, 0)
    assert len(chosen) == len(set(chosen.paths)) == count
    assert chosen.targets[:, 1].sum() == pytest.approx(count / 10, abs=1)


def test_a_short_list_is_taken_whole_and_the_same_seed_gives_the_same_order() -> None:
    images = draw(30)
    chosen = export_images.choose(images, 300, 1)
    assert sorted(chosen.paths) == sorted(images.paths)
    assert chosen.paths == export_images.choose(images, 300, 1).paths
    assert chosen.paths != export_images.choose(images, 300, 2).paths


def test_a_long_list_is_thinned_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_images, "_CANDIDATES", 100)
    chosen = export_images.choose(draw(1000), 20, 0)
    assert len(set(chosen.paths)) == 20


def test_images_are_those_that_an_evaluation_sees(toy: Path) -> None:
    val = annotation.read(toy, lists=("val",)).val
    found = export_images.load(val, standard(32), "val.txt", 5)
    assert len(found) == len(val)
    assert np.array_equal(found.targets, val.targets)
    batches = np.concatenate(list(found.batches()))
    expected = found.steps.normalise(found.pixels)
    assert np.array_equal(batches[:12], expected)
    assert np.array_equal(batches[12:], expected[[11] * 3])  # filled up
    assert len(np.concatenate(list(found.batches(most=7)))) == 10
