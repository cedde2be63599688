# SPDX-License-Identifier: Apache-2.0
"""Values that a shell has split into several words, for want of quotes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from paddlex_ml.config import load
from paddlex_ml.config.typed_words import join
from paddlex_ml.errors import PaddlexMLError
from tests import repairs
from tests.config.test_load import MINIMAL

BEFORE = ["Global.mode=predict", "Predict.input=x.jpg"]


def refuse(folder: Path, typed: str) -> PaddlexMLError:
    """The error about options as they are typed into a shell."""
    path = folder / "my.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(PaddlexMLError) as caught:
        load.load(path, [*BEFORE, *shlex.split(typed)])
    for repair in repairs.find(str(caught.value)):
        load.load(path, [*BEFORE, *repair])
    return caught.value


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (
            "Predict.threshold={default: 0.5, sea: 0.9}",
            "'Predict.threshold={default: 0.5, sea: 0.9}'",
        ),
        (
            'Predict.threshold={default: 0.5, "two words": 0.9}',
            "'Predict.threshold={default: 0.5, two words: 0.9}'",
        ),
        ("Predict.input=[a.jpg,   b.jpg]", "'Predict.input=[a.jpg, b.jpg]'"),
        ("Predict.input=mix/a photo, 1.jpg", "'Predict.input=mix/a photo, 1.jpg'"),
        ("Predict.input=my set/a=b.jpg", "'Predict.input=my set/a=b.jpg'"),
        ("Global.output=my run", "'Global.output=my run'"),
        ("Global.output my run", "'Global.output=my run'"),
        ("Train.loss={name: bce, pos_weight: auto}", "'Train.loss={name: bce, pos_weight: auto}'"),
    ],
)
def test_forgotten_quotes_are_one_fault(tmp_path: Path, typed: str, meant: str) -> None:
    error = refuse(tmp_path, typed)
    assert error.what.startswith("quotes are missing: the shell has split the value of ")
    assert error.where == f"-o {' '.join(shlex.split(typed))}"
    assert error.fix == f"-o {meant}"


@pytest.mark.parametrize(
    "typed",
    ["Global.mode train", "Global.mode = train", "Global.mode =train", "Global.mode= train"],
)
def test_a_space_in_the_place_of_the_equals_sign(tmp_path: Path, typed: str) -> None:
    error = refuse(tmp_path, typed)
    assert error.what.startswith("there must be a = without spaces around it between Global.mode")
    assert error.fix == "-o Global.mode=train"


def test_a_word_that_no_value_can_take_is_left_out(tmp_path: Path) -> None:
    error = refuse(tmp_path, "Train.batch_size=8 16")
    assert (error.what, error.fix) == ("'16' belongs to no key", "-o Train.batch_size=8")


def test_thousands_of_words_are_not_all_tried(tmp_path: Path, monkeypatch) -> None:
    reads: list[str] = []
    monkeypatch.setattr(
        "paddlex_ml.config.typed_words._is_good",
        lambda text: bool(reads.append(text)) or text.endswith("=8"),
    )
    error = refuse(tmp_path, "Train.batch_size=8" + " 16" * 5_000)
    assert error.fix == "-o Train.batch_size=8"
    assert len(reads) <= 40


def test_a_joined_value_that_is_bad_is_the_only_fault(tmp_path: Path) -> None:
    error = refuse(tmp_path, "Predict.threshold={default: 0.5, sea: 9}")
    assert error.what == "Predict.threshold is a mapping: must hold numbers from 0 to 1"
    assert "-o 'Global.output=my run'" in refuse(tmp_path, "output=my run").fix


def test_words_with_keys_stand_for_themselves() -> None:
    words = ["Global.output=a", "Predict.threshold.two words=0.3", "Train.batch_size", "x=1", "=1"]
    assert [(each.text, each.fix) for each in join(words)] == [(word, None) for word in words]
