# SPDX-License-Identifier: Apache-2.0
"""The options of one call of `predict`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.pixels import ArrayOrder
from paddlex_ml.metrics.per_class_threshold import check_count


@dataclass(frozen=True)
class PredictOptions:
    """The keywords of `Predictor.predict`. Raises PaddlexMLError for a value that has no sense."""

    max_labels: int | None = None
    """Most labels of a result, those with the highest scores; None: as many as there are."""
    min_labels: int = 0
    """Least labels of a result, even where they are below the threshold."""
    relations: str | os.PathLike[str] | None = None
    """A relations.yaml: labels keep its implications and exclusive groups, before max_labels and
    min_labels, and a score is at least as high as those of the classes that imply it."""
    return_all_scores: bool = False
    """Whether results hold the score of every class."""
    on_error: Literal["report", "raise"] = "report"
    """What happens to an image that cannot be read. "report": its result holds the `error` and no
    labels, a line goes to the log, and prediction continues. "raise": PaddlexMLError at the
    position of the image."""
    explain: bool = False
    """Whether results hold a map of what the model looked at for each label, and can draw it. A
    second network is loaded for it, once. PaddlexMLError for a model without such maps."""
    keep_side: int | None = None
    """Longest side in pixels of the copy of its image that a result keeps, until the next one is
    asked for. None keeps none: what draws the result reads the image again, except for a URL. For
    large images in large batches the copies take most of the memory."""

    rgb: bool = False
    """Whether arrays and tensors hold RGB; else BGR, as OpenCV reads. Files know it themselves."""
    layout: Literal["HWC", "CHW"] = "HWC"
    """Whether the channels of arrays and tensors come last or first."""

    frames: int | None = None
    """Of a video, and of an image of several frames, every so many get a result, from the first on;
    1: all of them. None: only the first frame of an image, and no videos."""

    def __post_init__(self) -> None:
        if self.frames is not None:
            check_count(self.frames, "frames", least=1)
        if self.keep_side is not None:
            check_count(self.keep_side, "keep_side", least=1)
        if not isinstance(self.relations, str | os.PathLike | None):
            raise PaddlexMLError(
                f"relations must be the path of a file, got {type(self.relations).__name__}",
                where="relations",
                fix='write relations="relations.yaml"',
            )
        if self.on_error not in ("report", "raise"):
            raise PaddlexMLError(
                f"no way to treat broken images is called {self.on_error!r}",
                where="on_error",
                fix='write on_error="report" or on_error="raise"',
            )

    @property
    def order(self) -> ArrayOrder:
        """That of arrays. Raises PaddlexMLError for a layout that does not exist."""
        return ArrayOrder(self.rgb, self.layout)

    @classmethod
    def read(cls, keywords: Mapping[str, Any]) -> PredictOptions:
        """The options of these names. Raises PaddlexMLError for a name that does not exist."""
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise PaddlexMLError(
                    f"predict has no option {name!r}",
                    where="predict",
                    fix=f"write {near[0]}=" if near else f"choose from {', '.join(known)}",
                )
        return cls(**keywords)
