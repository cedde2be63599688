# SPDX-License-Identifier: Apache-2.0
"""Configurations, overrides, inference.yml and the list of a prediction."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from paddlex_ml.artifacts import inference_yml
from paddlex_ml.config import load, shipped
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.inference import inputs
from paddlex_ml.metrics import per_class_threshold
from tests.fuzz.harness import Reader, pack, plant

_MODEL = "PP-LCNet_x1_0_ML"
_SMALL = b"""Global: &g
  model: PP-LCNet_x1_0_ML
  mode: predict
  dataset_dir: set
  output: "out"
Train: {epochs_iters: 2, batch_size: 8, learning_rate: 1e-4, loss: {gamma_neg: 4}}
Predict:
  input: [a.jpg, 'b.jpg']
  threshold: 0.5
Other: &o {<<: *g, a: *g}
"""
DESCRIPTION = b"""Global: {model_name: PP-LCNet_x1_0_ML, thresholds: [0.5, 0.25], run: null}
PreProcess:
  transform_ops:
  - ResizeImage: {size: [64, 64], backend: pil, interpolation: bilinear}
  - NormalizeImage:
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
      scale: 0.00392156862745098
      order: ''
      channel_num: 3
  - ToCHWImage: null
PostProcess:
  MultiLabelThreshOutput: {threshold: 0.5, label_list: [cat, 'red car']}
"""
_OF_PADDLECLAS = b"""Global: {model_name: ResNet50_ML}
PreProcess:
  transform_ops:
  - ResizeImage: {resize_short: 256}
  - CropImage: {size: 224}
  - NormalizeImage: {scale: 1.0/255.0, mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], order: hwc}
  - ToCHWImage:
PostProcess:
  MultiLabelThreshOutput: {threshold: 0.5, label_list: [1, 2.5, yes, null]}
"""


def _load_file(folder: Path, content: bytes) -> object:
    path = folder / "config.yaml"
    path.write_bytes(content)
    load.destination(path, ())
    return load.dump(load.load(path).config)


def _apply(folder: Path, content: bytes) -> object:
    words = content.decode("utf-8", "surrogateescape").replace("\0", " ").split("\n")
    path = shipped.folder() / f"{_MODEL}.yaml"
    load.destination(path, words)
    config = load.load(path, words).config
    return load.dump(config)


def _describe(folder: Path, content: bytes) -> object:
    path = folder / "inference.yml"
    path.write_bytes(content)
    found = inference_yml.read(path)
    preprocess: Preprocess = found.preprocess
    per_class_threshold.resolve(found.threshold, found.label_names)
    inference_yml.set_thresholds(path, [0.5] * len(found.label_names), 0.5)
    again = inference_yml.read(path)
    if (again.label_names, again.preprocess) != (found.label_names, preprocess):
        raise AssertionError("thresholds that were written changed more than thresholds")
    return preprocess


def _walk(folder: Path, content: bytes) -> object:
    if re.search(rb"(?m)^\s*[/\\~]|\.\.\S?\.\.", content):
        return None  # a list of the user's own may name every place of the machine
    plant(content, folder / "list")
    found = inputs.walk(str(folder / "list" / "images.txt"))
    return len([picture.name for picture in islice(found, 1000)])


_LIST = (
    b"# of a prediction\na.jpg\t1,0\n../list/b.png\nmore/*.jpg\nmore\nhttp://127.0.0.1:9/c.jpg\n"
)
_KEYS = (
    *(b"Global", b"Train", b"Predict", b"mode: train", b"epochs_iters", b"Train.augment", b"loss"),
    *(b"Predict.threshold", b"threshold: {cat: 0.5}", b"Evaluate.compare_with", b"CheckDataset"),
    *(b"&a ", b"*a", b"<<: *g", b"? ", b"!!int", b"!!float x", b"!!set {a}", b"!!omap [a: 1]"),
    *(
        b"---\n",
        b"...\n",
        b"%YAML 9.9\n",
        b"|\n",
        b">-\n",
        b"{",
        b"}",
        b"\t",
        b"- ",
        b"'",
        b"=",
        b".",
    ),
    *(b"2026-01-01", b"12:30:45", b"0o7", b"1_000", b"0b1", b"~", b"y", b"on", b"1e-4", b"[1, 2]"),
    *(b"ResizeImage", b"resize_short: 8192", b"size: 8192", b"CropImage", b"NormalizeImage"),
    *(b"scale: 1.0/0.0", b"std: [0, 0, 0]", b"mean: [.nan, 0, 0]", b"label_list: []", b"threshold"),
    *(
        b"Global.output=out",
        b"Train.resume_path=auto",
        b"Global.device=gpu:0",
        b"\n=== a.jpg ===\n",
    ),
)
_OVERRIDES = (
    b"Global.mode=train\nGlobal.dataset_dir=set\nTrain.epochs_iters=2\nTrain.learning_rate=1e-4",
    b"Predict.input=a.jpg,b.jpg\nPredict.threshold={cat: 0.5}\nGlobal.mode=predict",
    b"Train={batch_size: 8, loss: {gamma_neg: 4}}\nTrain.augment.cutout=0.5\nTrain.cache=null",
)
READERS = [
    Reader(
        "yaml",
        _load_file,
        lambda: [_SMALL, (shipped.folder() / f"{_MODEL}.yaml").read_bytes()],
        _KEYS,
    ),
    Reader("overrides", _apply, lambda: [*_OVERRIDES], _KEYS),
    Reader("inference_yml", _describe, lambda: [DESCRIPTION, _OF_PADDLECLAS], _KEYS),
    Reader(
        "image_list",
        _walk,
        lambda: [pack({"images.txt": _LIST, "a.jpg": b"1", "b.png": b"2", "more/d.jpg": b"3"})],
        _KEYS,
    ),
]
