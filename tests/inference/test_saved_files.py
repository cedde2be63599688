# SPDX-License-Identifier: Apache-2.0
"""Results of one process never replace each other, by whatever saver and in whatever loop."""

from __future__ import annotations

import csv
import json
import logging
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data.image_finder import fold
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.inputs import walk
from paddlex_ml.inference.result import WRITABLE, MultiLabelResult, Seen

CLASSES = ["cat", "dog"]


def result_of(source: Any, score: float = 0.5, **options: Any) -> MultiLabelResult:
    """What a call of `predict` of its own gives for one image."""
    [picture] = walk(source)
    maps = {0: np.full((2, 2), 0.25, np.float32)}
    scores = np.array([score, 0.1], np.float32)
    return MultiLabelResult(picture, CLASSES, scores, [0], seen=Seen(maps, 1), **options)


def results(count: int) -> list[MultiLabelResult]:
    """Of arrays, each from a call of its own: all are named array_0001."""
    return [result_of(np.zeros((9, 9, 3), np.uint8), i / 8) for i in range(count)]


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., list[Path]]:
    def make(*names: str) -> list[Path]:
        paths = [tmp_path / "in" / name for name in names]
        for i, path in enumerate(paths):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (80 * i, 30, 30)).save(path)
        return paths

    return make


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def scores_in(*paths: Path) -> list[float]:
    return [json.loads(path.read_text("utf-8"))["res"]["scores"][0] for path in paths]


def test_two_images_of_one_name_have_a_file_each_by_every_saver(photos, tmp_path, caplog):
    out = tmp_path / "out"
    for path in photos("a/x.jpg", "b/x.jpg", "c/x.jpg"):
        result = result_of(path)
        result.save_to_json(out)
        result.save_to_csv(out)
        result.save_to_img(out)
        result.save_explain_to_img(out / "explain")
    for ending in ("json", "csv", "jpg"):
        assert [name for name in names_in(out) if name.endswith(ending)] == [
            f"x.{ending}", f"x_2.{ending}", f"x_3.{ending}"
        ]  # fmt: skip
    assert names_in(out / "explain") == ["x.jpg", "x_2.jpg", "x_3.jpg"]
    named = [json.loads((out / f"x{n}.json").read_text())["res"]["input_path"] for n in ("", "_2")]
    assert [Path(name).parent.name for name in named] == ["a", "b"]
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2  # once for each folder
    assert "x.json holds another result, so this one is saved as x_2.json" in told[0].getMessage()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_results_of_worker_processes_keep_their_files_apart(photos, tmp_path: Path):
    own, other = photos("a/x.jpg", "b/x.jpg")
    receiver, sender = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork among threads
        child = os.fork()
    if not child:
        os.write(sender, pickle.dumps(result_of(other)))
        os._exit(0)
    os.waitpid(child, 0)
    os.close(sender)
    with open(receiver, "rb") as pipe:
        sent = pickle.loads(pipe.read())
    paths = [result.save_to_json(tmp_path / "out") for result in (result_of(own), sent)]
    assert [path.name for path in paths] == ["x.json", "x_2.json"]


def test_a_result_of_a_url_can_be_sent_to_another_process():
    result = result_of("http://127.0.0.1/a.jpg")
    assert pickle.loads(pickle.dumps(result)) == result


def test_a_loop_over_arrays_keeps_every_result(tmp_path: Path):
    saved = [result.save_to_json(tmp_path) for result in results(4)]
    assert [path.name for path in saved] == [f"array_0001{n}.json" for n in ("", "_2", "_3", "_4")]
    assert scores_in(*saved) == [0, 0.125, 0.25, 0.375]


def test_one_file_name_collects_the_results_as_a_list_and_says_so_once(tmp_path: Path, caplog):
    target = tmp_path / "res.json"
    for number, result in enumerate(results(4), start=1):
        assert result.save_to_json(save_path=str(target)) == target
        content = json.loads(target.read_text("utf-8"))
        found = [content] if number == 1 else content
        assert [each["res"]["scores"] for each in found] == [[i / 8] for i in range(number)]
    assert names_in(tmp_path) == ["res.json"]
    (told,) = caplog.records
    assert f"save_path='{tmp_path}/'" in told.getMessage()


def test_one_file_name_collects_the_rows_of_a_table(tmp_path: Path):
    target = tmp_path / "res.csv"
    for result in results(3):
        assert result.save_to_csv(target) == target
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["scores"] for row in rows] == ["0.0", "0.125", "0.25"]


def test_tables_of_other_columns_are_not_mixed(tmp_path: Path):
    first = result_of(np.zeros((9, 9, 3), np.uint8))
    second = result_of(np.zeros((9, 9, 3), np.uint8), with_all_scores=True)
    assert first.save_to_csv(tmp_path / "res.csv").name == "res.csv"
    assert second.save_to_csv(tmp_path / "res.csv").name == "res_2.csv"
    assert (tmp_path / "res.csv").read_text().splitlines()[0] == "image,labels,scores,error"


@pytest.mark.parametrize("save", ["save_to_img", "save_explain_to_img"])
def test_pictures_of_one_file_name_get_numbers(photos, tmp_path: Path, save):
    saved = [getattr(result_of(p), save)(tmp_path / "o.png") for p in photos("a.png", "b.png")]
    assert [path.name for path in saved] == ["o.png", "o_2.png"]
    with Image.open(saved[0]) as first, Image.open(saved[1]) as second:
        assert first.getpixel((30, 30)) != second.getpixel((30, 30))


def test_the_two_pictures_of_one_result_do_not_replace_each_other(photos, tmp_path: Path):
    result = result_of(photos("x.jpg")[0])
    for _ in range(2):
        assert result.save_to_img(tmp_path).name == "x.jpg"
        assert result.save_explain_to_img(tmp_path).name == "x_2.jpg"


def test_a_result_that_is_saved_again_keeps_its_file(tmp_path: Path):
    first, second = results(2)
    for _ in range(2):
        assert first.save_to_json(tmp_path).name == "array_0001.json"
        assert second.save_to_json(tmp_path).name == "array_0001_2.json"
    for _ in range(2):
        for result in (first, second):
            result.save_to_json(tmp_path / "res.json")
            result.save_to_csv(tmp_path / "res.csv")
    assert len(json.loads((tmp_path / "res.json").read_text())) == 2
    assert len((tmp_path / "res.csv").read_text().splitlines()) == 3


EARLIER = """
from tests.inference.test_saved_files import save_all
save_all({folder!r}, 0.75)
"""


def save_all(folder: str, score: float) -> list[str]:
    """One result by every saver, into files and into folders; the names of the files."""
    result = result_of(np.zeros((60, 90, 3), np.uint8), score)
    saved = [result.save_to_json(f"{folder}/res.json"), result.save_to_csv(f"{folder}/res.csv")]
    saved += [result.save_to_json(f"{folder}/x", indent=0), result.save_to_csv(f"{folder}/x")]
    saved += [result.save_to_img(f"{folder}/o{suffix}") for suffix in WRITABLE if suffix != ".bmp"]
    saved += [result.save_to_img(f"{folder}/x"), result.save_explain_to_img(f"{folder}/explain")]
    return [path.name for path in saved]


def test_results_of_an_earlier_process_are_replaced(tmp_path: Path, caplog):
    code = EARLIER.format(folder=str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    old = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert len(old) == len(WRITABLE) + 5
    save_all(str(tmp_path), 0.25)
    assert {*tmp_path.rglob("*.*")} == {*old}
    assert not [path for path in old if path.read_bytes() == old[path]]
    assert not caplog.records


def test_a_photograph_is_never_replaced_by_a_drawing_of_another_one(photos, tmp_path, caplog):
    first, second, third = photos("a/y.jpg", "b/y.jpg", "b/z.jpg")
    before = second.read_bytes(), third.read_bytes()
    assert result_of(first).save_to_img(f"{second.parent}/").name == "y_2.jpg"
    assert result_of(first).save_to_img(third).name == "z_2.jpg"  # by its own name too
    assert result_of(first).save_explain_to_img(second.parent).name == "y_3.jpg"
    assert (second.read_bytes(), third.read_bytes()) == before
    told, *more = [record.getMessage() for record in caplog.records]
    assert f"{second} is no result and stays, so this one is saved as y_2.jpg" in told
    assert not any("is no result" in message for message in more)  # once for a folder


@pytest.mark.parametrize("suffix", WRITABLE)
def test_photographs_of_every_format_stay(tmp_path: Path, suffix):
    photo = tmp_path / f"array_0001{suffix}"
    Image.new("RGB", (40, 30)).save(photo)
    before = photo.read_bytes()
    for number in (2, 3):
        result = result_of(np.zeros((9, 9, 3), np.uint8))
        assert result.save_to_img(photo).name == f"array_0001_{number}{suffix}"
        assert result.save_to_img(photo).name == f"array_0001_{number}{suffix}"  # its own
    assert photo.read_bytes() == before


@pytest.mark.parametrize("is_named", [True, False])
def test_annotations_beside_the_images_stay(photos, tmp_path: Path, is_named):
    (photo,) = photos("y.jpg")
    annotation, table = photo.with_suffix(".json"), photo.with_suffix(".csv")
    annotation.write_text('{"version": "5.0", "shapes": [], "imagePath": "y.jpg"}')
    table.write_text("image,labels\ny.jpg,cat\n")
    before = annotation.read_bytes(), table.read_bytes()
    for number in (2, 3):
        result = result_of(photo)
        target = annotation if is_named else photo.parent
        assert result.save_to_json(target).name == f"y_{number}.json"
        target = table if is_named else photo.parent
        assert result.save_to_csv(target).name == f"y_{number}.csv"
    assert (annotation.read_bytes(), table.read_bytes()) == before


def test_an_empty_file_such_as_a_temporary_one_is_filled(tmp_path: Path):
    (tmp_path / "res.json").touch()
    (result,) = results(1)
    assert result.save_to_json(tmp_path / "res.json").name == "res.json"


def test_a_name_is_free_again_after_its_file_is_removed(tmp_path: Path):
    first, second, third = results(3)
    for result in (first, second):
        result.save_to_json(tmp_path / "res.json")
    (tmp_path / "res.json").unlink()
    assert scores_in(third.save_to_json(tmp_path / "res.json")) == [0.25]
    first.save_to_json(tmp_path)
    (tmp_path / "array_0001.json").unlink()
    assert second.save_to_json(tmp_path).name == "array_0001.json"
    assert first.save_to_json(tmp_path).name == "array_0001_2.json"  # it is the second's now


def test_a_list_that_someone_has_changed_is_left_alone(tmp_path: Path):
    first, second, third = results(3)
    first.save_to_json(tmp_path / "res.json")
    (tmp_path / "res.json").write_text("[1, 2]")
    assert second.save_to_json(tmp_path / "res.json").name == "res_2.json"
    assert (tmp_path / "res.json").read_text() == "[1, 2]"
    first.save_to_json(tmp_path / "deep.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    assert second.save_to_json(tmp_path / "deep.json").name == "deep_2.json"
    for result in (first, second, third):
        result.save_to_json(tmp_path / "new.json")
    text = (tmp_path / "new.json").read_text()
    (tmp_path / "new.json").write_text(text + "\n")
    assert results(1)[0].save_to_json(tmp_path / "new.json").name == "new_2.json"
    assert (tmp_path / "new.json").read_text() == text + "\n"


def test_links_and_other_spellings_of_a_folder_are_one_folder(tmp_path: Path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    places = ["real", "link", "./real/", f"{tmp_path}/link/../real"]
    saved = [r.save_to_json(place) for r, place in zip(results(4), places, strict=True)]
    assert [path.name for path in saved] == [f"array_0001{n}.json" for n in ("", "_2", "_3", "_4")]
    assert len(names_in(tmp_path / "real")) == 4


def test_names_that_a_disk_takes_for_one_get_numbers(photos, tmp_path: Path, monkeypatch):
    """On a disk that ignores case and the form of Unicode, as those of macOS and Windows."""
    exists = Path.exists

    def exists_there(path: Path) -> bool:
        there = os.listdir(path.parent) if exists(path.parent) else []
        return exists(path) or fold(path.name) in map(fold, there)

    monkeypatch.setattr(Path, "exists", exists_there)
    monkeypatch.setattr(os.path, "samefile", lambda *_: False)
    names = ["1/Photo.jpg", "2/photo.jpg", "3/caf\u00e9.jpg", "4/cafe\u0301.jpg"]
    saved = [result_of(path).save_to_json(tmp_path / "out").name for path in photos(*names)]
    assert saved == ["Photo.json", "photo_2.json", "caf\u00e9.json", "cafe\u0301_2.json"]


def test_numbers_step_over_the_image_itself(photos, tmp_path: Path):
    first, second = photos("a/x.jpg", "x_2.jpg")
    before = second.read_bytes()
    result_of(first).save_to_img(second.parent / "x.jpg")
    assert result_of(second).save_to_img(second.parent / "x.jpg").name == "x_3.jpg"
    assert second.read_bytes() == before


def test_threads_share_no_file(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda r: r.save_to_json(tmp_path / "all.json"), results(8)))
        list(pool.map(lambda r: r.save_to_json(tmp_path / "out/"), results(8)))
    listed = json.loads((tmp_path / "all.json").read_text())
    expected = [i / 8 for i in range(8)]
    assert sorted(each["res"]["scores"][0] for each in listed) == expected
    assert sorted(scores_in(*(tmp_path / "out").iterdir())) == expected


def test_a_save_that_fails_takes_no_name_and_leaves_the_list_as_it_was(tmp_path, monkeypatch):
    first, second, third, fourth = results(4)
    for result in (first, second):
        result.save_to_json(tmp_path / "res.json")
    before = (tmp_path / "res.json").read_bytes()

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("paddlex_ml.storage.files.flush", full)
        with pytest.raises(OSError, match="No space"):
            third.save_to_json(tmp_path / "res.json")
        with pytest.raises(OSError, match="No space"):
            third.save_to_json(tmp_path / "out/")
    assert (tmp_path / "res.json").read_bytes() == before
    assert fourth.save_to_json(tmp_path / "out/").name == "array_0001.json"
    fourth.save_to_json(tmp_path / "res.json")
    assert len(json.loads((tmp_path / "res.json").read_text())) == 3


def test_a_broken_image_takes_no_name(tmp_path: Path):
    error = PaddlexMLError("empty", where="a.jpg", fix="copy it again")
    [picture] = walk(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(PaddlexMLError, match="copy it again"):
        MultiLabelResult(picture, CLASSES, error=error).save_to_img(tmp_path)
    assert results(1)[0].save_to_img(tmp_path).name == "array_0001.png"
