# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco, coco_json
from paddlex_ml.formats.coco_json import CocoContent
from paddlex_ml.formats.collector import Options


def decode(root: Path, content: Any) -> CocoContent:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "x.json").write_text(text, encoding="utf-8")
    return coco_json.decode(root, "x.json")[0]


def describe(**annotation: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": 'NaN, "NaN" .jpg', "height": float("nan")}],
        "annotations": [{"image_id": 1, "category_id": 2, **annotation}],
        "categories": [{"id": 2, "name": "-Infinity"}],
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((7, 7), (7.0, 7), ("7", 7), ("007", 7), ("7.0", 7), (" 7 ", 7), ("-7", -7), ("+7", 7)),
        *((0, 0), (-0.0, 0), ("0", 0), (2.0**53, 2**53), ("9007199254740993", 2**53 + 1)),
        *((7.5, None), (2.0**54, None), (1e300, None)),
        *(("7.5", "7.5"), ("a7", "a7"), ("", ""), ("7e0", "7e0"), ("９", "９")),
        ("9" * 400, "9" * 400),
        *((2**60 - 1, 2**60 - 1), (2**60, str(2**60)), (f"0{2**64}.0", str(2**64))),
    ],
)
def test_the_value_of_an_id(written: Any, value: Any) -> None:
    assert coco_json.to_id(written) == value
    assert type(coco_json.to_id(written)) is type(value)


def test_ids_are_in_the_order_of_their_values_and_texts_come_last() -> None:
    ordered: list[int | str] = [str(-(2**63)), -1, 0, 7, str(2**61), str(2**70), "", "a", "cat"]
    assert sorted(reversed(ordered), key=coco_json.order) == ordered


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_fields_without_use_may_hold_what_is_not_json(tmp_path: Path, odd: float) -> None:
    label = {"bbox": [odd, 1, odd, 2], "area": odd, "score": {"NaN": [odd]}, "id": odd}
    content = decode(tmp_path, describe(**label))
    assert content.images[0].file_name == 'NaN, "NaN" .jpg'
    assert content.categories[0].name == "-Infinity"
    assert content.annotations[0].image_id == 1
    assert not coco_json.is_flat(content.annotations[0].bbox)


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_id_that_is_no_number_is_refused_by_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        decode(tmp_path, describe(**{key: float("nan")}))
    assert f"where: {tmp_path}/x.json: annotations[0].{key}" in str(caught.value)
    assert "expected a whole number or a text, got NaN, Infinity or a list" in str(caught.value)


def test_damage_behind_a_nan_has_its_own_place(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        decode(tmp_path, '{"info": [NaN],\n"images": [,]}')
    assert f"where: {tmp_path}/x.json:2 (byte 27)" in str(caught.value)


@pytest.mark.parametrize(
    ("box", "flat"),
    [
        *((b"[0, 0, 1, 1]", False), (b"[0, 0, 0, 1]", True), (b"[0.5, 0, 1, -1]", True)),
        *((b"[0, 0, 1]", False), (b"", False), (b'"x"', False), (b"null", False)),
    ],
)
def test_boxes_without_area_are_known(box: bytes, flat: bool) -> None:
    assert coco_json.is_flat(msgspec.Raw(box)) is flat


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", ":1", "the file ends in the middle: it was cut off"),
        (
            '{"images": [\n{"id": 1,\n',
            ":3 (byte 23)",
            "the file ends in the middle: it was cut off",
        ),
        ('{"images": [\n{"id": 1,,}]}', ":2 (byte 22)", "JSON is damaged"),
        ("not json", ":1 (byte 4)", "JSON is damaged: invalid character"),
        ("[]", "", "expected an object {...}, got a list [...]"),
        ("null", "", "expected an object {...}, got null"),
        ("{}", "", "the key `images` is missing"),
        ('{"images": []}', "", "the key `annotations` is missing"),
        ('{"images": [], "annotations": []}', "", "the key `categories` is missing"),
        ('{"images": {}}', ": images", "expected a list [...], got an object {...}"),
        ('{"images": [7]}', ": images[0]", "expected an object {...}, got a whole number"),
        ('{"images": [{"id": 1}]}', ": images[0]", "the key `file_name` is missing"),
        ('{"images": [{"file_name": "a"}]}', ": images[0]", "the key `id` is missing"),
        (
            '{"images": [{"id": 1, "file_name": null}]}',
            ": images[0].file_name",
            "expected a text, got null",
        ),
        (
            '{"images": [{"id": true, "file_name": "a"}]}',
            ": images[0].id",
            "expected a whole number or a text, got true or false",
        ),
        (
            '{"annotations": [{"image_id": 1, "category_id": null}]}',
            ": annotations[0].category_id",
            "expected a whole number or a text, got null",
        ),
        ('{"annotations": null}', ": annotations", "expected a list [...], got null"),
        ('{"categories": [{"id": 1}]}', ": categories[0]", "the key `name` is missing"),
    ],
)
def test_a_damaged_file_is_one_error_with_its_place(
    tmp_path: Path, text: str, where: str, what: str
) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        decode(tmp_path, text)
    assert what in str(caught.value)
    assert f"where: {tmp_path}/x.json{where}\n" in str(caught.value)


def test_depth_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="lists within lists without end"):
        decode(tmp_path, '{"info": ' + "[" * 100_000)


def test_text_that_is_no_known_encoding_is_refused(tmp_path: Path) -> None:
    text = json.dumps(describe(), indent=1).replace('"-Infinity"', '"café"')
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(PaddlexMLError) as caught:
        coco_json.decode(tmp_path, "x.json")
    assert "this is not UTF-8 text" in str(caught.value)
    line = text[: text.index("é")].count("\n") + 1
    assert f"x.json:{line} (byte" in str(caught.value)


def test_an_image_that_names_nothing_verified_is_unknown_beside_one_that_does(
    tmp_path: Path,
) -> None:
    images: list[dict[str, Any]] = [{"id": i, "file_name": f"{i}.jpg"} for i in range(2)]
    for image in images:
        (tmp_path / image["file_name"]).touch()
    images[0]["neg_category_ids"] = [7, 8]
    content = {
        "images": images,
        "annotations": [{"image_id": 0, "category_id": 7}],
        "categories": [{"id": i, "name": f"class {i}"} for i in (7, 8)],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    dataset = coco.read(tmp_path, Options())
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [-1, -1]]
    told = "1 annotated category is verified as absent in the same image"
    assert any(note.startswith(told) for note in dataset.notes)


def test_ids_of_no_category_that_are_verified_as_absent_are_told(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    image: dict[str, Any] = {"id": 1, "file_name": "1.jpg", "neg_category_ids": [7, 77, 1.5]}
    content = {
        "images": [image],
        "annotations": [{"image_id": 1, "category_id": 8}],
        "categories": [{"id": i, "name": f"class {i}"} for i in (7, 8, 9)],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    dataset = coco.read(tmp_path, Options())
    assert dataset.lists["train"].targets.tolist() == [[0, 1, -1]]
    assert "2 ids in neg_category_ids of no category, left out: 77" in dataset.notes
    image["neg_category_ids"] = [7, [8]]
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(PaddlexMLError, match="neg_category_ids is not a list of category ids") as e:
        coco.read(tmp_path, Options())
    assert "train.json: images[0] (id 1)" in str(e.value)
