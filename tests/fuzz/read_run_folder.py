# SPDX-License-Identifier: Apache-2.0
"""The small files of a run folder, which may be of a stranger's training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from paddlex_ml.artifacts import (
    evaluate_result,
    run_lock,
    run_record,
    saved_scores,
    sweep_folder,
    train_result,
)
from paddlex_ml.artifacts.run_folder import PredictFiles, RunFolder
from paddlex_ml.config import load, run_config, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.engines.leaderboard import collect, rank
from paddlex_ml.engines.leaderboard import files as board_files
from paddlex_ml.engines.predict import set_aside
from paddlex_ml.engines.train import earlier_run, overwriting
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.measures import ClassMeasures, Metrics
from tests.finished_runs import draw_scores, draw_targets, write_run
from tests.fuzz.harness import Reader, pack, plant


@cache
def _config() -> Config:
    path = shipped.folder() / "PP-LCNet_x1_0_ML.yaml"
    return load.load(path, ["Global.mode=train", "Global.dataset_dir=set"], to_run=False).config


def _record() -> dict[str, Any]:
    start = {"start": "2026-01-01T00:00:00+00:00", "command": ["main.py"], "host": "h"}
    return {
        **{"id": "0" * 32, "digests": {"train.txt": "0" * 64}, **start, "versions": {"numpy": "2"}},
        **{"resumed_from": None, "replaces": None, "format_version": 1},
        "earlier_starts": [{**start, "versions": {}, "resumed_from": None, "digests": {}}],
    }


_METRICS = (
    b"epoch,step,lr,loss,raw_map,ema_map,images_per_second,data_wait,memory_mib,seconds\n"
    b"1,3,0.1,2.5,0.5,,61.25,0.25,1024.0,12.5\n2,6,0.1,2.5,0.5,0.75,61.25,0.25,1024.0,12.5\n"
)
_PREDICTIONS = (
    b'[\n{"input_path": "a.jpg", "picture": "a.jpg", "class_ids": [0], "scores": [0.5]},\n'
    b'{"input_path": "x/a.jpg", "picture": "a_2.jpg"},\n{"input_path": "b", "error": "no"}\n]\n'
)
_TABLE = b"image,picture,labels\na.jpg,a.jpg,cat\nx/a.jpg,a_2.jpg,dog\n'=b.jpg,,\n"


def _write_run() -> list[bytes]:
    config = run_config.dump(_config()) if hasattr(run_config, "dump") else load.dump(_config())
    files = {
        "run.json": json.dumps(_record()).encode(),
        "metrics.csv": _METRICS,
        "config.yaml": config.encode()[:1500],
        "train_result.json": b'{"done_flag": true, "model_name": "m"}',
        "best_model/best_model.pdparams": b"0",
        ".train.json": b'{"pid": 1, "host": "h", "start": "2026-01-01"}',
        "search.json": b'{"format_version": 1, "worker": "w", "study": "s", "storage": ""}',
        "predict/predictions.json": _PREDICTIONS,
        "predict/predictions.csv": _TABLE,
        "predict/a.jpg": b"1",
        "predict/explain/a_2.jpg": b"1",
    }
    whole = {name: files[name] for name in files if name != "config.yaml"}
    old = {"../run.old/.paddlex_ml_moving": b"moving"}
    return [pack(files), pack(whole), pack({"run.json": files["run.json"]} | old)]


def _read_run(folder: Path, content: bytes) -> object:
    output = folder / "run"
    plant(content, output)
    section = dataclasses.replace(_config().Global, output=output)
    told: list[object] = [
        _told(lambda: run_record.read(output / "run.json") is None),
        _told(
            lambda: str(earlier_run.find_conflict(dataclasses.replace(_config(), Global=section)))
        ),
        _told(lambda: load.load(output / "config.yaml", to_run=False).notes),
        run_lock._describe(output / ".train.json")[:10],
        _told(lambda: len(set_aside.list_own(PredictFiles(output / "predict")))),
        _told(lambda: set_aside.set_aside(PredictFiles(output / "predict")) is None),
    ]
    with suppress(OSError, ValueError):  # as its users do
        told.append(train_result.read_metrics(RunFolder(output).metrics_csv))
    with suppress(OSError, ValueError):
        told.append(sweep_folder.read_search(output / "search.json") is None)
    earlier_run.hide_result(output)
    earlier_run.show_result(output)
    aside = overwriting.set_aside(output)
    if aside is not None:
        overwriting.remove(aside)
    return [*told, aside is None]


def _told(read: Callable[[], object]) -> object:
    try:
        return read()
    except PaddlexMLError as error:
        return error.what[:40]


def _write_evaluations() -> list[bytes]:
    quality = {"macro_f1": 0.5, "CP": None, "CR": 0.25}
    tuned = {
        **{"method": "f1", "target": None, "min_positives": 1, "shared": 0.5},
        **{"shared_classes": [], "unreached": [], "saved": [], "is_better": True},
        **dict.fromkeys(("before", "tuned", "held_out"), quality),
    }
    metrics: dict[str, Any] = dict.fromkeys(Metrics.__struct_fields__, 0.5)
    metrics |= {"images": 4, "undefined_classes": [], "undefined": {"CP": "no"}}
    metrics["MultiLabelMAP_ci95"] = [0.25, 0.75]
    row: dict[str, Any] = dict.fromkeys(ClassMeasures.__struct_fields__, 1)
    row |= {"name": "cat", "average_precision_ci95": None, "tuned": None}
    result = {
        **{"format_version": 1, "done_flag": True, "weight_path": "a", "val_digest": "0" * 64},
        **{"metrics": metrics, "per_class": [row], "thresholds": tuned, "label_errors": None},
        **{"comparison": None, "per_class_csv": "per_class.csv", "run": None},
    }
    failed = {"done_flag": False, "err_msg": "no"}
    return [json.dumps(each).encode() for each in (result, failed)]


def _read_evaluation(folder: Path, content: bytes) -> object:
    path = folder / "evaluate_result.json"
    path.write_bytes(content)
    return evaluate_result.read(path).per_class


@cache
def _write_scores() -> list[bytes]:
    with TemporaryDirectory() as folder:
        targets = draw_targets(6, 2)
        write_run(Path(folder, "run"), draw_scores(targets, 1.0, 0), targets)
        return [RunFolder(Path(folder, "run")).val_scores.read_bytes()]


def _read_scores(folder: Path, content: bytes) -> object:
    path = folder / "val_scores.npz"
    path.write_bytes(content)
    summary, (scores, _) = saved_scores.read_summary(path), saved_scores.read_table(path)
    return [summary.note.epoch, scores.shape]


@cache
def _write_finished() -> list[bytes]:
    with TemporaryDirectory() as folder:
        targets = draw_targets(6, 2)
        write_run(Path(folder, "run"), draw_scores(targets, 1.0, 0), targets, keeps_scores=False)
        names = ("run.json", "config.yaml", "train_result.json")
        return [pack({name: Path(folder, "run", name).read_bytes() for name in names})]


def _read_finished(folder: Path, content: bytes) -> object:
    plant(content, folder / "runs" / "a")
    targets = draw_targets(6, 2)
    write_run(folder / "runs" / "sound", draw_scores(targets, 1.0, 0), targets)
    board = rank.rank(collect.collect([folder / "runs"]))
    board_files.write(board, folder / "out")
    return [len(board.lists), len(board_files.render(board))]


_WORDS = (
    *(b"../victim/secret.txt", b"a.jpg", b"explain", b'"picture": "../a.jpg"', b'"picture": "."'),
    *(
        b'"done_flag"',
        b'"id"',
        b"raw_map",
        b"epoch",
        b"1e400",
        b'"format_version": 2',
        b",,",
        b'"""',
    ),
    *(
        b"\n=== run.json ===\n",
        b"\n=== train_result.json/x ===\n",
        b"\n=== latest/latest.pdparams ===",
    ),
    *(
        b"\n=== predict/predictions.json.unfinished ===\n",
        b"\n=== predict/.a.jpg.abcdefgh.jpg ===\n",
    ),
    *(b"\n=== predict/predictions.bak/predictions.csv ===\n", b"\n=== config.yaml/x ===\n"),
)
READERS = [
    Reader("run_folder", _read_run, _write_run, _WORDS),
    Reader("evaluate_result", _read_evaluation, _write_evaluations, _WORDS),
    Reader("val_scores", _read_scores, _write_scores, (b"NUMPY", b"note.npy", b"(6, 2), }")),
    Reader("leaderboard", _read_finished, _write_finished, _WORDS),
]
