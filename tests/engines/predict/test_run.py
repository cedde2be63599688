# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import msgspec
import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.config.predict_schema import PredictConfig
from paddlex_ml.config.schema import Config, GlobalConfig, TrainConfig
from paddlex_ml.engines.predict import files, run
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.export.static import save_static
from paddlex_ml.inference import table
from paddlex_ml.models import zoo
from paddlex_ml.storage import cache


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a static model of three classes."""
    output = tmp_path_factory.mktemp("run") / "output"
    paddle.seed(0)
    model = zoo.build("PP-LCNet_x1_0_ML", 3)
    info = ModelInfo("PP-LCNet_x1_0_ML", ["cat", "狗", "bird"], 64)
    save_static(model, info, output / "best_model" / "inference")
    return output


@pytest.fixture
def output(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "output")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for i, name in enumerate(("a.jpg", "sub/a.png", "b.gif")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (50, 40), (80 * i, 10, 200)).save(folder / name)
    return folder


def configure(output: Path, *, model: str = "PP-LCNet_x1_0_ML", **keys) -> Config:
    return Config(
        Global=GlobalConfig(model=model, mode="predict", output=output, device="cpu"),
        Train=TrainConfig(learning_rate=1e-3, warmup_steps=1),
        Predict=PredictConfig(**keys),
    )


def predict(config: Config) -> dict[str, Any]:
    """The content of predict_result.json."""
    return cast(dict[str, Any], msgspec.to_builtins(run.run(config)))


def read_table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_a_folder_gets_a_line_each_one_json_one_table_and_pictures(output, photos, capsys):
    result = predict(configure(output, input=str(photos), batch_size=2, threshold=0.0))
    assert result == {
        "done_flag": True,
        "model_dir": "best_model/inference",
        "num_images": 3,
        "num_failed": 0,
        "failed": [],
        "num_not_answered": 0,
        "not_answered": [],
        "save_path": "predict",
        "json": "predict/predictions.json",
        "csv": "predict/predictions.csv",
    }
    names = ["a.jpg", "a_2.png", "b.png", "predictions.csv", "predictions.json"]
    assert sorted(path.name for path in (output / "predict").iterdir()) == names
    found = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
    assert [res["input_path"] for res in found] == [
        f"{photos}/{name}" for name in ("a.jpg", "b.gif", "sub/a.png")
    ]
    printed = [{key: res[key] for key in res if key != "picture"} for res in found]
    assert capsys.readouterr().out.splitlines() == [str({"res": res}) for res in printed]
    rows = read_table(output / "predict" / "predictions.csv")
    assert rows[0] == ["image", "labels", "scores", "error", "picture"]
    assert [res["picture"] for res in found] == ["a.jpg", "b.png", "a_2.png"]
    for res, row in zip(found, rows[1:], strict=True):
        assert sorted(res["label_names"]) == ["bird", "cat", "狗"]
        assert row == [
            res["input_path"], "|".join(res["label_names"]), "|".join(map(str, res["scores"])), "",
            res["picture"],
        ]  # fmt: skip
    for name in names[:3]:
        with Image.open(output / "predict" / name) as picture:
            assert picture.height > 40


def test_every_option_of_prediction_arrives(output: Path, photos: Path):
    options: dict[str, Any] = {
        "max_labels": 2,
        "min_labels": 2,
        "return_all_scores": True,
        "save_img": False,
    }
    predict(configure(output, input=str(photos), threshold=0.99, **options))
    names = sorted(path.name for path in (output / "predict").iterdir())
    assert names == ["predictions.csv", "predictions.json"]
    for res in json.loads((output / "predict/predictions.json").read_text(encoding="utf-8")):
        assert len(res["class_ids"]) == 2
        assert len(res["all_scores"]) == 3
        assert max(res["all_scores"]) == res["scores"][0]
    header = (output / "predict/predictions.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "\ufeffimage,labels,scores,error,cat,狗,bird"


def test_labels_keep_the_relations_of_a_file(output: Path, photos: Path, tmp_path: Path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("implies: {cat: bird}\nexclusive: [[狗, cat], [狗, bird]]", encoding="utf-8")
    given: dict[str, Any] = {
        "input": str(photos),
        "threshold": 0.0,
        "relations": rules,
        "save_img": False,
    }
    predict(configure(output, **given))
    results = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
    assert len(results) == 3
    assert {tuple(sorted(res["label_names"])) for res in results} <= {("bird", "cat"), ("狗",)}
    rules.write_text("implies: {cot: bird}", encoding="utf-8")
    with pytest.raises(PaddlexMLError, match="there is no class 'cot'") as caught:
        predict(configure(output, **given))
    assert caught.value.where == f"{rules}:1"


def test_the_threshold_of_the_model_counts_unless_another_is_set(output: Path, photos: Path):
    path = output / "best_model" / "inference" / "inference.yml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("threshold: 0.5", "threshold: 0.0"), encoding="utf-8")
    counts = []
    for threshold in (None, 1.0):
        predict(configure(output, input=str(photos), threshold=threshold))
        found = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
        counts.append([len(res["class_ids"]) for res in found])
    assert counts == [[3, 3, 3], [0, 0, 0]]


def test_a_second_run_sets_the_files_of_the_first_aside(output: Path, photos: Path):
    config = configure(output, input=str(photos), save_path=photos / "named")
    first = predict(config)
    lock = ".predict.lock"
    names = sorted({path.name for path in (photos / "named").iterdir()} - {lock})
    assert predict(config) == first  # what was set aside is no photograph
    backup = photos / "named" / "predictions.bak"
    assert sorted(path.name for path in backup.iterdir()) == names
    assert sorted(path.name for path in (photos / "named").iterdir()) == sorted(
        [lock, *names, "predictions.bak"]
    )


def test_an_image_of_one_pixel_by_sixty_thousand_is_drawn_small(output: Path, tmp_path: Path):
    Image.new("RGB", (1, 60_000)).save(tmp_path / "thin.png")
    for limit, explain in ((1600, False), (1000, True)):
        predict(
            configure(output, input=str(tmp_path / "thin.png"), longest_side=limit, explain=explain)
        )
        drawn = [output / "predict" / "thin.png", output / "predict" / "explain" / "thin.png"]
        for path in drawn[: 1 + explain]:
            with Image.open(path) as picture:
                assert limit / 2 < max(picture.size) <= limit


def test_results_within_the_folder_of_the_photographs_are_no_photographs(output, photos):
    config = configure(output, input=str(photos), save_path=photos / "named")
    assert [predict(config)["num_images"] for _ in range(2)] == [3, 3]


def test_results_outside_the_output_have_whole_paths(output: Path, photos: Path, tmp_path: Path):
    elsewhere = tmp_path / "else where"
    config = configure(output, input=[str(photos / "a.jpg")], save_path=elsewhere)
    result = predict(config)
    assert result["save_path"] == str(elsewhere)
    assert result["csv"] == str(elsewhere / "predictions.csv")
    assert (elsewhere / "a.jpg").is_file()


def test_arrays_have_no_path(output: Path):
    predict(configure(output, input=np.zeros((9, 9, 3), np.uint8)))
    (res,) = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
    assert res["input_path"] is None
    assert (output / "predict" / "array_0001.png").is_file()


def test_without_input_the_override_is_named(output: Path):
    with pytest.raises(PaddlexMLError, match=r"-o Predict\.input=photo\.jpg"):
        predict(configure(output))


@pytest.mark.parametrize(("weights", "mode"), [(True, "export"), (False, "train")])
def test_without_model_the_command_that_makes_it_is_named(tmp_path, photos, weights, mode):
    output = tmp_path / "my output"
    if weights:
        (output / "best_model").mkdir(parents=True)
        (output / "best_model" / "best_model.pdparams").write_bytes(b"")
    with pytest.raises(PaddlexMLError, match=f"-o Global.mode={mode} -o 'Global.output=.*output'"):
        predict(configure(output, input=str(photos)))


def test_a_model_behind_a_url_is_fetched(output: Path, photos: Path, site):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.add(output / "best_model" / "inference", "M_infer")
    site["/M_infer.tar"] = memory.getvalue()
    url = site.url("/M_infer.tar")
    for _ in range(2):
        result = predict(configure(output, input=str(photos), model_dir=url))
    assert result["num_images"] == 3
    assert result["model_dir"] == str(cache.path_for(url)) + ".unpacked"
    assert len(site.asked) == 1


def test_a_model_behind_a_url_that_is_not_there_names_the_folder_instead(output, photos, site):
    with pytest.raises(PaddlexMLError, match="the server answers 404 Not Found") as caught:
        predict(configure(output, input=str(photos), model_dir=site.url("/M_infer.tar")))
    own = output / "best_model" / "inference"
    assert f"-o Predict.model_dir=null, which takes {own}" in caught.value.fix


def test_a_folder_of_another_model_is_refused(output: Path, photos: Path):
    with pytest.raises(PaddlexMLError, match="ResNet50_ML was asked for"):
        predict(configure(output, model="ResNet50_ML", input=str(photos)))


def test_a_threshold_for_an_unknown_class_names_the_key(output: Path, photos: Path):
    threshold = {"default": 0.5, "brid": 0.1}
    with pytest.raises(PaddlexMLError, match=r"where: Predict\.threshold\n  fix:   write bird"):
        predict(configure(output, input=str(photos), threshold=threshold))


def test_photographs_are_not_replaced_by_their_pictures(output: Path, photos: Path):
    before = (photos / "a.jpg").read_bytes()
    source = str(photos / "sub" / ".." / "a.jpg")
    with pytest.raises(PaddlexMLError, match="would overwrite the image that it describes"):
        predict(configure(output, input=source, save_path=photos))
    with pytest.raises(PaddlexMLError, match=r"would overwrite(.|\n)*Predict\.save_path"):
        predict(configure(output, input=str(photos), save_path=photos))
    assert (photos / "a.jpg").read_bytes() == before


def test_a_file_in_the_way_of_the_results_is_told(output: Path, photos: Path, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PaddlexMLError, match=r"cannot be made(.|\n)*-o Predict\.save_path"):
        predict(configure(output, input=str(photos), save_path=tmp_path / "file"))


def test_broken_images_are_counted_and_the_others_answered(output: Path, photos: Path):
    (photos / "b.gif").write_bytes(b"GIF89a")
    result = predict(configure(output, input=[str(photos), "nowhere.jpg"], batch_size=8))
    assert result["done_flag"] is False
    assert (result["num_images"], result["num_failed"]) == (4, 2)
    assert [failed["input_path"] for failed in result["failed"]] == [
        f"{photos}/b.gif", "nowhere.jpg"
    ]  # fmt: skip
    assert result["err_type"] == "PaddlexMLError"
    assert "2 of 4 images could not be read, first: not an image" in result["err_msg"]
    found = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
    assert ["error" in res for res in found] == [False, True, False, True]
    rows = read_table(output / "predict" / "predictions.csv")
    assert [bool(row[3]) for row in rows[1:]] == [False, True, False, True]
    assert sorted(p.name for p in (output / "predict").iterdir() if p.suffix != ".csv") == [
        "a.jpg", "a_2.png", "predictions.json"
    ]  # fmt: skip


@pytest.fixture
def mixed(photos: Path) -> Path:
    """Photographs among other files, as phones and web sites leave them."""
    for name, kind in (("d.jp2", "JPEG2000"), ("e.jpe", "JPEG"), ("f.JPG_large", "JPEG")):
        Image.new("RGB", (50, 40), "red").save(photos / name, kind)
    Image.new("RGB", (50, 40), "red").save(photos / "IMG_1", "PNG")
    (photos / "sub" / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    (photos / "g").write_bytes(b"\x07\x08\x09")
    (photos / "h.jpg_part").write_bytes((photos / "a.jpg").read_bytes()[:300])
    (photos / "notes.txt").write_text("of the photographs")
    return photos


@pytest.mark.parametrize("on_error", ["report", "raise"])
def test_every_file_of_a_folder_is_answered_or_named(output, mixed, caplog, on_error):
    caplog.set_level("INFO", "paddlex_ml")
    result = predict(configure(output, input=str(mixed), on_error=on_error))
    assert result["done_flag"] is True
    assert (result["num_images"], result["num_failed"], result["num_not_answered"]) == (7, 0, 3)
    reasons = [
        "not an image, or a format",
        "the image cannot be decoded",
        "not an image, but a vid",
    ]
    names = ["g", "h.jpg_part", "sub/a.mp4"]
    for found in (
        result["not_answered"],
        [
            {"input_path": row[0], "error": row[3]}
            for row in read_table(output / "predict" / "predictions.csv")
            if row[3].startswith("not answered: ")
        ],
    ):
        assert [file["input_path"] for file in found] == [f"{mixed}/{name}" for name in names]
        for file, reason in zip(found, reasons, strict=True):
            assert file["error"].startswith(f"not answered: {reason}")
    rows = read_table(output / "predict" / "predictions.csv")
    assert {Path(row[0]).name: row[4] for row in rows[1:]} == {
        "IMG_1": "IMG_1.png", "a.jpg": "a.jpg", "b.gif": "b.png", "d.jp2": "d.png",
        "e.jpe": "e.png", "f.JPG_large": "f.png", "g": "", "h.jpg_part": "", "a.mp4": "",
        "a.png": "a_2.png",
    }  # fmt: skip
    assert "3 files were not answered: g, h.jpg_part, a.mp4" in caplog.text
    assert "texts and backups are no images: 1 .txt" in caplog.text


def test_strict_ends_with_an_error_after_all_others_are_answered(output: Path, mixed: Path):
    result = predict(configure(output, input=str(mixed), strict=True))
    assert result["done_flag"] is False
    assert (result["num_images"], result["num_failed"], result["num_not_answered"]) == (7, 0, 3)
    assert result["err_type"] == "PaddlexMLError"
    assert "3 files were not answered: g, h.jpg_part, a.mp4" in result["err_msg"]
    assert f"where: {mixed}/g" in result["err_msg"]
    assert "-o Predict.strict=false" in result["err_msg"]
    (mixed / "b.gif").write_bytes(b"GIF89a")
    message = predict(configure(output, input=str(mixed), strict=True))["err_msg"]
    assert "1 of 7 images could not be read" in message
    assert "3 files were not answered" in message


def test_a_folder_of_videos_alone_says_what_it_holds(output: Path, tmp_path: Path):
    for name in ("1.mp4", "2.mov"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / name).write_bytes(b"\0\0\0\x18ftypqt  ")
    with pytest.raises(PaddlexMLError, match=r"holds no image.*, but 1\.mp4 \(not .* a video\), 2"):
        predict(configure(output, input=str(tmp_path / "videos")))


def test_a_video_that_is_named_is_a_failure(output: Path, mixed: Path):
    result = predict(configure(output, input=[str(mixed / "sub" / "a.mp4"), str(mixed / "a.jpg")]))
    assert (result["num_failed"], result["num_not_answered"]) == (1, 0)
    assert result["done_flag"] is False


def test_a_broken_image_may_end_the_run_which_keeps_what_was_done(output: Path, photos: Path):
    (photos / "b.gif").write_bytes(b"GIF89a")
    with pytest.raises(PaddlexMLError, match=r"where: .*b\.gif"):
        predict(configure(output, input=str(photos), on_error="raise"))
    names = ["a.jpg", "predictions.csv", "predictions.json"]
    assert sorted(p.name for p in (output / "predict").iterdir()) == names
    (res,) = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
    assert res["input_path"] == f"{photos}/a.jpg"


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Stopped(15)])
def test_a_stopped_run_keeps_what_was_done(output: Path, photos: Path, monkeypatch, stop):
    count = run._Tally.count

    def count_then_stop(self, result):
        count(self, result)
        if self.images == 2:
            raise stop

    monkeypatch.setattr(run._Tally, "count", count_then_stop)
    with pytest.raises(type(stop)):
        predict(configure(output, input=str(photos)))
    found = json.loads((output / "predict/predictions.json").read_text(encoding="utf-8"))
    assert [Path(res["input_path"]).name for res in found] == ["a.jpg", "b.gif"]
    assert not [p.name for p in (output / "predict").iterdir() if p.name.startswith(".")]


def test_a_full_disk_leaves_no_half_of_a_file(output: Path, photos: Path, monkeypatch):
    def full(rows):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, "write", full)
    with pytest.raises(OSError, match="No space left"):
        predict(configure(output, input=str(photos), save_img=False))
    assert list((output / "predict").iterdir()) == []


@pytest.mark.parametrize("save_img", [True, False])
def test_explained_images_get_a_sheet_in_a_folder_of_their_own(output, photos, save_img):
    config = configure(
        output, input=str(photos), batch_size=2, threshold=0.0, explain=True, save_img=save_img
    )
    result = predict(config)
    assert result["explain"] == "predict/explain"
    names = ["a.jpg", "a_2.png", "b.png"]
    assert sorted(path.name for path in (output / "predict" / "explain").iterdir()) == names
    for name in names:
        with Image.open(output / "predict" / "explain" / name) as sheet:
            assert sheet.width > 500  # four tiles: the photograph and three labels
    beside = {path.name for path in (output / "predict").iterdir()}
    kept = {"explain", "predictions.csv", "predictions.json"}
    assert beside == (kept | set(names) if save_img else kept)


def test_explained_answers_are_those_without_and_nothing_more_is_left(output, photos):
    answers = []
    for explain in (False, True):
        predict(configure(output, input=str(photos), threshold=0.0, explain=explain))
        answers.append((output / "predict" / "predictions.json").read_text(encoding="utf-8"))
        assert (output / "predict" / "explain").exists() is explain
    assert answers[0] == answers[1]


def test_broken_images_have_no_sheet(output: Path, photos: Path):
    (photos / "b.gif").write_bytes(b"GIF89a")
    result = predict(configure(output, input=str(photos), threshold=0.0, explain=True))
    assert result["num_failed"] == 1
    folder = output / "predict" / "explain"
    assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "a_2.png"]


def test_sheets_within_the_folder_of_the_photographs_are_no_photographs(output, photos):
    config = configure(output, input=str(photos), save_path=photos / "named", explain=True)
    assert [predict(config)["num_images"] for _ in range(2)] == [3, 3]


def test_a_file_in_the_way_of_the_sheets_is_told(output: Path, photos: Path, tmp_path: Path):
    (tmp_path / "explain").write_bytes(b"")
    with pytest.raises(PaddlexMLError, match=r"cannot be made(.|\n)*explain"):
        predict(configure(output, input=str(photos), save_path=tmp_path, explain=True))


def test_frames_are_results_of_their_own(output: Path, photos: Path):
    images = [Image.new("RGB", (50, 40), (80 * i, 10, 200)) for i in range(3)]
    images[0].save(photos / "moving.gif", save_all=True, append_images=images[1:])
    result = predict(configure(output, input=str(photos), frames=2, threshold=0.0))
    assert result["num_images"] == 5
    saved = output / "predict"
    found = json.loads((saved / "predictions.json").read_text("utf-8"))
    assert [(Path(each["input_path"]).name, each.get("frame")) for each in found] == [
        ("a.jpg", None), ("b.gif", None), ("moving.gif", 0), ("moving.gif", 2), ("a.png", None)
    ]  # fmt: skip
    moving = str(photos / "moving.gif")
    rows = [row[0] for row in read_table(saved / "predictions.csv")]
    assert rows[3:5] == [f"{moving}#frame=0", f"{moving}#frame=2"]
    assert (saved / "moving_000002.jpg").is_file()


def test_the_model_may_be_named_by_the_folder_above_it(output: Path, photos: Path, tmp_path: Path):
    moved = output.rename(tmp_path / "moved")
    for folder in (moved, moved / "best_model"):
        config = configure(output, input=str(photos), model_dir=str(folder))
        assert predict(config)["num_images"] == 3


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(28, "full"), "named"),
        (PermissionError(13, "refused", "named/a.jpg"), "named/a.jpg"),
    ],
)
def test_the_repair_for_a_folder_that_cannot_be_written_names_its_option(
    output, photos, tmp_path, monkeypatch, error, where
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # the repair prefers another disk
    monkeypatch.setattr(files, "writing", Mock(side_effect=error))
    with pytest.raises(PaddlexMLError) as caught:
        predict(configure(output, input=str(photos), save_path=Path("named")))
    assert caught.value.where == where
    assert re.search(r": -o Predict\.save_path=output(_\d+)?$", caught.value.fix)


@pytest.mark.parametrize("source", ["{photos}", ["{photos}"]])
def test_photographs_in_the_folder_of_the_results_are_not_left_out_in_silence(
    output, photos, source
):
    inner = photos / "more"
    inner.mkdir()
    shutil.copy(photos / "a.jpg", inner / "x.jpg")
    named = [text.format(photos=photos) for text in source] if isinstance(source, list) else None
    wanted = {"input": named or str(photos), "save_path": inner}
    with pytest.raises(PaddlexMLError) as caught:
        predict(configure(output, **wanted))
    assert "holds 1 image that would be left out, such as x.jpg" in caught.value.what
    assert "-o Predict.save_path=output" in caught.value.fix
    (inner / "x.jpg").unlink()
    before = predict(configure(output, **wanted))["num_images"]
    assert predict(configure(output, **wanted))["num_images"] == before  # its own are no others
