# SPDX-License-Identifier: Apache-2.0
"""A search: one command -> a study -> trials, each an ordinary training -> one table.

    space -> its ends checked -> trials that a kill has left -> new ones, several at a time
          -> mAP of each epoch -> pruned or not -> leaderboard

The study knows which trials there are, the run folders how far they are: a search that was killed
goes on with both. Trainings do not know of the search. It reads their metrics.csv, and a training
that is pruned gets the signal that any batch system sends: it saves its state and ends.
"""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from paddlex_ml import program
from paddlex_ml.artifacts import run_record, sweep_folder, train_result
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.sweep_folder import PlannedRun, SearchRecord, SweepFolder
from paddlex_ml.config import run_config, validation
from paddlex_ml.config.schema import Config
from paddlex_ml.engines import named_paths
from paddlex_ml.engines.leaderboard import collect
from paddlex_ml.engines.search import space as spaces
from paddlex_ml.engines.search.space import Space
from paddlex_ml.engines.sweep import children, grid
from paddlex_ml.engines.sweep import run as sweeps
from paddlex_ml.engines.sweep.children import ChildTask, Ended
from paddlex_ml.engines.sweep.grid import SearchRequest, SweepRequest
from paddlex_ml.engines.sweep.run import SweepCommand, SweepOutcome
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import url_without_secrets
from paddlex_ml.wording import count, first_names

if TYPE_CHECKING:  # it imports Optuna
    from paddlex_ml.engines.search.study import ChosenTrial, SearchStudy, StudyNote

_LONGEST = 80
"""Letters of an option that a study keeps as they are: of a longer one, its digest."""

logger = logging.getLogger(__name__)


def run(
    command: SweepCommand, request: SweepRequest, *, output: Path, is_dry: bool, most: int
) -> SweepOutcome:
    """Run the search, or with `is_dry` only tell its space; at most `most` trials.

    Raises PaddlexMLError before anything is started for a space that cannot be meant, without
    Optuna, and where the study or the folder is of another search; later, after the trainings have
    saved their states, where the storage does not answer any more. Raises Stopped where a signal
    asks for it.
    """
    grid.refuse_many(request, most)
    search, space = request.search, spaces.parse(request.values)
    assert search is not None
    config = _check_ends(command, space, output)
    every = spaces.count_combinations(space)
    if every is not None and every <= search.trials:
        raise PaddlexMLError(
            f"the space has {count(every, 'combination')}, and --trials is {search.trials}",
            where="the search",
            fix="leave out --search and --trials, which trains all of them",
        )
    lines = [f"{key}: {each}" for key, each in space.items()]
    if is_dry:
        return SweepOutcome(
            [
                *lines,
                f"{count(search.trials, 'trial')}; each is chosen when one before it has ended",
            ]
        )
    _require_optuna()
    from paddlex_ml.engines.search.study import SearchStudy  # a second of imports

    named_paths.check_weights(config)
    note = _describe(config, space)
    with sweeps.writing(output):
        folder = SweepFolder(output)
        record = _name_folder(folder, search)
        study = SearchStudy(search, space, folder.study_db, record.worker, config.Global.seed)
        warmup = max(1, math.ceil(config.Train.warmup_steps))
        study.claim(note, search.pruner, warmup)
        sweep_folder.write(folder.search_json, record)  # not before: it may be refused
        for line in lines:
            logger.info("%s", line)
        if search.pruner != "none" and config.Train.epochs_iters <= warmup:
            logger.warning("nothing will be pruned: the warm-up ends with the last epoch")
        trials = _Trials(command, space, study, folder)
        children.run_all(trials.tasks(), request.at_a_time, trials.tell, trials.should_stop)
        return _sum_up(study, trials, folder)


def _require_optuna() -> None:
    if find_spec("optuna") is None:
        raise PaddlexMLError(
            "a search needs the package optuna",
            where="--search",
            fix=program.pip_install("paddlex-ml[search]"),
        )


def _check_ends(command: SweepCommand, space: Space, output: Path) -> Config:
    """The configuration of the first values, after all values of lists and both ends of ranges have
    been tried, each with the first ones of the other keys. Raises PaddlexMLError with its faults.
    """
    first = {key: each.probes[0] for key, each in space.items()}
    tried = [first, *({**first, key: p} for key, each in space.items() for p in each.probes[1:])]
    configs = [sweeps.check(command, _plan(texts), output) for texts in tried]
    return configs[0]


def _plan(texts: Mapping[str, str], number: int | None = None) -> PlannedRun:
    """A run with these values; its name begins with the number of its trial."""
    short, first = grid.shorten(list(texts)), [] if number is None else [f"trial={number}"]
    name = grid.name_run([*first, *(f"{short[key]}={text}" for key, text in texts.items())], set())
    words = [f"{key}={text}" for key, text in texts.items()]
    return PlannedRun(name=name, overrides=words, group="")


def _describe(config: Config, space: Space) -> StudyNote:
    """What all trials of the study share, the same on every machine: no path of a folder in it."""
    from paddlex_ml.engines.search.study import StudyNote

    texts = run_config.split_texts(run_config.write(config))
    options = collect.choose_options(texts)
    options[collect.SEED] = texts.get(collect.SEED, "")
    for key in validation.path_keys():
        if key in options:
            options[key] = _name_of(attrgetter(key)(config))
    [data] = sweeps.digest_lists([config])
    return StudyNote(
        space={key: str(each) for key, each in space.items()},
        options={
            key: text if len(text) <= _LONGEST else run_record.digest(text)
            for key, text in options.items()
            if key not in space and key != collect.DATA
        },
        data=data,
    )


def _name_of(paths: Path | str | Sequence[str] | None) -> str:
    """What is the same on every machine of a path, or of several."""
    several = [paths] if isinstance(paths, str | Path) else paths or ()
    return ", ".join(Path(each).name for each in several)


def _name_folder(folder: SweepFolder, search: SearchRequest) -> SearchRecord:
    """The name of this folder in its study, the same at each start.

    Raises PaddlexMLError where the folder belongs to another study.
    """
    storage = search.storage or ""
    is_path = storage and "://" not in storage
    storage = os.path.abspath(storage) if is_path else url_without_secrets(storage)
    elsewhere = "choose another folder: -o Global.output=FOLDER"
    try:
        there = sweep_folder.read_search(folder.search_json)
    except (OSError, ValueError) as error:
        raise PaddlexMLError(
            f"it cannot be read: {error}", where=str(folder.search_json), fix=elsewhere
        ) from error
    if there is None:
        return SearchRecord(worker=uuid.uuid4().hex, study=search.study or "", storage=storage)
    if (there.study, there.storage) != (search.study or "", storage):
        name = f"{there.study} in {there.storage}" if there.storage else "study.db beside it"
        raise PaddlexMLError(
            f"the folder has runs of another study: {name}",
            where=str(folder.search_json),
            fix=elsewhere,
        )
    return there


def _list_runs(study: SearchStudy) -> list[PlannedRun]:
    """The runs of this folder, in the order of their trials."""
    return [_plan(each.texts, each.number) for each in study.own()]


class _Trials:
    """The trials of this process, from the study to their run folders and back."""

    def __init__(
        self, command: SweepCommand, space: Space, study: SearchStudy, folder: SweepFolder
    ) -> None:
        self.problems: dict[str, str] = {}
        """Name of a run -> why it failed."""
        self._command, self._space = command, space
        self._study, self._folder = study, folder
        self._numbers: dict[str, int] = {}
        self._epochs: dict[str, int] = {}
        self._seen: dict[str, int] = {}
        """Name of a run -> time of the metrics.csv that was reported."""
        self._pruned: dict[str, int] = {}
        """Name of a run -> the epoch after which it is to end."""

    def tasks(self) -> Iterator[ChildTask]:
        """The trainings of the trials, each chosen when it is asked for."""
        left = self._study.unfinished()
        if left:
            numbers = first_names([str(each.number) for each in left])
            logger.info("going on with what an earlier start has left: trial %s", numbers)
        for trial in left:
            yield from self._begin(trial)
        while (chosen := self._study.ask()) is not None:
            yield from self._begin(chosen)

    def _begin(self, trial: ChosenTrial) -> Iterator[ChildTask]:
        """The training of a trial, unless what is there in its folder is enough."""
        run = _plan(trial.texts, trial.number)
        place = self._folder.output / run.name
        self._numbers[run.name] = trial.number
        self._command.record(self._folder, _list_runs(self._study))
        try:
            config = sweeps.check(self._command, run, self._folder.output)
            sweeps.wait_for(place)
            is_done = sweeps.is_done(place, config, {})  # the study knows the lists
        except PaddlexMLError as error:
            self._fail(run.name, error.what)
            return
        self._epochs[run.name] = config.Train.epochs_iters
        if is_done:
            self._complete(run.name, "")
        elif self.should_stop(run.name):
            self._prune(run.name)
        else:
            logger.info("trial %d: %s", trial.number, ", ".join(run.overrides))
            yield self._command.task(run, self._folder)

    def should_stop(self, name: str) -> bool:
        """Report the epochs of a run that are new; whether it is to be pruned, said once."""
        path = RunFolder(self._folder.output / name).metrics_csv
        maps: list[tuple[int, float]] = []
        with suppress(OSError, ValueError):
            changed = path.stat().st_mtime_ns
            if self._seen.get(name) == changed or name in self._pruned:
                return False
            maps = [pair for pair in train_result.read_maps(path) if math.isfinite(pair[1])]
            self._seen[name] = changed
        if not maps:
            return False
        epoch = self._study.report(self._numbers[name], maps)
        if epoch is None or maps[-1][0] >= self._epochs[name]:  # all is done but the export
            return False
        self._pruned[name] = epoch
        return True

    def tell(self, ended: Ended) -> None:
        """Tell the study how the training of a trial has ended."""
        problem = sweeps.find_problem(ended, self._folder)
        if not problem:
            self.should_stop(ended.name)  # its last epochs
            self._complete(ended.name, f", {ended.seconds:.0f} s")
        elif not sweeps.find_stop(ended):
            self._fail(ended.name, problem)
        elif ended.name in self._pruned:
            self._prune(ended.name)
        else:  # it stays a trial that runs, and the same command goes on with it
            self.problems[ended.name] = problem

    def _complete(self, name: str, took: str) -> None:
        score = train_result.read(RunFolder(self._folder.output / name).result("train")).best_map
        self._study.tell(self._numbers[name], score)
        logger.info("trial %d: mAP %.4f%s", self._numbers[name], score, took)

    def _prune(self, name: str) -> None:
        run = RunFolder(self._folder.output / name)
        score, _ = train_result.read_metrics(run.metrics_csv)
        epoch, epochs = self._pruned[name], self._epochs[name]
        train_result.write_pruned(run.result("train"), epoch, epochs, score)
        self._study.tell(self._numbers[name], score, is_pruned=True)
        logger.info(
            "trial %d: pruned after epoch %d of %d, mAP %.4f",
            self._numbers[name], epoch, epochs, score,
        )  # fmt: skip

    def _fail(self, name: str, problem: str) -> None:
        self._study.tell(self._numbers[name], None)
        self.problems[name] = problem
        logger.warning("trial %d failed: %s", self._numbers[name], problem)

    @property
    def names(self) -> Sequence[str]:
        """Names of the runs that this process has begun, or found done."""
        return list(self._numbers)


def _sum_up(study: SearchStudy, trials: _Trials, folder: SweepFolder) -> SweepOutcome:
    """Write the table, and tell what has become of the trials of all folders."""
    state, lines = study.state(), list[str]()
    counts = f"{state.complete} trained to the end, {state.pruned} pruned, {state.failed} failed"
    lines.append(f"trials: {counts}")
    if state.best is not None:
        chosen = " ".join(f"{key}={text}" for key, text in state.best.texts.items())
        where = f" (on {state.best_host})" if state.best_host else ""
        lines.append(f"best: trial {state.best.number}{where}, mAP {state.best_map:.4f}: {chosen}")
    if state.running:
        lines.append(
            f"{count(len(state.running), 'trial')} of other folders not ended yet: "
            f"{first_names(state.running, 5)}; where such a command was killed, repeat it there"
        )
    if study.is_shared:
        tool = f"{program.python()} -m paddlex_ml.tools.runs FOLDER FOLDER"
        lines.append(f"the table has the runs of this folder; one table of several: {tool}")
    places = [RunFolder(folder.output / each.name) for each in _list_runs(study)]
    if any(place.run_json.is_file() for place in places):
        lines = sweeps.tabulate(folder.output, lines)
    repeat = "it goes on with what was stopped, and makes other trials in place of the failed ones"
    return sweeps.conclude(lines, trials.problems, len(trials.names), folder.output, repeat)
