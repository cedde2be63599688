# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.formats import jsonl
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.record_texts import match_names

Plant = Callable[..., Path]
KEYS = ["what", "colour"]


def test_names_in_a_text_are_matched_the_longest_first() -> None:
    names = {"cat", "red car", "car"}
    assert match_names("red car cat", names) == ["red car", "cat"]
    assert match_names("car, cat", names) == ["car", "cat"]
    assert match_names("red cat", names) == []
    assert match_names("cat", set()) == []


def plant_texts(plant: Plant, *texts: str, **files: str) -> Path:
    paths = [f"{i}.jpg" for i in range(len(texts))]
    pairs = zip(paths, texts, strict=True)
    lines = ({"path": path, "what": text, "colour": "red"} for path, text in pairs)
    return plant({"x.jsonl": "\n".join(map(json.dumps, lines)), **files}, *paths)


def test_texts_of_several_keys_are_divided_and_asked_about_as_those_of_one(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    dataset = jsonl.read(plant_texts(plant, "cat|dog", "owl"), Options(label_columns=KEYS))
    assert labels(dataset) == {"train": {"0.jpg": ["cat", "dog", "red"], "1.jpg": ["owl", "red"]}}
    assert any("1 text has several names, separated by |;" in note for note in dataset.notes)
    message = refusal(jsonl.read, plant_texts(plant, "cat, dog", "cat"), label_columns=KEYS)
    assert "'cat, dog' is one name, or several ('cat' and 'dog' are in other records" in message
    root = plant_texts(plant, "cat|dog", "owl", **{"classes.txt": "cat|dog\nowl\nred\n"})
    found = labels(jsonl.read(root, Options(label_columns=KEYS)))["train"]
    assert found["0.jpg"] == ["cat|dog", "red"]


@pytest.mark.parametrize(("separator", "text"), [("space", "cat dog"), (",;", "cat, dog")])
def test_the_separator_of_several_keys_is_that_of_one(
    plant: Plant, labels: Any, separator: str, text: str
) -> None:
    root = plant_texts(plant, text)
    for keys in (["what"], KEYS):
        dataset = jsonl.read(root, Options(label_columns=keys, separator=separator))
        assert {"cat", "dog"} <= {*labels(dataset)["train"]["0.jpg"]}
