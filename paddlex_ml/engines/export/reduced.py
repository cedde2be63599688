# SPDX-License-Identifier: Apache-2.0
"""An export in fp16 or int8: the smallest loss that keeps to the budgets, and its report.

    float32 graph -> level of each layer -> graph in lower precision -> scores of val.txt -> report

Ranges, and the effect of each layer, come from images of train.txt. Whether the budgets hold is
decided on val.txt, by the same runtime in both precisions. Where they do not, nothing is exported.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.artifacts import export_report, inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import INFERENCE_YML
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, preprocess
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.inventory import TRAIN_FILE, VAL_FILE
from paddlex_ml.engines.export import images
from paddlex_ml.engines.export.costs import Costs, Measured
from paddlex_ml.engines.export.images import Images
from paddlex_ml.export import half, layer_search, onnx, openvino
from paddlex_ml.export.int8 import Int8Graph, Layer, Level, Plan
from paddlex_ml.export.layer_search import Trial
from paddlex_ml.export.openvino_int8 import OpenvinoInt8
from paddlex_ml.metrics import per_class_threshold

_BATCH, _RANGE_BATCH = 8, 2
"""Images of a step, and of one that keeps the results of all layers, of graphs that take any."""
_EFFECT_IMAGES, _LEAST_EFFECT_IMAGES = 32, 8
"""On which the effect of a layer is measured; large models get fewer:"""
_EFFECT_PRODUCTS = 1.5e11
_ALONE_IMAGES = 200
"""That are also scored one at a time, which a runtime may do by other steps than a batch."""
_CLIP = 1e-6  # of scores, whose logits are compared
_LIFE = 2.0  # seconds without a line

_Found = tuple[Any, list[Layer], dict[str, float], Trial[Measured] | None, list[Trial[Measured]]]

logger = logging.getLogger(__name__)


class Reduction:
    """The export of one model in lower precision."""

    def __init__(self, config: Config, info: ModelInfo, tuned: Path | None) -> None:
        """Read the lists, before anything takes long.

        tuned: an export of the same weights with tuned thresholds, at which both precisions decide;
        None: there is none. Raises PaddlexMLError where the data set does not fit the model, or has
        too few images.
        """
        self._config, self._info, self._tuned = config, info, tuned
        self._thresholds = self._find_thresholds()
        self._val, self._train = images.read_lists(config, info.label_names)

    def rework(self, path: Path) -> None:
        """Put a graph in lower precision in the place of the float32 graph in `path`.

        Writes the report beside it. Raises PaddlexMLError where no graph keeps to the budgets.
        """
        is_onnx = self._config.Export.format == "onnx"
        size = path.stat().st_size if is_onnx else openvino.size_of(path)
        batch_size = self._config.Export.batch_size
        val = self._load(self._val, VAL_FILE)
        names = self._info.label_names
        costs = Costs(self._config, names, self._thresholds, _score(path, val), val.targets)
        if self._config.Export.precision == "fp16":
            graph, plan, layers, effects = self._halve(path, val)
            trials = [_measure(graph, plan, costs, val)]
            chosen = trials[0] if costs.holds(trials[0].measured) else None
        else:
            graph, layers, effects, chosen, trials = self._put_in_8_bits(path, val, costs)
        if chosen is None:
            raise costs.refuse(trials)
        alone = None
        if batch_size is None:
            alone = costs.check_alone(_score(graph, val, _ALONE_IMAGES, 1), chosen.measured)
        self._write(path, graph)
        report = costs.report(
            trials,
            chosen,
            layers,
            effects,
            size=size,
            batch_size=batch_size or _BATCH,
            alone=alone,
            val_digest=annotation.digest(self._val),
            calibration_images=0 if self._train is None else len(self._train),
        )
        export_report.write(path.parent, report)
        costs.tell_result(report)
        if self._tuned is not None:
            tuned, shared = costs.choose_thresholds(chosen.measured.scores)
            described = path.with_name(INFERENCE_YML)
            inference_yml.set_thresholds(described, tuned.tolist(), shared, back_up=False)

    def _load(self, shown: ImageList, name: str) -> Images:
        batch_size = self._config.Export.batch_size or _BATCH
        return images.load(shown, preprocess.standard(self._info.image_size), name, batch_size)

    def _put_in_8_bits(self, path: Path, val: Images, costs: Costs) -> _Found:
        """The graph with the most layers in 8 bits that keeps to the budgets, and what was tried.

        None for the graph and its trial where none does.
        """
        assert self._train is not None
        train = self._load(self._train, TRAIN_FILE)
        source = Int8Graph(path) if path.suffix == ".onnx" else OpenvinoInt8(path)
        rows = self._config.Export.batch_size or _RANGE_BATCH
        source.measure_ranges(_tell(train.batches(size=rows), len(train), rows))
        layers, effects = source.layers, measure_effects(source, train, "int8")
        chosen, trials = layer_search.search(
            layers,
            effects,
            lambda: measure_effects(source, train, "weights"),
            lambda plan: _measure(source.build(plan), plan, costs, val).measured,
            costs.holds,
        )
        graph = None if chosen is None else source.build(chosen.plan)
        return graph, layers, effects, chosen, trials

    def _halve(self, path: Path, val: Images) -> tuple[Any, Plan, list[Layer], dict[str, float]]:
        """The graph in half precision, with the level of each operator, and its largest number."""
        if self._config.Export.format != "onnx":
            return openvino.halve(path), {}, [], {}  # only weights are in float16
        rows = self._config.Export.batch_size or _RANGE_BATCH
        found = half.find_operators(path, val.batches(_EFFECT_IMAGES, rows))
        plan: dict[str, Level] = {
            layer.name: "float" if number > half.LARGEST else "half"
            for layer, number in found.items()
        }
        left = [name for name, level in plan.items() if level == "float"]
        numbers = {layer.name: number for layer, number in found.items()}
        return half.convert(path, left), plan, [*found], numbers

    def _write(self, path: Path, graph: Any) -> None:
        if _is_ir(graph):
            openvino.write(path, graph)
        else:
            onnx.write(path, onnx.sort_nodes(graph), self._info)

    def _find_thresholds(self) -> np.ndarray:
        """The thresholds in use, float32 [C]."""
        names, threshold = self._info.label_names, inference_yml.THRESHOLD
        if self._tuned is None:
            return np.full(len(names), threshold, np.float32)
        path = self._tuned / INFERENCE_YML
        return per_class_threshold.resolve(
            inference_yml.read(path).threshold, names, where=str(path)
        )


def _tell(batches: Iterator[np.ndarray], images: int, rows: int) -> Iterator[np.ndarray]:
    """The batches of the images that show the ranges, with a line at times."""
    told = 0.0
    for number, batch in enumerate(batches):
        if time.monotonic() - told > _LIFE:
            logger.info(
                "measuring the ranges of the layers: image %d of %d", number * rows + 1, images
            )
            told = time.monotonic()
        yield batch


def measure_effects(
    graph: Int8Graph | OpenvinoInt8, shown: Images, level: Level
) -> dict[str, float]:
    """Layer -> mean square of the change of the logits where it alone is at this level."""
    products = sum(each.products for each in graph.layers)
    most = int(_EFFECT_PRODUCTS / max(products, 1))
    most = min(max(most, _LEAST_EFFECT_IMAGES), _EFFECT_IMAGES)
    usual, told, effects = _find_logits(graph.build({}), shown, most), 0.0, dict[str, float]()
    for number, layer in enumerate(graph.layers):
        if time.monotonic() - told > _LIFE:
            logger.info("measuring the effect of layer %d of %d", number + 1, len(graph.layers))
            told = time.monotonic()
        moved = _find_logits(graph.build({layer.name: level}), shown, most) - usual
        effects[layer.name] = float(np.square(moved).mean())
    return effects


def _find_logits(model: Any, shown: Images, most: int) -> np.ndarray:
    scores = _score(model, shown, most).astype(np.float64)
    scores = np.clip(scores, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(scores / (1 - scores)))


def _measure(model: Any, plan: Plan, costs: Costs, val: Images) -> Trial[Measured]:
    size = openvino.measure_size(model) if _is_ir(model) else len(model.SerializeToString())
    trial = Trial(dict(plan), costs.measure(_score(model, val), size))
    costs.tell(trial)
    return trial


def _score(
    model: Any, shown: Images, most: int | None = None, size: int | None = None
) -> np.ndarray:
    """Scores float32 [N, C] of a model for the images, or the first `most` of them.

    model: its file, or in memory as onnx or OpenVINO have it, whose runtime then runs it; size: of
    a batch.
    """
    is_onnx = model.suffix == ".onnx" if isinstance(model, Path) else not _is_ir(model)
    graph = onnx.open_graph(model) if is_onnx else openvino.open_graph(model)
    return np.concatenate([graph(batch) for batch in shown.batches(most, size)])[
        : most or len(shown)
    ]


def _is_ir(model: Any) -> bool:
    return not hasattr(model, "SerializeToString")
