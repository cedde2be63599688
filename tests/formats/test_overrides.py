# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex

import pytest
import yaml

from paddlex_ml.formats.overrides import write_override


@pytest.mark.parametrize("value", ["|", '"', "it's", "类别", ["a", "b c"], "", "null", "1.10"])
def test_what_is_pasted_comes_back(value: str | list[str]) -> None:
    flag, override = shlex.split(write_override("convert.label_columns", value))
    key, _, text = override.partition("=")
    assert (flag, key) == ("-o", "CheckDataset.convert.label_columns")
    assert yaml.safe_load(text) == value
