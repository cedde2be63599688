# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex

import pytest
import yaml

from paddlex_ml.config.validation import override
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import overrides
from paddlex_ml.formats.overrides import write_override

KEY = "CheckDataset.convert"


@pytest.mark.parametrize("value", ["|", '"', "it's", "类别", ["a", "b c"], "", "null", "1.10"])
def test_what_is_pasted_comes_back(value: str | list[str]) -> None:
    flag, override = shlex.split(write_override("convert.label_columns", value))
    key, _, text = override.partition("=")
    assert (flag, key) == ("-o", "CheckDataset.convert.label_columns")
    assert yaml.safe_load(text) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"fix: -o {KEY}.uncertain=negative", "fix: --uncertain negative"),
        (f"a -o {KEY}.uncertain=null (unknown), or", "a without --uncertain (unknown), or"),
        (f"-o {KEY}.src_dataset_type=CSV, or", "--source CSV, or"),
        (f"-o {KEY}.merge_names=true (one class)", "--merge-names (one class)"),
        (f"-o {KEY}.merge_names=false", "--no-merge-names"),
        (f"(-o {KEY}.skip_missing=true)", "(--skip-missing)"),
        (f"choose: -o {KEY}.label_columns=[...], or", "choose: --label-columns ..., or"),
        (f"-o '{KEY}.label_columns=[...]')", "--label-columns ...)"),
        (override(f"{KEY}.label_columns", ["a b", "c"]), "--label-columns 'a b' c"),
        (override(f"{KEY}.label_value", "1"), "--label-value 1"),
        (override(f"{KEY}.separator", ","), "--separator ,"),
        (write_override("convert.separator", ","), "--separator ,"),
        (write_override("convert.separator", "it's"), """--separator 'it'"'"'s'"""),
        (write_override("convert.label_columns", ["1.10", "null"]), "--label-columns 1.10 null"),
        (override(f"{KEY}.label_columns", ["no", "1.10"]), "--label-columns no 1.10"),
        (f"-o '{KEY}.label_columns=[&a [x, x], *a]'", "--label-columns"),
        (f"-o '{KEY}.label_columns=" + "[" * 99 + "'", "--label-columns '[["),
        (write_override("convert.uncertain", "positive") + ": cat", "--uncertain positive: cat"),
        (override(f"{KEY}.separator", "; "), "--separator '; '"),
        (override(f"{KEY}.rename", {"a=b": "c d"}), r"--rename 'a\=b=c d'"),
        (f"go on with -o {KEY}.enable=false", "go on with mode check_dataset, which reads them as"),
        ("convert.separator has no effect", "--separator has no effect"),
        (f"where: {KEY}.image_column", "where: --image-column"),
        (f"-o {KEY}.separator=\\\\", "--separator "),
        (f"-o '{KEY}.rename={{a: [b]}}'", "--rename "),
        ("where: CheckDataset.split.group_regex", "where: --group-regex"),
        ("-o Global.dataset_dir=./my_set (of", "name another folder, such as ./my_set (of"),
        ("-o CheckDataset.split.val_percent=20", "--val-percent 20"),
        (
            "leave such lines out: -o 'CheckDataset.drop=[missing]'",
            "leave such lines out: mode check_dataset with -o 'CheckDataset.drop=[missing]'",
        ),
        ("mode check_dataset with -o CheckDataset.drop=x", "mode check_dataset with -o Check"),
    ],
)
def test_overrides_and_keys_become_options_of_the_script(text: str, expected: str) -> None:
    found = overrides.for_script(text)
    assert found.startswith(expected)
    assert "convert." not in found


@pytest.mark.parametrize(
    "text",
    ["convert.csv", "dataset_tools/split.py", "a/convert.yaml", f"-o {KEY}.none=1"],
)
def test_other_texts_stay(text: str) -> None:
    assert overrides.for_script(text) == text


def test_all_parts_of_an_error_are_translated() -> None:
    fix = f"-o {KEY}.uncertain=negative"
    rows = [("a.csv", "3", "kind", "what", fix)]
    error = PaddlexMLError("what\nin lines", where=f"{KEY}.uncertain", fix=fix, rows=rows)
    found = overrides.error_for_script(error)
    assert (found.what, found.where) == (error.what, "--uncertain")
    assert found.fix == found.rows[0][4] == "--uncertain negative"
