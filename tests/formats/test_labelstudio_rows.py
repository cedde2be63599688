# SPDX-License-Identifier: Apache-2.0
"""JSON-MIN, CSV and TSV, as the exports of Label Studio write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import labelstudio
from paddlex_ml.formats.collector import Options, SourceDataset

Plant = Callable[..., Path]
Labels = Callable[[SourceDataset], dict[str, dict[str, list[str]]]]
IMAGES = [f"images/0a1b2c3{i}-x.jpg" for i in range(4)]
BOX = [{"x": 1, "y": 1, "width": 50, "height": 50, "rectanglelabels": ["Dog"]}]
VALUES: list[dict[str, Any]] = [
    {},
    {"choice": "Cat", "label": BOX},
    {"choice": {"choices": ["Cat", "Red car"]}},
    {"choice": "Red, car"},
]
EXPECTED = [[], ["Cat", "Dog"], ["Cat", "Red car"], ["Red, car"]]


def describe(values: list[dict[str, Any]], **data: Any) -> list[dict[str, Any]]:
    """Rows with the keys in the order of JSON-MIN; `data` are further fields of the tasks."""
    return [
        {
            **{"image": f"/data/upload/1/{IMAGES[i][7:]}", **data, "id": i + 1, **row},
            **{"annotator": 1, "annotation_id": i, "created_at": "2024-01-01T00:00:00Z"},
            **{"updated_at": "2024-01-01T00:00:00Z", "lead_time": 3.1},
        }
        for i, row in enumerate(values)
    ]


def to_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    names = sorted({name for row in rows for name in row})
    text = io.StringIO()
    table = csv.DictWriter(text, names, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
    table.writeheader()
    for row in rows:
        table.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    return text.getvalue()


FORMS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "result.json": json.dumps,
    "result.csv": to_csv,
    "result.tsv": lambda rows: to_csv(rows, "\t"),
    "excel.csv": lambda rows: to_csv(rows, ";"),
}
forms = pytest.mark.parametrize("name", FORMS)


def read(root: Path, **options: Any) -> SourceDataset:
    return labelstudio.read(root, Options(**options))


@forms
def test_choices_and_labels_of_regions_are_the_labels(
    plant: Plant, labels: Labels, name: str
) -> None:
    root = plant({name: FORMS[name](describe(VALUES))}, *IMAGES)
    assert labelstudio.recognise(Inventory(root)) == name
    dataset = read(root)
    assert dataset.label_names == ["Cat", "Dog", "Red car", "Red, car"]
    assert labels(dataset) == {"train": dict(zip(IMAGES, EXPECTED, strict=True))}
    assert dataset.notes == []
    assert dataset.account.records == {name: 4}


@forms
def test_several_choices_for_regions_are_a_list(plant: Plant, labels: Labels, name: str) -> None:
    rows = describe([{"choice": ["Cat", {"choices": ["Dog", "Owl"]}]}, {"choice": ["Cat", "Owl"]}])
    found = labels(read(plant({name: FORMS[name](rows)}, *IMAGES[:2])))
    assert list(found["train"].values()) == [["Cat", "Dog", "Owl"], ["Cat", "Owl"]]


@forms
def test_rows_of_several_annotators_are_united(plant: Plant, labels: Labels, name: str) -> None:
    rows = [*describe([{"choice": "Cat"}]), *describe([{"choice": "Dog"}])]
    dataset = read(plant({name: FORMS[name](rows)}, IMAGES[0]))
    assert labels(dataset) == {"train": {IMAGES[0]: ["Cat", "Dog"]}}
    assert dataset.notes == ["1 image is named more than once: their labels were merged"]


@forms
def test_a_column_of_any_name_has_labels_when_its_values_recur(
    plant: Plant, labels: Labels, name: str
) -> None:
    rows = describe([{"animal": value} for value in ("Cat", "Cat", "Dog", "Cat")])
    found = labels(read(plant({name: FORMS[name](rows)}, *IMAGES)))
    assert list(found["train"].values()) == [["Cat"], ["Cat"], ["Dog"], ["Cat"]]


@forms
def test_free_text_is_no_label_and_told(plant: Plant, name: str) -> None:
    values = [{"choice": "Cat", "remark": f"number {i}", "score": 4 + i} for i in range(3)]
    dataset = read(plant({name: FORMS[name](describe(values))}, *IMAGES[:3]))
    assert dataset.label_names == ["Cat"]
    assert dataset.notes == [f"{name}: columns without labels: remark, score"]


@forms
def test_columns_that_may_have_labels_or_not_are_asked_for(
    plant: Plant, labels: Labels, refusal: Callable[..., str], name: str
) -> None:
    values = [
        {"choice": c, "light": w} for c, w in (("Cat", "day"), ("Dog", "day"), ("Cat", "day"))
    ]
    root = plant({name: FORMS[name](describe(values))}, *IMAGES[:3])
    message = refusal(labelstudio.read, root)
    assert "these columns may have labels or not: light (day)" in message
    assert "-o 'CheckDataset.convert.label_columns=[choice, light]' or -o" in message
    assert read(root, label_columns=["choice", "light"]).label_names == ["Cat", "Dog", "day"]
    assert read(root, label_columns=["choice"]).label_names == ["Cat", "Dog"]


@forms
def test_texts_without_a_hint_are_asked_for(
    plant: Plant, refusal: Callable[..., str], name: str
) -> None:
    rows = describe([{"animal": "Cat"}, {"animal": "Dog"}])
    root = plant({name: FORMS[name](rows)}, *IMAGES[:2])
    assert "label_columns=[animal]" in refusal(labelstudio.read, root)
    assert read(root, label_columns=["animal"]).label_names == ["Cat", "Dog"]


def test_fields_of_the_task_are_no_labels_in_json_min(plant: Plant) -> None:
    rows = describe([{"choice": "Cat"}, {"choice": "Dog"}], tag="day", shop="Paris")
    dataset = read(plant({"result.json": json.dumps(rows)}, *IMAGES[:2]))
    assert dataset.label_names == ["Cat", "Dog"]
    assert dataset.notes == ["result.json: columns without labels: tag, shop"]


@forms
def test_an_answer_of_two_questions_is_asked_for(
    plant: Plant, refusal: Callable[..., str], name: str
) -> None:
    values = [{"cat_choice": a, "dog_choice": b} for a, b in (("yes", "no"), ("no", "no"))]
    root = plant({name: FORMS[name](describe(values))}, *IMAGES[:2])
    message = refusal(labelstudio.read, root)
    assert "'no' is a value of cat_choice and of dog_choice" in message
    assert read(root, label_columns=["cat_choice"]).label_names == ["no", "yes"]


def test_a_cell_of_a_brush_may_be_large(plant: Plant) -> None:
    brush = [{"format": "rle", "rle": list(range(60_000)), "brushlabels": ["Dog"]}]
    rows = describe([{"tag": brush}])
    assert read(plant({"result.csv": to_csv(rows)}, IMAGES[0])).label_names == ["Dog"]
    assert csv.field_size_limit() == 131072


def test_a_table_in_utf_16_is_read_and_told(plant: Plant) -> None:
    text = to_csv(describe([{"choice": "红色"}, {"choice": "红色"}])).encode("utf-16")
    root = plant({"result.csv": text}, *IMAGES[:2])
    assert labelstudio.recognise(Inventory(root)) == "result.csv"
    dataset = read(root)
    assert dataset.label_names == ["红色"]
    assert dataset.account.encodings == {"UTF-16": ["result.csv"]}


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\na.jpg,cat\n",
        "id,created_at,updated_at,image\n1,x,y,a.jpg\n",
        "filename,cat,dog\na.jpg,1,0\n",
        "",
    ],
)
def test_other_tables_are_not_recognised(plant: Plant, text: str) -> None:
    assert labelstudio.recognise(Inventory(plant({"result.csv": text}))) == ""


def test_a_damaged_table_is_refused(plant: Plant, refusal: Callable[..., str]) -> None:
    text = to_csv(describe(VALUES))
    message = refusal(labelstudio.read, plant({"result.csv": text + '"open'}, *IMAGES))
    assert "the table is damaged" in message
    message = refusal(labelstudio.read, plant({"result.csv": text + "1,2\n"}, *IMAGES))
    assert "row 6 has 2 cells, the first has" in message
