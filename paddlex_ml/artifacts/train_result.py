# SPDX-License-Identifier: Apache-2.0
"""train_result.json, metrics.csv and the rows of a training's history, one type each.

The order of the fields is the order of the keys in the file, and of the columns of metrics.csv.
Paths are relative to the output folder.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import regular_file
from paddlex_ml.storage.files import write_json, write_text

FORMAT_VERSION = 1
"""Of train_result.json. Results of release 0.1.0 have no such key."""
PRUNED = "pruned by a search"
"""How the message of a training begins that a search has ended, because others were better."""

WeightsKind: TypeAlias = Literal["raw", "ema"]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1.001)]  # sums of floats may pass 1
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""Ranges of what is read back from a checkpoint."""


class EpochRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured in one finished epoch."""

    epoch: Count
    """1, 2, ..."""
    step: Count
    """Updates so far, over all epochs."""
    lr: float
    """Learning rate of the last step."""
    loss: float
    """Mean loss of a step."""
    raw_map: Share | None
    """mAP of the raw weights, 0..1; None where the epoch was not evaluated."""
    ema_map: Share | None
    """mAP of the averaged weights, 0..1; None without an evaluation or without averaging."""
    images_per_second: Annotated[float, msgspec.Meta(ge=0)]
    """Speed, waiting for data included; 0.0 for an epoch whose steps ran before a resume."""
    data_wait: Annotated[float, msgspec.Meta(ge=0)]
    """Share of the time in which steps waited for their data, 0..1."""
    memory_mib: Annotated[float, msgspec.Meta(ge=0)]
    """Largest resident memory that was measured."""
    seconds: Seconds
    """Time of training so far, over all runs."""

    @property
    def scalars(self) -> dict[str, float]:
        """What trackers get of it, by name: every number that there is, but `step`, their axis."""
        names = {"raw_map": "mAP/raw", "ema_map": "mAP/ema"}
        values = msgspec.structs.asdict(self)
        return {
            names.get(name, f"epoch/{name}"): value
            for name, value in values.items()
            if value is not None and name != "step"
        }


class Best(msgspec.Struct, frozen=True, omit_defaults=True):
    """The best score of a training so far."""

    score: Share
    """mAP, 0..1."""
    weights: WeightsKind
    """The weights that have this score."""
    epoch: Count
    interval: tuple[Share, Share] | None = None
    """95 % interval of the score; None where it is undefined."""


class StartedFrom(msgspec.Struct, frozen=True, omit_defaults=True):
    """Weights of another list of classes that a training began with, class by class."""

    path: str
    """The weight file."""
    kept: list[str]
    """Classes that began with what was learned about them, in the order of label.txt."""
    new: list[str]
    """Classes that the weights did not know."""
    dropped: list[str]
    """Classes of the weights that label.txt does not have."""
    map: Share | None = None
    """mAP before the first step, 0..1; None: the training was stopped before."""
    kept_map: Share | None = None
    """The same over the kept classes alone; None too where val.txt has no image of them."""


class LastModel(msgspec.Struct, frozen=True, kw_only=True):
    """The checkpoint of one of the last epochs."""

    score: float | None
    weights: WeightsKind
    epoch: int
    pdparams: str
    pdopt: str
    pdstates: str
    pdema: str


class NoModel(msgspec.Struct, frozen=True):
    """Stands for a checkpoint that does not exist; `{}` in the file."""


class BestModel(LastModel, frozen=True, kw_only=True):
    """The best checkpoint and the static model that was exported from it."""

    inference_config: str
    pdmodel: str
    pdiparams: str


class TrainedModels(msgspec.Struct, frozen=True, kw_only=True):
    """The best model and at most five of the last ones, the newest first, as PaddleX lists them."""

    best: BestModel
    last_1: LastModel | NoModel = NoModel()
    last_2: LastModel | NoModel = NoModel()
    last_3: LastModel | NoModel = NoModel()
    last_4: LastModel | NoModel = NoModel()
    last_5: LastModel | NoModel = NoModel()


class TrainMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Quality and cost of a training, over all runs."""

    best_map: float = msgspec.field(name="MultiLabelMAP")
    epochs: int
    static_difference: float | None
    """Largest difference between scores of the static model and of the weights."""
    constant_map: float
    """mAP of a predictor that gives every image the same scores."""
    seconds: float
    images_per_second: float
    data_wait: float
    memory_mib: float
    history: list[EpochRow]
    MultiLabelMAP_ci95: tuple[float, float] | None = None
    """95 % interval of the best mAP, as mode evaluate gives it; None where it is undefined."""
    better_than_guessing: bool | None = None
    """Whether the interval lies above the mAP of the constant predictor."""


class TrainResult(msgspec.Struct, frozen=True, kw_only=True):
    """Content of train_result.json after a training that succeeded."""

    done_flag: bool = True
    model_name: str
    label_dict: str
    train_log: str
    config: str
    models: TrainedModels
    metrics: TrainMetrics
    format_version: int = FORMAT_VERSION
    run: RunIdentity | None = None
    """The training, as run.json names it; None: it began with release 0.1.0."""
    started_from: StartedFrom | msgspec.UnsetType = msgspec.UNSET
    """Absent for random weights, weights without names of classes, and those of the same ones."""
    earlier_thresholds: list[str] | msgspec.UnsetType = msgspec.UNSET
    """Backups of inference.yml beside the export, with thresholds that were tuned for an earlier
    one; the export has 0.5. Absent where there are none."""


class FinishedTraining(msgspec.Struct, frozen=True, kw_only=True):
    """What a table of runs reads of a train_result.json."""

    best_map: Share
    interval: tuple[float, float] | None
    weights: WeightsKind
    epoch: int
    """Of the best model."""
    epochs: int
    seconds: float
    memory_mib: float
    history: list[EpochRow]


class _Best(msgspec.Struct, frozen=True):
    weights: WeightsKind
    epoch: Count


class _Models(msgspec.Struct, frozen=True):
    best: _Best


class _Finished(msgspec.Struct, frozen=True):
    models: _Models
    metrics: TrainMetrics


def read(path: Path) -> FinishedTraining:
    """Read the result of a training that succeeded.

    Raises OSError where the file cannot be read, ValueError where it holds another thing, and
    PaddlexMLError, whose text is the first line of that of the training, where it failed.
    """
    content = regular_file.read(path, regular_file.LARGEST_RESULT)
    state = regular_file.decode_json(content, _State)
    if not state.done_flag:
        what = state.err_msg.partition("\n")[0]
        raise PaddlexMLError(what, where=str(path), fix="repeat the training")
    found = regular_file.decode_json(content, _Finished)
    best, metrics = found.models.best, found.metrics
    return FinishedTraining(
        best_map=metrics.best_map,
        interval=metrics.MultiLabelMAP_ci95,
        weights=best.weights,
        epoch=best.epoch,
        epochs=metrics.epochs,
        seconds=metrics.seconds,
        memory_mib=metrics.memory_mib,
        history=metrics.history,
    )


class _State(msgspec.Struct, frozen=True):
    done_flag: bool
    err_msg: str = ""


def write_pruned(path: Path, epoch: int, epochs: int, score: float) -> None:
    """Write the result of a training that a search has ended after an epoch.

    A resume replaces it, as it does with that of any training that has not come to its end.
    """
    text = f"{PRUNED} after epoch {epoch} of {epochs}: best mAP {score:.4f}"
    write_json(path, {"done_flag": False, "err_type": "Pruned", "err_msg": text})


def write_metrics(path: Path, history: Sequence[EpochRow]) -> None:
    """Write metrics.csv: one row for every evaluated epoch, the whole file each time."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(EpochRow.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(row) for row in history if row.raw_map is not None)
    write_text(path, text.getvalue())


def read_metrics(path: Path) -> tuple[float, int]:
    """Best mAP and last epoch of a metrics.csv.

    Raises OSError when it cannot be read, ValueError when it is empty or damaged.
    """
    maps = read_maps(path)
    if not maps:
        raise ValueError(f"not a metrics.csv: {path}")
    return max(score for _, score in maps), maps[-1][0]


def read_maps(path: Path) -> list[tuple[int, float]]:
    """Each evaluated epoch of a metrics.csv and its mAP, the better one of both weights.

    Raises OSError when it cannot be read, ValueError when it is damaged.
    """
    text = regular_file.read(path, regular_file.LARGEST_RESULT).decode("utf-8")
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""))
        pairs = [(row["epoch"], [row[key] for key in ("raw_map", "ema_map")]) for row in rows]
        return [(int(epoch), max(map(float, filter(None, maps)))) for epoch, maps in pairs]
    except (KeyError, TypeError, csv.Error) as error:
        raise ValueError(f"not a metrics.csv: {path}") from error
