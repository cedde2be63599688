# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import Options, SourceDataset

Labels = dict[str, dict[str, list[str]]]


@pytest.fixture
def labels() -> Callable[[SourceDataset], Labels]:
    """Lists what a reader returned: list -> path -> labels in the order of the classes."""

    def list_labels(dataset: SourceDataset) -> Labels:
        result: Labels = {}
        for key, images in dataset.lists.items():
            rows = [
                [name for name, value in zip(dataset.label_names, row, strict=True) if value > 0]
                for row in images.targets
            ]
            result[key] = dict(zip(images.paths, rows, strict=True))
        return result

    return list_labels


@pytest.fixture
def refusal() -> Callable[..., str]:
    """Reads what must be refused, and returns the error as the user sees it."""

    def read(reader: Callable[[Path, Options], SourceDataset], root: Path, **options: Any) -> str:
        with pytest.raises(PaddlexMLError) as caught:
            reader(root, Options(**options))
        return str(caught.value)

    return read


@pytest.fixture
def assert_reads_back(tmp_path: Path) -> Callable[[SourceDataset], None]:
    """Writes the lists of a reader beside the data set and compares what comes back."""

    def compare(dataset: SourceDataset) -> None:
        folder = tmp_path / "written"
        annotation.write_labels(folder / "label.txt", dataset.label_names)
        assert annotation.read_labels(folder / "label.txt") == dataset.label_names
        for key, images in dataset.lists.items():
            annotation.write_list(folder / f"{key}.txt", images.paths, images.targets)
            lines = (folder / f"{key}.txt").read_text(encoding="utf-8").splitlines()
            assert [line.split("\t")[0] for line in lines] == images.paths

    return compare
