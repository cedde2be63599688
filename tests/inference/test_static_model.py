# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, current_thread
from types import SimpleNamespace

import numpy as np
import paddle
import psutil
import pytest
import yaml
from paddle.static import InputSpec

from paddlex_ml import create_model, onnx_runtime
from paddlex_ml.data.preprocess import standard
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import paddle_engine, static_model
from paddlex_ml.inference.static_model import StaticModel

LABELS = ["cat", "dog", "猫", "7", "red square"]


class Small(paddle.nn.Layer):
    """Three classes out of one convolution."""

    def __init__(self, *, upsample: bool = False, sigmoid: bool = True) -> None:
        super().__init__()
        self.layers = paddle.nn.Sequential(paddle.nn.Conv2D(3, 3, 3))
        if upsample:  # a double attribute, which oneDNN of Paddle 3.3 cannot convert
            self.layers.append(paddle.nn.Upsample(scale_factor=2.5, mode="bilinear"))
        self.sigmoid = sigmoid

    def forward(self, x):
        logits = self.layers(x).mean([2, 3])
        return paddle.nn.functional.sigmoid(logits) if self.sigmoid else 10 * logits


def describe(folder: Path, exported: Path, labels: list[str]) -> None:
    content = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    content["PostProcess"]["MultiLabelThreshOutput"]["label_list"] = labels
    (folder / "inference.yml").write_text(yaml.safe_dump(content), encoding="utf-8")


def save(layer: paddle.nn.Layer, folder: Path, exported: Path) -> Path:
    layer.eval()
    spec = InputSpec([None, 3, 64, 64], "float32", name="x")
    graph = paddle.jit.to_static(layer, input_spec=[spec], full_graph=True)
    paddle.jit.save(graph, str(folder / "inference"))
    describe(folder, exported, ["a", "b", "c"])
    return folder


def test_the_folder_says_what_the_model_is(model: StaticModel):
    assert model.model_name == "PP-LCNet_x1_0_ML"
    assert model.label_names == tuple(LABELS)
    assert model.image_size == (64, 64)
    assert model.threshold == 0.5
    assert model.device == "cpu"


def test_scores_equal_those_of_the_graph_run_by_paddle(model: StaticModel, exported: Path, photos):
    pixels = np.stack([standard(64)(read_image(photos / n)) for n in ("a.jpg", "b.png")])
    graph = paddle.jit.load(str(exported / "inference"))
    graph.eval()
    expected = graph(paddle.to_tensor(pixels)).numpy()
    assert model.run(pixels).shape == (2, 5)
    assert np.abs(model.run(pixels) - expected).max() < 1e-5


def test_the_size_of_the_batch_does_not_change_scores(model: StaticModel):
    images = np.random.default_rng(1).standard_normal((5, 3, 64, 64), np.float32)
    alone = np.concatenate([model.run(image[None]) for image in images])
    assert np.abs(model.run(images) - alone).max() < 1e-5


def test_onednn_and_plain_paddle_agree(exported: Path):
    plain = StaticModel(exported, "cpu", "paddle")
    fast = StaticModel(exported, "cpu", "mkldnn")
    images = np.random.default_rng(2).standard_normal((3, 3, 64, 64), np.float32)
    assert plain.run_mode == "paddle"
    assert np.abs(plain.run(images) - fast.run(images)).max() < 1e-4


@pytest.mark.parametrize("run_mode", [None, "mkldnn"])
def test_a_graph_that_onednn_refuses_runs_on_plain_paddle(tmp_path, exported, caplog, run_mode):
    folder = save(Small(upsample=True), tmp_path, exported)
    with caplog.at_level(logging.WARNING, "paddlex_ml"):
        model = StaticModel(folder, "cpu", run_mode)
    scores = model.run(np.zeros((2, 3, 64, 64), np.float32))
    assert scores.shape == (2, 3)
    if model.run_mode == "paddle":  # a Paddle without the bug has nothing to say
        assert "the model runs on plain Paddle" in caplog.text


@pytest.mark.parametrize(
    ("asked", "mode", "change", "left"),
    [
        (None, "mkldnn", 2e-4, True),
        ("mkldnn", "mkldnn", 2e-4, True),
        ("mkldnn", "mkldnn", 2e-5, False),
        ("mkldnn_bf16", "mkldnn_bf16", 0.01, False),
        ("mkldnn_bf16", "mkldnn_bf16", 0.2, True),
    ],
)
def test_a_mode_is_left_when_its_scores_differ_too_much(
    exported: Path, monkeypatch, caplog, asked, mode, change, left
):
    build = paddle_engine._build
    configure = paddle_engine._configure

    def configure_plain(graph, weights, device, mode, *more):
        return configure(graph, weights, device, "paddle", *more)

    def build_wrong(config, found):
        network = build(config, found)
        moved = np.float32(0 if found == "paddle" else change)
        return lambda images: network(images) * (1 - moved)  # scores stay below 1

    monkeypatch.setattr(paddle_engine, "_configure", configure_plain)
    monkeypatch.setattr(paddle_engine, "_build", build_wrong)
    with caplog.at_level(logging.WARNING, "paddlex_ml"):
        model = StaticModel(exported, "cpu", asked)
    assert model.run_mode == ("paddle" if left else mode)
    assert (f"{mode} differs by" in caplog.text) is left


def test_a_mode_is_left_when_paddle_refuses_it(exported: Path, monkeypatch, caplog):
    build = paddle_engine._build

    def refuse(config, mode):
        if mode != "paddle":
            raise RuntimeError("(Unimplemented) no such thing\n  [Hint: ...]")
        return build(config, mode)

    monkeypatch.setattr(paddle_engine, "_build", refuse)
    with caplog.at_level(logging.WARNING, "paddlex_ml"):
        assert StaticModel(exported, "cpu", "mkldnn").run_mode == "paddle"
    assert caplog.messages == [
        "mkldnn fails: (Unimplemented) no such thing; the model runs on plain Paddle, "
        "which is slower"
    ]


def test_bfloat16_stays_close_or_is_left(exported: Path, model: StaticModel):
    fast = StaticModel(exported, "cpu", "mkldnn_bf16")
    images = np.random.default_rng(3).standard_normal((4, 3, 64, 64)).astype(np.float32)
    assert fast.run_mode in ("mkldnn_bf16", "paddle")  # not every processor has it
    assert np.abs(fast.run(images) - model.run(images)).max() < 0.1


@pytest.mark.parametrize("mode", ["trt_fp32", "trt_fp16"])
def test_modes_of_a_gpu_are_refused_on_a_cpu(exported: Path, mode):
    with pytest.raises(PaddlexMLError, match="made for GPUs, the device is cpu"):
        StaticModel(exported, "cpu", mode)


@pytest.mark.parametrize("mode", ["mkldnn", "mkldnn_bf16"])
def test_modes_of_a_cpu_are_refused_on_a_gpu(mode):
    with pytest.raises(PaddlexMLError, match="made for CPUs, the device is gpu:0"):
        static_model._refuse_other_device(mode, "gpu:0")


@pytest.mark.parametrize("mode", ["paddle", "mkldnn", "onnxruntime"])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_score(exported, onnx_folder, model, mode, threads):
    folder = onnx_folder if mode == "onnxruntime" else exported
    images = np.random.default_rng(1).standard_normal((3, 3, 64, 64)).astype(np.float32)
    found = StaticModel(folder, "cpu", mode, cpu_threads=threads).run(images)
    assert np.abs(found - model.run(images)).max() < 1e-5


@pytest.mark.parametrize("mode", ["paddle", "onnxruntime"])
def test_more_threads_than_cores_are_told_and_do_not_abort_the_process(
    exported, onnx_folder, caplog, mode
):
    folder = onnx_folder if mode == "onnxruntime" else exported
    with caplog.at_level("INFO"):
        model = StaticModel(folder, "cpu", mode, cpu_threads=1_000_000)
    assert model.run(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, len(model.label_names))
    assert "cpu_threads 1000000: this machine has" in caplog.text


def test_threads_that_share_a_model_get_their_own_scores(model: StaticModel):
    images = np.random.default_rng(2).standard_normal((16, 1, 3, 64, 64)).astype(np.float32)
    expected = np.stack([model.run(image) for image in images])
    with ThreadPoolExecutor(8) as pool:
        found = np.stack(list(pool.map(model.run, [*images] * 4)))
    assert np.array_equal(found, np.concatenate([expected] * 4))


def test_threads_that_share_a_model_do_not_each_keep_its_weights(exported: Path):
    model, process = StaticModel(exported, "cpu"), psutil.Process()
    image = np.zeros((1, 3, 64, 64), np.float32)

    model.run(image)
    together = Barrier(41)  # what a thread has taken is freed when it ends

    def run() -> None:
        model.run(image)
        together.wait(60)
        together.wait(60)

    before = process.memory_info().rss
    with ThreadPoolExecutor(40) as pool:
        for _ in range(40):
            pool.submit(run)
        together.wait(60)
        after = process.memory_info().rss
        together.wait(60)
    assert after - before < 20 * 2**20  # the weights are 30 MB


@pytest.mark.parametrize("folder", ["exported", "onnx_folder"])
def test_one_thread_loads_and_runs_the_network(request, folder: str, monkeypatch):
    seen: list[str] = []
    for engine, name in ((paddle_engine, "_build"), (onnx_runtime, "open_session")):
        build = getattr(engine, name)

        def watch(*arguments, build=build, **options):
            seen.append(current_thread().name)
            return build(*arguments, **options)

        monkeypatch.setattr(engine, name, watch)
    model = StaticModel(request.getfixturevalue(folder), "cpu")
    monkeypatch.setattr(model, "_network", lambda images: np.array([current_thread().ident]))
    images = np.zeros((1, 3, 64, 64), np.float32)
    with ThreadPoolExecutor(4) as pool:
        idents = {int(ident[0]) for ident in pool.map(model.run, [images] * 20)}
    assert set(seen) == {"network"}
    assert len(idents) == 1


@pytest.fixture
def pdmodel(tmp_path: Path, exported: Path) -> Path:
    """A graph of three classes in the format before Paddle 3: all scores are 0.5."""
    paddle.enable_static()
    try:
        with paddle.pir_utils.OldIrGuard():
            main, start = paddle.static.Program(), paddle.static.Program()
            with paddle.static.program_guard(main, start):
                x = paddle.static.data("x", [None, 3, 64, 64], "float32")
                y = paddle.static.nn.fc(x, 3, activation="sigmoid")
                executor = paddle.static.Executor(paddle.CPUPlace())
                executor.run(start)
                paddle.static.save_inference_model(
                    str(tmp_path / "inference"), [x], [y], executor, program=main
                )
    finally:
        paddle.disable_static()
    describe(tmp_path, exported, ["a", "b", "c"])
    assert (tmp_path / "inference.pdmodel").is_file()
    return tmp_path


def test_the_graph_format_before_paddle_3_is_read(pdmodel: Path):
    scores = StaticModel(pdmodel, "cpu").run(np.zeros((2, 3, 64, 64), np.float32))
    assert scores.tolist() == [[0.5] * 3] * 2  # zero weights times zero: sigmoid(0)


def test_a_model_without_sigmoid_is_refused(tmp_path: Path, exported: Path):
    folder = save(Small(sigmoid=False), tmp_path, exported)
    with pytest.raises(PaddlexMLError, match="instead of scores from 0 to 1"):
        StaticModel(folder, "cpu")


def test_another_name_than_the_folders_is_refused(exported: Path):
    message = r"ResNet50_ML was asked for, the folder holds PP-LCNet_x1_0_ML"
    with pytest.raises(PaddlexMLError, match=message):
        StaticModel(exported, "cpu", model_name="ResNet50_ML")


def test_a_folder_without_name_takes_the_one_asked_for(altered):
    folder = altered(lambda content: content.pop("Global"))
    model = StaticModel(folder, "cpu", model_name="PP-LCNet_x1_0_ML")
    assert model.model_name == "PP-LCNet_x1_0_ML"


def test_a_missing_folder_names_the_export(tmp_path: Path):
    with pytest.raises(PaddlexMLError, match=r"does not exist(.|\n)*-o Global\.mode=export"):
        StaticModel(tmp_path / "nothing", "cpu")


def test_a_file_in_place_of_the_folder_is_refused(exported: Path):
    with pytest.raises(PaddlexMLError, match="static model is a file"):
        StaticModel(exported / "inference.yml", "cpu")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("inference.json", r"lacks inference\.json or inference\.pdmodel"),
        ("inference.pdiparams", r"lacks inference\.pdiparams"),
        ("inference.yml", r"lacks inference\.yml"),
    ],
)
def test_a_missing_file_is_named(exported: Path, tmp_path: Path, name, told):
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(PaddlexMLError, match=told):
        StaticModel(folder, "cpu")


@pytest.mark.parametrize("name", ["inference.json", "inference.pdiparams"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_truncated_file_is_one_clear_error(exported: Path, tmp_path: Path, name, share):
    folder = shutil.copytree(exported, tmp_path / "copy")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    told = r"Paddle cannot run the model: .*\n.*inference\.json"
    if name == "inference.pdiparams" and share:
        told = r"tensor \d+ of .* bytes ends at .*\n.*inference\.pdiparams"
    with pytest.raises(PaddlexMLError, match=told):
        StaticModel(folder, "cpu")


def test_a_wrong_number_of_class_names_is_refused(altered):
    def drop_one(content: dict) -> None:
        content["PostProcess"]["MultiLabelThreshOutput"]["label_list"].pop()

    with pytest.raises(PaddlexMLError, match="4 class names are listed, the network gives 5"):
        StaticModel(altered(drop_one), "cpu")


def resized(folder: Path, size: int | list[int]) -> Path:
    path = folder / "inference.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["PreProcess"]["transform_ops"][0]["ResizeImage"]["size"] = size
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["exported", "pdmodel", "onnx_folder"])
def test_a_description_of_another_size_than_the_graphs_is_refused(kind, tmp_path, request):
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "copy")
    StaticModel(folder, "cpu")
    with pytest.raises(PaddlexMLError) as told:
        StaticModel(resized(folder, [96, 128]), "cpu")
    assert told.value.what == (
        "the graph takes images of 3 x 64 x 64 (channels x height x width), inference.yml makes "
        "3 x 128 x 96"
    )
    assert "of one export" in told.value.fix


def test_a_graph_for_images_of_any_size_takes_that_of_the_description(tmp_path, exported):
    layer = Small()
    layer.eval()
    spec = InputSpec([None, 3, None, None], "float32", name="x")
    graph = paddle.jit.to_static(layer, input_spec=[spec], full_graph=True)
    paddle.jit.save(graph, str(tmp_path / "inference"))
    describe(tmp_path, exported, ["a", "b", "c"])
    model = StaticModel(resized(tmp_path, [96, 128]), "cpu")
    assert model.image_size == (96, 128)
    assert model.run(np.zeros((1, 3, 128, 96), np.float32)).shape == (1, len(model.label_names))


@pytest.mark.parametrize("kind", ["exported", "pdmodel", "onnx_folder"])
def test_another_number_of_classes_than_the_graphs_is_refused(kind, tmp_path, request):
    folder = shutil.copytree(request.getfixturevalue(kind), tmp_path / "copy")
    describe(folder, folder, ["a", "b"])
    with pytest.raises(PaddlexMLError, match=r"2 class names are listed, the network gives [35]"):
        StaticModel(folder, "cpu")


def test_numbers_that_no_image_can_be_normalised_with_are_refused_by_predict(altered, tmp_path):
    def divide_by_zero(content: dict) -> None:
        content["PreProcess"]["transform_ops"][1]["NormalizeImage"]["std"] = [0, 0, 0]

    with pytest.raises(PaddlexMLError, match="no image can be normalised with"):
        create_model("PP-LCNet_x1_0_ML", model_dir=altered(divide_by_zero), device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["PostProcess"].update(MultiLabelThreshOutput=None), "not a multi-label"),
        (lambda c: c.update(PostProcess={"Topk": {"topk": 5}}), "its output goes through Topk"),
        (lambda c: c.pop("PostProcess"), "its output goes through nothing"),
        (lambda c: c.pop("PreProcess"), "not a list of steps"),
        (
            lambda c: c["PostProcess"]["MultiLabelThreshOutput"].pop("label_list"),
            "the model has no names for its classes",
        ),
    ],
)
def test_a_description_of_something_else_is_refused(altered, change, message):
    with pytest.raises(PaddlexMLError, match=message):
        StaticModel(altered(change), "cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a mapping of sections"),
        (b"- 1\n- 2\n", "not a mapping of sections"),
        (b"a: [1", "cannot be read: "),
        (b"\xff\xfe", "cannot be read: "),
        (b"a: !!python/object/apply:os.abort []", "cannot be read: could not determine"),
    ],
)
def test_a_damaged_description_is_refused(exported: Path, tmp_path: Path, content, message):
    folder = shutil.copytree(exported, tmp_path / "copy")
    (folder / "inference.yml").write_bytes(content)
    with pytest.raises(PaddlexMLError, match=message):
        StaticModel(folder, "cpu")


def test_an_unknown_run_mode_is_refused(exported: Path):
    with pytest.raises(PaddlexMLError, match=r"'fast'(.|\n)*choose from paddle, mkldnn"):
        StaticModel(exported, "cpu", "fast")


def test_numbers_as_class_names_are_text(altered):
    def name_by_number(content: dict) -> None:
        content["PostProcess"]["MultiLabelThreshOutput"]["label_list"] = [0, 1, 2, 3, 4]

    assert StaticModel(altered(name_by_number), "cpu").label_names == ("0", "1", "2", "3", "4")


def test_paddle_that_fails_after_a_fork_is_one_clear_error(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise RuntimeError("std::exception")

    handle = SimpleNamespace(copy_from_cpu=lambda _: None)
    predictor = SimpleNamespace(
        **{f"get_{kind}_names": lambda: ["x"] for kind in ("input", "output")},
        **{f"get_{kind}_handle": lambda _: handle for kind in ("input", "output")},
        run=fail,
    )
    monkeypatch.setattr(paddle.inference, "create_predictor", lambda _: predictor)
    network, images = paddle_engine._build(None, "paddle"), np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(RuntimeError, match="std::exception"):
        network(images)
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with pytest.raises(PaddlexMLError, match="was forked after it was loaded") as caught:
        network(images)
    assert "call create_model after the fork" in caught.value.fix
