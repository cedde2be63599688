# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.inference import fixed_batch

IMAGES = np.arange(5 * 3 * 4 * 4, dtype=np.float32).reshape(5, 3, 4, 4)


def of_size(size: int | None, sizes: list[int]):
    """A network that takes batches of one size alone, and notes those that it gets."""

    def run(part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        if size is not None and len(part) != size:
            raise RuntimeError(f"takes {size} images")
        return part.mean(axis=(2, 3))

    return run


@pytest.mark.parametrize(
    ("size", "parts"), [(None, [5]), (5, [5]), (2, [2, 2, 2]), (1, [1] * 5), (8, [8])]
)
def test_batches_are_divided_and_filled_up(size: int | None, parts: list[int]) -> None:
    sizes: list[int] = []
    found = fixed_batch.divide(of_size(size, sizes), size)(IMAGES)
    assert sizes == parts
    assert np.array_equal(found, IMAGES.mean(axis=(2, 3)))


@pytest.mark.parametrize(("size", "first"), [(2, 2), (1, "batch"), (1, -1), (None, None)])
def test_the_size_is_found(size: int | None, first: object) -> None:
    run, scores = fixed_batch.find(of_size(size, []), first, IMAGES[:2])
    assert np.array_equal(scores, IMAGES[:2].mean(axis=(2, 3)))
    assert np.array_equal(run(IMAGES), IMAGES.mean(axis=(2, 3)))


def test_the_first_reason_is_told() -> None:
    def run(part: np.ndarray) -> np.ndarray:
        raise RuntimeError(f"cannot run {len(part)}")

    with pytest.raises(RuntimeError, match="cannot run 2"):
        fixed_batch.find(run, "batch", IMAGES[:2])
