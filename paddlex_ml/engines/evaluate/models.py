# SPDX-License-Identifier: Apache-2.0
"""The model that is evaluated: weights or a static folder, as a function from images to scores."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import paddle

from paddlex_ml.artifacts import checkpoint, export_report, inference_yml
from paddlex_ml.artifacts.evaluate_result import describe_thresholds
from paddlex_ml.artifacts.export_report import ExportReport
from paddlex_ml.artifacts.inference_yml import THRESHOLD
from paddlex_ml.artifacts.run_folder import (
    EXPORT_REPORT,
    EXPORTS,
    WEIGHT_SUFFIXES,
    ExportedFiles,
    find_weights,
    is_exported,
)
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import preprocess
from paddlex_ml.data.preprocess import Preprocess
from paddlex_ml.engines import load_model
from paddlex_ml.engines.evaluate import log
from paddlex_ml.engines.load_model import LoadedModel
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import Network, scoring
from paddlex_ml.inference import model_files
from paddlex_ml.inference.static_model import StaticModel, refuse_other_tokens
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.metrics.per_class_threshold import Threshold
from paddlex_ml.wording import count

_THRESHOLD_KEY = "Evaluate.threshold"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatedModel:
    """A model in evaluation mode."""

    network: Network
    """Images [B, 3, S, S] -> scores [B, C], 0..1."""
    label_names: list[str]
    preprocess: Preprocess
    path: Path
    """Where it came from."""
    threshold: Threshold
    """The threshold that predictions would use."""
    source: LoadedModel | None = None
    """The network that gives logits; None: a static graph."""
    made_by: RunIdentity | None = None
    """The training that made it; None: not known."""
    precision: ExportReport | None = None
    """What a lower precision has cost; None: it is in float32."""
    kind: str = ""
    """`raw` or `ema`, where these are not the weights in the file of the path."""
    threshold_from: Path | None = None
    """The export that `threshold` stands in; None: there is none of these weights, it is 0.5."""

    @property
    def epoch(self) -> int | None:
        """Finished epochs of the checkpoint that it is of, or was exported from; None: of none."""
        folder = self.path.absolute() if self.source is None else self.path.absolute().parent
        if self.source is None and folder.name in EXPORTS.values():
            folder = folder.parent
        if self.source is not None and self.path.stem != folder.name:
            return None
        with suppress(PaddlexMLError):  # no file of this tool
            progress = checkpoint.read_progress(folder)
            return None if progress is None else int(progress["epoch"])
        return None

    @property
    def shown(self) -> str:
        """The path as a user reads it."""
        return f"{self.path} ({self.kind} weights)" if self.kind else str(self.path)


def load(
    config: Config, text: str | None, key: str, label_names: list[str], *, any_model: bool = False
) -> EvaluatedModel:
    """Load a weight file, its URL, or a static folder; None: the best of the output folder.

    any_model: whether it may be another model than the configuration names. Raises PaddlexMLError
    unless its classes are those of the data set, `label_names`, in their order.
    """
    is_static = text is not None and _is_static(Path(text), key)
    if text is None or not is_static:
        evaluated = _of_weights(load_model.load(config, text, key, any_model=any_model))
    else:
        static = StaticModel(Path(text), config.Global.device, None)
        if (report := export_report.read(static.folder)) is not None:
            log.log_precision(report)
        if not any_model:
            refuse_other_tokens(config.Train.decoder_tokens, static.decoder_tokens, text)
        evaluated = EvaluatedModel(
            lambda images: paddle.to_tensor(static.run(images.numpy())),
            list(static.label_names),
            static.preprocess,  # of its own inference.yml, as prediction does
            Path(text),
            static.threshold,
            made_by=static.made_by,
            precision=report,
            threshold_from=static.folder,
        )
    _refuse_other_classes(evaluated, label_names, key)
    return evaluated


def _is_static(path: Path, key: str) -> bool:
    """Whether the path is a folder to be read as a static model.

    Raises PaddlexMLError for a file of such a folder: the other files and inference.yml are needed.
    """
    if path.is_dir():
        return model_files.is_model(path) or find_weights(path) is None
    if path.is_file() and is_exported(path):
        raise PaddlexMLError(
            "this is a file of an exported model: its folder is what is evaluated",
            where=str(path),
            fix=override(key, str(path.parent)),
        )
    return False


def _refuse_other_classes(evaluated: EvaluatedModel, wanted: list[str], key: str) -> None:
    names = evaluated.label_names
    if names == wanted:
        return
    if len(names) == len(wanted):
        pairs = zip(names, wanted, strict=True)
        number, (ours, theirs) = next((k, p) for k, p in enumerate(pairs) if p[0] != p[1])
        what = f"class {number} is {ours!r} in the model and {theirs!r} in label.txt"
    else:
        what = f"the model has {count(len(names), 'class', 'classes')}, label.txt has {len(wanted)}"
    raise PaddlexMLError(
        what,
        where=evaluated.shown,
        fix="name the data set of the model's classes behind Global.dataset_dir, or another model "
        f"behind {key}",
    )


def load_other_weights(
    evaluated: EvaluatedModel, which: Literal["raw", "ema"], key: str
) -> EvaluatedModel:
    """The other weights of the checkpoint of the evaluated model."""
    if evaluated.source is None:
        raise PaddlexMLError(
            f"a static folder holds one kind of weights: it has no {which} weights to compare with",
            where=str(evaluated.path),
            fix="evaluate the weights of the checkpoint: -o Evaluate.weight_path=null",
        )
    source = load_model.load_other_weights(evaluated.source, which, key)
    # An export beside them is of the weights in the file.
    return replace(_of_weights(source), kind=which, threshold=THRESHOLD, threshold_from=None)


def _of_weights(source: LoadedModel) -> EvaluatedModel:
    size = preprocess.standard(source.info.image_size)
    info, network = source.info, scoring(source.model)
    threshold, place = _find_threshold(source)
    return EvaluatedModel(
        network,
        info.label_names,
        size,
        source.path,
        threshold,
        source,
        info.run,
        threshold_from=place,
    )


def _find_threshold(source: LoadedModel) -> tuple[Threshold, Path | None]:
    """The threshold that predictions with these weights use, and the export that it stands in.

    That is an export beside them of the same training: a checkpoint is replaced together with its
    exports, so they are of one epoch. Weights that name no training are those of an export beside
    them where no other weights are there.
    """
    info, folder = source.info, source.path.parent
    own_run = None if info.run is None else info.run.id
    if own_run is None and len([p for p in folder.iterdir() if p.suffix in WEIGHT_SUFFIXES]) > 1:
        return THRESHOLD, None
    for path in _find_exports_beside(source.path):
        try:
            found = inference_yml.read(path)
        except PaddlexMLError as error:
            logger.warning("the thresholds of the export are not known: %s (%s)", error.what, path)
            continue
        run = None if found.run is None else found.run.id
        if run == own_run and list(found.label_names) == info.label_names:
            return found.threshold, path.parent
    return THRESHOLD, None


def resolve_thresholds(config: Config, evaluated: EvaluatedModel) -> np.ndarray:
    """The thresholds in use [C]: those of Evaluate.threshold, or the model's own."""
    names, wanted = evaluated.label_names, config.Evaluate.threshold
    if wanted is None:
        where = evaluated.threshold_from or evaluated.path
        return per_class_threshold.resolve(evaluated.threshold, names, where=str(where))
    return per_class_threshold.resolve(wanted, names, where=_THRESHOLD_KEY)


def tell_thresholds(config: Config, evaluated: EvaluatedModel, in_use: np.ndarray) -> str | None:
    """Log the thresholds in use; returns what holds them: a key, the export, or None."""
    place = None if evaluated.threshold_from is None else str(evaluated.threshold_from)
    if config.Evaluate.threshold is not None:
        place = _THRESHOLD_KEY
    described = describe_thresholds(in_use, evaluated.label_names, place)
    logger.info("thresholds in use: %s", described)
    return place


def find_exports(evaluated: EvaluatedModel) -> list[Path]:
    """The inference.yml files that thresholds of this model are saved into, at least one.

    Of weights: those of all exports beside them. Raises PaddlexMLError where there is none.
    """
    path = evaluated.path
    if evaluated.source is not None:
        paths = _find_exports_beside(path)
    else:
        paths = [each for each in (ExportedFiles(path).inference_yml,) if each.is_file()]
    if not paths:
        folder = path if evaluated.source is None else path.parent / EXPORTS["paddle"]
        raise PaddlexMLError(
            "there is no exported model whose thresholds could be set",
            where=str(folder),
            fix="export first (-o Global.mode=export), or -o Evaluate.save_threshold=false",
        )
    for path in paths:
        if list(inference_yml.read(path).label_names) != evaluated.label_names:
            raise PaddlexMLError(
                "the exported model beside these weights has other classes",
                where=str(path),
                fix="export these weights: -o Global.mode=export",
            )
    return paths


def find_lacking(config: Config, evaluated: EvaluatedModel, exports: list[Path]) -> list[Path]:
    """The exports that have other thresholds than the one whose thresholds are in use."""
    if config.Evaluate.threshold is not None or evaluated.threshold_from is None:
        return []
    names, in_use = evaluated.label_names, resolve_thresholds(config, evaluated)
    lacking = []
    for path in exports:
        held = inference_yml.read(path).threshold
        if not np.array_equal(per_class_threshold.resolve(held, names, where=str(path)), in_use):
            lacking.append(path)
    return lacking


def _find_exports_beside(weights: Path) -> list[Path]:
    """Their inference.yml files, that of Paddle first, which predictions use by default."""
    folders = [weights.parent / name for name in EXPORTS.values()]
    # Scores in lower precision have thresholds of their own.
    usual = [each for each in folders if not (each / EXPORT_REPORT).is_file()]
    paths = [ExportedFiles(folder).inference_yml for folder in usual]
    return [path for path in paths if path.is_file()]
