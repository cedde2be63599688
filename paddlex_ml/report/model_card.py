# SPDX-License-Identifier: Apache-2.0
"""best_model/MODEL_CARD.md: what a model is, what it was measured on, and where it is weak.

The idea is that of Mitchell et al. 2019 (arXiv:1810.03993). The text comes from run.json,
train_result.json, evaluate_result.json and the thresholds in the inference.yml of the export, so it
says nothing that these files do not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from paddlex_ml.artifacts import evaluate_result, inference_yml, run_record
from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.run_record import RunIdentity, RunRecord
from paddlex_ml.artifacts.train_result import Best, StartedFrom, TrainResult
from paddlex_ml.data.inventory import VAL_FILE
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.metrics.measures import ClassMeasures
from paddlex_ml.report.advice import FEW
from paddlex_ml.safe_text import one_line, visible
from paddlex_ml.storage import regular_file
from paddlex_ml.storage.files import write_text
from paddlex_ml.wording import count

_MOST_CLASSES = 100
"""Rows of the table of classes: of more classes, the worst are shown."""


class _Models(msgspec.Struct, frozen=True):
    best: Best


class _Metrics(msgspec.Struct, frozen=True):
    epochs: int
    constant_map: float
    MultiLabelMAP_ci95: tuple[float, float] | None = None
    better_than_guessing: bool | None = None


class Trained(msgspec.Struct, frozen=True):
    """What the card, and a prediction, need of train_result.json."""

    model_name: str
    models: _Models
    metrics: _Metrics
    run: RunIdentity | None = None
    started_from: StartedFrom | None = None


def write(
    output: Path,
    result: TrainResult | None = None,
    evaluated: EvaluationResult | None = None,
) -> Path | None:
    """Write the card of the best model of a training that is complete; returns its path.

    result, evaluated: of the training and of an evaluation, where their files are not written yet.
    None, and nothing is written, where the folder holds no such training.
    """
    files = RunFolder(output)
    record, trained = run_record.read(files.run_json), read_training(files.result("train"))
    if result is not None:
        trained = msgspec.convert(msgspec.to_builtins(result), Trained)
    if record is None or trained is None or not files.best_model.folder.is_dir():
        return None
    found = read_evaluation(files, record.id, trained, evaluated)
    text = "\n".join(_lines(record, trained, found, _read_thresholds(files)))
    write_text(files.model_card, text + "\n")
    return files.model_card


def read_training(path: Path) -> Trained | None:
    """The result of a training that is complete, or None."""
    with suppress(OSError, ValueError):  # none, one that failed, or of another version
        content = regular_file.read(path, regular_file.LARGEST_RESULT)
        return regular_file.decode_json(content, Trained)
    return None


def read_evaluation(
    files: RunFolder,
    run_id: str,
    trained: Trained | None,
    evaluated: EvaluationResult | None = None,
) -> EvaluationResult | None:
    """The evaluation of the best model of the training `run_id`, if the folder has one.

    Not that of an earlier best model of the same training, which has gone on since.
    """
    with suppress(PaddlexMLError):
        found = evaluated or evaluate_result.read(files.result("evaluate"))
        is_best = files.best_model.folder.name in Path(found.weight_path).parts
        best = None if trained is None else trained.models.best.epoch
        is_newest = best is None or found.epoch in (None, best)
        if is_best and is_newest and found.run is not None and found.run.id == run_id:
            return found
    return None


def _read_thresholds(files: RunFolder) -> tuple[np.ndarray, Sequence[str]] | None:
    """The thresholds [C] that predictions use, with the names of the classes; None: no export."""
    path = files.best_model.inference.inference_yml
    with suppress(PaddlexMLError):
        found = inference_yml.read(path)
        names = found.label_names
        return per_class_threshold.resolve(found.threshold, names, where=str(path)), names
    return None


def _lines(
    record: RunRecord,
    trained: Trained,
    evaluated: EvaluationResult | None,
    predicting: tuple[np.ndarray, Sequence[str]] | None,
) -> Iterator[str]:
    best, metrics = trained.models.best, trained.metrics
    kind = {"raw": "raw", "ema": "averaged (EMA)"}[best.weights]
    yield f"# Model card: {_cell(trained.model_name)}"
    yield "\n## Model\n"
    yield f"- Run `{_cell(record.id)}`, last start {_cell(record.start)}"
    yield f"- Weights: {kind}, of epoch {best.epoch} of {metrics.epochs}"
    if (start := trained.started_from) is not None:
        yield (
            f"- Started from `{_cell(start.path)}`: "
            f"{count(len(start.kept), 'class', 'classes')} kept, "
            + (f"{len(start.new)} new, {len(start.dropped)} dropped")
        )
    versions = (f"{name} {version}" for name, version in record.versions.items())
    yield f"- Made with {_cell(', '.join(versions))}"
    yield "\n## Data\n"
    for name, digest in record.digests.items():
        yield f"- {_cell(name)}: SHA-256 `{_cell(digest)}`"
    yield "\n## Scores\n"
    yield f"- mAP in the training: {best.score:.4f}{_interval(metrics.MultiLabelMAP_ci95)}"
    yield f"- mAP of a predictor that gives every image the same scores: {metrics.constant_map:.4f}"
    if predicting is None:
        yield "- Thresholds of predictions: none, there is no exported model in `inference/`"
    else:
        described = _cell(per_class_threshold.describe(*predicting))
        yield f"- Thresholds of predictions, in `inference/inference.yml`: {described}"
    if evaluated is None:
        yield "\nevaluate\\_result.json is of no evaluation of this model, or not there: run"
        yield "`Global.mode=evaluate` for the scores of the classes, thresholds and limits."
        return
    yield from _describe_scores(evaluated, None if predicting is None else predicting[0])
    yield "\n## Limits found by the evaluation\n"
    yield from (f"- {limit}" for limit in _limits(record, metrics.constant_map, evaluated))


def _describe_scores(evaluated: EvaluationResult, predicting: np.ndarray | None) -> Iterator[str]:
    """Measures over all classes, thresholds, and the table of the classes.

    predicting: the thresholds of predictions [C]; None: there are none.
    """
    measured, rows = evaluated.metrics, evaluated.per_class
    yield f"- mAP of the evaluation: {_number(measured.MultiLabelMAP)}" + _interval(
        measured.MultiLabelMAP_ci95
    )
    yield f"- Images: {measured.images:,}; digest of the list `{_cell(evaluated.val_digest)}`"
    used = _say_use(predicting, [row.threshold for row in rows])
    yield f"- Macro F1 at the thresholds below: {_number(measured.macro_f1)}; {used}"
    if evaluated.thresholds is not None:
        tuned = evaluated.thresholds
        used = _say_use(predicting, [row.tuned.threshold for row in rows if row.tuned])
        yield (
            f"- Tuned thresholds ({tuned.method}) reach {_number(tuned.held_out.macro_f1)} on "
            f"images that they were not tuned on; {used}"
        )
    shown = rows
    if len(rows) > _MOST_CLASSES:
        worst = [row for row in rows if row.average_precision is not None]
        shown = sorted(worst, key=lambda row: row.average_precision or 0.0)[:_MOST_CLASSES]
        yield f"- Below: the {len(shown)} worst of {len(rows):,} classes; per_class.csv has all"
    yield "\n| class | images | AP | 95 % interval | threshold | tuned | precision | recall | F1 |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in shown:
        interval = _interval(row.average_precision_ci95).strip(" ()").removeprefix("95 % interval ")
        numbers = (row.threshold, row.tuned.threshold if row.tuned else None)
        measures = [_number(value) for value in (*numbers, row.precision, row.recall, row.f1)]
        cells = [_cell(row.name), f"{row.positives:,}", _number(row.average_precision)]
        yield f"| {' | '.join([*cells, interval or '-', *measures])} |"


def _say_use(predicting: np.ndarray | None, measured: Sequence[float]) -> str:
    if predicting is None or predicting.shape != (len(measured),):
        return "no exported model has them"
    is_used = np.array_equal(predicting, np.asarray(measured, np.float32))
    return "predictions use them" if is_used else "predictions do not use them"


def _limits(record: RunRecord, constant: float, evaluated: EvaluationResult) -> Iterator[str]:
    rows, found = evaluated.per_class, False
    kinds: list[tuple[str, Sequence[ClassMeasures]]] = [
        ("No image shows these classes, so nothing is known about them", [
            row for row in rows if row.positives == 0
        ]),
        (f"Fewer than {FEW} images show these classes, so their numbers are unsteady", [
            row for row in rows if 0 < row.positives < FEW
        ]),
        ("Not better than chance: the interval of the AP reaches the share of images", [
            row for row in rows if _is_chance(row)
        ]),
    ]  # fmt: skip
    for text, classes in kinds:
        if classes:
            found = True
            names = ", ".join(_cell(row.name) for row in classes[:_MOST_CLASSES])
            more = len(classes) - _MOST_CLASSES
            yield f"{text}: {names}" + (f" and {more:,} more" if more > 0 else "")
    if evaluated.better_than_guessing is False:
        found = True
        yield f"As a whole not better than a predictor with constant scores ({constant:.4f})"
    if evaluated.unknown_labels:
        found = True
        yield (
            f"{count(evaluated.unknown_labels, 'unknown label')} in the list, which no measure "
            "counts"
        )
    errors = evaluated.label_errors
    for name, counts in errors.lists.items() if errors is not None else ():
        if counts.suspected:
            found = True
            yield f"{count(counts.suspected, 'label')} of {_cell(name)} may be wrong or missing"
    if record.digests.get(VAL_FILE) not in (None, evaluated.val_digest):
        found = True
        yield "The evaluation had another val.txt than the training"
    if not found:
        yield "None by these rules. Other images than those of the list may show others."


def _is_chance(row: ClassMeasures) -> bool:
    """Whether the interval of the AP reaches that of random scores, the share of positives."""
    known, interval = row.positives + (row.negatives or 0), row.average_precision_ci95
    if interval is None or not row.positives or not row.negatives:
        return False
    return interval[0] <= row.positives / known


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f" (95 % interval {bounds[0]:.4f} to {bounds[1]:.4f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    """A text from a file as Markdown shows it: no table, link, code or tag begins in it."""
    text = visible(one_line(text))
    return "".join(f"\\{letter}" if letter in "\\|`*_[]<>#" else letter for letter in text)
