# SPDX-License-Identifier: Apache-2.0
"""Azure (`src_dataset_type: Azure`)."""

from __future__ import annotations

from pathlib import Path

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector, Options, SourceDataset


def recognise(inventory: Inventory) -> str:
    """The file by whose content the format is known."""
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the annotations. Raises one PaddlexMLError with every fault."""
    return Collector(root, options).finish([])
