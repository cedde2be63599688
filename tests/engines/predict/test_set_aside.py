# SPDX-License-Identifier: Apache-2.0
"""A folder has the pictures of one prediction; those of earlier ones are kept with their table."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml import systems
from paddlex_ml.artifacts.run_folder import PredictFiles
from paddlex_ml.engines.predict import files
from paddlex_ml.engines.predict.set_aside import list_own, set_aside
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.inference.inputs import walk
from paddlex_ml.inference.result import MultiLabelResult, Seen

SCORES = np.array([0.9, 0.1], np.float32)
CLASSES = ["cat", "dog"]


@pytest.fixture
def saved(tmp_path: Path) -> PredictFiles:
    folder = tmp_path / "predict"
    folder.mkdir()
    return PredictFiles(folder)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.jpg", "b.gif", "c.png"):
        Image.new("RGB", (40, 30), "red").save(folder / name)
    return folder


def predict(
    saved: PredictFiles, source: Any, *, maps: bool = False, stop: BaseException | None = None
) -> None:
    """What the command does with the results of a model; `stop` comes after the last."""
    seen = Seen({0: np.full((2, 2), 0.25, np.float32)}, 1)
    set_aside(saved)
    with (
        files.writing(saved, CLASSES, with_all_scores=False, with_picture=True) as add,
        files.drawing(saved, labels=True, maps=maps, longest_side=640) as draw,
    ):
        names = files.PictureNames(saved)
        for picture in walk(source):
            result = MultiLabelResult(
                picture, CLASSES, np.array([0.9, 0.1], np.float32), [0], seen=seen
            )
            name = names.choose(result)
            add(result, name)
            draw(result, name)
        if stop is not None:
            raise stop


def entries(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def drawn_by(table: Path) -> list[str]:
    return [res["picture"] for res in json.loads(table.read_text("utf-8"))]


def test_earlier_pictures_move_with_their_table_and_no_backup_is_replaced(saved, photos):
    (saved.folder / "mine.jpg").write_bytes(b"of the user")
    predict(saved, str(photos), maps=True)
    first = entries(saved.folder)
    whole = {name: (saved.folder / name).read_bytes() for name in first if name != "mine.jpg"}
    predict(saved, str(photos / "a.jpg"))
    predict(saved, str(photos / "c.png"))
    backup = saved.folder / "predictions.bak"
    assert {name: (backup / name).read_bytes() for name in entries(backup)} == whole
    assert drawn_by(backup / "predictions.json") == ["a.jpg", "b.png", "c.png"]
    second = saved.folder / "predictions.bak.1"
    assert entries(second) == ["a.jpg", "predictions.csv", "predictions.json"]
    now = [name for name in entries(saved.folder) if ".bak" not in name]
    assert now == ["c.png", "mine.jpg", "predictions.csv", "predictions.json"]
    assert not saved.explain.exists()
    assert (saved.folder / "mine.jpg").read_bytes() == b"of the user"


def test_pictures_that_a_kill_cut_in_half_move_too(saved, photos, monkeypatch):
    killed = RuntimeError("killed")

    def leave(temporary: Path, target: Path) -> None:
        raise killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda path, **_: None)
        patch.setattr(systems, "rename", leave)
        with pytest.raises(RuntimeError):
            predict(saved, str(photos), maps=True)
    mine = saved.folder / ".mine.jpg.12345678.jpg"
    mine.write_bytes(b"of the user")
    halves = [name for name in entries(saved.folder) if "/." in f"/{name}"]
    assert len(halves) > 2
    predict(saved, str(photos / "a.jpg"))
    hidden = [name for name in entries(saved.folder) if "/." in f"/{name}"]
    backup = [f"predictions.bak/{name}" for name in halves if name != mine.name]
    assert sorted(hidden) == sorted([mine.name, *backup])


def test_tables_pictures_and_backups_are_listed_and_nothing_else(saved, photos):
    predict(saved, photos, maps=True)
    predict(saved, photos)
    everything = {path for path in saved.folder.rglob("*") if path.is_file()}
    (saved.folder / "mine.jpg").write_text("mine")
    (saved.folder / "predictions.bak" / "mine.txt").write_text("mine")
    assert {*list_own(saved)} == everything


def test_the_names_in_both_tables_are_those_of_the_pictures(saved, photos):
    (saved.folder / "A.JPG").write_bytes(b"of the user")
    (photos / "sub").mkdir()
    Image.new("RGB", (40, 30), "blue").save(photos / "sub" / "a.jpg")
    Image.new("RGB", (40, 30), "blue").save(photos / "sub" / "a_2.jpg")
    predict(saved, str(photos))
    with saved.predictions_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = drawn_by(saved.predictions_json)
    assert [row["picture"] for row in rows] == found
    assert len({name.lower() for name in found}) == 5
    pictures = {name for name in entries(saved.folder) if not name.startswith("predictions")}
    assert pictures == {*found, "A.JPG"}
    assert (saved.folder / "A.JPG").read_bytes() == b"of the user"
    for row in rows:
        with Image.open(row["image"]) as image, Image.open(saved.folder / row["picture"]) as drawn:
            colours = [each.convert("RGB").getpixel((9, 9)) for each in (image, drawn)]
        assert np.allclose(colours[0], colours[1], atol=9)


@pytest.mark.parametrize("lost", ["predictions.json", "predictions.csv"])
def test_one_of_the_tables_is_enough(saved, photos, lost):
    predict(saved, str(photos))
    (saved.folder / lost).unlink()
    predict(saved, str(photos / "c.png"))
    assert entries(saved.folder / "predictions.bak")[:3] == ["a.jpg", "b.png", "c.png"]
    assert drawn_by(saved.predictions_json) == ["c.png"]


def test_tables_of_the_first_version_name_only_the_images(saved, photos):
    """0.1.0 had no column for pictures, and named them in the same way."""
    shutil.copytree(photos, photos / "d")
    predict(saved, str(photos))
    pictures = drawn_by(saved.predictions_json)
    rows = json.loads(saved.predictions_json.read_text("utf-8"))
    for res in rows:
        del res["picture"]
    rows[1]["error"] = "the image file is empty (0 bytes)"
    (saved.folder / pictures[1]).rename(saved.folder / "kept.png")
    text = "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n"
    saved.predictions_json.write_text(text, "utf-8")
    saved.predictions_csv.unlink()
    backup = set_aside(saved)
    assert backup is not None
    assert entries(backup) == sorted([pictures[0], *pictures[2:], "predictions.json"])
    assert entries(saved.folder)[0] == "kept.png"


def test_tables_that_name_other_folders_move_nothing_from_there(saved, photos, tmp_path):
    predict(saved, str(photos / "a.jpg"))
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(b"of the user")
    row = {"input_path": "a.jpg", "picture": "../outside.jpg"}
    saved.predictions_json.write_text(f'[\n{json.dumps(row)},\n[7],\n"x",\nhalf of a l', "utf-8")
    saved.predictions_csv.write_text(f"image,picture\na.jpg,{outside}\n,..\n", "utf-8")
    set_aside(saved)
    assert outside.read_bytes() == b"of the user"


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), Stopped(15), PaddlexMLError("a", where="b", fix="c"), OSError(5)]
)
def test_every_picture_of_a_run_that_was_stopped_is_there_and_in_its_table(saved, photos, stop):
    with pytest.raises(type(stop)):
        predict(saved, str(photos), stop=stop)
    found = drawn_by(saved.predictions_json)
    assert found == ["a.jpg", "b.png", "c.png"]
    assert entries(saved.folder) == [*found, "predictions.csv", "predictions.json"]


def test_whenever_a_run_is_killed_the_next_one_sets_all_its_pictures_aside(
    kill_at_every_step, photos
):
    def act(root: Path) -> None:
        predict(PredictFiles(root / "predict"), str(photos))

    def prepare(root: Path) -> None:
        (root / "predict").mkdir()
        predict(PredictFiles(root / "predict"), str(photos / "b.gif"))

    roots = kill_at_every_step(prepare, act)
    assert len(roots) > 10
    for root in roots:
        saved = PredictFiles(root / "predict")
        before = {name.rpartition("/")[2] for name in entries(saved.folder)} - {".b.png"}
        predict(saved, str(photos / "c.png"))
        now = [name for name in entries(saved.folder) if ".bak" not in name]
        now = [name for name in now if not name.startswith(".")]  # half of a picture
        assert now == ["c.png", "predictions.csv", "predictions.json"]
        after = {name.rpartition("/")[2] for name in entries(saved.folder)}
        assert {name for name in before if not name.startswith(".")} <= after
        backups = saved.folder.glob("predictions.bak*")
        homes = [backup for backup in backups if (backup / "b.png").exists()]
        assert any((home / "predictions.json").exists() for home in homes)


def test_on_a_disk_without_links_the_tables_are_copied(saved, photos, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(95, os.strerror(95))

    predict(saved, str(photos))
    monkeypatch.setattr(os, "link", refuse)
    backup = set_aside(saved)
    assert backup is not None
    assert drawn_by(backup / "predictions.json") == ["a.jpg", "b.png", "c.png"]
    assert entries(saved.folder) == [f"predictions.bak/{name}" for name in entries(backup)]


def test_one_picture_is_counted_as_one(
    saved: PredictFiles, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        predict(saved, str(photos / "a.jpg"))
    (told,) = caplog.messages
    assert told.endswith("predictions.json, predictions.csv and 1 picture")
