# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np

from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.formats import prepared
from paddlex_ml.formats.collector import SourceDataset


def test_what_was_written_is_shown_with_the_next_command(tmp_path: Path) -> None:
    images = ImageList(tmp_path, ["a.jpg", "b.jpg"], np.array([[1], [0]], np.uint8))
    source = SourceDataset(["cat"], {"train": images, "val": images}, [], ["a note"])
    prepared.write(tmp_path, source)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    assert annotation.read(tmp_path).val.targets.tolist() == [[1], [0]]
    lines = prepared.describe(Path("my set"), source).lines()
    assert lines[:2] == ["a note", "wrote my set: 2 train, 2 val images, 1 classes"]
    assert lines[2].endswith("-o Global.mode=check_dataset -o 'Global.dataset_dir=my set'")
