# SPDX-License-Identifier: Apache-2.0
"""docs/deploy.md: the page shows the very files beside it, and they do what it says."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from paddlex_ml.artifacts import inference_yml, onnx_metadata
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo

pytestmark = pytest.mark.story

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ROOT / "docs" / "deploy"
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
LABELS = ["cat", "dog", "猫", "7", "red square"]


def run(*arguments: str | Path) -> str:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_shows_three_files_beside_it_as_they_are() -> None:
    blocks = re.findall(r"^```(?:python|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for name in ("client.py", "onnx_predict.py", "scenes.yaml"):
        assert (FILES / name).read_text(encoding="utf-8") in blocks


def test_the_page_has_a_link_to_every_file_beside_it() -> None:
    files = [path.relative_to(FILES).as_posix() for path in FILES.rglob("*.*") if path.is_file()]
    assert len(files) == 10
    for name in files:
        assert f"](deploy/{name})" in PAGE


def test_every_link_of_the_page_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    places = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
    links = re.findall(r"\]\(([^)]+)\)", PAGE)
    assert len(links) >= 7
    for link in links:
        path, _, place = link.partition("#")
        assert (ROOT / "docs" / path).exists()
        assert path or place in places


def test_the_pipeline_of_the_page_takes_the_folder_and_the_name_that_training_leaves(
    toy_run: Path,
) -> None:
    pipeline = yaml.safe_load((FILES / "scenes.yaml").read_text(encoding="utf-8"))
    assert pipeline["pipeline_name"] == "image_multilabel_classification"
    [part] = pipeline["SubModules"].values()
    folder = toy_run / Path(part["model_dir"]).relative_to("output")
    assert StaticModel(folder, "cpu").model_name == part["model_name"]
    assert pipeline["Serving"] == {"visualize": False}


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """Its address, and the requests it got; it answers as PaddleX 3.7.2 does."""
    asked: list[Any] = []
    example = re.search(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert example is not None
    answer = json.dumps(json.loads(example[1])).encode()

    class Peer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Peer) as peer:
        thread = Thread(target=peer.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{peer.server_port}", asked
        peer.shutdown()
        thread.join()


def test_the_client_sends_the_file_and_prints_the_labels(
    server: tuple[str, list[Any]], photos: Path
) -> None:
    address, asked = server
    photo = photos / "a.jpg"
    printed = run(FILES / "client.py", address, photo)
    assert printed == f"{photo} mountains 0.830, trees 0.761, sea 0.521\n"
    image = base64.b64encode(photo.read_bytes()).decode()
    kind = "application/json"
    assert asked == [
        ("/multilabel-image-classification", kind, {"image": image, "visualize": False})
    ]


@pytest.fixture(scope="module")
def script() -> Any:
    """docs/deploy/onnx_predict.py as a module."""
    spec = importlib.util.spec_from_file_location("onnx_predict", FILES / "onnx_predict.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_onnx_script_gives_our_scores(
    both: tuple[Path, Path], script: Any, pictures: list[str]
) -> None:
    static, onnx = both
    model = script.Model(onnx, threads=1)
    found = model.scores(pictures)
    assert found.shape == (len(pictures), len(LABELS))
    ours = list(Predictor(StaticModel(static, "cpu"), 0.0).predict(pictures))
    expected = np.array(
        [[dict(zip(r.class_ids, r.scores, strict=True))[i] for i in range(5)] for r in ours]
    )
    assert np.ptp(expected, axis=0).max() > 0.1
    assert np.abs(found - expected).max() < 1e-5 + 5e-6  # ours are rounded to 5 decimals
    alone = np.concatenate([model.scores([picture]) for picture in pictures[:3]])
    assert np.abs(found[:3] - alone).max() < 1e-5


def test_the_onnx_script_prints_the_labels_above_the_threshold(
    both: tuple[Path, Path], pictures: list[str]
) -> None:
    static, onnx = both
    lines = run(FILES / "onnx_predict.py", onnx, *pictures[:3]).splitlines()
    ours = list(Predictor(StaticModel(static, "cpu")).predict(pictures[:3]))
    for line, mine in zip(lines, ours, strict=True):
        told = json.loads(line)
        assert told["photo"] == mine.input_path
        assert list(told["labels"]) == mine.label_names
        assert list(told["labels"].values()) == pytest.approx(mine.scores, abs=2e-5)


def test_the_onnx_script_goes_on_after_a_broken_file(
    both: tuple[Path, Path],
    script: Any,
    pictures: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    photos = [str(tmp_path / "gone.jpg"), pictures[0], str(tmp_path / "broken.jpg"), pictures[1]]
    assert script.main(both[1], photos) == 2
    shown = capsys.readouterr()
    assert [json.loads(line)["photo"] for line in shown.out.splitlines()] == pictures[:2]
    assert shown.err.count("error: ") == 2


def labels_of(script: Any, path: Path, pictures: list[str]) -> list[list[str]]:
    """The labels that the script gives, as its last lines choose them."""
    model = script.Model(path, threads=1)
    scores = model.scores(pictures)
    return [
        [model.names[i] for i in np.argsort(-row, kind="stable") if row[i] >= model.thresholds[i]]
        for row in scores
    ]


@pytest.fixture
def tuned(both: tuple[Path, Path], script: Any, tmp_path: Path, pictures: list[str]) -> Path:
    """The ONNX folder with thresholds between the scores of the photographs."""
    folder = Path(shutil.copytree(both[1], tmp_path / "tuned"))
    scores = np.sort(script.Model(folder, threads=1).scores(pictures), axis=0)
    middle = scores[len(pictures) // 2 - 1 : len(pictures) // 2 + 1].mean(axis=0)
    inference_yml.set_thresholds(folder / "inference.yml", middle.tolist(), 0.5)
    return folder


def test_the_onnx_script_obeys_tuned_thresholds(
    both: tuple[Path, Path], tuned: Path, script: Any, pictures: list[str]
) -> None:
    ours = [r.label_names for r in Predictor(StaticModel(tuned, "cpu")).predict(pictures)]
    assert ours != [r.label_names for r in Predictor(StaticModel(both[1], "cpu")).predict(pictures)]
    assert labels_of(script, tuned, pictures) == ours
    # The file alone, under another name and in another folder, says the same.
    alone = Path(shutil.copy(tuned / "inference.onnx", tuned.parent / "scenes.onnx"))
    assert labels_of(script, alone, pictures) == ours
    printed = run(FILES / "onnx_predict.py", alone, pictures[0])
    assert list(json.loads(printed)["labels"]) == ours[0]
    folder = tuned.parent / "alone"
    folder.mkdir()
    shutil.copy(alone, folder / "inference.onnx")
    model = StaticModel(folder, "cpu")
    assert model.model_name == "PP-LCNet_x1_0_ML"
    assert [r.label_names for r in Predictor(model).predict(pictures)] == ours


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.25, [0.25] * 5),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"default": 0.5, "dog": 0.3, 2: 0.2, "7": 0.1, "4": 0.6}, [0.5, 0.3, 0.2, 0.1, 0.6]),
        (None, [0.5] * 5),
    ],
)
def test_the_onnx_script_reads_every_form_of_threshold_as_we_do(
    tuned: Path, script: Any, threshold: Any, expected: list[float]
) -> None:
    path = tuned / "inference.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    del content["Global"]["thresholds"]
    content["PostProcess"]["MultiLabelThreshOutput"]["threshold"] = threshold
    content["PreProcess"]["transform_ops"][1]["NormalizeImage"]["scale"] = "1.0/255.0"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    found = script.Model(tuned, threads=1)
    assert found.thresholds.tolist() == np.array(expected, np.float32).tolist()
    assert found.scale == np.float32(1 / 255)
    ours = Predictor(StaticModel(tuned, "cpu"))
    assert ours._threshold.tolist() == found.thresholds.tolist()


def test_the_onnx_script_does_not_take_the_description_of_another_file(
    both: tuple[Path, Path], script: Any, tmp_path: Path
) -> None:
    _, onnx = both
    for name in ("inference.onnx", "other.onnx"):
        shutil.copy(onnx / "inference.onnx", tmp_path / name)
    text = (onnx / "inference.yml").read_text("utf-8").replace("threshold: 0.5", "threshold: 0.9")
    (tmp_path / "inference.yml").write_text(text, encoding="utf-8")
    graphs = [tmp_path / "inference.onnx", tmp_path / "other.onnx"]
    found = [script.Model(graph).thresholds[0] for graph in graphs]
    ours: list[Any] = [inference_yml.find(graph).threshold for graph in graphs]
    assert np.allclose(found, ours)
    assert np.allclose(found, [0.9, 0.5])


def test_the_onnx_script_runs_a_fixed_batch(
    both: tuple[Path, Path], script: Any, refdata: ModuleType, tmp_path: Path, pictures: list[str]
) -> None:
    model = zoo.build("PP-LCNet_x1_0_ML", len(LABELS))
    refdata.fill_layer(model, "PP-LCNet_x1_0_ML")
    save_onnx(model, ModelInfo("PP-LCNet_x1_0_ML", LABELS, 96, None), tmp_path / "four", 17, 4)
    expected = script.Model(both[1], threads=1).scores(pictures)
    assert len(pictures) % 4
    assert (
        np.abs(script.Model(tmp_path / "four", threads=1).scores(pictures) - expected).max() < 1e-5
    )


def test_the_onnx_script_names_what_a_file_lacks(both: tuple[Path, Path], tmp_path: Path) -> None:
    path = Path(shutil.copy(both[1] / "inference.onnx", tmp_path / "a.onnx"))
    onnx_metadata.replace(path, {"mean": "[0, 0, 0]"})
    command = [sys.executable, str(FILES / "onnx_predict.py"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the file lacks image_size, scale, std, label_names, thresholds:")
