# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.engines.search import space
from paddlex_ml.engines.search.space import Choices, Numbers
from paddlex_ml.errors import PaddlexMLError

RATE = "Train.learning_rate"


def parse(key: str, *texts: str) -> Choices | Numbers:
    return space.parse({key: texts})[key]


@pytest.mark.parametrize(
    ("key", "text", "found"),
    [
        (RATE, "1e-5..1e-2", Numbers(1e-5, 1e-2, is_whole=False, is_log=True)),
        (RATE, "1e-3 .. 2e-3", Numbers(1e-3, 2e-3, is_whole=False, is_log=False)),
        (RATE, "1e-3..2e-3:log", Numbers(1e-3, 2e-3, is_whole=False, is_log=True)),
        ("Train.head_lr_mult", "0.1..10:linear", Numbers(0.1, 10, is_whole=False, is_log=False)),
        ("Train.augment.cutout", "0..1", Numbers(0, 1, is_whole=False, is_log=False)),
        ("Train.batch_size", "8..64", Numbers(8, 64, is_whole=True, is_log=False)),
        ("Train.batch_size", "8..128", Numbers(8, 128, is_whole=True, is_log=True)),
        ("Train.epochs_iters", "2..3", Numbers(2, 3, is_whole=True, is_log=False)),
    ],
)
def test_a_range_has_the_numbers_and_the_scale_of_its_key(key, text, found):
    assert space.is_range(text)
    assert parse(key, text) == found


def test_what_is_no_range_is_a_list_of_values():
    assert parse("Train.loss.name", "bce", "asymmetric") == Choices(("bce", "asymmetric"))
    assert parse("Train.pretrain_weight_path", "../a.pdparams", "null").size == 2
    assert not space.is_range("1...5")
    assert not space.is_range("1..")


@pytest.mark.parametrize(
    ("key", "texts", "what", "fix"),
    [
        (RATE, ["1e-2..1e-5"], "does not go up", f"--sweep {RATE}=1e-5..1e-2"),
        (RATE, ["1e-2..1e-2"], "does not go up", f"--sweep {RATE}=1e-2"),
        (RATE, ["1e-3..1e-2", "1"], "a range stands alone, here are 2 values", "one range"),
        (RATE, ["1e-3..1e-2:lg"], "there is no scale 'lg'", f"{RATE}=1e-3..1e-2:log"),
        (RATE, ["1e-3..1e-2:"], "there is no scale ''", f"{RATE}=1e-3..1e-2:log"),
        (RATE, ["1..1e999"], "has no end", "finite"),
        ("Train.augment.cutout", ["0..1:log"], "cannot begin at 0", ":linear"),
        ("Train.augment.cutout", ["0..2"], "every number from 0 to 2: 2 ", "list the values"),
        ("Train.augment.cutout", ["-3..1"], "every number from -3 to 1: -3 ", "list the values"),
        ("Train.batch_size", ["8..16.5"], "16.5: 16.5 must be auto", "list the values"),
        ("Train.batch_size", ["0..16"], "every number from 0 to 16: 0 ", "list the values"),
        ("Train.image_size", ["224..448"], "224 to 448: 225 ", "--sweep Train.image_size=VALUE"),
        ("Train.loss.name", ["1..5"], "every number from 1 to 5: 1 ", "list the values"),
    ],
)
def test_a_range_that_cannot_be_meant_is_one_clear_error(key, texts, what, fix):
    with pytest.raises(PaddlexMLError) as caught:
        parse(key, *texts)
    assert what in caught.value.what
    assert caught.value.what.startswith(f"{key}: ")
    assert fix in caught.value.fix


def test_numbers_are_written_with_four_digits_and_stay_within_their_ends():
    rates = Numbers(0.00012344, 0.9, is_whole=False, is_log=True)
    assert rates.write(0.0123456789) == "0.01235"
    assert rates.write(0.00012344) == "0.00012344"  # 0.0001234 is below
    assert Numbers(8, 64, is_whole=True, is_log=False).write(16.0) == "16"
    assert rates.probes == ("0.00012344", "0.9")
    assert str(rates) == "from 0.00012344 to 0.9, logarithmic scale"
    assert str(Numbers(8, 64, is_whole=True, is_log=False)) == (
        "whole numbers from 8 to 64, linear scale"
    )
    assert str(Choices(("a", "b"))) == "one of a, b"


def test_combinations_are_counted_where_they_can_be():
    listed, whole = Choices(("a", "b")), Numbers(8, 64, is_whole=True, is_log=False)
    assert space.count_combinations({"x": listed, "y": whole}) == 2 * 57
    rates = Numbers(1e-5, 1e-2, is_whole=False, is_log=True)
    assert space.count_combinations({"x": listed, "y": rates}) is None
