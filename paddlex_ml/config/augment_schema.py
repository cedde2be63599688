# SPDX-License-Identifier: Apache-2.0
"""Section `Train.augment` of the configuration; `schema.py` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from paddlex_ml.config.value_types import Share
from paddlex_ml.config.values import Range


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Section `Train.augment`."""

    cutout: Share = 0.0
    """Side of the square that is blanked in each training image, as a share of the image side: 0 to
    1, 0 = off. The published settings, for 118,000 images and 40 epochs, have 0.5; on 1,600 images
    and 6 epochs that cost accuracy (docs/results.md)."""
    randaugment: bool = True
    """true: random changes of geometry and colour. false when colour or orientation decides the
    label."""
    flip: bool = True
    """true: half of the images are mirrored left to right. false when left and right differ, as in
    text, road signs or X-rays."""
    mixup: Annotated[float, Range(low=0, typical=0.2)] = 0.0
    """Mix each image and its labels with another of the batch (arXiv:1710.09412), with shares from
    Beta(mixup, mixup): at least 0, 0 = off. 0.2 against overfitting in long trainings."""
