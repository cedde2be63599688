# SPDX-License-Identifier: Apache-2.0
"""Bad input: exit code 2, one message with what, where and fix, and nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from paddlex_ml import cli
from paddlex_ml.config import load, shipped
from paddlex_ml.data import annotation
from tests import repairs

Run = Callable[..., tuple[int, str]]
TEXTS = {"run.json", "train.log", "config.yaml", "label_dict.txt", "metrics.csv"}


def assert_refused(code: int, err: str, output: Path, mode: str, message: str, where: str) -> None:
    """Exit code 2, ONE error of three parts that says this, a failed result and no leftovers."""
    assert code == 2, err
    assert "Traceback" not in err
    assert "Logging error" not in err
    assert len(re.findall(r"^error: ", err, re.MULTILINE)) == 1
    told = err.partition("error: ")[2]
    assert message in told
    assert where in told
    assert re.search(r"^ +fix: +\S", told, re.MULTILINE)
    assert_repairs_can_be_pasted(told, mode)
    if not output.is_dir():
        return
    result = output / f"{mode}_result.json"
    saved = {"latest"} if "the state is saved, and -o Train.resume_path=auto" in told else set()
    if "faults.csv" in told:
        assert os.listdir(output / "check_dataset") == ["faults.csv"]
        saved = {"check_dataset"}
    allowed = TEXTS | {result.name, f".{mode}.lock", ".paddlex_ml.lock"}
    assert set(os.listdir(output)) == saved | allowed & set(os.listdir(output))
    if result.exists():
        content = json.loads(result.read_text(encoding="utf-8"))
        assert content["done_flag"] is False
        assert message in content["err_msg"]


def assert_repairs_can_be_pasted(told: str, mode: str) -> None:
    """Each proposed override is one that loads, without a gap to fill in."""
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    for repair in repairs.find(told):
        keys = [f"Global.mode={mode}", "Global.dataset_dir=data", *repair]
        assert load.load(path, keys).config.Global.mode, repair
        assert "=..." not in "".join(repair), told


@pytest.fixture
def data(draw_set: Callable[..., Path], tmp_path: Path) -> Path:
    """A data set to spoil."""
    return draw_set(tmp_path / "set")


# --- the configuration -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        (None, "the configuration my.yaml does not exist", "-c"),
        ("- Global\n- Train\n", "it is a list", "my.yaml"),
        ("Global:\n\tmodel: x\n", "a tab, which YAML forbids in indents", "my.yaml:2"),
        ("", "must be a mapping of sections, it is empty", "my.yaml"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("my.yaml").write_text(text)
    code = cli.main(["-c", "my.yaml", "-o", "Global.mode=train"])
    assert_refused(code, capsys.readouterr().err, tmp_path / "output", "train", message, where)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Trian.batch_size=4", "unknown section Trian"),
        ("Train.batchsize=4", "unknown key Train.batchsize"),
        ("Train.batch_size=many", "Train.batch_size is 'many': must be auto, or a whole number"),
        ("Train.learning_rate=.nan", "Train.learning_rate is nan"),
        ("Train.learning_rate=0.1", "AdamW destroys the weights above 0.01"),
        ("Train.head_lr_mult=200", "makes the head's rate 0.02: AdamW destroys the weights"),
        ("Train.head_lr_mult=0", "Train.head_lr_mult is 0: must be above 0"),
        ("Global.dataset_dir=null", "Global.dataset_dir is not set"),
        ("Global.dataset_dir=no/such", "the data set folder no/such does not exist"),
        ("Global.device=tpu", "Global.device is 'tpu'"),
    ],
)
def test_a_bad_key_or_value_is_refused(
    run: Run, data: Path, tmp_path: Path, override: str, message: str
) -> None:
    code, err = run("train", data, tmp_path / "out", override)
    assert_refused(code, err, tmp_path / "out", "train", message, "where:")


@pytest.mark.parametrize("mode", ["check_dataset", "train", "evaluate", "export", "benchmark"])
def test_an_output_that_is_a_file_is_refused(
    run: Run, data: Path, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "out").write_text("mine")
    code, err = run(mode, data, tmp_path / "out")
    assert_refused(code, err, tmp_path / "out", mode, "is a file", "Global.output")
    assert (tmp_path / "out").read_text() == "mine"


# --- the data set ----------------------------------------------------------------------------


def replace_line(path: Path, number: int, old: str, new: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert old in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(old, new)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def empty_list(data: Path) -> None:
    (data / "train.txt").write_text("")


def narrow_line_7(data: Path) -> None:
    replace_line(data / "train.txt", 7, ",", "")


def value_2(data: Path) -> None:
    replace_line(data / "train.txt", 1, "1,1,1", "1,2,1")


def gap_in_ids(data: Path) -> None:
    replace_line(data / "label.txt", 3, "2 blue", "3 blue")


def duplicate_name(data: Path) -> None:
    replace_line(data / "label.txt", 3, "blue", "red")


def broken_jpeg(data: Path) -> None:
    path = data / "images" / "train_5.png"
    Image.open(path).save(data / "whole.jpg")
    path.write_bytes((data / "whole.jpg").read_bytes()[:500])


def zero_bytes(data: Path) -> None:
    (data / "images" / "train_5.png").write_bytes(b"")


def missing_image(data: Path) -> None:
    (data / "images" / "train_5.png").unlink()


@pytest.mark.parametrize("mode", ["check_dataset", "train"])
@pytest.mark.parametrize(
    ("spoil", "message", "where"),
    [
        (empty_list, "the list names no image", "train.txt"),
        (narrow_line_7, "label vector has 1 value, label.txt names 3 classes", "train.txt:7"),
        (value_2, "the value of class 1 is '2', neither 0 nor 1", "train.txt:1"),
        (gap_in_ids, "the ids jump from 1 to 3", "label.txt:3"),
        (duplicate_name, "the name 'red' is already in line 1", "label.txt:3"),
        (broken_jpeg, "cannot be decoded", "train_5.png"),
        (zero_bytes, "the image file is empty (0 bytes)", "train_5.png"),
        (missing_image, "train_5.png does not exist", "train.txt:6"),
    ],
)
def test_a_spoiled_data_set_is_refused(
    run: Run,
    data: Path,
    tmp_path: Path,
    mode: str,
    spoil: Callable[[Path], None],
    message: str,
    where: str,
) -> None:
    spoil(data)
    code, err = run(mode, data, tmp_path / "out")
    assert_refused(code, err, tmp_path / "out", mode, message, where)


def test_a_broken_image_is_named_by_the_worker_that_meets_it(
    run: Run, data: Path, tmp_path: Path
) -> None:
    zero_bytes(data)
    code, err = run("train", data, tmp_path / "out", "Train.num_workers=2")
    path = data / "images" / "train_5.png"
    assert_refused(code, err, tmp_path / "out", "train", "is empty (0 bytes)", f"where: {path}")


def test_a_class_count_that_contradicts_the_labels_is_refused(
    run: Run, data: Path, tmp_path: Path
) -> None:
    code, err = run("train", data, tmp_path / "out", "Train.num_classes=33")
    message = "Train.num_classes is 33, label.txt names 3 classes"
    assert_refused(code, err, tmp_path / "out", "train", message, str(data / "label.txt"))


# --- weights and devices ---------------------------------------------------------------------


class Harmful:
    """Pickled, it asks whoever reads it to make a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def harmful_weights(path: Path, start: Path) -> None:
    path.write_bytes(pickle.dumps({"conv1.conv.weight": Harmful()}))


def truncated_weights(path: Path, start: Path) -> None:
    path.write_bytes(start.read_bytes()[:100_000])


def other_weights(path: Path, start: Path) -> None:
    path.write_bytes(pickle.dumps({"stem.weight": np.ones((4, 3, 3, 3), np.float32)}))


def broken_numbers(path: Path, start: Path) -> None:
    entries = pickle.loads(start.read_bytes())
    entries["conv1.conv.weight"] = entries["conv1.conv.weight"] * np.float32("nan")
    path.write_bytes(pickle.dumps(entries))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (harmful_weights, "the file would run code when read (posix.mkdir); it was not read"),
        (truncated_weights, "not a weight file of Paddle, or a damaged one"),
        (other_weights, "these are weights of another model"),
        (broken_numbers, "its entry 'conv1.conv.weight' holds NaN"),
    ],
)
@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("train", "Train.pretrain_weight_path"),
        ("evaluate", "Evaluate.weight_path"),
        ("export", "Export.weight_path"),
    ],
)
def test_bad_weights_are_refused(
    run: Run,
    data: Path,
    start_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path, Path], None],
    message: str,
    mode: str,
    key: str,
) -> None:
    if make is other_weights and mode != "train":
        message = "the weights have no classification head"
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pdparams"
    make(path, start_weights)
    code, err = run(mode, data, tmp_path / "out", f"{key}={path}")
    assert_refused(code, err, tmp_path / "out", mode, message, str(path))
    assert not Path("harm").exists()


def test_a_gpu_on_an_install_without_one_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine may have a GPU")
    code, err = run("train", data, tmp_path / "out", "Global.device=gpu:3")
    assert_refused(code, err, tmp_path / "out", "train", "gpu:3 was asked for", "Global.device")


# --- images that must work -------------------------------------------------------------------


def write_unusual_images(folder: Path) -> list[str]:
    """Images of every form that a camera or an editor makes; returns their names."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels)
    cv2.imwrite(str(folder / "rgb16.png"), pixels.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "grey16.png"), pixels[..., 0].astype(np.uint16) * 257)
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("LA").save(folder / "grey_alpha.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("1").save(folder / "one_bit.png")
    turned = picture.getexif()
    turned[0x0112] = 6  # the camera was held upright: turn right to show
    picture.save(folder / "turned.jpg", exif=turned)
    return sorted(os.listdir(folder))


def test_unusual_images_are_checked_trained_on_and_predicted(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    data = tmp_path / "set"
    names = [f"images/{name}" for name in write_unusual_images(data / "images")]
    targets = np.random.default_rng(1).integers(0, 2, (len(names), 3)).astype(np.uint8)
    targets[0] = 1
    annotation.write_labels(data / "label.txt", ["red", "green", "blue"])
    for part in ("train", "val"):
        annotation.write_list(data / f"{part}.txt", names, targets)
    output = tmp_path / "out"
    assert run("check_dataset", data, output)[0] == 0
    assert run("train", data, output, "Train.epochs_iters=1", "Train.batch_size=4")[0] == 0
    code, err = run("predict", None, output, f"Predict.input={data / 'images'}")
    assert code == 0, err
    result = json.loads((output / "predict_result.json").read_text())
    assert result["num_images"] == len(names) == 8
    with Image.open(output / "predict" / "turned.jpg") as drawn:
        assert drawn.height > drawn.width  # 60 x 40 on the disk, upright for the eye


@pytest.mark.parametrize("path", ["other/best_model/best_model.pdparams", "best.pdparams"])
@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("train", "Train.pretrain_weight_path"),
        ("train", "Train.resume_path"),
        ("evaluate", "Evaluate.weight_path"),
        ("evaluate", "Evaluate.compare_with"),
        ("export", "Export.weight_path"),
        ("predict", "Predict.model_dir"),
    ],
)
def test_a_mistyped_path_makes_no_folder_and_no_file(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, mode: str, key: str, path: str
) -> None:
    folder = tmp_path / "of" / "the user"
    folder.mkdir(parents=True)
    keys = [f"{key}={folder / path}", f"Predict.input={toy / 'images' / 'val_0.png'}"]
    if key == "Evaluate.compare_with":
        keys.append(f"Evaluate.weight_path={toy_run / 'best_model' / 'best_model.pdparams'}")
    code, err = run(mode, toy, tmp_path / "output", *keys)
    assert (code, err.count("error: ")) == (2, 1), err
    assert list(folder.parent.rglob("*")) == [folder]
