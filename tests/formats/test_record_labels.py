# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from paddlex_ml.formats.record_labels import (
    ColumnValues,
    UnusableRecord,
    list_shown,
    parse_labels,
    read_columns,
    read_others,
)


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("cat", "cat"), (" a, b ", "a, b"), ("", ""), (3, [3]), (2.0, [2]), ([], []),
        (["a ", "b"], ["a", "b"]), ([0, 2.0], [0, 2]), ("[1, 2]", [1, 2]), ("['a']", ["a"]),
        ("[a]", "[a]"), ([{"name": "a"}, {"name": "b"}], ["a", "b"]), ({"a": 0}, {"a": 0}),
        ({"name": ["a", "b"]}, ["a", "b"]), ([{"category_id": 1}], [1]), ({"a": True}, {"a": True}),
        ([["a"], ["b"]], ["a", "b"]), ({"bbox": [[1]], "categories": [4, 4]}, [4]),
        ([1, 1], [1, 1]), ([{"name": "a"}, {"name": "a"}], ["a"]), ({"name": "a"}, ["a"]),
    ],
)  # fmt: skip
def test_labels_of_all_kinds_are_parsed(value: Any, labels: Any) -> None:
    assert parse_labels(value) == labels


@pytest.mark.parametrize(
    "value",
    [
        *(None, 1.5, True, {}, [1, "a"], [None], {"a": 2}, float("nan")),
        *([[2**61 - 1], [0]], 1e300, f"[{2**61 - 1}]", "[" + "1, " * 100_000 + "1]"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_label_is_refused(value: Any) -> None:
    with pytest.raises(UnusableRecord):
        parse_labels(value)


def test_values_of_classes_are_kept_until_all_records_are_read() -> None:
    values = {"a": 1, "b": 0, "c": -1, "d": None}
    assert parse_labels(values) == values
    assert list_shown(parse_labels(values)) == ["a"]
    assert parse_labels([{"a": 1, "b": 0}, {"c": 1}]) == ["a", "c"]


@pytest.mark.parametrize("names", [["Yes", "No"], ["true", "false"], ["present", "absent"]])
def test_yes_may_have_the_number_0(names: list[str]) -> None:
    of = {"cat": names, "dog": names[::-1]}
    for value, flag in ((0, 1), (1, 0), (-1, -1), (None, None)):
        row = {"cat": value, "dog": value}
        assert read_columns(row, ["cat", "dog"], of) == {"cat": flag, "dog": value}


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        (("1", "0", "-1", ""), [1, 0, -1, None]), (("Yes", "no", "NaN", " "), [1, 0, None, None]),
        ((True, 0.0, -1, float("nan")), [1, 0, -1, None]), (("cat", "no", 1, ""), None),
        ((1, 0, 2, None), None), ((["1"], "0", 1, 1), None),
    ],
)  # fmt: skip
def test_words_of_yes_and_no_in_several_keys_are_no_names(
    values: tuple[Any, ...], flags: list[int | None] | None
) -> None:
    found = ColumnValues(zip("abcd", values, strict=True)).find_flags()
    assert (found and [*found.values()]) == flags


@pytest.mark.parametrize("key", ["unknown", "absent"])
def test_what_is_no_label_is_no_object(key: str) -> None:
    with pytest.raises(UnusableRecord, match=f"`{key}` is not a list of class names"):
        read_others({key: {"dog": 1}}, ["cat"])


def test_what_is_no_label_is_read_of_names_alone() -> None:
    assert read_others({"unknown": ["b"]}, ["a"]) == (("b",), None)
    assert read_others({"unknown": "b|c"}, "a") == (("b", "c"), None)
    assert read_others({"absent": []}, ["a"]) == ((), ())
    assert read_others({"unknown": 3, "absent": None}, ["a"]) == ((), None)
    assert read_others({"unknown": ["a"]}, ["a"], ["unknown"]) == ((), None)
    for key in ("unknown", "absent"):
        with pytest.raises(UnusableRecord, match=f"'a' is a label of the image, and in `{key}`"):
            read_others({key: ["b", "a"]}, {"a": 1, "b": 0})
