# SPDX-License-Identifier: Apache-2.0
"""Run folders below the folders that a user names, and what each of them tells about itself.

Only small files are read: train_result.json, run.json, config.yaml, benchmark_result.json,
reproduction.json and the summary of the scores.
No link is followed on the way down.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from paddlex_ml.artifacts import (
    benchmark_result,
    reproduction,
    run_record,
    saved_scores,
    sweep_folder,
    train_result,
)
from paddlex_ml.artifacts.leaderboard import Latency
from paddlex_ml.artifacts.run_folder import EXAMPLE, RunFolder
from paddlex_ml.artifacts.run_record import RunRecord
from paddlex_ml.artifacts.saved_scores import ScoresSummary
from paddlex_ml.artifacts.train_result import FinishedTraining
from paddlex_ml.config import run_config, yaml_text
from paddlex_ml.config.fingerprint import WITHOUT_EFFECT
from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import named
from paddlex_ml.wording import count

SEED, DATA = "Global.seed", "Global.dataset_dir"
LIST, PROCESSES = "train_list", "processes"
"""Shown as options, which they are not: digest of train.txt, and how many trained together."""
_ALSO = {
    *("Global.model", DATA, "Train.pretrain_weight_path", "Train.image_size"),
    *("Train.decoder_tokens", "Train.teacher"),
}
"""Options that a resume cannot change, or whose content it compares, and another run may change."""
_PART = re.compile(r"epoch_\d+\Z")
_NEAR = 1e-3
"""Difference in mAP up to which an evaluation is one of the best model of the run."""
_SHOWN = 8  # letters of a digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundRun:
    """One run folder."""

    name: str
    files: RunFolder
    options: dict[str, str]
    """Those that change the numbers of a training, as texts; a fold's data set is the whole one.
    With LIST, but for a fold, and PROCESSES where there were several.
    """
    seed: str
    fold: str
    """As "2 of 5", or ""."""
    trained: FinishedTraining | None
    problem: str
    """Why it has no result; "" where it has one."""
    digests: tuple[str, str]
    """Of label.txt and of val.txt; "" where they are not known."""
    summary: ScoresSummary | None
    scores: Path | None
    """Where the scores of the best model are."""
    latency: Latency | None = None
    """Of the best model, where it was benchmarked."""


@named("reading the runs")
def collect(roots: Sequence[Path]) -> list[FoundRun]:
    """All runs at and below `roots`, each once.

    Raises PaddlexMLError where a folder is missing, and where there is no run.
    """
    found: dict[str, FoundRun] = {}
    for root in roots:
        if not root.is_dir():
            raise PaddlexMLError(
                "there is no such folder", where=str(root), fix="name a folder that holds runs"
            )
        for folder in _find(root):
            name = os.path.relpath(folder, root) if len(roots) == 1 else str(folder)
            name = Path(os.path.abspath(folder)).name if name == os.curdir else name
            found.setdefault(os.path.realpath(folder), _read(name, folder))
    if not found:
        raise PaddlexMLError(
            "no training has written into these folders, or into folders below them",
            where=", ".join(map(str, roots)),
            fix="name the output folder of a training, or one that holds several",
        )
    return list(found.values())


def _find(root: Path) -> Iterator[Path]:
    """The folder itself and all below it that hold a training. Parts of a run are not searched."""
    written = {EXAMPLE.run_json.name, EXAMPLE.label_dict.name}
    checkpoints = {EXAMPLE.best_model.folder.name, EXAMPLE.latest.folder.name}
    parts = {EXAMPLE.events, EXAMPLE.evaluate.folder, EXAMPLE.predict.folder}
    names = checkpoints | {path.name for path in (*parts, EXAMPLE.check_dataset.folder)}

    def tell(error: OSError) -> None:
        logger.warning("%s cannot be searched for runs: %s", error.filename, error.strerror)

    for place, folders, files in os.walk(root, onerror=tell):
        if ".set_aside" in files:  # a run that is being overwritten
            folders.clear()
            continue
        if written.intersection(files) or checkpoints.intersection(folders):
            yield Path(place)
            folders[:] = [name for name in folders if not _PART.match(name) and name not in names]
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _read(name: str, folder: Path) -> FoundRun:
    run, options, trained, problem = RunFolder(folder), dict[str, str](), None, ""
    with suppress(OSError, ValueError):
        options = run_config.read_texts(run.config_yaml)
    try:
        trained = train_result.read(run.result("train"))
    except PaddlexMLError as error:
        is_pruned = error.what.startswith(train_result.PRUNED)
        problem = error.what if is_pruned else f"failed: {error.what}"
    except FileNotFoundError:
        problem = "it has not come to its end"
        with suppress(OSError, ValueError):
            score, epoch = train_result.read_metrics(run.metrics_csv)
            problem += f": best mAP {score:.4f} up to epoch {epoch}"
    except (OSError, ValueError) as error:
        problem = f"its result cannot be read: {error}"
    if trained is not None and not options:
        trained, problem = None, "its config.yaml is missing or damaged: its options are not known"
    with suppress(OSError, ValueError):
        repeated = reproduction.read(run.reproduction)
        trained = None  # it would count as one more seed of the same configuration
        problem = f"a reproduction of {repeated.run}: {problem or repeated.verdict}"
    record = run_record.read(run.run_json)
    digests = {} if record is None else record.digests
    lists = tuple(digests.get(each, "") for each in (annotation.LABEL_FILE, annotation.VAL_FILE))
    fold = sweep_folder.FOLD.fullmatch(Path(_data_of(options)).name)
    summary, scores = (None, None) if trained is None else _find_scores(run, trained, lists[1])
    return FoundRun(
        name=name,
        files=run,
        options=_compared_options(run, options, record, is_fold=fold is not None),
        seed=options.get(SEED, ""),
        fold="" if fold is None else f"{fold[1]} of {fold[2]}",
        trained=trained,
        problem=problem,
        digests=(lists[0], lists[1]),
        summary=summary,
        scores=scores,
        latency=None if record is None or trained is None else _find_latency(run, record, trained),
    )


def _data_of(options: Mapping[str, str]) -> str:
    return yaml_text.without_quotes(options.get(DATA, ""))


def _compared_options(
    run: RunFolder, texts: Mapping[str, str], record: RunRecord | None, *, is_fold: bool
) -> dict[str, str]:
    """What `FoundRun.options` has, of the texts of a saved configuration."""
    options, data = choose_options(texts), Path(_data_of(texts))
    saved_in = Path(yaml_text.without_quotes(texts.get("Global.output", "")))
    if is_fold:
        options[DATA], kept = str(data.parent), saved_in.parent
        if data.is_relative_to(kept):  # the whole sweep may have been moved since
            beside = run.output.absolute().parent / data.parent.relative_to(kept)
            options[DATA] = str(beside if beside.is_dir() else data.parent)
    elif DATA in options and data == RunFolder(saved_in).dataset:
        options[DATA] = run.dataset.name  # each run has its own, of the same source
    if record is None:
        return options
    if not is_fold and annotation.TRAIN_FILE in record.digests:
        options[LIST] = record.digests[annotation.TRAIN_FILE][:_SHOWN]
    if record.conditions is not None and record.conditions.processes > 1:
        options[PROCESSES] = str(record.conditions.processes)
    return options


def _find_latency(run: RunFolder, record: RunRecord, trained: FinishedTraining) -> Latency | None:
    """What a benchmark of the best model says; None without one, or where the model is newer."""
    with suppress(OSError, ValueError):
        found = benchmark_result.read(run.result("benchmark"))
        is_best = Path(found.weights).name == run.best_model.weights.name
        if is_best and (found.run and found.run.id, found.epoch) == (record.id, trained.epoch):
            fastest = found.recommended
            return Latency(
                seconds=fastest.latency_p50,
                export=fastest.name,
                machine=f"{found.device}, {found.processor}, {count(found.threads, 'thread')}",
            )
    return None


def _find_scores(
    run: RunFolder, trained: FinishedTraining, digest: str
) -> tuple[ScoresSummary | None, Path | None]:
    """The scores that the training kept of its best model, or a later evaluation of it."""
    for path in (run.val_scores, run.evaluate.val_scores):
        with suppress(PaddlexMLError):
            summary = saved_scores.read_summary(path)
            note = summary.note
            is_own = note.epoch is None or (note.epoch, note.weights) == (
                trained.epoch,
                trained.weights,
            )
            is_near = abs(note.map - trained.best_map) <= _NEAR
            if digest and note.val_digest == digest and is_own and is_near:
                return summary, path
    return None, None


def choose_options(texts: Mapping[str, str]) -> dict[str, str]:
    """Those options of a saved configuration that change the numbers of a training."""
    return {key: text for key, text in texts.items() if _is_compared(key)}


@cache
def _is_compared(key: str) -> bool:
    if key == SEED:
        return False
    section = key.partition(".")[0]
    return key in _ALSO or not {key, section} & WITHOUT_EFFECT.keys()
