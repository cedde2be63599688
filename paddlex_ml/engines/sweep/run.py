# SPDX-License-Identifier: Apache-2.0
"""A sweep: one command -> combinations -> a training each, in its own folder -> one table.

    request -> runs -> all of them checked -> folds -> trainings, several at a time
            -> folds joined -> leaderboard

Each run is an ordinary training that the command of its own starts. So the state of a sweep is that
of its run folders: a sweep that was killed goes on with the runs that are not done.
"""

from __future__ import annotations

import logging
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from paddlex_ml import ended_process, program, stop_signals
from paddlex_ml.artifacts import run_lock, run_record, sweep_folder, train_result
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.sweep_folder import PlannedRun, SweepFolder, SweepRecord
from paddlex_ml.config import (
    load,
    options_by_size,
    run_config,
    shipped,
    typed_words,
    yaml_text,
)
from paddlex_ml.config.schema import Config, GlobalConfig
from paddlex_ml.config.validation import assignment, with_value
from paddlex_ml.data import annotation
from paddlex_ml.engines import named_paths
from paddlex_ml.engines.leaderboard import collect, rank
from paddlex_ml.engines.leaderboard import files as table
from paddlex_ml.engines.sweep import children, fold_sets, grid, join_folds
from paddlex_ml.engines.sweep.children import ChildTask, Ended
from paddlex_ml.engines.sweep.grid import SweepRequest
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import files
from paddlex_ml.wording import count, first_names

_MODEL = "Global.model"
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
        options = [part for text in (*self._shared, *own) for part in ("-o", text)]
        return ["-c", self.find_file(run)[0], *options]

    def find_file(self, run: PlannedRun) -> tuple[str, Path]:
        """What stands behind -c, and its file. Where that is the shipped file of a model, a run of
        another model gets the one of its own: weights to start from, images per step.
        """
        first = f"{_MODEL}="
        model = next((t.removeprefix(first) for t in run.overrides if t.startswith(first)), "")
        if model in shipped.MODELS and self.path.parent == shipped.folder():
            return model, shipped.folder() / f"{model}.yaml"
        return self.config, self.path

    @property
    def _shared(self) -> list[str]:
        """The overrides but those of the section of the sweep: no training needs them, and the URL
        of a storage may have a password.
        """
        return [
            word
            for each in typed_words.join(self.overrides)
            if re.match(rf"\s*{load.SWEEP}\s*[.=]", each.text) is None
            for word in each.words
        ]

    def record(self, folder: SweepFolder, runs: Sequence[PlannedRun]) -> None:
        """Write sweep.json, without the secrets of URLs."""
        words = ["-c", self.config, *(p for text in self._shared for p in ("-o", text))]
        shared = [without_secrets(text) for text in words]
        sweep_folder.write(folder.sweep_json, SweepRecord(command=shared, runs=list(runs)))

    def task(self, run: PlannedRun, folder: SweepFolder) -> ChildTask:
        """The training of one run, as a process."""
        words = [*program.child(), *self.words(run, folder.output)]
        return ChildTask(run.name, words, folder.log(run.name))


class SweepOutcome(NamedTuple):
    """What a sweep gives."""

    lines: list[str]
    """For the terminal."""
    error: PaddlexMLError | None = None
    """Which runs have failed; None: none."""


class SweepPlan(NamedTuple):
    """The runs of a sweep, each of which has been checked."""

    runs: list[PlannedRun]
    configs: list[Config]
    """Of each run."""


def run(
    command: SweepCommand, request: SweepRequest, *, output: Path, is_dry: bool, most: int
) -> SweepOutcome:
    """Run the sweep, or with `is_dry` only write its commands; at most `most` runs.

    Raises PaddlexMLError before anything is started where a combination is refused, and where the
    folder holds other trainings; Stopped where a signal asks for it.
    """
    planned = plan(command, request, output, most)
    runs = planned.runs
    if is_dry:
        return SweepOutcome(list_commands(command, runs, output))
    for config in planned.configs:
        named_paths.check_weights(config)
    lists = digest_lists(planned.configs, has_folds=request.folds is not None)
    with writing(output):
        done = find_done(planned, lists, output)
        folder = prepare(command, request, runs, output)
        left = [each for each in runs if each.name not in done]
        problems = _train(command, left, folder, request)
        return _sum_up(folder, runs, problems)


def plan(command: SweepCommand, request: SweepRequest, output: Path, most: int) -> SweepPlan:
    """All runs, at most `most`. Raises PaddlexMLError where one of them is refused."""
    grid.refuse_many(request, most)
    _, seed = load.find_sweep(command.path, command.overrides)
    first = GlobalConfig.seed if seed is None else seed
    runs = grid.expand(request, first, SweepFolder(output))
    configs = [check(command, each, output) for each in runs]
    _refuse_equal(runs, configs)
    return SweepPlan(runs, configs)


def _refuse_equal(runs: Sequence[PlannedRun], configs: Sequence[Config]) -> None:
    """Raise PaddlexMLError where two runs are one, which would count as two seeds of it."""
    seen: dict[str, str] = {}
    for each, config in zip(runs, configs, strict=True):
        first = seen.setdefault(repr(with_value(config, "Global.output", Path())), each.name)
        if first != each.name:
            raise PaddlexMLError(
                f"{first} and {each.name} are the same training",
                where="the sweep",
                fix="write each value once",
            )


def digest_lists(configs: Sequence[Config], *, has_folds: bool = False) -> list[dict[str, str]]:
    """The digests of the lists of each run, none where it makes them by itself, or is of a fold.

    Raises PaddlexMLError where a data set is missing or has faults, which would end each run.
    """
    by_reference = [options_by_size.is_by_reference(config) for config in configs]
    if has_folds and any(by_reference):
        check = f"{assignment('Global.mode', 'check_dataset')}"
        raise PaddlexMLError(
            "folds divide the lists of a data set, and here is none yet",
            where="--folds",
            fix=f"make it with -o {check}, then name it: -o Global.dataset_dir=FOLDER",
        )
    known: dict[tuple[Path | None, bool], dict[str, str]] = {}
    found = []
    for config, makes_lists in zip(configs, by_reference, strict=True):
        root, soft = key = config.Global.dataset_dir, config.Train.soft_labels
        is_read = not (has_folds or makes_lists)  # folds are read when they are made
        if is_read and key not in known:
            assert root is not None  # the configuration refuses it
            dataset = annotation.read(root, soft_labels=soft)
            known[key] = {
                annotation.LABEL_FILE: run_record.digest("\0".join(dataset.label_names)),
                annotation.TRAIN_FILE: annotation.digest(dataset.train),
                annotation.VAL_FILE: annotation.digest(dataset.val),
            }
        found.append(known[key] if is_read else {})
    return found


def list_commands(command: SweepCommand, runs: Sequence[PlannedRun], output: Path) -> list[str]:
    """The commands of the runs, as lines of a shell."""
    start = program.command()
    return [grid.write_command(start, command.words(each, output)) for each in runs]


def prepare(
    command: SweepCommand, request: SweepRequest, runs: Sequence[PlannedRun], output: Path
) -> SweepFolder:
    """Write what the runs share: the data sets of the folds, and sweep.json."""
    folder = SweepFolder(output)
    if request.folds is not None:
        whole = msgspec.structs.replace(runs[0], overrides=runs[0].overrides[:-1])
        fold_sets.write(folder, check(command, whole, output), request.folds)
    command.record(folder, runs)
    return folder


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Be the only sweep that writes into the folder, which is made; of one that is refused before
    it has written anything, nothing stays.

    Raises PaddlexMLError where it holds a training of its own, and where it cannot be written.
    """
    if earlier_run.holds_results(output):
        raise PaddlexMLError(
            "the folder of the sweep holds a training",
            where=str(output),
            fix=f"-o {assignment('Global.output', str(earlier_run.free_folder(output)))}",
        )
    made = [each for each in (output, *output.parents) if not each.exists()]
    files.make_output(output)
    try:
        with run_lock.writing(output, "sweep"):
            yield
    finally:
        if made:
            run_lock.remove_unused(made, "sweep")


def check(command: SweepCommand, run: PlannedRun, output: Path) -> Config:
    """The configuration of a run. Raises PaddlexMLError with all of its faults."""
    words = command.words(run, output)[3::2]
    try:
        return load.load(command.find_file(run)[1], words).config
    except PaddlexMLError as error:
        what = f"the run {run.name} cannot start: {error.what}"
        raise error.replace(what=Lines(what)) from error


def find_done(planned: SweepPlan, lists: Sequence[Mapping[str, str]], output: Path) -> set[str]:
    """The names of the runs that have come to their end. Raises PaddlexMLError as `is_done`."""
    return {
        each.name
        for each, config, own in zip(planned.runs, planned.configs, lists, strict=True)
        if is_done(output / each.name, config, own)
    }


def is_done(folder: Path, config: Config, lists: Mapping[str, str]) -> bool:
    """Whether the run in a folder has come to its end. lists: the digests of its lists today.

    Raises PaddlexMLError where it is one of other options, or of other lists.
    """
    saved = RunFolder(folder).config_yaml
    if not saved.is_file():
        return False
    wanted = run_config.split_texts(run_config.write(config))
    try:
        there = run_config.read_texts(saved)
    except (OSError, ValueError):  # the training sets it aside, and says so
        return False
    for texts in (wanted, there):
        _name_fold(texts)
    open_keys = options_by_size.left_to_training(config)
    changed = {
        key: "" for key in {*wanted, *there} - open_keys if wanted.get(key) != there.get(key)
    }
    names = sorted(collect.choose_options(changed)) + [collect.SEED] * (collect.SEED in changed)
    if names:
        raise PaddlexMLError(
            f"the run there has other options than this sweep: {first_names(names, 3)} "
            f"({there.get(names[0])}, here {wanted.get(names[0])})",
            where=str(folder),
            fix="choose another folder for this sweep: -o Global.output=FOLDER",
        )
    record = run_record.read(RunFolder(folder).run_json)
    before = {} if record is None else record.digests
    if others := [name for name, digest in lists.items() if before.get(name, digest) != digest]:
        raise PaddlexMLError(
            f"{first_names(others)} changed since the run there began: it is of other lists than "
            "this sweep",
            where=str(folder),
            fix="put back what was changed; otherwise choose another folder for this sweep: "
            "-o Global.output=FOLDER",
        )
    with suppress(OSError, ValueError, PaddlexMLError):
        train_result.read(RunFolder(folder).result("train"))
        return True
    return False


def _name_fold(texts: dict[str, str]) -> None:
    """Let the data set of a fold have the path that it keeps where the whole sweep is moved."""
    data, output = (
        Path(yaml_text.without_quotes(texts.get(key, "")))
        for key in (collect.DATA, "Global.output")
    )
    if data.is_relative_to(output.parent):
        texts[collect.DATA] = str(data.relative_to(output.parent))


def _train(
    command: SweepCommand, left: Sequence[PlannedRun], folder: SweepFolder, request: SweepRequest
) -> dict[str, str]:
    """Train the runs that are left; returns name -> why, of those that failed."""
    total, output = request.count, folder.output
    ready = total - len(left)
    logger.info("%s, %d done before", count(total, "run"), ready)
    problems: dict[str, str] = {}
    for each in left:
        wait_for(output / each.name)
    tasks = [command.task(each, folder) for each in left]

    def tell(ended: Ended) -> None:
        nonlocal ready
        ready += 1
        problem = find_problem(ended, folder)
        if problem:
            problems[ended.name] = problem
            how = "stopped" if find_stop(ended) else "failed"
            logger.warning("run %d of %d %s: %s: %s", ready, total, how, ended.name, problem)
            return
        result = train_result.read(RunFolder(output / ended.name).result("train"))
        seconds = f"{ended.seconds:.0f} s"
        logger.info("run %d of %d: %s: mAP %.4f, %s", ready, total, ended.name, result.best_map,
                    seconds)  # fmt: skip

    children.run_all(tasks, request.at_a_time, tell)
    return problems


def wait_for(folder: Path) -> None:
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


def find_stop(ended: Ended) -> str:
    """The signal that asked a training to stop, by name; "" where none did."""
    found = {ended.code - 128, -ended.code} & {*stop_signals.ALL}
    return signal.Signals(found.pop()).name if found else ""


def find_problem(ended: Ended, folder: SweepFolder) -> str:
    """Why a training failed; "" where it did not."""
    if ended.code == 0:
        return ""
    log = folder.log(ended.name)
    if by := find_stop(ended):
        return f"it was stopped by {by}, and the same command goes on with it (log: {log})"
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
    lines, groups, output = list[str](), dict[str, list[str]](), folder.output
    for each in runs:
        if each.group:
            groups.setdefault(each.group, []).append(each.name)
    for group, names in groups.items():
        if problems.keys().isdisjoint(names):
            lines += _join(folder, group, names)
    if len(problems) < len(runs):
        lines = tabulate(output, lines)
    return conclude(lines, problems, len(runs), output, "it trains these again")


def _join(folder: SweepFolder, group: str, names: Sequence[str]) -> list[str]:
    """Join the folds of a combination, which are done; returns the line about them.

    Where scores are not kept or damaged, a warning says so, and the table has the runs all the
    same.
    """
    try:
        joined = join_folds.join(folder, group, names)
    except PaddlexMLError as error:
        logger.warning("the folds of %s are not joined: %s: %s", group, error.where, error.what)
        return []
    if joined is None:
        logger.warning("the folds of %s are not joined: the scores of a run are not kept", group)
        return []
    return [
        f"{group}: mAP {joined.map:.4f} of all {count(joined.images, 'image')} out of fold, "
        f"{count(joined.suspected, 'doubtful label')}: {joined.folder}"
    ]


def tabulate(output: Path, lines: Sequence[str]) -> list[str]:
    """Write the table of all runs in the folder; returns it for the terminal, then `lines`."""
    board = rank.rank(collect.collect([output]))
    csv, page = table.write(board, output)
    return [*table.render(board), *lines, f"table:  {csv}", f"report: {page}"]


def conclude(
    lines: list[str], problems: Mapping[str, str], runs: int, output: Path, repeat: str
) -> SweepOutcome:
    """What a sweep gives: these lines, and an error where runs have failed.

    problems: name -> why. repeat: what the same command does about them.
    """
    if not problems:
        return SweepOutcome(lines)
    listed = "; ".join(f"{name}: {why}" for name, why in list(problems.items())[:5])
    error = PaddlexMLError(
        f"{len(problems)} of {count(runs, 'run')} failed: {listed}",
        where=str(output),
        fix=f"repair the cause, and repeat the command: {repeat}",
    )
    return SweepOutcome(lines, error)
