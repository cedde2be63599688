# SPDX-License-Identifier: Apache-2.0
"""Studies of Optuna in a file: what is chosen, what is left by a kill, and what is refused."""

from __future__ import annotations

import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.engines.search import space
from paddlex_ml.engines.sweep.grid import SearchRequest
from paddlex_ml.errors import PaddlexMLError

if find_spec("optuna") is None:
    pytest.skip("Optuna is not installed (pip install optuna)", allow_module_level=True)

import optuna
from optuna.trial import TrialState

from paddlex_ml.engines.search import study as studies
from paddlex_ml.engines.search.study import SearchStudy, StudyNote

RATES = space.parse({"Train.learning_rate": ["1e-5..1e-2"], "Train.batch_size": ["8..64"]})
NOTE = StudyNote(space={"a": "1 to 2"}, options={"Train.epochs_iters": "3"}, data={"val.txt": "0"})


def request(trials: int = 4, **more: Any) -> SearchRequest:
    plain = SearchRequest(sampler="tpe", trials=trials, pruner="none", storage=None, study=None)
    return replace(plain, **more)


def begin(folder: Path, asked: SearchRequest | None = None, **more: Any) -> SearchStudy:
    """A study that is claimed, with what an earlier start has left."""
    folder.mkdir(exist_ok=True)
    options = {"worker": "w", "seed": 42, "space": RATES, "pruner": "none", **more}
    study = SearchStudy(
        asked or request(), options["space"], folder / "study.db", options["worker"],
        options["seed"],
    )  # fmt: skip
    study.claim(more.get("note", NOTE), options["pruner"], 1)
    return study


def shared(folder: Path) -> dict[str, Any]:
    return {"storage": str(folder / "journal.log"), "study": "s"}


def open_study(folder: Path) -> optuna.Study:
    """The study of a folder, as Optuna has it."""
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db")


def test_a_search_that_is_interrupted_chooses_what_an_unbroken_one_does(tmp_path):
    whole = begin(tmp_path / "whole")
    assert whole.unfinished() == []
    expected = []
    while (trial := whole.ask()) is not None:
        expected.append(trial)
        whole.tell(trial.number, 0.1 * trial.number)
    assert [each.number for each in expected] == [0, 1, 2, 3]
    assert len({each.texts["Train.learning_rate"] for each in expected}) == 4
    found = []
    for _ in range(4):  # each trial in a process of its own, as it were
        broken = begin(tmp_path / "broken")
        broken.unfinished()
        trial = broken.ask()
        assert trial is not None
        found.append(trial)
        broken.tell(trial.number, 0.1 * trial.number)
    assert found == expected
    ended = begin(tmp_path / "broken")
    assert (ended.unfinished(), ended.ask()) == ([], None)
    assert ended.own() == expected
    state = ended.state()
    assert (state.complete, state.best, state.best_host) == (4, expected[3], "")
    assert state.best_map == pytest.approx(0.3)


def test_a_trial_that_a_kill_has_left_is_gone_on_with(tmp_path, caplog):
    killed = begin(tmp_path)
    killed.unfinished()
    first = killed.ask()
    assert first is not None
    assert killed.report(first.number, [(1, 0.25)]) is None
    open_study(tmp_path).ask()  # killed before anything was chosen
    again = begin(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert again.unfinished() == [first]
    assert "trial 1 was given up while it was chosen" in caplog.text
    assert again.report(first.number, [(1, 0.25), (2, 0.5)]) is None
    again.tell(first.number, 0.5)
    trial = open_study(tmp_path).trials[0]
    assert trial.intermediate_values == {1: 0.25, 2: 0.5}
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.5)


def test_trials_that_failed_are_made_up_for_by_the_next_start_alone(tmp_path):
    study = begin(tmp_path, request(3))
    study.unfinished()
    for _ in range(3):
        trial = study.ask()
        assert trial is not None
        study.tell(trial.number, None)
    assert study.ask() is None
    assert study.state().failed == 3
    again = begin(tmp_path, request(3))
    again.unfinished()
    assert again.ask() is not None


@pytest.mark.parametrize("pruner", ["median", "asha"])
def test_a_trial_that_others_outdo_is_pruned(tmp_path, pruner):
    study = begin(tmp_path, request(9), pruner=pruner)
    study.unfinished()
    for _ in range(6):
        good = study.ask()
        assert good is not None
        assert study.report(good.number, [(1, 0.8), (2, 0.9)]) is None
        study.tell(good.number, 0.9)
    bad = study.ask()
    assert bad is not None
    assert study.report(bad.number, [(1, 0.1)]) == 1
    killed = begin(tmp_path, request(9), pruner=pruner)  # before the training has ended
    assert killed.unfinished() == [bad]
    assert killed.report(bad.number, [(1, 0.1), (2, 0.2)]) == 1
    study.tell(bad.number, 0.1, is_pruned=True)
    state = study.state()
    assert (state.complete, state.pruned) == (6, 1)
    none = begin(tmp_path / "none", request(9))
    none.unfinished()
    free = none.ask()
    assert free is not None
    assert none.report(free.number, [(1, 0.0)]) is None


def test_folders_share_a_journal_and_leave_the_trials_of_others_alone(tmp_path):
    asked = request(3, **shared(tmp_path))
    one, two = (begin(tmp_path / name, asked, worker=name) for name in "ab")
    for each in (one, two):
        each.unfinished()
    first, second = one.ask(), two.ask()
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (0, 1)
    assert first.texts != second.texts
    again = begin(tmp_path / "a", asked, worker="a")
    assert again.unfinished() == [first]
    assert again.state().running[0].startswith("trial 1 on ")
    third = again.ask()
    assert third is not None
    assert two.ask() is None  # three trials were asked for
    again.tell(third.number, 0.7)
    state = two.state()
    assert (state.best, bool(state.best_host)) == (third, True)


def test_machines_that_ask_at_once_do_not_make_a_trial_too_many(tmp_path, monkeypatch):
    asked = request(1, **shared(tmp_path))
    one, two = (begin(tmp_path / name, asked, worker=name) for name in "ab")
    for each in (one, two):
        each.unfinished()
    earlier, kept = [one._kept()], one._kept  # what it has seen before the other one asked
    assert two.ask() is not None
    monkeypatch.setattr(one, "_kept", lambda: earlier.pop() if earlier else kept())
    assert one.ask() is None
    assert two.state().failed == 1


def test_an_orphan_of_another_machine_is_given_up_after_some_time(tmp_path, monkeypatch):
    asked = request(3, **shared(tmp_path))
    one = begin(tmp_path / "a", asked)
    one._study.ask()  # a process that was killed before its name was written
    assert one.unfinished() == []
    assert one.state().failed == 0
    assert one.state().running == ["trial 0 on ?"]  # it counts, so it is told
    monkeypatch.setattr(studies, "_GIVEN_UP", timedelta(0))
    assert one.unfinished() == []
    assert one.state().failed == 1


def test_a_combination_is_trained_once(tmp_path):
    few = space.parse({"Train.loss.name": ["bce", "asymmetric", "two_way"]})
    study = begin(tmp_path, request(3), space=few)
    study.unfinished()
    names = []
    while (trial := study.ask()) is not None:
        names.append(trial.texts["Train.loss.name"])
        study.tell(trial.number, 0.5)
    assert sorted(names) == ["asymmetric", "bce", "two_way"]
    assert study.state().complete == 3


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"options": {"Train.epochs_iters": "9"}}, "Train.epochs_iters: 3, here 9"),
        ({"space": {"a": "1 to 3"}}, "a: 1 to 2, here 1 to 3"),
        ({"data": {"val.txt": "1"}}, "the study there is of other lists of images"),
    ],
)
def test_a_study_of_another_configuration_is_refused(tmp_path, change, what):
    begin(tmp_path)
    note = StudyNote(**{"space": NOTE.space, "options": NOTE.options, "data": NOTE.data, **change})
    with pytest.raises(PaddlexMLError) as caught:
        begin(tmp_path, note=note)
    assert what in caught.value.what
    assert "-o Global.output=FOLDER" in caught.value.fix
    begin(tmp_path, request(3, **shared(tmp_path)))
    with pytest.raises(PaddlexMLError) as caught:
        begin(tmp_path, request(3, **shared(tmp_path)), note=note)
    assert "--study s_2" in caught.value.fix


def test_of_two_searches_that_begin_at_once_the_one_that_made_the_study_has_it(tmp_path):
    asked = request(3, **shared(tmp_path))
    first, second = (
        SearchStudy(asked, RATES, tmp_path / "study.db", worker, 42) for worker in "ab"
    )
    other = StudyNote(space=NOTE.space, options={"Train.epochs_iters": "9"}, data=NOTE.data)
    with ThreadPoolExecutor(1) as pool:
        claim = pool.submit(second.claim, other, "none", 1)  # before the maker
        time.sleep(0.3)
        first.claim(NOTE, "none", 1)
        with pytest.raises(PaddlexMLError, match=r"epochs_iters: 3, here 9"):
            claim.result()


def test_a_study_whose_maker_was_killed_is_had_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "_CLAIMED", 0.2)
    SearchStudy(request(), RATES, tmp_path / "study.db", "w", 42)  # and no claim
    assert begin(tmp_path).ask() is not None


def test_a_study_that_is_none_of_ours_is_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    other = optuna.create_study(study_name="search", storage=url)
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(PaddlexMLError, match="no search of ours has made it"):
        begin(tmp_path)


def test_forged_values_are_not_taken(tmp_path):
    study = begin(tmp_path)
    study.unfinished()
    trial = study.ask()
    assert trial is not None
    with sqlite3.connect(tmp_path / "study.db") as file:
        file.execute("UPDATE trial_params SET param_value = 7e9")
    again = begin(tmp_path)
    assert again.unfinished() == []
    assert again.state().failed == 1


@pytest.mark.parametrize(
    ("storage", "what"),
    [
        ("redis://h/1", "there is no storage redis://"),
        ("s3://bucket/a", "there is no storage s3://"),
        ("pickle.db://x", "there is no storage pickle.db://"),
        ("postgresql://bob:s3cret%21@127.0.0.1:1/db", "the storage of the search"),
        ("sqlite:////nowhere/at/all.db", "the storage of the search does not answer: "),
        ("/nowhere/at/all.log", "the storage of the search does not answer: "),
    ],
)
def test_a_storage_that_does_not_answer_is_one_error_without_its_secrets(tmp_path, storage, what):
    with pytest.raises(PaddlexMLError) as caught:
        begin(tmp_path, request(3, storage=storage, study="s"))
    assert caught.value.what.startswith(what)
    assert "bob" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_link_in_the_place_of_a_study_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.db").symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(PaddlexMLError, match="a link is in the place of the study"):
        begin(tmp_path / "out")
    assert not (tmp_path / "elsewhere.db").exists()


def test_a_file_that_is_no_study_is_refused(tmp_path):
    for name in ("study.db", "journal.log"):
        (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    for asked in (request(), request(3, **shared(tmp_path))):
        with pytest.raises(PaddlexMLError, match="does not answer"):
            begin(tmp_path, asked)


def test_secrets_that_an_error_repeats_are_cut():
    place = "postgresql://bob:p%40ss@h/db"
    error = studies._explain(ValueError('no password "p@ss" for user "bob" (p%40ss)'), place)
    assert error.what.endswith('no password "***" for user "***" (***)')
    assert error.where == "postgresql://h/db"


def test_a_study_that_is_refused_is_named_without_the_password_of_its_storage(tmp_path):
    study = begin(tmp_path)
    study._place = "postgresql://bob:my pass@h/db"
    assert study._refuse("no").where == "search in postgresql://h/db"


def test_a_driver_that_is_missing_is_named_with_its_package():
    error = ImportError("please install one")
    error.__cause__ = ModuleNotFoundError("No module named 'psycopg'", name="psycopg")
    found = studies._explain(error, "postgresql://bob:s3cret@h/db")
    assert found.what == "the storage of the search needs the driver psycopg of its database"
    assert found.fix.endswith("-m pip install 'psycopg[binary]'")


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "a ?#%41 'b"
    begin(folder)
    assert (folder / "study.db").is_file()
