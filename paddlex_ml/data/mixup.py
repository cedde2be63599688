# SPDX-License-Identifier: Apache-2.0
"""Mixup: two images of a batch become one, and so do their labels (Zhang 2017, arXiv:1710.09412).

    images [B, S, S, 3] uint8, targets [B, C], weights [B] -> images uint8, targets float32, weights

The weight of a mixture is that of its parts, by their shares of the pixels. Its targets are mixed
by what each part adds to the weight: for binary cross-entropy the loss of a mixture is then the sum
of both weighted losses. A class that is unknown on one of the two images is unknown on the mixture.

Each image gets a partner of its batch (perhaps itself) and its own share from Beta(alpha, alpha),
at least one half. Shares are multiples of 1/256, exact for pixels and targets. Pixels stay uint8,
a quarter of the size of float32, for the transfer to the device.
"""

from __future__ import annotations

import numpy as np

from paddlex_ml.metrics.known import UNKNOWN

_PARTS = 256  # 255 * 256 + 128 still fits into 16 bits


def mix(
    images: np.ndarray,
    targets: np.ndarray,
    alpha: float,
    rng: np.random.Generator,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Mix a batch within itself; the arrays passed in are not changed.

    `rng` determines the result: seed it with the seed, the epoch and the samples of the batch.
    """
    partners = rng.permutation(len(images))
    drawn = rng.beta(alpha, alpha, len(images))
    parts = np.rint(np.maximum(drawn, 1 - drawn) * _PARTS).astype(np.uint16)
    shares = (parts / _PARTS).astype(np.float32)[:, None]
    mixed = np.empty_like(images)
    rest = np.empty(images.shape[1:], np.uint16)
    total = np.empty(images.shape[1:], np.uint16)
    for index, (partner, part) in enumerate(zip(partners, parts, strict=True)):
        if part == _PARTS or partner == index:
            mixed[index] = images[index]
            continue
        np.multiply(images[index], part, out=total, dtype=np.uint16)
        np.multiply(images[partner], _PARTS - part, out=rest, dtype=np.uint16)
        total += rest
        total += _PARTS // 2  # rounds to the nearest
        total >>= 8
        mixed[index] = total
    unknown = (targets < 0) | ((targets[partners] < 0) & (shares < 1))
    if weights is not None:  # above 0
        own = shares[:, 0] * weights
        weights = own + (1 - shares[:, 0]) * weights[partners]
        shares = (own / weights)[:, None]
    labels = targets.astype(np.float32)
    both = shares * labels + (1 - shares) * labels[partners]
    return mixed, np.where(unknown, np.float32(UNKNOWN), both), weights
