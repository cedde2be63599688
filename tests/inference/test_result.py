# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import io
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.inputs import walk
from paddlex_ml.inference.result import MultiLabelResult, Seen

CLASSES = ["cat", "dog", "猫"]
SCORES = np.array([0.5, 0.25, 0.987654], np.float32)
EXPECTED = {
    "res": {
        "input_path": None,
        "class_ids": [2, 0],
        "scores": [0.98765, 0.5],
        "label_names": ["猫", "cat"],
    }
}


def result_of(source) -> MultiLabelResult:
    [picture] = walk(source)
    return MultiLabelResult(picture, CLASSES, SCORES, [2, 0])


@pytest.fixture
def result() -> MultiLabelResult:
    return result_of(np.zeros((400, 400, 3), np.uint8))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "photo.jpg"
    path.parent.mkdir()
    Image.new("RGB", (400, 300), (200, 30, 30)).save(path)
    return path


def test_json_has_the_keys_of_paddlex(result):
    assert result.json == EXPECTED
    assert repr(result) == f"MultiLabelResult({EXPECTED['res']})"


def test_a_result_is_a_dict_as_in_paddlex(result):
    assert result["label_names"] == result.label_names == ["猫", "cat"]
    assert dict(result) == {**result} == result == EXPECTED["res"]
    assert list(result) == list(EXPECTED["res"])
    assert result.get("error") is None
    assert json.loads(json.dumps(result)) == EXPECTED["res"]
    assert result.str == str(EXPECTED)


@pytest.mark.parametrize("twice", [copy.copy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_is_a_result(result, twice):
    again = twice(result)
    assert (again, again.scores, again.json) == (result, result.scores, EXPECTED)


def test_the_dict_has_what_json_has(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"")
    [picture] = walk(tmp_path / "a.jpg")
    error = PaddlexMLError("no", where="a", fix="b")
    result = MultiLabelResult(picture, CLASSES, error=error)
    assert dict(result) == result.json["res"]
    assert result["error"] == "no"
    full = MultiLabelResult(picture, CLASSES, SCORES, [2], with_all_scores=True)
    assert full["all_scores"] == full.json["res"]["all_scores"] == [0.5, 0.25, 0.98765]


def test_printing_shows_json_with_readable_names(result, capsys):
    result.print()
    text = capsys.readouterr().out
    assert json.loads(text) == EXPECTED
    assert '            "猫"' in text  # three levels of four


def test_printing_can_escape_and_indent(result, capsys):
    result.print(format_json=True, indent=1, ensure_ascii=True)
    text = capsys.readouterr().out
    assert json.loads(text) == EXPECTED
    assert '   "\\u732b"' in text


def test_printing_without_json_is_one_line(result, capsys):
    result.print(format_json=False)
    assert capsys.readouterr().out == f"{EXPECTED}\n"


def test_printing_never_shortens(capsys):
    [picture] = walk(np.zeros((9, 9, 3), np.uint8))
    count = 5000
    names = [f"class {i}" for i in range(count)]
    scores = np.full(count, 0.5, np.float32)
    MultiLabelResult(picture, names, scores, range(count)).print()
    assert json.loads(capsys.readouterr().out)["res"]["label_names"] == names


def test_a_terminal_without_chinese_gets_escapes(result, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    result.print()
    terminal.flush()
    assert json.loads(terminal.buffer.getvalue()) == EXPECTED


def test_the_picture_grows_by_a_strip_with_the_labels(result):
    picture = result.img["res"]
    assert picture.width == 400
    assert picture.height > 400
    assert np.asarray(picture)[:400].max() == 0
    assert np.asarray(picture)[400:].std() > 10


@pytest.mark.parametrize("place", ["out", "out/", "out/v1.2/"])
def test_a_folder_gets_files_named_like_the_image(photo: Path, tmp_path: Path, place):
    result = result_of(photo)
    target = f"{tmp_path}/{place}"
    assert result.save_to_json(target) == Path(target) / "photo.json"
    assert result.save_to_img(target) == Path(target) / "photo.jpg"
    assert sorted(p.name for p in Path(target).iterdir()) == ["photo.jpg", "photo.json"]


def test_an_existing_folder_with_a_dot_is_a_folder(photo: Path, tmp_path: Path):
    (tmp_path / "v1.2").mkdir()
    assert result_of(photo).save_to_json(tmp_path / "v1.2").name == "photo.json"


@pytest.mark.parametrize("name", ["results_v1.0", "2026.07.01", "run.V2"])
def test_a_name_that_ends_in_a_number_is_a_folder(result, tmp_path: Path, name: str):
    for save in (result.save_to_json, result.save_to_csv, result.save_to_img):
        assert save(tmp_path / name).parent == tmp_path / name


def test_a_name_with_a_suffix_is_a_file(photo: Path, tmp_path: Path):
    result = result_of(photo)
    saved = result.save_to_json(tmp_path / "new" / "res.json")
    expected = {"res": EXPECTED["res"] | {"input_path": str(photo)}}
    assert json.loads(saved.read_text(encoding="utf-8")) == expected
    assert "猫" in saved.read_text(encoding="utf-8")
    with Image.open(result.save_to_img(tmp_path / "new" / "res.webp")) as picture:
        assert picture.format == "WEBP"


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".bmp", ".tif", ".tiff", ".webp"])
def test_every_writable_suffix_is_written(photo: Path, tmp_path: Path, suffix):
    result = result_of(photo)
    with Image.open(result.save_to_img(tmp_path / f"res{suffix}")) as saved:
        assert saved.size == result.img["res"].size


def test_an_unknown_suffix_is_refused(result, tmp_path: Path):
    with pytest.raises(PaddlexMLError, match=r"cannot be written as \.xyz(.|\n)*\.png"):
        result.save_to_img(tmp_path / "res.xyz")


def test_an_array_is_saved_as_png(result, tmp_path: Path):
    assert result.save_to_img(tmp_path).name == "array_0001.png"
    assert result.save_to_json(tmp_path).name == "array_0001.json"


def test_a_format_that_cannot_be_written_becomes_png(tmp_path: Path):
    Image.new("RGB", (20, 20)).save(tmp_path / "moving.gif")
    assert result_of(tmp_path / "moving.gif").save_to_img(tmp_path / "out").name == "moving.png"


def test_the_input_is_never_overwritten(photo: Path):
    before = photo.read_bytes()
    result = result_of(photo)
    for target in (photo.parent, photo):
        with pytest.raises(PaddlexMLError, match="would overwrite the image"):
            result.save_to_img(target)
    assert photo.read_bytes() == before


def test_a_file_name_that_is_not_utf8_survives_the_json(tmp_path: Path):
    path = tmp_path / "caf\udce9.jpg"
    Image.new("RGB", (20, 20)).save(path)
    saved = result_of(path).save_to_json(tmp_path / "out" / "res.json")
    assert json.loads(saved.read_text(encoding="utf-8"))["res"]["input_path"] == str(path)


def broken() -> MultiLabelResult:
    [picture] = walk(np.zeros((9, 9, 3), np.uint8))
    error = PaddlexMLError("the image file is empty (0 bytes)", where="a.jpg", fix="copy it again")
    return MultiLabelResult(picture, CLASSES, error=error)


def test_all_scores_stand_in_the_order_of_the_classes():
    [picture] = walk(np.zeros((9, 9, 3), np.uint8))
    result = MultiLabelResult(picture, CLASSES, SCORES, [2], with_all_scores=True)
    assert result.all_scores == [0.5, 0.25, 0.98765]
    assert result.json["res"]["all_scores"] == [0.5, 0.25, 0.98765]
    assert result.label_names == ["猫"]


def test_a_broken_image_has_an_error_in_place_of_labels(tmp_path: Path):
    result = broken()
    assert result.json == {
        "res": {
            "input_path": None,
            "class_ids": [],
            "scores": [],
            "label_names": [],
            "error": "the image file is empty (0 bytes)",
        }
    }
    with pytest.raises(PaddlexMLError, match="copy it again"):
        result.save_to_img(tmp_path)
    with pytest.raises(PaddlexMLError, match="copy it again"):
        _ = result.img
    assert json.loads(result.save_to_json(tmp_path).read_text("utf-8")) == result.json


def test_a_table_of_one_row_says_what_the_json_says(photo: Path, tmp_path: Path):
    path = result_of(photo).save_to_csv(tmp_path / "out")
    assert path == tmp_path / "out" / "photo.csv"
    assert path.read_text("utf-8").splitlines() == [
        "\ufeffimage,labels,scores,error",
        f"{photo},猫|cat,0.98765|0.5,",
    ]
    [picture] = walk(photo)
    whole = MultiLabelResult(picture, CLASSES, SCORES, [], with_all_scores=True)
    assert whole.save_to_csv(tmp_path / "t.csv").read_text("utf-8").splitlines() == [
        "\ufeffimage,labels,scores,error,cat,dog,猫",
        f"{photo},,,,0.5,0.25,0.98765",
    ]
    assert "the image file is empty" in broken().save_to_csv(tmp_path / "b.csv").read_text("utf-8")


def explained(source, shared_by: int = 1) -> MultiLabelResult:
    [picture] = walk(source)
    maps = {i: np.full((2, 2), 0.25, np.float32) for i in (2, 0)}
    return MultiLabelResult(picture, CLASSES, SCORES, [2, 0], seen=Seen(maps, shared_by))


def test_maps_are_drawn_beside_the_labels(photo: Path):
    result = explained(photo)
    assert result.maps is not None
    assert list(result.maps) == [2, 0]
    assert result.json == {"res": EXPECTED["res"] | {"input_path": str(photo)}}
    drawn = result.img
    assert list(drawn) == ["res", "explain"]
    assert drawn["res"].tobytes() == result_of(photo).img["res"].tobytes()
    assert drawn["explain"].width > 2 * 400  # photograph and two maps, in two columns at least


def test_the_sheet_of_maps_is_saved_under_the_name_of_the_image(photo: Path, tmp_path: Path):
    result = explained(photo)
    assert result.save_explain_to_img(f"{tmp_path}/explain/") == tmp_path / "explain" / "photo.jpg"
    assert result.save_to_img(f"{tmp_path}/out/") == tmp_path / "out" / "photo.jpg"
    target = result.save_explain_to_img(tmp_path / "sheet.png")
    with Image.open(target) as sheet:
        assert sheet.tobytes() == result.img["explain"].tobytes()
    with pytest.raises(PaddlexMLError, match="would overwrite the image"):
        result.save_explain_to_img(photo.parent)
    with pytest.raises(PaddlexMLError, match="cannot be written as"):
        result.save_explain_to_img(tmp_path / "sheet.gif")


def test_maps_that_were_not_asked_for_cannot_be_saved(result, tmp_path: Path):
    with pytest.raises(PaddlexMLError, match=r"holds no maps(.|\n)*explain=True"):
        result.save_explain_to_img(tmp_path)


def test_a_broken_image_has_no_maps_to_save(tmp_path: Path):
    [picture] = walk([tmp_path / "nowhere.jpg"])
    error = PaddlexMLError("no such file", where="nowhere.jpg", fix="correct the path")
    broken = MultiLabelResult(picture, CLASSES, error=error)
    assert broken.maps is None
    with pytest.raises(PaddlexMLError, match="no such file"):
        broken.save_explain_to_img(tmp_path)
