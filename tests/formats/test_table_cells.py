# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import pytest

from paddlex_ml.formats import table_cells

WEATHER = ["haze", "clear", "cloudy", "partly_cloudy"]
LAND = [
    *("primary", "agriculture", "road", "water", "cultivation", "habitation", "bare_ground"),
    *("conventional_mine", "blooming", "artisinal_mine", "selective_logging", "slash_burn"),
    "blow_down",
]
PLANTS = [
    *("complex", "healthy", "rust", "frog_eye_leaf_spot", "scab", "powdery_mildew"),
    *("scab frog_eye_leaf_spot", "scab frog_eye_leaf_spot complex", "rust complex"),
    *("frog_eye_leaf_spot complex", "rust frog_eye_leaf_spot", "powdery_mildew complex"),
]
CARS = [
    *("Audi S4 Sedan 2012", "Audi A5 Coupe 2012", "BMW M3 Coupe 2012", "BMW X5 SUV 2007"),
    *("Audi S6 Sedan 2011", "BMW M5 Sedan 2010", "Acura TL Sedan 2012", "Acura TSX Sedan 2012"),
    *("Bentley Arnage Sedan 2009", "Dodge Ram Pickup 2010", "Ford F150 Pickup 2007"),
]
VOC = [
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
]


def read(cells: list[str], many: bool = True, known: tuple[str, ...] = ()) -> set[str]:
    """Names of cells that leave no doubt."""
    reader, _, doubt = table_cells.choose_reader(set(cells), None, known, many)
    assert doubt is None
    return {name for cell in cells for name in reader.read(cell)}


def draw(count: int, names: list[str], *signs: str) -> list[str]:
    rng = random.Random(0)
    return [rng.choice(signs).join(rng.sample(names, rng.randint(1, 3))) for _ in range(count)]


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("['cat', 'dog']", ["cat", "dog"]),
        ('["cat"]', ["cat"]),
        ('["cat", 3, null]', ["cat", "3"]),
        ("[]", []),
        ("[ ]", []),
        ("['it\\'s', \"dog's\", 'a, b']", ["it's", "dog's", "a, b"]),
        ("['cat' 'dog']", ["cat", "dog"]),
        ("['cat'\n 'dog']", ["cat", "dog"]),
        ("('cat',)", ["cat"]),
        ("{'red car', 'cat'}", ["red car", "cat"]),
        ('{cat,"red car"}', ["cat", "red car"]),
        ("[red car, cat]", ["red car", "cat"]),
        ("[1, 2]", ["1", "2"]),
        ("[nan]", []),
        ("[None, 'x']", ["x"]),
        ('["猫"]', ["猫"]),
        ("()", []),
        ("set()", []),
        ("(a remark)", None),
        ("cat", None),
        ("", None),
        ("['cat', 'dog'", None),
        ("[['cat']]", None),
        ('{"choices": ["cat"]}', None),
        ("[__import__('os')]", None),
    ],
)
def test_lists_are_read_and_nothing_else(cell: str, names: list[str] | None) -> None:
    assert table_cells.parse_list(cell) == names


@pytest.mark.parametrize("inner", ["a" + " " * 200_000 + "[", "a " * 100_000 + "{", "'a" * 100_000])
def test_no_list_takes_forever(inner: str) -> None:
    assert table_cells.parse_list(f"[{inner}]") is None


def test_tags_of_the_planet_set_are_parted_by_spaces() -> None:
    rng = random.Random(0)
    cells = [
        " ".join([rng.choice(WEATHER), *rng.sample(LAND, rng.randint(1, 4))]) for _ in range(900)
    ]
    assert read(cells) == read(cells, many=False) == {*WEATHER, *LAND}


def test_the_proposed_separators_are_the_same_in_every_run() -> None:
    cells = {"cat|dog", "cat;dog", "cat、dog", "cat；dog", "cat｜dog"}
    _, note, _ = table_cells.choose_reader(cells, None, (), True)
    assert """-o CheckDataset.convert.separator='";|、；｜"'""" in note


def test_the_evidence_is_told() -> None:
    _, note, _ = table_cells.choose_reader(set(PLANTS), None, (), False)
    assert note.startswith(
        "label names are separated by a space: 6 names (12 if each cell were one name); to choose"
    )
    assert """-o CheckDataset.convert.separator='"space"'""" in note
    _, note, _ = table_cells.choose_reader({"cat", "red car"}, None, (), True)
    assert note.startswith("each cell is one name: 2 names; to choose: -o CheckDataset.convert.")


@pytest.mark.parametrize(
    ("cells", "many", "count"),
    [
        (PLANTS, True, 6),
        (draw(5000, VOC, " "), True, 20),
        (["Cardiomegaly", "Cardiomegaly|Emphysema", "No Finding"], True, 3),
        (["haze primary", "agriculture clear primary water", "clear primary"], True, 5),
        (["16 0", "7 1 2 0", "5"], False, 6),
        (["cat,dog", "cat"], False, 2),
        (["cat\ndog", "cat"], False, 2),
        (["cat|dog"], False, 2),
        (["C+++cat", "C++", "cat+dog", "dog"], False, 3),
    ],
)
def test_cells_of_several_names_are_cut(cells: list[str], many: bool, count: int) -> None:
    assert len(read(cells, many)) == count


@pytest.mark.parametrize(
    "cells",
    [
        ["R&B/Soul", "Hip-Hop/Rap", "Rock", "C++", "C"],
        ["Paris, France", "Rome, Italy", "Lyon, France"],
        ["cat", "dog", "red car"],
        ["golden retriever", "labrador retriever", "siberian husky", "poodle"],
        ["Animals/cat", "Animals/dog", "Vehicles/car", "Plants/rose", "Food/bread", "Food/egg"],
        CARS,
    ],
)
def test_single_names_with_signs_and_spaces_stay_whole(cells: list[str]) -> None:
    assert read(cells, many=False) == set(cells)


def test_names_keep_their_spaces_and_slashes_beside_a_separator() -> None:
    cells = ["R&B/Soul|Pop", "red car|R&B/Soul", "C++|red car", "Pop"]
    assert read(cells) == {"R&B/Soul", "Pop", "red car", "C++"}
    assert read(["cafe|dog", "cafe x|dog"]) == {"cafe", "cafe x", "dog"}


@pytest.mark.parametrize("count", [12, 60, 300])
@pytest.mark.parametrize(
    "signs",
    [
        (", ", "; "), ("、", "，"), ("，", ","), ("/", "+"), ("+",), ("/",), ("\t",), ("、",),
        (";", "|"), ("；", ", "), ("\n",),
    ],
)  # fmt: skip
def test_several_separators_of_one_file_all_count(count: int, signs: tuple[str, ...]) -> None:
    names = [f"red car {i}" for i in range(10)]
    cells = draw(count, names, *signs)
    assert read(cells) == read(cells, many=False)
    assert read(cells) <= set(names)


@pytest.mark.parametrize(
    ("cells", "many", "fix"),
    [
        (["chair", "car person", "horse person"], True, ("space", "|")),
        (["a b,c", "d"], True, (",", "|")),
        (["red car", "blue car", "red bus", "blue bus"], False, ("space", "|")),
        (["a", "b", "a, b", "b c", "a c"], False, ("space,", ",")),
    ],
)
def test_a_doubt_names_both_readings(cells: list[str], many: bool, fix: tuple[str, str]) -> None:
    _, _, doubt = table_cells.choose_reader(set(cells), None, (), many)
    assert doubt is not None
    assert "may be one name or 2: cut at" in doubt.text
    first, second = doubt.fix.split(" to cut, or ")
    assert first == f"""-o CheckDataset.convert.separator='"{fix[0]}"'"""
    assert second == f"""-o CheckDataset.convert.separator='"{fix[1]}"' to keep it whole"""


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("space,", ["a", "b", "c", "d;e"]),
        (" ,", ["a", "b", "c", "d;e"]),
        ("tab", ["a b,c", "d;e"]),
        (",;", ["a b", "c", "d", "e"]),
        (", ", ["a b", "c", "d;e"]),
        ("||", ["a b,c", "d;e"]),
    ],
)
def test_several_signs_may_be_chosen(given: str, names: list[str]) -> None:
    reader, _, _ = table_cells.choose_reader(set(), given, (), True)
    assert [*reader.read("a b,c"), *reader.read("d;e")] == names


def test_a_cell_that_begins_like_a_list_is_a_fault() -> None:
    _, _, doubt = table_cells.choose_reader({"['cat']", "['cat', 'dog'"}, None, (), True)
    assert doubt is not None
    assert doubt.text == "\"['cat', 'dog'\" is not a list of names"


def test_known_names_are_never_cut_and_show_what_is_a_name() -> None:
    assert read(["red car,cat", "a,b"], known=("a,b", "red car", "cat")) == {
        *("red car", "cat", "a,b")
    }


def test_names_of_other_names_are_found() -> None:
    assert table_cells.find_combinations(["cat", "dog", "cat dog", "cat_dog", "hot dog"]) == {
        "cat dog": " ",
        "cat_dog": "_",
    }


def test_joined_names_are_found_with_what_joins_them() -> None:
    names = ["cat", "dog", "cat和dog", "dog-cat", "cat and dog"]
    assert table_cells.find_combinations(names) == {
        **{"cat和dog": "和", "dog-cat": "-", "cat and dog": " and "},
    }


def test_signs_between_names_are_no_names() -> None:
    assert read(["cat", "dog", "car", "cat & dog", "car & dog"]) == {"cat", "dog", "car"}
    assert read(["cat", "dog", "cat\u3000dog"]) == {"cat", "dog"}


def test_what_programs_write_for_nothing_is_no_label() -> None:
    cells = {"cat|dog", "nan", "None", "NULL", "N/A", "-", "dog"}
    reader, note, _ = table_cells.choose_reader(cells, None, (), True)
    assert [reader.read(cell) for cell in ("nan", "None", "-", "dog")] == [(), (), (), ("dog",)]
    assert note.startswith("cells '-', 'N/A', 'NULL', 'None', 'nan' are no label")
    reader, _, _ = table_cells.choose_reader(cells, None, ("None", "cat", "dog"), True)
    assert [reader.read("None"), reader.read("nan")] == [("None",), ()]


@pytest.mark.parametrize("form", ["[{}, {}, {}]", "{} {} {}", "{},{},{}", "[{}. {}. {}.]"])
def test_flags_of_all_classes_in_one_cell_need_their_names(form: str) -> None:
    cells = {form.format(1, 0, 1), form.format(0, 1, 0), form.format(0, 0, 0)}
    _, _, doubt = table_cells.choose_reader(cells, None, (), True)
    assert doubt is not None
    assert "has 0 or 1 for each of 3 classes" in doubt.text
    assert doubt.fix.startswith("write their 3 names into classes.txt")
    reader, _, doubt = table_cells.choose_reader(cells, None, ("cat", "dog", "car"), True)
    assert doubt is None
    assert reader.read(form.format(1, 0, 1)) == ("cat", "car")
    assert reader.read(form.format(0, 0, 0)) == ()


def test_numbers_of_two_classes_are_not_flags() -> None:
    assert read(["0 1", "0", "1"]) == {"0", "1"}
