# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from paddlex_ml.artifacts import inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    info = ModelInfo("PP-LCNet_x1_0_ML", ["red square", "green", "蓝"], 64)
    inference_yml.write(tmp_path, info)
    return tmp_path / "inference.yml"


def test_tuned_thresholds_are_read_back_class_by_class(written: Path) -> None:
    before = inference_yml.read(written)
    assert before.threshold == 0.5
    assert inference_yml.set_thresholds(written, [0.31, 0.5, 0.725], 0.4) == Path(f"{written}.bak")
    found = inference_yml.read(written)
    assert found.threshold == [0.31, 0.5, 0.725]
    assert (found.label_names, found.preprocess) == (before.label_names, before.preprocess)


def test_everything_else_stays_and_paddlex_finds_one_number_where_it_looks(written: Path) -> None:
    before = yaml.safe_load(written.read_text(encoding="utf-8"))
    inference_yml.set_thresholds(written, [0.31, 0.5, 0.725], 0.4)
    after = yaml.safe_load(written.read_text(encoding="utf-8"))
    assert after["PostProcess"]["MultiLabelThreshOutput"].pop("threshold") == 0.4
    before["PostProcess"]["MultiLabelThreshOutput"].pop("threshold")
    assert after["Global"].pop("thresholds") == [0.31, 0.5, 0.725]
    assert after == before


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """An ONNX file that says what its model is, in a folder of its own."""
    info = ModelInfo("CLIP_vit_base_patch16_448_ML", ["red", "蓝", "7"], 96, "all_patches")
    return make_onnx(tmp_path / "alone" / "inference.onnx", inference_yml.describe(info))


def make_onnx(path: Path, texts: dict[str, str]) -> Path:
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones(1 << 20, np.float32), "w")
    x, y = (helper.make_tensor_value_info(name, kind, [1 << 20]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = helper.make_model(
        graph, producer_name="me", opset_imports=[helper.make_opsetid("", 17)]
    )
    helper.set_model_props(model, texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def test_an_onnx_file_says_what_its_inference_yml_says(onnx_file: Path, tmp_path: Path) -> None:
    info = ModelInfo("CLIP_vit_base_patch16_448_ML", ["red", "蓝", "7"], 96, "all_patches")
    inference_yml.write(tmp_path, info)
    expected = inference_yml.read(tmp_path / "inference.yml")
    assert inference_yml.read_onnx(onnx_file) == inference_yml.find(onnx_file) == expected
    assert expected.preprocess.size == (96, 96)


def test_tuned_thresholds_go_into_the_onnx_file_beside_and_nothing_else_changes(
    onnx_file: Path,
) -> None:
    onnx = pytest.importorskip("onnx")
    info = ModelInfo("CLIP_vit_base_patch16_448_ML", ["red", "蓝", "7"], 96, "all_patches")
    inference_yml.write(onnx_file.parent, info)
    before = onnx.load(onnx_file)
    inference_yml.set_thresholds(onnx_file.with_name("inference.yml"), [0.31, 0.5, 0.725], 0.4)
    after = onnx.load(onnx_file)
    onnx.checker.check_model(after, full_check=True)
    texts = {entry.key: entry.value for entry in after.metadata_props}
    assert texts["thresholds"] == "[0.31, 0.5, 0.725]"
    assert texts["threshold"] == "0.4"
    assert len(texts) == len(after.metadata_props)
    for model in (before, after):
        del model.metadata_props[:]
    assert after.SerializeToString() == before.SerializeToString()
    alone = onnx_file.rename(onnx_file.parent.parent / "moved.onnx")
    assert inference_yml.find(alone).threshold == [0.31, 0.5, 0.725]
    assert sorted(os.listdir(onnx_file.parent)) == ["inference.yml", "inference.yml.bak"]


def test_equal_thresholds_change_no_file_and_repair_one_that_lacks_them(onnx_file: Path) -> None:
    description = onnx_file.with_name("inference.yml")
    info = ModelInfo("CLIP_vit_base_patch16_448_ML", ["red", "蓝", "7"], 96, "all_patches")
    inference_yml.write(onnx_file.parent, info)
    inference_yml.set_thresholds(description, [0.3, 0.5, 0.7], 0.4)
    before = onnx_file.stat()
    assert inference_yml.set_thresholds(description, [0.3, 0.5, 0.7], 0.4) is None
    after = onnx_file.stat()  # a look at the file may change the time of its last use
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    make_onnx(onnx_file, inference_yml.describe(info))  # a copy from before
    assert inference_yml.set_thresholds(description, [0.3, 0.5, 0.7], 0.4) is None
    found = inference_yml.read_onnx(onnx_file)
    assert found is not None
    assert found.threshold == [0.3, 0.5, 0.7]


def test_files_of_other_tools_get_no_metadata(tmp_path: Path, written: Path) -> None:
    path = make_onnx(tmp_path / "inference.onnx", {"author": "someone"})
    before = path.read_bytes()
    inference_yml.set_thresholds(written, [0.3, 0.5, 0.7], 0.4)
    assert path.read_bytes() == before
    assert inference_yml.read_onnx(path) is None
    assert inference_yml.find(path).threshold == [0.3, 0.5, 0.7]
    with pytest.raises(PaddlexMLError, match="does not say what its model is, and no inference"):
        inference_yml.find(make_onnx(tmp_path / "other" / "a.onnx", {}))


def test_an_edited_inference_yml_counts_and_the_difference_is_told(
    onnx_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    info = ModelInfo("CLIP_vit_base_patch16_448_ML", ["red", "蓝", "7"], 96, "all_patches")
    inference_yml.write(onnx_file.parent, info)
    assert inference_yml.find(onnx_file).threshold == 0.5
    assert caplog.text == ""
    description = onnx_file.with_name("inference.yml")
    text = description.read_text(encoding="utf-8")
    description.write_text(text.replace("threshold: 0.5", "threshold: 0.25"), encoding="utf-8")
    assert inference_yml.find(onnx_file).threshold == 0.25
    assert "inference.onnx differ in threshold: inference.yml counts" in caplog.text
    # Another file with its own description is not described by it.
    other = make_onnx(onnx_file.with_name("other.onnx"), inference_yml.describe(info))
    assert inference_yml.find(other).threshold == 0.5


def test_files_of_the_first_release_have_the_usual_numbers(tmp_path: Path) -> None:
    texts = {"model_name": "ResNet50_ML", "label_names": '["a", "b"]', "image_size": "64"}
    found = inference_yml.read_onnx(make_onnx(tmp_path / "old.onnx", texts))
    inference_yml.write(tmp_path, ModelInfo("ResNet50_ML", ["a", "b"], 64))
    assert found == inference_yml.read(tmp_path / "inference.yml")


@pytest.mark.parametrize(
    ("key", "text"),
    [("label_names", "[a"), ("label_names", "7"), ("mean", '"x"'), ("image_size", "0")],
)
def test_damaged_metadata_are_one_clear_error(tmp_path: Path, key: str, text: str) -> None:
    texts = inference_yml.describe(ModelInfo("ResNet50_ML", ["a", "b"], 64))
    path = make_onnx(tmp_path / "a.onnx", texts | {key: text})
    with pytest.raises(PaddlexMLError) as caught:
        inference_yml.find(path)
    assert caught.value.where.startswith(str(path))


@pytest.mark.parametrize("about", [{}, {"Global": None}])
def test_a_description_that_says_nothing_of_itself_takes_thresholds(
    written: Path, about: dict[str, None]
) -> None:
    content = yaml.safe_load(written.read_text(encoding="utf-8"))
    del content["Global"]
    written.write_text(yaml.safe_dump(content | about), encoding="utf-8")
    inference_yml.set_thresholds(written, [0.31, 0.5, 0.725], 0.4)
    assert inference_yml.read(written).threshold == [0.31, 0.5, 0.725]


def test_the_original_stays_as_a_backup_and_the_same_again_changes_nothing(written: Path) -> None:
    original = written.read_bytes()
    inference_yml.set_thresholds(written, [0.3, 0.5, 0.7], 0.4)
    assert inference_yml.set_thresholds(written, [0.3, 0.5, 0.7], 0.4) is None
    inference_yml.set_thresholds(written, [0.3, 0.5, 0.8], 0.4)
    assert sorted(os.listdir(written.parent)) == [
        "inference.yml", "inference.yml.bak", "inference.yml.bak.1"
    ]  # fmt: skip
    assert Path(f"{written}.bak").read_bytes() == original
    assert inference_yml.read(Path(f"{written}.bak.1")).threshold == [0.3, 0.5, 0.7]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("threshold: 0.5", "threshold: 2001-99-99", "a value that its tag does not allow"),
        ("  - green", "  - [green]", "no names for its classes"),
        ("MultiLabelThreshOutput:", "7:", "its output goes through 7"),
        ("size: 64", "size: 8192", "up to 2048"),
        ("- 0.229", "- 0", "std must be above 0"),
        ("- 0.485", "- .nan", "nan is not a finite number"),
        ("scale: 0.00392156862745098", "scale: 1.0e-400", "scale and std must be above 0"),
        ("scale: 0.00392156862745098", "scale: .inf", "inf is not a finite number"),
        ("ToCHWImage:", "3:", "known: ResizeImage"),
        ("model_name:", "a: &a [1]\n  b: &b [*a, *a]\n  model_name:", ""),
        ("Global:", "a: " + "[" * 900 + "\nGlobal:", "more than 50 deep"),
    ],
    ids=str,
)
def test_a_description_of_odd_values_is_refused_when_it_is_read(
    written: Path, old: str, new: str, told: str
) -> None:
    text = written.read_text(encoding="utf-8")
    assert old in text
    written.write_text(text.replace(old, new, 1), encoding="utf-8")
    if not told:  # aliases of a usual size work
        inference_yml.read(written)
        return
    with pytest.raises(PaddlexMLError, match=told) as caught:
        inference_yml.read(written)
    assert len(str(caught.value)) < 1000


def test_the_queries_of_classes_in_another_order_are_read_back(tmp_path: Path) -> None:
    info = ModelInfo("PP-LCNet_x1_0_ML", ["a", "b", "c"], 64, class_queries=[1, 0, 1])
    inference_yml.write(tmp_path, info)
    assert inference_yml.read(tmp_path / "inference.yml").class_queries == (1, 0, 1)
    made = make_onnx(tmp_path / "alone" / "inference.onnx", inference_yml.describe(info))
    found = inference_yml.read_onnx(made)
    assert found is not None
    assert found.class_queries == (1, 0, 1)


@pytest.mark.parametrize("value", ["[0, 1]", "[0, 1, -1]", "[0, 1, x]", "[]", "7"])
def test_queries_that_are_not_one_per_class_are_refused(written: Path, value: str) -> None:
    text = written.read_text(encoding="utf-8")
    written.write_text(text.replace("Global:", f"Global:\n  class_queries: {value}"), "utf-8")
    with pytest.raises(PaddlexMLError, match="class_queries is not one number per class"):
        inference_yml.read(written)
