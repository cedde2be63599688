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
    assert lines[:2] == ["a note", "wrote my set: 2 train, 2 val images, 1 class"]
    assert lines[2].endswith("-o Global.mode=check_dataset -o 'Global.dataset_dir=my set'")


def test_the_next_command_reads_the_soft_values_that_were_written(tmp_path: Path) -> None:
    (tmp_path / "label.txt").write_text("0 cat\n")
    for name, lines in (("train", "a.jpg\t0.7\nb.jpg\t0\n"), ("val", "c.jpg\t1\n")):
        (tmp_path / f"{name}.txt").write_text(lines)
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()
    dataset = annotation.read(tmp_path, soft_labels=True)
    lists = {"train": dataset.train, "val": dataset.val}
    source = SourceDataset(dataset.label_names, lists, [], [])
    *_, line = prepared.describe(tmp_path, source).lines()
    assert "-o Global.mode=check_dataset -o Train.soft_labels=true -o Global.dataset_dir" in line
    source.lists["train"] = dataset.train.take([1])
    assert "soft_labels" not in prepared.describe(tmp_path, source).lines()[-1]
