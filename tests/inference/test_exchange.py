# SPDX-License-Identifier: Apache-2.0
"""Models go both ways between PaddleX and this project: files, labels, scores."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.static import save_static
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo

NAME = "PP-LCNet_x1_0_ML"
ODD = ["猫 咪", "7", "007", "1e3", "0o17", "yes", "null", "~", "12:30", "2024-01-01", "1_000"]
ODD += ["a: b", "#x", "- y", "'q'", '"d"', "😀", ".5", "true", "tab\tx", "{a}", "*d", "=", "<<"]
OURS_ALONE = {"Global.decoder_tokens"}  # keys of inference.yml that PaddleX does not write


@pytest.fixture(scope="module")
def full_size(refdata: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PP-LCNet at 448 px whose scores differ from image to image, its names hard to write."""
    model = zoo.build(NAME, len(ODD))
    refdata.fill_layer(model, NAME)
    folder = tmp_path_factory.mktemp("full_size") / "inference"
    save_static(model, ModelInfo(NAME, ODD, 448, None), folder)
    return folder


def entries(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(place, type) of every value, in the order of the file; lists of names count once."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from entries(child, f"{place}.{key}" if place else key)
    elif isinstance(value, list) and place.endswith("transform_ops"):
        for number, child in enumerate(value):
            yield from entries(child, f"{place}[{number}]")
    elif isinstance(value, list):
        yield place, f"list of {', '.join(sorted({type(child).__name__ for child in value}))}"
    else:
        yield place, type(value).__name__


@pytest.mark.parametrize("tokens", [None, "all_patches"])
def test_our_description_has_the_keys_order_and_types_of_paddlex(
    shared: Path, tmp_path: Path, tokens: str | None
) -> None:
    layer = paddle.nn.Sequential(paddle.nn.Flatten(), paddle.nn.Linear(3 * 32 * 32, len(ODD)))
    save_static(layer, ModelInfo(NAME, ODD, 32, tokens), tmp_path / "inference")
    ours = list(entries(yaml.safe_load((tmp_path / "inference" / "inference.yml").read_text())))
    reference = shared / "reference" / "formats" / "inference.yml"
    theirs = list(entries(yaml.safe_load(reference.read_text(encoding="utf-8"))))
    assert [entry for entry in ours if entry[0] not in OURS_ALONE] == theirs
    assert {place for place, _ in ours} - {place for place, _ in theirs} == (
        OURS_ALONE if tokens else set()
    )
    assert len(theirs) == 12


def test_names_come_back_as_they_were_however_odd(full_size: Path) -> None:
    assert StaticModel(full_size, "cpu").label_names == tuple(ODD)


def test_the_graph_has_the_input_and_output_of_a_published_one(full_size: Path) -> None:
    paddle.enable_static()
    try:
        program, inputs, _ = paddle.static.load_inference_model(
            str(full_size / "inference"), paddle.static.Executor(paddle.CPUPlace())
        )
        ends = {
            (operator.name(), operator.attrs()["name"]): operator.results()[0]
            for operator in program.global_block().ops
            if operator.name() in ("pd_op.data", "pd_op.fetch")
        }
        found = {end: (list(value.shape), value.dtype) for end, value in ends.items()}
    finally:
        paddle.disable_static()
    assert inputs == ["x"]
    assert found == {
        ("pd_op.data", "x"): ([-1, 3, 448, 448], paddle.float32),
        ("pd_op.fetch", "fetch_name_0"): ([-1, len(ODD)], paddle.float32),
    }


THEIRS = """\
{hpi}Global:
  model_name: PP-LCNet_x1_0_ML
PreProcess:
  transform_ops:
{decode}  - ResizeImage:
      backend: pil
      interpolation: bilinear
      size: {size}
  - NormalizeImage:
      channel_num: 3
      mean:
      - 0.485
      - 0.456
      - 0.406
      order: ''
      scale: {scale}
      std:
      - 0.229
      - 0.224
      - 0.225
  - ToCHWImage: {chw}
PostProcess:
  MultiLabelThreshOutput:
    threshold: {threshold}
    label_list:
    - cat
    - dog
    - 猫
    - 7
    - red square
"""
PLAIN = {
    "hpi": "",
    "decode": "",
    "size": "64",
    "scale": "0.00392156862745098",
    "chw": "null",
    "threshold": "0.5",
}
HPI = """\
Hpi:
  backend_configs:
    paddle_infer:
      trt_dynamic_shapes: &id001
        x: [[1, 3, 448, 448], [1, 3, 448, 448], [8, 3, 448, 448]]
    tensorrt:
      dynamic_shapes: *id001
"""
DECODE = "  - DecodeImage:\n      to_rgb: true\n      channel_first: false\n"
FORMS = {
    "as PaddleX 3.7 writes it": {},
    "with the section of high-performance inference": {"hpi": HPI},
    "with the decoding of a PaddleClas recipe": {"decode": DECODE},
    "with a backend in the decoding": {
        "decode": DECODE + "      backend: cv2\n",
    },
    "with the scale of a recipe": {"scale": "1.0/255.0"},
    "with the scale of a recipe in quotes": {"scale": "'1.0/255.0'"},
    "with two sides": {"size": "[64, 64]"},
    "with an empty mapping": {"chw": "{}"},
}


@pytest.fixture
def foreign(exported: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder as PaddleX leaves it; the graph is that of `exported`."""

    def write(**parts: str) -> Path:
        folder = tmp_path / "foreign"
        folder.mkdir()
        for name in ("inference.json", "inference.pdiparams"):
            shutil.copy(exported / name, folder)
        text = THEIRS.format(**{**PLAIN, **parts})
        (folder / "inference.yml").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_of_paddlex_runs_with_its_names_and_transforms(
    foreign: Callable[..., Path], predictor: Predictor, photos: Path, form: str
) -> None:
    model = StaticModel(foreign(**FORMS[form]), "cpu", model_name=NAME)
    assert model.label_names == ("cat", "dog", "猫", "7", "red square")
    assert (model.model_name, model.image_size, model.threshold) == (NAME, (64, 64), 0.5)
    found = [result.json for result in Predictor(model).predict(photos, threshold=0)]
    assert found == [result.json for result in predictor.predict(photos, threshold=0)]


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [
        ("null", 0.5),
        ("0.75", 0.75),
        ("[0.1, 0.9, 0.5, 0.5, 0.5]", [0.1, 0.9, 0.5, 0.5, 0.5]),
        ("{default: 0.5, 0: 0.1, 1: 0.9}", [0.1, 0.9, 0.5, 0.5, 0.5]),
    ],
)
def test_the_threshold_of_a_foreign_folder_is_that_of_each_class(
    foreign: Callable[..., Path], predictor: Predictor, photos: Path, threshold: str, kept: Any
) -> None:
    own = Predictor(StaticModel(foreign(threshold=threshold), "cpu"))
    found = [result.class_ids for result in own.predict(photos)]
    assert found == [result.class_ids for result in predictor.predict(photos, threshold=kept)]


def test_a_foreign_folder_without_names_says_what_to_add(foreign: Callable[..., Path]) -> None:
    folder = foreign()
    path = folder / "inference.yml"
    path.write_text(path.read_text(encoding="utf-8").partition("    label_list")[0], "utf-8")
    with pytest.raises(PaddlexMLError, match="the model has no names for its classes") as caught:
        StaticModel(folder, "cpu")
    assert caught.value.fix.startswith("list the class names there, one per output")


PEER = """
import json, sys
from paddlex import create_model, create_pipeline
name, folder, photos = sys.argv[1], sys.argv[2], sys.argv[4:]
part = {"module_name": "image_multilabel_classification", "model_name": name,
        "model_dir": folder, "batch_size": 3}
kind = {"pipeline_name": "image_multilabel_classification",
        "SubModules": {"ImageMultiLabelClassification": part}}
model = create_model(model_name=name, model_dir=folder, device="cpu")
pipeline = create_pipeline(config=kind, device="cpu")
found = [model.predict(photos, batch_size=1, threshold=0.0),
         pipeline.predict(photos, threshold=0.0)]
json.dump([[row.json["res"] for row in rows] for rows in found], open(sys.argv[3], "w"))
"""
# PaddleX reads no GIF, and turns CMYK into RGB by another formula: docs/deploy.md says so.
LEFT_OUT = {"photo.gif", "cmyk.jpg", "empty.jpg", "garbage.jpg", "truncated.jpg"}


def test_paddlex_gives_our_scores_for_our_export(
    full_size: Path, shared: Path, tmp_path: Path
) -> None:
    if importlib.util.find_spec("paddlex") is None:
        pytest.skip('needs PaddleX here: pip install "paddlex[cv]==3.7.2"; nothing installs it')
    images = sorted((shared / "reference" / "transforms" / "images").iterdir())
    photos = [str(path) for path in images if path.name not in LEFT_OUT]
    for name in ("natural_scenes", "clothing_ccp"):
        real = sorted((shared / "data" / name / "images").iterdir())
        photos += map(str, real[:: len(real) // 8])
    output = tmp_path / "theirs.json"
    peer = [sys.executable, "-c", PEER, NAME, str(full_size), str(output), *photos]
    done = subprocess.run(peer, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    ours = list(Predictor(StaticModel(full_size, "cpu")).predict(photos, threshold=0))
    assert len(ours) >= 30
    for theirs in json.loads(output.read_text(encoding="utf-8")):
        for mine, other in zip(ours, theirs, strict=True):
            assert other["input_path"] == mine.input_path
            assert set(other["label_names"]) == set(ODD)
            scores = dict(zip(other["label_names"], other["scores"], strict=True))
            found = np.array([scores[name] for name in mine.label_names])
            assert np.abs(found - mine.scores).max() < 1e-4, mine.input_path
