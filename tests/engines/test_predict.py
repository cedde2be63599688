# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml import cache
from paddlex_ml.checkpoint import Card
from paddlex_ml.config.schema import Config, GlobalConfig, PredictConfig, TrainConfig
from paddlex_ml.engines import predict
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.static import save_static
from paddlex_ml.models import zoo


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with a static model of three classes."""
    output = tmp_path_factory.mktemp("run") / "output"
    paddle.seed(0)
    model = zoo.build("PP-LCNet_x1_0_ML", 3)
    card = Card("PP-LCNet_x1_0_ML", ["cat", "狗", "bird"], 64)
    save_static(model, card, output / "best_model" / "inference")
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


def test_every_image_gets_a_line_a_json_and_a_picture(output: Path, photos: Path, capsys):
    result = predict.run(configure(output, input=str(photos), batch_size=2, threshold=0.0))
    assert result == {
        "done_flag": True,
        "model_dir": "best_model/inference",
        "num_images": 3,
        "save_path": "predict",
        "results": [
            {"input_path": f"{photos}/{path}", "json": f"predict/{j}", "img": f"predict/{i}"}
            for path, j, i in [
                ("a.jpg", "a.json", "a.jpg"),
                ("b.gif", "b.json", "b.png"),
                ("sub/a.png", "a_2.json", "a_2.png"),
            ]
        ],
    }
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, saved in zip(lines, result["results"], strict=True):
        content = json.loads((output / saved["json"]).read_text(encoding="utf-8"))
        assert line == str(content)
        assert sorted(content["res"]["label_names"]) == ["bird", "cat", "狗"]
        with Image.open(output / saved["img"]) as picture:
            assert picture.height > 40


def test_a_second_run_replaces_the_files_of_the_first(output: Path, photos: Path):
    config = configure(output, input=str(photos))
    assert predict.run(config) == predict.run(config)
    assert len(list((output / "predict").iterdir())) == 6


def test_results_outside_the_output_have_whole_paths(output: Path, photos: Path, tmp_path: Path):
    elsewhere = tmp_path / "else where"
    config = configure(output, input=[str(photos / "a.jpg")], save_path=elsewhere)
    result = predict.run(config)
    assert result["save_path"] == str(elsewhere)
    assert result["results"][0]["img"] == str(elsewhere / "a.jpg")
    assert (elsewhere / "a.jpg").is_file()


def test_arrays_have_no_path(output: Path):
    result = predict.run(configure(output, input=np.zeros((9, 9, 3), np.uint8)))
    assert result["results"] == [
        {"input_path": None, "json": "predict/array_0001.json", "img": "predict/array_0001.png"}
    ]


def test_without_input_the_override_is_named(output: Path):
    with pytest.raises(PaddlexMLError, match=r"-o Predict\.input=photo\.jpg"):
        predict.run(configure(output))


@pytest.mark.parametrize(("weights", "mode"), [(True, "export"), (False, "train")])
def test_without_model_the_command_that_makes_it_is_named(tmp_path, photos, weights, mode):
    output = tmp_path / "my output"
    if weights:
        (output / "best_model").mkdir(parents=True)
        (output / "best_model" / "best_model.pdparams").write_bytes(b"")
    with pytest.raises(PaddlexMLError, match=f"-o Global.mode={mode} -o 'Global.output=.*output'"):
        predict.run(configure(output, input=str(photos)))


def test_a_model_behind_a_url_is_fetched(output: Path, photos: Path, site):
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        archive.add(output / "best_model" / "inference", "M_infer")
    site["/M_infer.tar"] = memory.getvalue()
    url = site.url("/M_infer.tar")
    for _ in range(2):
        result = predict.run(configure(output, input=str(photos), model_dir=url))
    assert result["num_images"] == 3
    assert result["model_dir"] == str(cache.place(url)) + ".unpacked"
    assert len(site.asked) == 1


def test_a_model_behind_a_url_that_is_not_there_names_the_folder_instead(output, photos, site):
    with pytest.raises(PaddlexMLError, match="the server answers 404 Not Found") as caught:
        predict.run(configure(output, input=str(photos), model_dir=site.url("/M_infer.tar")))
    own = output / "best_model" / "inference"
    assert f"-o Predict.model_dir=null, which takes {own}" in caught.value.fix


def test_a_folder_of_another_model_is_refused(output: Path, photos: Path):
    with pytest.raises(PaddlexMLError, match="ResNet50_ML was asked for"):
        predict.run(configure(output, model="ResNet50_ML", input=str(photos)))


def test_a_threshold_for_an_unknown_class_names_the_key(output: Path, photos: Path):
    threshold = {"default": 0.5, "brid": 0.1}
    with pytest.raises(PaddlexMLError, match=r"where: Predict\.threshold\n  fix:   write bird"):
        predict.run(configure(output, input=str(photos), threshold=threshold))


def test_photographs_are_not_replaced_by_their_pictures(output: Path, photos: Path):
    before = (photos / "a.jpg").read_bytes()
    with pytest.raises(PaddlexMLError, match=r"overwrite the images(.|\n)*Predict\.save_path"):
        predict.run(configure(output, input=str(photos / "sub" / ".." / "a.jpg"), save_path=photos))
    assert (photos / "a.jpg").read_bytes() == before


def test_a_file_in_the_way_of_the_results_is_told(output: Path, photos: Path, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PaddlexMLError, match=r"cannot be made(.|\n)*-o Predict\.save_path"):
        predict.run(configure(output, input=str(photos), save_path=tmp_path / "file"))


def test_a_broken_image_ends_the_run_and_keeps_what_was_done(output: Path, photos: Path):
    (photos / "b.gif").write_bytes(b"GIF89a")
    with pytest.raises(PaddlexMLError, match=r"where: .*b\.gif"):
        predict.run(configure(output, input=str(photos)))
    assert sorted(p.name for p in (output / "predict").iterdir()) == ["a.jpg", "a.json"]
