# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

from paddlex_ml.inference import names
from paddlex_ml.inference.names import Names


def claim(*wishes: str) -> list[str]:
    taken = Names()
    return [taken.claim(wish) for wish in wishes]


def test_a_number_tells_the_same_stems_apart_whatever_the_case():
    assert claim("a.jpg", "A.png", "a.jpg", "b.jpg") == ["a.jpg", "A_2.png", "a_3.jpg", "b.jpg"]


def test_a_number_that_a_file_already_has_is_skipped():
    assert claim("a_2.jpg", "a.jpg", "a.jpg") == ["a_2.jpg", "a.jpg", "a_3.jpg"]


def test_thousands_of_the_same_stem_are_numbered_without_a_gap(monkeypatch):
    monkeypatch.setattr(names, "_RECENT", 100)  # most of them are in the sorted part
    found = claim(*["a.jpg", "b.jpg"] * 2000)
    expected = [f"{stem}_{i}.jpg" for i in range(2, 2001) for stem in "ab"]
    assert found == ["a.jpg", "b.jpg", *expected]


def test_long_names_are_cut_between_characters():
    [name] = claim("猫" * 100 + ".jpg")
    assert name == "猫" * 53 + ".jpg"  # 159 bytes of 160


def test_a_name_that_is_not_utf8_stays_as_it_is():
    assert claim("caf\udce9.jpg", "caf\udce9.jpg") == ["caf\udce9.jpg", "caf\udce9_2.jpg"]


def test_thirty_thousand_names_take_less_than_a_megabyte(monkeypatch):
    monkeypatch.setattr(names, "_RECENT", 1000)
    tracemalloc.start()
    try:
        taken = Names()
        for i in range(30_000):
            taken.claim(f"photograph_{i}.jpg")
        assert tracemalloc.get_traced_memory()[0] < 1e6  # a set of them: 3 MB
    finally:
        tracemalloc.stop()
