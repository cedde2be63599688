# SPDX-License-Identifier: Apache-2.0
"""Mode benchmark: the exports of a trained model -> which one to use on this machine.

exports x run modes -> processes in turns -> times, scores -> differences, Pareto front -> files
"""

from __future__ import annotations

import logging
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from paddlex_ml import cores, devices
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.benchmark_result import BenchmarkResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import VAL_FILE, ImageList
from paddlex_ml.engines.benchmark import candidates, files, rows
from paddlex_ml.engines.benchmark.candidates import Exports
from paddlex_ml.engines.benchmark.turns import Turns, Wanted
from paddlex_ml.engines.export import images
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import verified_engines
from paddlex_ml.storage import temporary

_REST = 5.0  # seconds for what comes at the end: measures are computed, files written

logger = logging.getLogger(__name__)


def run(config: Config) -> BenchmarkResult:
    """Measure every export of the model in every run mode of this machine.

    Writes the table and the page; returns the content of benchmark_result.json.
    """
    began = time.monotonic()
    device = devices.find(config.Global.device).first
    val = _read_list(config)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=temporary.own_folder()) as aside:
        exports = candidates.find_exports(config, Path(aside))
        result = _measure(config, exports, val, device, began)
    files.write(RunFolder(config.Global.output).benchmark, result)
    return result


def _read_list(config: Config) -> annotation.MLClsDataset:
    root = config.Global.dataset_dir
    assert root is not None  # the configuration refuses it
    dataset = annotation.read(root, lists=("val",))
    if not len(dataset.val):
        raise PaddlexMLError(
            f"{VAL_FILE} has no image: there is nothing to measure",
            where=str(root),
            fix="name a data set with images for validation behind Global.dataset_dir",
        )
    return dataset


def _measure(
    config: Config, exports: Exports, dataset: annotation.MLClsDataset, device: str, began: float
) -> BenchmarkResult:
    found, excluded = candidates.find(exports, device)
    described, val, wanted = found[0].described, dataset.val, config.Benchmark
    if list(described.label_names) != dataset.label_names:
        raise PaddlexMLError(
            "the classes of the data set are not those of the model",
            where=f"{val.root}: label.txt",
            fix="name the data set of the model's classes behind Global.dataset_dir",
        )
    order = np.random.default_rng(config.Global.seed).permutation(len(val))[: wanted.images]
    chosen: ImageList = val.take(order)
    loaded = images.load(chosen, described.preprocess, VAL_FILE, 1)
    threads = config.Predict.kernel_option.cpu_threads
    info, progress = None, None
    with suppress(PaddlexMLError):  # weights of other tools do not say which training made them
        info = checkpoint.read_model_info(exports.weights)
        progress = checkpoint.read_progress(exports.weights.parent)
    sizes = tuple(size for size in wanted.batch_sizes if size > 1)
    ends = began + 60 * wanted.minutes - _REST
    turns = Turns(found, Wanted(device, threads, chosen.path(0), sizes, ends), loaded.pixels)
    logger.info("measuring in turns: %s", "; ".join(each.name for each in found))
    turns.start_all()
    turns.run()
    return BenchmarkResult(
        model_name=described.model_name,
        weights=str(exports.weights),
        run=None if info is None else info.run,
        epoch=((progress or {}).get("best") or {}).get("epoch"),
        device=device,
        processor=verified_engines.name_processor().rpartition(":")[2].strip(),
        threads=threads or cores.usable_cores(),
        val_digest=annotation.digest(val),
        val_images=len(val),
        images=turns.images,
        classes=len(dataset.label_names),
        reference=turns.measured[0].candidate.name,
        max_changed_decisions=config.Export.max_changed_decisions,
        max_map_loss=config.Export.max_map_loss,
        seconds=time.monotonic() - began,
        rows=rows.make(config, turns.measured, loaded.targets[: turns.images]),
        unmeasured=[*exports.unmeasured, *excluded, *turns.unmeasured],
        notes=[*turns.notes, *rows.find_notes(turns.measured)],
        benchmark_csv=files.NAMES.benchmark_csv.as_posix(),
        report=files.NAMES.report.as_posix(),
    )
