# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import yaml

from paddlex_ml.storage import limited_yaml

LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k{n}: v}}\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAUGHS, "aliases repeat more than 10,000 values"),
        (MERGES, "aliases repeat more than 10,000 values"),
        ("[" * 100_000, "more than 50 deep"),
        ("{a: " * 900, "more than 50 deep"),
        ("".join(" " * n + "a:\n" for n in range(900)), "more than 50 deep"),
        ("a: &a [*a]", "a value contains itself"),
        ("a: &a {b: *a}", "a value contains itself"),
        ("a: !!float x", "a value that its tag does not allow"),
        ("a: !!int ''", "a value that its tag does not allow"),
        ("a: 2001-99-99", "a value that its tag does not allow"),
        ("a: " + "9" * 5000, "a number has more than 400 letters"),
        ("a: 1" + ":59" * 5000, "a number has more than 400 letters"),
        (f"{2**61 - 1}00: a", "a key has more than 20 digits"),
        (f"!!set {{? {2**61 - 1}00}}", "a key has more than 20 digits"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("{[a]: b}", "unhashable key"),
    ],
    ids=lambda text: text[:30],
)
def test_a_text_above_a_budget_is_an_error_of_yaml(text: str, problem: str) -> None:
    with pytest.raises(yaml.YAMLError, match=problem):
        limited_yaml.load(text)


def test_a_long_number_is_a_value_and_a_shorter_one_a_key_too() -> None:
    assert limited_yaml.load(f"{2**63}: {2**70}") == {2**63: 2**70}


def test_anchors_and_merges_of_a_usual_size_work() -> None:
    text = "base: &b {x: 1, y: [1, 2]}\none: {<<: *b, z: 3}\ntwo: [*b, *b]\n"
    base = {"x": 1, "y": [1, 2]}
    assert limited_yaml.load(text) == {"base": base, "one": {**base, "z": 3}, "two": [base, base]}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: [", 2, "expected the node content"),
        ("a: 1\nb: \0", 2, "special characters are not allowed"),
        ("[" * 60, 1, "more than 50 deep"),
        ("a:\n  - &a [*a]", 2, "a value contains itself"),
    ],
)
def test_a_tree_that_cannot_be_made_has_a_line_and_a_reason(text, line, what) -> None:
    found = limited_yaml.compose(text)
    assert isinstance(found, limited_yaml.Damage)
    assert what in found.what
    assert found.line == line


def test_a_tree_keeps_words_as_they_are_written() -> None:
    node = limited_yaml.compose("a: 1\nyes: no")
    assert isinstance(node, yaml.MappingNode)
    key, value = node.value[1]
    assert (key.value, value.value, key.start_mark.line) == ("yes", "no", 1)
    assert limited_yaml.compose("") is None
