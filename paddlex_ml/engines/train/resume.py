# SPDX-License-Identifier: Apache-2.0
"""Train.resume_path: which checkpoint a training goes on from, and whether it may.

choose      the checkpoint folder; `auto` takes the newest sound one of the run in the output
read        its content, which must fit the model and the lists of this run
find_best   best_model again, where the output folder is new or a kill came at a bad time
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from paddlex_ml.artifacts import checkpoint, run_record, saved_scores
from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo
from paddlex_ml.artifacts.run_folder import CheckpointFiles, RunFolder
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import read_metrics
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import annotation
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines import named_paths
from paddlex_ml.engines.train import earlier_run, label_estimates, overwriting
from paddlex_ml.engines.train.earlier_run import AUTO
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import files as storage
from paddlex_ml.training.state import Training
from paddlex_ml.wording import count, first_names, path_override

KEY = named_paths.RESUME

logger = logging.getLogger(__name__)


class Beginning(NamedTuple):
    """Where a training begins."""

    resume: Path | None = None
    """The checkpoint folder to go on from; None: a new run."""
    overwrites: bool = False
    """Whether a run in the output folder is set aside first, as Global.overwrite allows."""

    def goes_on_in(self, output: Path) -> bool:
        """Whether the checkpoint is one of the run in this folder, which is not overwritten."""
        is_there = self.resume is not None and self.resume.parent.resolve() == output.resolve()
        return is_there and not self.overwrites


class _Candidate(NamedTuple):
    """A checkpoint in the output folder that a training may go on from."""

    done: tuple[int, int]
    """Finished epochs, and steps of the next one."""
    folder: Path


def choose(config: Config) -> Beginning:
    """The checkpoint that Train.resume_path means, and whether its run is overwritten.

    Raises PaddlexMLError where `auto` finds results without a sound checkpoint, and where a named
    checkpoint of the output folder is not its newest, or not of its run: later results would be
    replaced. With Global.overwrite both begin, and what is there is set aside.
    """
    resume, run = config.Train.resume_path, RunFolder(config.Global.output)
    may_overwrite = config.Global.overwrite
    if resume is None:
        return Beginning(None, may_overwrite)
    try:
        if resume == AUTO:
            newest = _choose_newest(run)
            return Beginning(newest, may_overwrite and newest is None)
        folder = _find_named(resume, run.output)
        if folder.parent.resolve() != run.output.resolve():
            return Beginning(folder, may_overwrite)
        folder = _refuse_going_back(folder, run)
    except _NeedsOverwrite as error:
        if not may_overwrite:
            raise
        return Beginning(error.folder, overwrites=True)
    return Beginning(folder)


def _find_named(resume: str, output: Path) -> Path:
    """The folder of a checkpoint, also where the run that holds it was set aside by a killed start.

    Raises PaddlexMLError where there is none.
    """
    named = Path(os.path.abspath(resume))
    aside = overwriting.find(output)
    if aside is not None and named.is_relative_to(output.absolute()):
        moved = aside / named.relative_to(output.absolute())
        with suppress(PaddlexMLError):
            return checkpoint.find_folder(str(moved), KEY)
    return checkpoint.find_folder(resume, KEY)


class _NeedsOverwrite(PaddlexMLError):
    """The training would replace results of the run in its folder."""

    folder: Path | None = None
    """Where it would begin."""


def _choose_newest(run: RunFolder) -> Path | None:
    """The newest sound checkpoint of the run in this folder; None where it has no results yet."""
    candidates, problems = _list_candidates(run)
    for done, folder in candidates:
        try:
            checkpoint.verify(folder)
        except PaddlexMLError as error:
            problems.append(f"{error.where}: {error.what}")
            continue
        for problem in problems:
            logger.warning("not resumed from a newer checkpoint: %s", problem)
        logger.info("%s=auto: %s (%s)", KEY, folder, _describe(done))
        return folder
    if not problems and (origin := _find_origin(run)):
        logger.info("%s=auto: %s, from which this run began", KEY, origin)
        return origin
    if not problems and not earlier_run.holds_results(run.output):
        logger.info("%s=auto: no checkpoint yet, starting a new run", KEY)
        return None
    raise _NeedsOverwrite(
        Lines(
            "the output folder holds results of a training, but no sound checkpoint to go on from"
            + "".join(f"\n  {one_line(problem)}" for problem in problems)
        ),
        where=str(run.output),
        fix=f"{override('Global.output', str(earlier_run.free_folder(run.output)))} starts anew "
        f"beside it, {override('Global.overwrite', True)} starts anew there",
    )


def _find_origin(run: RunFolder) -> Path | None:
    """The sound checkpoint that a run was resumed from which was killed before its first one.

    Raises PaddlexMLError where another user, or another machine, wrote which one that is.
    """
    record = run_record.read(run.run_json)
    if record is None or record.resumed_from is None:
        return None
    if not run_record.is_own(record):
        raise PaddlexMLError(
            f"this run began from {record.resumed_from}, says a file that no start of yours wrote",
            where=str(run.run_json),
            fix=f"{override(KEY, record.resumed_from)} goes on from there, if you trust it",
        )
    folder, epoch = Path(record.resumed_from), 0
    with suppress(OSError, ValueError):
        _, epoch = read_metrics(run.metrics_csv)
    with suppress(PaddlexMLError):
        progress = checkpoint.read_progress(folder)
        if progress is not None and epoch <= progress.get("epoch", 0):
            checkpoint.verify(folder)
            return folder
    return None


def _list_candidates(run: RunFolder) -> tuple[list[_Candidate], list[str]]:
    """The checkpoints of the run in a folder, the newest first, and why others are none."""
    record = run_record.read(run.run_json)
    candidates, problems = [], []
    for files in run.checkpoints():
        checkpoint.finish_interrupted(files.folder)
        if not files.folder.is_dir():
            continue
        try:
            progress = checkpoint.read_progress(files.folder)
            info = checkpoint.read_model_info(files.weights)
        except PaddlexMLError as error:
            problems.append(f"{error.where}: {error.what}")
            continue
        if progress is None or info is None:
            problems.append(f"{files.folder}: {files.states.name} is missing")
        elif record is not None and info.run is not None and info.run.id != record.id:
            problems.append(f"{files.folder}: it belongs to another run")
        else:
            done = progress.get("epoch", 0), progress.get("step", 0)
            candidates.append(_Candidate(done, files.folder))
    # `latest` before others of the same step: the sort keeps their order.
    candidates.sort(key=lambda candidate: candidate.done, reverse=True)
    return candidates, problems


def _refuse_going_back(folder: Path, run: RunFolder) -> Path:
    """The checkpoint to go on from: the named one, which must be the newest of its folder.

    For `latest` that is the newest one: a kill came after another one was written, and before it.
    """
    candidates, _ = _list_candidates(run)
    own = next((c.done for c in candidates if c.folder.name == folder.name), None)
    if own is None and candidates and _is_foreign(folder, run):
        raise _refuse(
            "this checkpoint belongs to another run than the folder it lies in, whose newest is "
            f"{candidates[0].folder.name} ({_describe(candidates[0].done)}): its results would be "
            "replaced",
            folder,
            run,
        )
    for done, newer in candidates:
        if own is None or done <= own:
            break
        try:
            checkpoint.verify(newer)
        except PaddlexMLError:  # the named one may be the best that is left
            continue
        if folder.name == run.latest.folder.name:
            logger.info("%s is older than %s, from which the run goes on", folder, newer)
            return newer
        raise _refuse(
            f"this checkpoint ({_describe(own)}) is older than {newer.name} ({_describe(done)}) "
            "of the same run: going back would replace its results",
            folder,
            run,
        )
    return folder


def _is_foreign(folder: Path, run: RunFolder) -> bool:
    record = run_record.read(run.run_json)
    with suppress(PaddlexMLError):  # a damaged one is refused when it is read
        info = checkpoint.read_model_info(CheckpointFiles(folder).weights)
        return bool(record and info and info.run and info.run.id != record.id)
    return False


def _refuse(what: str, folder: Path, run: RunFolder) -> _NeedsOverwrite:
    error = _NeedsOverwrite(
        what,
        where=str(folder),
        fix=f"{override('Global.output', str(earlier_run.free_folder(run.output)))} keeps both, "
        f"{override(KEY, AUTO)} goes on with the newest, "
        f"{override('Global.overwrite', True)} replaces the later results",
    )
    error.folder = folder
    return error


def _describe(done: tuple[int, int]) -> str:
    epoch, step = done
    return f"after epoch {epoch}" + (f" and {count(step, 'step')}" if step else "")


def read(config: Config, folder: Path, info: ModelInfo) -> Checkpoint:
    """The checkpoint to go on from.

    Raises PaddlexMLError when it is of another model than `info`, or of other lists without
    Train.rescore_best.
    """
    saved = checkpoint.load(folder)
    for key in ("model", "image_size", "decoder_tokens"):
        before, now = getattr(saved.info, key), getattr(info, key)
        if before != now:
            raise PaddlexMLError(
                f"the checkpoint has {key} {before}, this run has {now}",
                where=str(folder),
                fix=(
                    f"-o Train.{key}={before}"
                    if key in ("image_size", "decoder_tokens")
                    else "resume with the same model"
                )
                + ", or start a new run: -o Train.resume_path=null",
            )
    if saved.info.label_names != info.label_names:
        raise _refuse_classes(saved.info.label_names, info.label_names, folder, config)
    changed = find_changed_lists(saved, info)
    if "estimates" in saved.optimizer and annotation.TRAIN_FILE in changed:
        _refuse_estimates(config)
    if changed and not config.Train.rescore_best:
        output = config.Global.output
        raise PaddlexMLError(
            f"{' and '.join(changed)} changed since this run began: its scores, and which model "
            "is the best, belong to the lists of before",
            where=str(config.Global.dataset_dir),
            fix=f"start a new run: {override('Global.output', earlier_run.free_folder(output))} "
            f"{override(KEY, None)}; or go on with these lists, after the best model so far is "
            f"scored on them: {override('Train.rescore_best', True)}",
        )
    return saved


def _refuse_estimates(config: Config) -> None:
    """Raise PaddlexMLError where a resume needs the estimated labels of another train.txt."""
    if config.Train.unknown_labels != "role":
        return
    ways = f"{override('Train.rescore_best', True)} {label_estimates.write_without_table(config)}"
    folder = earlier_run.free_folder(config.Global.output)
    raise PaddlexMLError(
        "train.txt changed since this run began: its estimated labels belong to the images of "
        "before",
        where=str(config.Global.dataset_dir),
        fix=f"{ways} goes on without them, after the best model so far is scored on these lists; "
        f"or start a new run: {override('Global.output', folder)} {override(KEY, None)}",
    )


def _refuse_classes(
    before: list[str], now: list[str], folder: Path, config: Config
) -> PaddlexMLError:
    """The error of a resume with other classes, whose repair keeps the common ones by name."""
    known, wanted = {*before}, {*now}
    added = [name for name in now if name not in known]
    removed = [name for name in before if name not in wanted]
    parts = [
        f"{len(names)} {word} ({one_line(first_names(names, 5))})"
        for names, word in ((added, "added"), (removed, "removed"))
        if names
    ]
    if not parts:
        number = next((c for c, name in enumerate(now) if [name] != before[c : c + 1]), 0)
        parts = [
            f"another order, first class {number}, which was {one_line(before[number])} "
            f"and is {one_line(now[number])}"
        ]
    output = earlier_run.free_folder(config.Global.output)
    return PaddlexMLError(
        f"label.txt has other classes than the checkpoint, {len(now)} instead of {len(before)}: "
        + ", ".join(parts),
        where=str(folder),
        fix="a new run keeps by name what was learned about each class: "
        f"{override('Global.output', str(output))} {override(KEY, None)} "
        f"{path_override('Train.pretrain_weight_path', CheckpointFiles(folder).weights)}",
    )


def refuse_other_queries(wanted: int | str, queries: int, where: str) -> None:
    """Raise PaddlexMLError when Train.num_queries is another number than the checkpoint's."""
    if wanted not in ("auto", queries):
        raise PaddlexMLError(
            f"the checkpoint has a head of {count(queries, 'query', 'queries')}, "
            f"Train.num_queries is {wanted}",
            where=where,
            fix=f"{override('Train.num_queries', 'auto')} goes on with its head, or start a new "
            f"run: {override(KEY, None)}",
        )


def find_changed_lists(saved: Checkpoint, info: ModelInfo) -> list[str]:
    """Names of the lists that are others than those of the checkpoint, as far as it tells."""
    if saved.info.run is None or info.run is None:
        return []
    before, now = saved.info.run.digests, info.run.digests
    names = (annotation.TRAIN_FILE, annotation.VAL_FILE)
    return [name for name in names if before.get(name, now[name]) != now[name]]


def log(training: Training, folder: Path, before: Mapping[str, Any], epochs: int) -> None:
    """Log from which checkpoint the training resumes, and which options differ from `before`."""
    progress = training.progress
    done = f"{count(progress.epoch, 'epoch')} and {count(progress.step, 'step')}"
    logger.info("resumed from %s, after %s", one_line(str(folder)), done)
    for key, now in training.fingerprint.items():
        if key in before and before[key] != now:
            logger.warning(
                "%s was %s before the stop and is %s now: the numbers will differ from those of "
                "an unbroken run",
                key,
                before[key],
                now,
            )
    if progress.epoch >= epochs:
        logger.warning(
            "nothing is left to train after %s; to train on, set -o Train.epochs_iters=%d or more",
            count(progress.epoch, "epoch"),
            progress.epoch + 1,
        )


def find_best(training: Training, resumed_from: Path, config: Config, group: ProcessGroup) -> None:
    """Make sure that best_model holds the best model that the checkpoint names.

    In a new output folder it is copied from the folder beside the checkpoint. Raises PaddlexMLError
    when it is lost and no epoch is left to find a new one.
    """
    progress, output = training.progress, RunFolder(config.Global.output).best_model.folder
    beside, found = RunFolder(resumed_from.parent).best_model.folder, False
    with group.main_first("best model found") as is_main:
        if is_main and progress.best is not None:
            found = _is_best_of(progress, output)
            if not found and _is_best_of(progress, beside):
                best, kept = checkpoint.load(beside), RunFolder(resumed_from.parent).val_scores
                with suppress(OSError):  # no scores, or none that may be read
                    content = storage.read_regular(kept, 2 * saved_scores.LARGEST)
                    storage.write_bytes(RunFolder(config.Global.output).val_scores, content)
                checkpoint.write(output, replace(best, info=training.info))
                found = True
            if not found:
                logger.warning(
                    "%s does not hold the best model of the resumed run (mAP %.4f, epoch %d): the "
                    "next evaluation starts a new search for the best",
                    output,
                    progress.best.score,
                    progress.best.epoch,
                )
    if group.all_reduce_max([found])[0]:
        return
    progress.best, progress.evaluations_since_best = None, 0
    if progress.epoch >= config.Train.epochs_iters:
        raise PaddlexMLError(
            f"{count(progress.epoch, 'epoch is', 'epochs are')} done, "
            "but the best model is not there",
            where=str(beside),
            fix=f"put that folder back, or train on: -o Train.epochs_iters={progress.epoch + 1}",
        )


def _is_best_of(progress: Progress, folder: Path) -> bool:
    """Whether `folder` holds the best model of this run: another run may have the same score.

    A damaged one is none: it could not be exported after the last epoch.
    """
    try:
        saved = checkpoint.read_progress(folder)
        if saved is None or progress.best is None:
            return False
        checkpoint.verify(folder)
    except PaddlexMLError as error:
        logger.warning("%s: %s", error.where, error.what)
        return False
    own, best = msgspec.to_builtins(progress), saved["best"] or {}
    past = own["history"][: progress.best.epoch]
    # Not the score: it is another one when the lists changed and a kill came right then.
    same = all(best.get(key) == own["best"][key] for key in ("epoch", "weights"))
    return bool(same and saved["history"] == past)
