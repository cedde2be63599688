# SPDX-License-Identifier: Apache-2.0
"""Types of the configuration's values that several sections share, each with its range."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from paddlex_ml.config import values
from paddlex_ml.config.values import Checked, Range

Count: TypeAlias = Annotated[int, Range(low=1)]
Seed: TypeAlias = Annotated[int, Range(low=0, high=2**32 - 1)]  # the largest that numpy takes
Percent: TypeAlias = Annotated[int, Range(low=0, high=100)]
Text: TypeAlias = Annotated[str, Checked(values.text)]
PathOrUrl: TypeAlias = Annotated[str, Checked(values.path_text)]
Share: TypeAlias = Annotated[float, Range(low=0, high=1)]
Threshold: TypeAlias = float | list[float] | dict[str | int, float]
