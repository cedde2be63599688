# SPDX-License-Identifier: Apache-2.0
"""A sweep: one command -> combinations -> a training each, in its own folder -> one table.

    request -> runs -> all of them checked -> folds -> trainings, several at a time
            -> folds joined -> leaderboard

Each run is an ordinary training that the command of its own starts. So the state of a sweep is that
of its run folders: a sweep that was killed goes on with the runs that are not done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from paddlex_ml import ended_process, program
from paddlex_ml.artifacts import run_lock, sweep_folder, train_result
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.sweep_folder import PlannedRun, SweepFolder, SweepRecord
from paddlex_ml.config import load, run_config
from paddlex_ml.config.schema import Config, GlobalConfig
from paddlex_ml.config.validation import assignment
from paddlex_ml.engines.leaderboard import collect, rank
from paddlex_ml.engines.leaderboard import files as table
from paddlex_ml.engines.sweep import children, fold_sets, grid, join_folds
from paddlex_ml.engines.sweep.children import ChildTask, Ended
from paddlex_ml.engines.sweep.grid import SweepRequest
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.wording import count, first_names

_WAIT = 0.5
"""Seconds between two looks at a folder in which another process still trains."""

logger = logging.getLogger(__name__)


class SweepCommand(NamedTuple):
    """The command that is repeated for each combination."""

    has_section: bool
    """Whether the file asks for a sweep, which the trainings must not start again."""

    config: str
    """Behind -c, as typed."""
    path: Path
    """The file that this means."""
    overrides: Sequence[str]
    """Behind -o, as typed."""

    def words(self, run: PlannedRun, output: Path) -> list[str]:
        """The options of one run."""
        own = [
            *([f"{load.SWEEP}=null"] if self.has_section else []),
            *run.overrides,
            "Train.resume_path=auto",
            assignment("Global.output", str(output / run.name)),
        ]
        options = [part for text in (*self.overrides, *own) for part in ("-o", text)]
        return ["-c", self.config, *options]


class SweepOutcome(NamedTuple):
    """What a sweep gives."""

    lines: list[str]
    """For the terminal."""
    error: PaddlexMLError | None = None
    """Which runs have failed; None: none."""


def run(
    command: SweepCommand, request: SweepRequest, *, output: Path, is_dry: bool, most: int
) -> SweepOutcome:
    """Run the sweep, or with `is_dry` only write its commands; at most `most` runs.

    Raises PaddlexMLError before anything is started where a combination is refused, and where the
    folder holds other trainings; Stopped where a signal asks for it.
    """
    grid.refuse_many(request, most)
    folder = SweepFolder(output)
    _, seed = load.find_sweep(command.path, command.overrides)
    runs = grid.expand(request, GlobalConfig.seed if seed is None else seed, folder)
    configs = [_check(command, each, output) for each in runs]
    if is_dry:
        start = program.command()
        return SweepOutcome(
            [grid.write_command(start, command.words(each, output)) for each in runs]
        )
    if earlier_run.holds_results(output):
        raise PaddlexMLError(
            "the folder of the sweep holds a training",
            where=str(output),
            fix=f"-o {assignment('Global.output', str(earlier_run.free_folder(output)))}",
        )
    output.mkdir(parents=True, exist_ok=True)
    with run_lock.writing(output, "sweep"):
        done = {
            each.name
            for each, config in zip(runs, configs, strict=True)
            if _is_done(output / each.name, config)
        }
        if request.folds is not None:
            whole = msgspec.structs.replace(runs[0], overrides=runs[0].overrides[:-1])
            fold_sets.write(folder, _check(command, whole, output), request.folds)
        words = ["-c", command.config, *(p for text in command.overrides for p in ("-o", text))]
        shared = [without_secrets(text) for text in words]
        sweep_folder.write(folder.sweep_json, SweepRecord(command=shared, runs=runs))
        left = [each for each in runs if each.name not in done]
        problems = _train(command, left, folder, request)
        return _sum_up(folder, runs, problems)


def _check(command: SweepCommand, run: PlannedRun, output: Path) -> Config:
    """The configuration of a run. Raises PaddlexMLError with all of its faults."""
    words = command.words(run, output)[3::2]
    try:
        return load.load(command.path, words).config
    except PaddlexMLError as error:
        what = f"the run {run.name} cannot start: {error.what}"
        raise error.replace(what=Lines(what)) from error


def _is_done(folder: Path, config: Config) -> bool:
    """Whether the run in a folder has come to its end.

    Raises PaddlexMLError where it is one of other options.
    """
    saved = RunFolder(folder).config_yaml
    if not saved.is_file():
        return False
    wanted = run_config.split_texts(run_config.write(config))
    try:
        there = run_config.read_texts(saved)
    except (OSError, ValueError):  # the training sets it aside, and says so
        return False
    changed = {key: "" for key in {*wanted, *there} if wanted.get(key) != there.get(key)}
    names = sorted(collect.choose_options(changed)) + [collect.SEED] * (collect.SEED in changed)
    if names:
        raise PaddlexMLError(
            f"the run there has other options than this sweep: {first_names(names, 3)} "
            f"({there.get(names[0])}, here {wanted.get(names[0])})",
            where=str(folder),
            fix="choose another folder for this sweep: -o Global.output=FOLDER",
        )
    with suppress(OSError, ValueError, PaddlexMLError):
        train_result.read(RunFolder(folder).result("train"))
        return True
    return False


def _train(
    command: SweepCommand, left: Sequence[PlannedRun], folder: SweepFolder, request: SweepRequest
) -> dict[str, str]:
    """Train the runs that are left; returns name -> why, of those that failed."""
    total, output = request.count, folder.output
    ready = total - len(left)
    logger.info("%s, %d done before", count(total, "run"), ready)
    problems: dict[str, str] = {}
    for each in left:
        _wait_for(output / each.name)
    tasks = [
        ChildTask(
            each.name,
            [*program.child(), *command.words(each, output)],
            folder.log(each.name),
        )
        for each in left
    ]

    def tell(ended: Ended) -> None:
        nonlocal ready
        ready += 1
        problem = _find_problem(ended, folder)
        if problem:
            problems[ended.name] = problem
            logger.warning("run %d of %d failed: %s: %s", ready, total, ended.name, problem)
            return
        result = train_result.read(RunFolder(output / ended.name).result("train"))
        seconds = f"{ended.seconds:.0f} s"
        logger.info("run %d of %d: %s: mAP %.4f, %s", ready, total, ended.name, result.best_map,
                    seconds)  # fmt: skip

    children.run_all(tasks, request.jobs, tell)
    return problems


def _wait_for(folder: Path) -> None:
    """Wait while a training of an earlier sweep, which was killed, still saves its state there."""
    told = False
    while folder.is_dir():
        with run_lock.alone(folder) as is_alone:
            if is_alone:
                return
        if not told:
            logger.info("%s: an earlier process still trains there: waiting for it", folder)
            told = True
        time.sleep(_WAIT)


def _find_problem(ended: Ended, folder: SweepFolder) -> str:
    """Why a training failed; "" where it did not."""
    if ended.code == 0:
        return ""
    log = folder.log(ended.name)
    try:
        train_result.read(RunFolder(folder.output / ended.name).result("train"))
    except PaddlexMLError as error:
        return f"{error.what} (log: {log})"
    except (OSError, ValueError):
        pass
    return f"it {ended_process.explain(ended.code, ended.ends_before).how} (log: {log})"


def _sum_up(
    folder: SweepFolder, runs: Sequence[PlannedRun], problems: dict[str, str]
) -> SweepOutcome:
    """Join the folds, write the table, and name the runs that failed."""
    lines, groups = list[str](), dict[str, list[str]]()
    for each in runs:
        if each.group:
            groups.setdefault(each.group, []).append(each.name)
    for group, names in groups.items():
        joined = join_folds.join(folder, group, names)
        if joined is not None:
            lines.append(
                f"{group}: mAP {joined.map:.4f} of all {joined.images:,} images out of fold, "
                f"{joined.suspected:,} doubtful labels: {joined.folder}"
            )
    if len(problems) < len(runs):
        board = rank.rank(collect.collect([folder.output]))
        csv, page = table.write(board, folder.output)
        lines = [*table.render(board), *lines, f"table:  {csv}", f"report: {page}"]
    if not problems:
        return SweepOutcome(lines)
    listed = "; ".join(f"{name}: {why}" for name, why in list(problems.items())[:5])
    error = PaddlexMLError(
        f"{len(problems)} of {count(len(runs), 'run')} failed: {listed}",
        where=str(folder.output),
        fix="repair the cause, and repeat the command: it trains these again",
    )
    return SweepOutcome(lines, error)
