# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.formats.class_files import read_class_names
from paddlex_ml.formats.collector import Collector, Options

Plant = Callable[..., Path]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\n dog \n\n", ["cat", "dog"]),
        ("0 cat\n1 dog\n", ["cat", "dog"]),
        ("2 dog\n1: cat\n", ["", "cat", "dog"]),
        ("cat 0\nred car 1\n", ["cat", "red car"]),
        ("class 1\nclass 2\n", ["class 1", "class 2"]),
        ("type 1\nkind 2\n", ["type 1", "kind 2"]),
        ("3 wheels\n4 wheels\n", ["3 wheels", "4 wheels"]),
        ("n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
         ["n01440764 tench, Tinca tinca", "n01443537 goldfish"]),
    ],
)  # fmt: skip
def test_names_are_in_the_order_of_their_numbers(plant: Plant, text: str, names: list[str]) -> None:
    collector = Collector(plant({"synset_words.txt": text}), Options())
    assert read_class_names(collector, []) == names
    assert collector.faults == []
    assert collector.account.records == {"synset_words.txt": 0}


def test_the_files_are_found_beside_the_lists_and_must_agree(plant: Plant) -> None:
    root = plant({"meta/classes.txt": "a\nb\n", "labels.txt": "a\nb\n", "x.txt": "c\n"})
    assert read_class_names(Collector(root, Options()), ["lists"]) == ["a", "b"]
    (root / "labels.txt").write_text("b\na\n")
    collector = Collector(root, Options())
    read_class_names(collector, [])
    assert [fault.kind for fault in collector.faults] == ["two class files"]
    collector = Collector(root, Options())
    assert read_class_names(collector, [], lists=["labels.txt"]) == ["a", "b"]
    assert collector.faults == []


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a\n\nb\n", "classes.txt:2", "the class name '' is empty"),
        ("a\nb\na\n", "classes.txt:3", "the class 'a' is named already"),
    ],
)
def test_a_line_that_is_no_name_of_its_own_is_a_fault(
    plant: Plant, text: str, where: str, what: str
) -> None:
    collector = Collector(plant({"classes.txt": text}), Options())
    read_class_names(collector, [])
    assert [(fault.where, fault.text) for fault in collector.faults] == [(where, what)]


def test_a_set_without_such_a_file_has_no_names(plant: Plant) -> None:
    assert read_class_names(Collector(plant({"x.txt": "a\n"}), Options()), []) is None


def test_another_file_comes_before_label_txt_which_a_conversion_writes(plant: Plant) -> None:
    root = plant({"classes.txt": "a\nb\n", "label.txt": "0 a\n"})
    collector = Collector(root, Options())
    assert read_class_names(collector, []) == ["a", "b"]
    assert collector.account.left_out == {"label.txt": "classes.txt names the classes"}
