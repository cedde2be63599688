# SPDX-License-Identifier: Apache-2.0
"""The output folder of a run: the names of its files and folders, all of them here.

    <output>/
      run.json  config.yaml  label_dict.txt        written by mode train, as are
      train.log  metrics.csv  curves.png  events/
      val_scores.npz                               of the best model (`saved_scores`)
      reproduction.json                            where it repeats another run (`reproduction`)
      best_model/  latest/  epoch_<n>/             checkpoints with the exports of their weights
      check_dataset/  evaluate/  benchmark/  predict/   what these modes draw and write
      dataset/                                     lists that were made of a source, by reference
      <mode>_result.json                           what a mode gave, for programs
      .export.new/                                 an export in lower precision while it is made
      .<mode>.lock                                 held while a mode writes (`run_lock`)
      .paddlex_ml.lock                             held while a folder here is replaced
    <output>.old/                                  a run that is being overwritten

Only paths: no file is read or written here, and no import is slow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

WEIGHTS, EMA, OPTIMIZER, STATES = ".pdparams", ".pdema", ".pdopt", ".pdstates"
"""Suffixes of the files in a checkpoint folder; their stem is the name of the folder."""
CHECKPOINT_SUFFIXES = (WEIGHTS, EMA, OPTIMIZER, STATES)
WEIGHT_SUFFIXES = (WEIGHTS, ".safetensors")
GRAPH, PROGRAM, PARAMETERS = "inference.json", "inference.pdmodel", "inference.pdiparams"
"""A static model of Paddle: its graph since Paddle 3, and before; the weights of both."""
VAL_SCORES = "val_scores.npz"
"""Scores for every image of val.txt."""
ONNX, INFERENCE_YML = "inference.onnx", "inference.yml"
IR, IR_WEIGHTS = "inference.xml", "inference.bin"
"""A static model of OpenVINO (IR): its graph, and its weights."""
MODEL_CARD = "MODEL_CARD.md"
"""What a model is, beside the best weights."""
EXPORT_REPORT = "export_report.json"
"""What a lower precision costs, in the folder of such an export."""
EXPORTS = {
    "paddle": "inference",
    "onnx": "inference_onnx",
    "pdmodel": "inference_pdmodel",
    "onnx fp16": "inference_onnx_fp16",
    "onnx int8": "inference_onnx_int8",
    "openvino": "inference_openvino",
    "openvino fp16": "inference_openvino_fp16",
    "openvino int8": "inference_openvino_int8",
}
"""Format, and precision unless it is fp32 -> folder of the exported model beside its weights."""
_ENDINGS = ("new", "old")  # of a folder while it is replaced (`storage.folders`)


class ExportedFiles:
    """The folder of a static model, whatever its format: `inference.yml` and some of the others."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.prefix: Final = folder / "inference"
        """What Paddle wants as the path of a model: without suffix."""
        self.graph: Final = folder / GRAPH
        self.program: Final = folder / PROGRAM
        self.parameters: Final = folder / PARAMETERS
        self.onnx: Final = folder / ONNX
        self.ir: Final = folder / IR
        self.ir_weights: Final = folder / IR_WEIGHTS
        self.inference_yml: Final = folder / INFERENCE_YML


class CheckpointFiles:
    """A checkpoint folder `<name>/` with `<name>.pdparams` and the rest, and its exports."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.weights: Final = folder / f"{folder.name}{WEIGHTS}"
        self.ema: Final = folder / f"{folder.name}{EMA}"
        self.optimizer: Final = folder / f"{folder.name}{OPTIMIZER}"
        self.states: Final = folder / f"{folder.name}{STATES}"
        self.inference: Final = ExportedFiles(folder / EXPORTS["paddle"])
        self.inference_onnx: Final = ExportedFiles(folder / EXPORTS["onnx"])
        self.inference_pdmodel: Final = ExportedFiles(folder / EXPORTS["pdmodel"])


class CheckDatasetFiles:
    """What mode check_dataset draws."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.demo_img: Final = folder / "demo_img"
        self.histogram: Final = folder / "histogram.png"
        self.conversion_csv: Final = folder / "conversion.csv"
        self.faults_csv: Final = folder / "faults.csv"
        self.report: Final = folder / "report.html"


class EvaluateFiles:
    """What mode evaluate writes beside its result file."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.per_class_csv: Final = folder / "per_class.csv"
        self.label_errors_csv: Final = folder / "label_errors.csv"
        self.val_scores: Final = folder / VAL_SCORES
        self.report: Final = folder / "report.html"


class BenchmarkFiles:
    """What mode benchmark writes beside its result file."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.benchmark_csv: Final = folder / "benchmark.csv"
        self.report: Final = folder / "report.html"


class PredictFiles:
    """What mode predict writes into the output folder's `predict/`, or into Predict.save_path."""

    def __init__(self, folder: Path) -> None:
        self.folder: Final = folder
        self.predictions_json: Final = folder / "predictions.json"
        self.predictions_csv: Final = folder / "predictions.csv"
        self.explain: Final = folder / "explain"


class RunFolder:
    """Every file and folder of an output folder; paths begin as `output` does."""

    def __init__(self, output: Path) -> None:
        self.output: Final = output
        self.run_json: Final = output / "run.json"
        self.config_yaml: Final = output / "config.yaml"
        self.label_dict: Final = output / "label_dict.txt"
        self.train_log: Final = output / "train.log"
        self.metrics_csv: Final = output / "metrics.csv"
        self.curves: Final = output / "curves.png"
        self.val_scores: Final = output / VAL_SCORES
        self.reproduction: Final = output / "reproduction.json"
        self.events: Final = output / "events"
        self.best_model: Final = CheckpointFiles(output / "best_model")
        self.model_card: Final = self.best_model.folder / MODEL_CARD
        self.latest: Final = CheckpointFiles(output / "latest")
        self.dataset: Final = output / "dataset"
        self.check_dataset: Final = CheckDatasetFiles(output / "check_dataset")
        self.evaluate: Final = EvaluateFiles(output / "evaluate")
        self.benchmark: Final = BenchmarkFiles(output / "benchmark")
        self.predict: Final = PredictFiles(output / "predict")
        self.export_work: Final = output / ".export.new"

    def epoch(self, number: int) -> CheckpointFiles:
        """The checkpoint that was kept of an epoch, counted from 1."""
        return CheckpointFiles(self.output / f"epoch_{number}")

    def kept_epochs(self) -> list[CheckpointFiles]:
        """The checkpoints of epochs that are there, in no order."""
        folders = self.output.glob("epoch_[0-9]*")
        return [CheckpointFiles(folder) for folder in folders if folder.name[6:].isdecimal()]

    def checkpoints(self) -> list[CheckpointFiles]:
        """The folders that a training writes checkpoints into, there or not."""
        return [self.latest, *self.kept_epochs(), self.best_model]

    def result(self, mode: str) -> Path:
        """What a mode gave, or why it failed."""
        return self.output / f"{mode}_result.json"

    def of_training(self) -> list[Path]:
        """What belongs to the training in this folder and is there: also what was made of it.

        Not the check of the data set, and nothing that others have put there.
        """
        files = [self.run_json, self.config_yaml, self.label_dict, self.train_log]
        files += [self.metrics_csv, self.curves, self.events, self.val_scores, self.reproduction]
        files += [self.evaluate.folder, self.benchmark.folder, self.predict.folder]
        modes = ("train", "evaluate", "export", "benchmark", "predict")
        files += [self.result(mode) for mode in modes]
        files += [checkpoint.folder for checkpoint in self.checkpoints()]
        unfinished = [path.with_name(f".{path.name}.{end}") for path in files for end in _ENDINGS]
        unfinished.append(self.export_work)
        return [path for path in (*files, *unfinished) if os.path.lexists(path)]


def find_weights(folder: Path) -> Path | None:
    """The weight file that the folder of a checkpoint, an export, or a run holds, or None."""
    if not os.path.isdir(folder):
        return None
    if folder.name in ("", ".."):
        folder = Path(os.path.realpath(folder))
    run = RunFolder(folder)
    checkpoints = [CheckpointFiles(folder), run.best_model, run.latest]
    if folder.name in EXPORTS.values():  # the weights that it was made from
        checkpoints.append(CheckpointFiles(Path(os.path.abspath(folder)).parent))
    names = [each.weights for each in checkpoints]
    found = sorted(each for ending in WEIGHT_SUFFIXES for each in folder.glob(f"*{ending}"))
    names += found if len(found) == 1 else []
    return next((each for each in names if os.path.isfile(each)), None)


def is_exported(path: Path) -> bool:
    """Whether the file is, by its name, a part of a static model."""
    parts = (GRAPH, PROGRAM, PARAMETERS, IR, IR_WEIGHTS)
    return path.suffix.lower() == ".onnx" or path.name in parts


EXAMPLE: Final = RunFolder(Path("output"))
"""For paths in messages: the output folder of the configurations that we ship."""
