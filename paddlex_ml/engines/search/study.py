# SPDX-License-Identifier: Apache-2.0
"""The study of a search: all that Optuna does for it, and nothing else of ours imports Optuna.

    space + study -> trial: what to train -> mAP of each epoch -> go on, or pruned -> mAP

Optuna keeps studies as numbers and JSON, in a database or in a journal file. Its storage in Redis
and its sampler CMA-ES keep pickles, which can run code: neither can be named here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
import optuna
import sqlalchemy
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from paddlex_ml import program
from paddlex_ml.engines.search.space import Choices, Space
from paddlex_ml.engines.sweep.grid import SearchRequest
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import CUT, one_line, url_without_secrets, without_secrets
from paddlex_ml.wording import first_names

OWN_NAME = "search"
"""Of the study in a folder of its own."""
_NOTE, _WORKER, _HOST, _REPEATS = "paddlex_ml", "worker", "host", "repeats"
_PRUNED = "pruned_after"
"""Names of our attributes: of a study, and of its trials."""
_KINDS = ("sqlite", "postgresql", "mysql", "mariadb")
_DRIVERS = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "pymysql": "pymysql",
    "MySQLdb": "mysqlclient",
}
"""Module of a driver -> what to install for it."""
_CLAIMED = 10  # seconds until the command that has made a study must have said for what
_TIMEOUT = 10  # seconds until a database must have answered
_REDUCTION = 3
"""ASHA lets one of three trainings go on to the next rung, at three times the epochs."""
_STARTUP = 5
"""Trainings that the median needs."""
_MOST_REPEATS = 100
"""Combinations that were there before, after which no other one is looked for."""
_GIVEN_UP = timedelta(minutes=10)
"""Time after which a trial without the name of a folder was not about to get one."""
_KEPT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)

logger = logging.getLogger(__name__)


class StudyNote(msgspec.Struct, frozen=True, kw_only=True):
    """What all trials of a study share, kept with it: another search must not mix with them."""

    space: dict[str, str]
    options: dict[str, str]
    """Options that change the numbers of a training, those of the space left out."""
    data: dict[str, str]
    """Digests of the lists."""


class ChosenTrial(NamedTuple):
    """A trial: one training, with options that the search has chosen."""

    number: int
    """Of the trial in the study, from 0 on."""
    texts: Mapping[str, str]
    """Key -> value, as it is written behind -o key=."""


@dataclass(frozen=True)
class StudyState:
    """How many trials of all folders there are, by what became of them, and which is the best."""

    complete: int
    pruned: int
    failed: int
    running: Sequence[str]
    """Of other folders: number and machine."""
    best: ChosenTrial | None
    best_map: float
    best_host: str
    """The machine of the best one; "" for one of this folder."""


class _NumberedSampler(optuna.samplers.BaseSampler):
    """Draws for each trial with random numbers of its own, which its number tells: a search that
    was interrupted, and machines that share one, never draw the same numbers twice.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._name, self._seed = name, seed
        self._inner: Any = None

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        digest = hashlib.sha256(f"{self._seed} {trial.number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._name == "random":
            self._inner = optuna.samplers.RandomSampler(seed=seed)
            return
        with warnings.catch_warnings():  # releases before 5.0 call both options experimental
            warnings.simplefilter("ignore")
            self._inner = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, constant_liar=True
            )

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> Any:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


class SearchStudy:
    """A study, and which of its trials are those of this folder."""

    def __init__(
        self, request: SearchRequest, space: Space, own_file: Path, worker: str, seed: int
    ) -> None:
        """Open the storage, and the study in it, which is made where there is none.

        own_file: where the study is without a storage. worker: the name of the folder. Raises
        PaddlexMLError where the storage does not answer, or holds another thing.
        """
        self._space, self._worker, self._trials = space, worker, request.trials
        self._place = str(own_file) if request.storage is None else request.storage
        self.is_shared = request.storage is not None
        self._running: dict[int, optuna.Trial] = {}
        self._known: dict[int, set[int]] = {}
        """Number of a trial -> the epochs that it has reported."""
        self._pruned: dict[int, int] = {}
        """Number of a trial -> the epoch after which it is to be pruned."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        name = request.study or OWN_NAME
        if own_file.is_symlink() and request.storage is None:
            fix = "remove the link, or choose another folder: -o Global.output=FOLDER"
            raise PaddlexMLError("a link is in the place of the study", where=self._place, fix=fix)
        with self._answering():
            self._storage = _open_storage(request.storage, own_file)
            self._is_maker = _make_study(self._storage, name)
            self._study = optuna.load_study(
                storage=self._storage,
                study_name=name,
                sampler=_NumberedSampler(request.sampler, seed),
                pruner=optuna.pruners.NopPruner(),
            )
        self._left = self._trials

    def _wait_for_note(self) -> Any:
        """The note of the study; one that another command has just made gets it in a moment."""
        end = time.monotonic() + (0 if self._is_maker else _CLAIMED)
        while True:
            known = self._study.user_attrs.get(_NOTE)
            if (
                known is not None
                or time.monotonic() >= end
                or self._study.get_trials(deepcopy=False)
            ):
                return known
            time.sleep(0.1)

    def claim(self, note: StudyNote, pruner: str, warmup: int) -> None:
        """Make the study one of this configuration, and prune from epoch `warmup` on.

        Raises PaddlexMLError where it is one of another configuration or of another program.
        """
        with self._answering():
            text, known = msgspec.json.encode(note).decode(), self._wait_for_note()
            is_new = not self._study.get_trials(deepcopy=False)
            if known is None and is_new:
                self._study.set_user_attr(_NOTE, text)
                known = text
        is_ours = self._study.direction == optuna.study.StudyDirection.MAXIMIZE
        try:
            there = msgspec.json.decode(str(known), type=StudyNote)
        except msgspec.DecodeError:
            is_ours = False
        if not is_ours:
            raise self._refuse("there is a study of this name, but no search of ours has made it")
        for part in ("space", "options", "data"):
            old, new = getattr(there, part), getattr(note, part)
            changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            if changed:
                key, what = changed[0], "other lists of images" if part == "data" else ""
                told = f"{key}: {old.get(key, 'not there')}, here {new.get(key, 'not there')}"
                what = what or f"another configuration: {first_names(changed, 3)} ({told})"
                raise self._refuse(f"the study there is of {what}")
        match pruner:
            case "asha":
                self._study.pruner = optuna.pruners.SuccessiveHalvingPruner(
                    min_resource=warmup, reduction_factor=_REDUCTION
                )
            case "median":
                self._study.pruner = optuna.pruners.MedianPruner(
                    n_startup_trials=_STARTUP, n_warmup_steps=warmup
                )

    def _refuse(self, what: str) -> PaddlexMLError:
        fix = "choose another folder: -o Global.output=FOLDER"
        if self.is_shared:
            fix = f"choose another name: --study {self._study.study_name}_2"
        place = url_without_secrets(self._place)  # a password may have a space in it
        return PaddlexMLError(what, where=f"{self._study.study_name} in {place}", fix=fix)

    def unfinished(self) -> list[ChosenTrial]:
        """The trials of this folder that a kill or a stop has left, to go on with.

        One that was killed while it was being chosen has failed.
        """
        found = []
        with self._answering():
            for each in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                texts, worker = self._read(each), each.user_attrs.get(_WORKER)
                is_own = worker == self._worker
                if worker is None:  # another machine may be about to write its name
                    began = each.datetime_start
                    is_own = not self.is_shared or began is None or _is_old(began)
                if is_own and texts is None:
                    logger.warning("trial %d was given up while it was chosen", each.number)
                    self._study.tell(each.number, state=TrialState.FAIL, skip_if_finished=True)
                elif is_own and texts is not None:
                    self._take(each)
                    found.append(ChosenTrial(each.number, texts))
            self._left = self._trials - len(self._kept())
        return found

    def _take(self, left: FrozenTrial) -> None:
        """Go on with a trial of an earlier process, as Optuna reports to it."""
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        place = study_id, left.number
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(*place)
        trial = self._running[left.number] = optuna.Trial(self._study, trial_id)
        trial.set_user_attr(_WORKER, self._worker)
        self._known[left.number] = set(left.intermediate_values)
        if type(epoch := left.user_attrs.get(_PRUNED)) is int:
            self._pruned[left.number] = epoch

    def ask(self) -> ChosenTrial | None:
        """The next trial; None where there are enough, or no combination is left."""
        with self._answering():
            for _ in range(_MOST_REPEATS):
                if self._left <= 0 or len(self._kept()) >= self._trials:
                    return None
                trial = self._study.ask()
                trial.set_user_attr(_HOST, socket.gethostname())
                trial.set_user_attr(_WORKER, self._worker)
                texts = self._suggest(trial)
                kept = [each for each in self._kept() if each.number < trial.number]
                if len(kept) >= self._trials:  # another machine was faster
                    self._study.tell(trial, state=TrialState.FAIL)
                    return None
                same = next((each for each in kept if self._read(each) == texts), None)
                if same is None or not same.state.is_finished():
                    self._left -= 1
                    self._running[trial.number] = trial
                    return ChosenTrial(trial.number, texts)
                trial.set_user_attr(_REPEATS, same.number)
                for epoch, score in same.intermediate_values.items():
                    trial.report(score, epoch)
                value = same.value if same.state == TrialState.COMPLETE else None
                self._study.tell(trial, value, state=same.state)
        return None

    def report(self, number: int, maps: Sequence[tuple[int, float]]) -> int | None:
        """Report the mAP of each epoch of a trial that is not known yet.

        Returns the epoch after which the trial is to be pruned, also where an earlier process has
        found that; None: it goes on.
        """
        trial, known = self._running[number], self._known.setdefault(number, set())
        with self._answering():
            for epoch, score in maps:
                if epoch in known or number in self._pruned:
                    continue
                trial.report(score, epoch)
                known.add(epoch)
                if trial.should_prune():  # ASHA answers once for each rung
                    trial.set_user_attr(_PRUNED, epoch)
                    self._pruned[number] = epoch
        return self._pruned.get(number)

    def tell(self, number: int, score: float | None, *, is_pruned: bool = False) -> None:
        """End a trial: with its mAP, pruned, or failed where it has neither."""
        state = TrialState.PRUNED if is_pruned else TrialState.COMPLETE
        if score is None:
            state = TrialState.FAIL
        with self._answering():
            value = score if state == TrialState.COMPLETE else None
            self._study.tell(number, value, state=state, skip_if_finished=True)
        self._running.pop(number, None)

    def own(self) -> list[ChosenTrial]:
        """All trials of this folder that were trained, in their order."""
        with self._answering():
            return [
                ChosenTrial(each.number, texts)
                for each in self._study.get_trials(deepcopy=False)
                if each.user_attrs.get(_WORKER) == self._worker
                and _REPEATS not in each.user_attrs
                and (texts := self._read(each)) is not None
            ]

    def state(self) -> StudyState:
        """What has become of the trials of all folders."""
        with self._answering():
            every = [
                each
                for each in self._study.get_trials(deepcopy=False)
                if _REPEATS not in each.user_attrs
            ]
        complete = [each for each in every if each.state == TrialState.COMPLETE]
        best = max(complete, key=lambda each: (each.value, -each.number), default=None)
        is_own = best is None or best.user_attrs.get(_WORKER) == self._worker
        return StudyState(
            complete=len(complete),
            pruned=sum(each.state == TrialState.PRUNED for each in every),
            failed=sum(each.state == TrialState.FAIL for each in every),
            running=[
                f"trial {each.number} on {one_line(str(each.user_attrs.get(_HOST, '?')))[:80]}"
                for each in every
                if each.state == TrialState.RUNNING and each.user_attrs.get(_WORKER) != self._worker
            ],
            best=None if best is None else ChosenTrial(best.number, self._read(best) or {}),
            best_map=0.0 if best is None else float(best.value or 0.0),
            best_host="" if best is None or is_own else str(best.user_attrs.get(_HOST))[:80],
        )

    def _kept(self) -> list[FrozenTrial]:
        """Trials that count: not those that failed, nor those that repeat another one."""
        every = self._study.get_trials(deepcopy=False, states=_KEPT)
        return [each for each in every if _REPEATS not in each.user_attrs]

    def _suggest(self, trial: optuna.Trial) -> dict[str, str]:
        """Let the sampler choose a value for each key."""
        texts = {}
        for key, each in self._space.items():
            if isinstance(each, Choices):
                texts[key] = str(trial.suggest_categorical(key, each.texts))
            elif each.is_whole:
                low, high = int(each.low), int(each.high)
                texts[key] = each.write(trial.suggest_int(key, low, high, log=each.is_log))
            else:
                chosen = trial.suggest_float(key, each.low, each.high, log=each.is_log)
                texts[key] = each.write(chosen)
        return texts

    def _read(self, trial: FrozenTrial) -> dict[str, str] | None:
        """The values of a trial as texts; None unless each of them lies in the space."""
        texts = {}
        for key, each in self._space.items():
            value = trial.params.get(key)
            if isinstance(each, Choices):
                if value not in each.texts:
                    return None
                texts[key] = str(value)
            elif isinstance(value, int | float) and each.low <= value <= each.high:
                texts[key] = each.write(value)
            else:
                return None
        return texts

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Turn whatever a storage raises into one error, without the secrets of its URL."""
        try:
            yield
        except PaddlexMLError:
            raise
        except Exception as error:  # drivers of databases raise whatever they like
            raise _explain(error, self._place) from None


def _is_old(began: datetime) -> bool:
    return datetime.now() - began > _GIVEN_UP  # Optuna's times have no zone


def _make_study(storage: Any, name: str) -> bool:
    """Make a study, which the storage does once; returns whether it was not there."""
    try:
        optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        return False
    return True


def _open_storage(storage: str | None, own_file: Path) -> Any:
    """The storage of Optuna. Raises PaddlexMLError for one that cannot be meant."""
    if storage is None:
        url = sqlalchemy.engine.URL.create("sqlite", database=os.fspath(own_file.absolute()))
        return optuna.storages.RDBStorage(url.render_as_string())  # ? and # do not end the path
    scheme, is_url, _ = storage.partition("://")
    if not is_url:
        path = os.path.abspath(storage)
        return optuna.storages.JournalStorage(JournalFileBackend(path))
    kind = scheme.partition("+")[0]
    driver = scheme.partition("+")[2]
    if kind not in _KINDS:
        raise PaddlexMLError(
            f"there is no storage {kind}://",
            where="--storage",
            fix="--storage with a URL of sqlite://, postgresql:// or mysql://, or with the path of "
            "a journal file",
        )
    is_known = driver in ("", *map(str.lower, _DRIVERS))  # others have other words for it
    waiting = {"connect_timeout": _TIMEOUT} if kind != "sqlite" and is_known else {}
    engine = {"connect_args": waiting, "pool_pre_ping": True}
    return optuna.storages.RDBStorage(storage, engine_kwargs=engine)


def _explain(error: Exception, place: str) -> PaddlexMLError:
    """The error of a storage: what it says in one line, and what to do."""
    told = one_line(str(getattr(error, "orig", None) or error).strip()) or type(error).__name__
    parts = urlsplit(place) if "://" in place else None
    for secret in (parts.password, parts.username) if parts else ():
        for text in {secret, unquote(secret)} if secret else ():
            told = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", CUT, told)
    cause = error.__cause__ or error.__context__ or error
    missing = getattr(cause, "name", None) if isinstance(cause, ImportError) else None
    if missing is not None:
        return PaddlexMLError(
            f"the storage of the search needs the driver {missing} of its database",
            where=url_without_secrets(place),
            fix=program.pip_install(_DRIVERS.get(missing, missing)),
        )
    return PaddlexMLError(
        f"the storage of the search does not answer: {without_secrets(told)[:300]}",
        where=url_without_secrets(place),
        fix="check the address and whether it runs; what was trained is kept, and the same command "
        "goes on from it",
    )
