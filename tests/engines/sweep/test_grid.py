# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.artifacts.sweep_folder import PlannedRun, SweepFolder
from paddlex_ml.engines.sweep import grid
from paddlex_ml.engines.sweep.grid import SearchRequest, SweepRequest
from paddlex_ml.errors import PaddlexMLError

RATE = "Train.learning_rate"
SEARCH: dict[str, Any] = {"search": "tpe", "trials": 4}


def read(*words: str, section: Any = None, **options: int | str) -> SweepRequest | None:
    return grid.read_request(words, options, section)


def request(*words: str, section: Any = None, **options: int | str) -> SweepRequest:
    found = read(*words, section=section, **options)
    assert found is not None
    return found


def expand(asked: SweepRequest, seed: int = 42) -> list[PlannedRun]:
    return grid.expand(asked, seed, SweepFolder(Path("out")))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4,5e-4", ["1e-4", "5e-4"]),
        ("[1, 2],null , [3,4]", ["[1, 2]", "null", "[3,4]"]),
        ("{a: 1, b: [2,3]},'x,y',\"z,\"", ["{a: 1, b: [2,3]}", "'x,y'", '"z,"']),
        ("a,,b", ["a", "", "b"]),
        ("", [""]),
    ],
)
def test_values_end_at_commas_that_are_not_within_brackets_or_quotes(text, values):
    assert grid.split_values(text) == values


def test_combinations_of_values_and_seeds():
    asked = request(f"{RATE}=1e-4,1e-3", "Train.loss.name=bce,asymmetric", seeds=2)
    assert asked.count == 8
    runs = expand(asked)
    assert len(runs) == 8
    assert runs[0].name == "learning_rate=1e-4,loss.name=bce,seed=42"
    assert runs[0].overrides == [f"{RATE}=1e-4", "Train.loss.name=bce", "Global.seed=42"]
    assert runs[1].name == "learning_rate=1e-4,loss.name=bce,seed=43"
    assert runs[7].name == "learning_rate=1e-3,loss.name=asymmetric,seed=43"
    assert {run.group for run in runs} == {""}


def test_folds_are_runs_on_data_sets_of_their_own():
    runs = expand(request(f"{RATE}=1e-4,1e-3", folds=3))
    assert [run.name for run in runs[:3]] == [f"learning_rate=1e-4,fold={k}of3" for k in (1, 2, 3)]
    assert runs[1].overrides == [f"{RATE}=1e-4", "Global.dataset_dir=out/folds/fold_2_of_3"]
    assert [run.group for run in runs] == ["learning_rate=1e-4"] * 3 + ["learning_rate=1e-3"] * 3
    assert [run.group for run in expand(request(folds=2))] == ["all", "all"]


@pytest.mark.parametrize(
    "section",
    [
        {RATE: [0.0001, 0.001], "seeds": 2, "jobs": 3},
        {"Train": {"learning_rate": [0.0001, 0.001]}, "seeds": 2, "jobs": 3},
    ],
)
def test_a_section_of_the_file_asks_too_and_the_command_line_wins(section):
    found = request(section=section)
    assert dict(found.values) == {RATE: ("0.0001", "0.001")}
    assert (found.seeds, found.folds, found.jobs) == (2, None, 3)
    found = request(f"{RATE}=5e-4", section=section, seeds=4)
    assert dict(found.values) == {RATE: ("5e-4",)}
    assert (found.seeds, found.jobs) == (4, 3)


@pytest.mark.parametrize(
    "section",
    [
        {RATE: "1e-5..1e-2", "Train.loss.name": ["bce", "asymmetric"], **SEARCH, "prune": "asha"},
        {
            "Train": {"learning_rate": "1e-5..1e-2", "loss": {"name": ["bce", "asymmetric"]}},
            **SEARCH,
            "prune": "asha",
        },
    ],
)
def test_a_section_of_the_file_asks_for_a_search_too(section):
    found = request(section=section)
    typed = request(f"{RATE}=1e-5..1e-2", "Train.loss.name=bce,asymmetric", **SEARCH, prune="asha")
    assert found == typed
    assert found.count == 4
    assert found.search == SearchRequest("tpe", 4, "asha", None, None)
    more = request(section=section, trials=9, storage="a.log", study="s")
    assert more.search == SearchRequest("tpe", 9, "asha", "a.log", "s")


def test_nothing_asked_is_no_sweep():
    assert read() is None
    assert read(section={}) is None


def test_values_that_are_no_file_names_get_one_and_stay_apart():
    asked = request("Train.pretrain_weight_path=a/b.pdparams,a_b.pdparams,null")
    names = [run.name for run in expand(asked)]
    assert len(set(names)) == 3
    assert not any("/" in name for name in names)
    assert names[0] == "pretrain_weight_path=a_b.pdparams"
    assert names[1].startswith("pretrain_weight_path=a_b.pdparams-")
    long = expand(request(f"Train.pretrain_weight_path={'x' * 300},{'x' * 301}"))
    assert len({run.name for run in long}) == 2
    assert max(len(run.name) for run in long) < 140
    odd = expand(request(f"Train.pretrain_weight_path={'数据' * 60},{'数据' * 60}集,\udcff,\udcfe"))
    assert len({run.name for run in odd}) == 4
    assert max(len(run.name.encode()) for run in odd) < 140


def test_names_that_differ_in_capitals_alone_stay_apart_on_every_disk():
    runs = expand(request("Train.pretrain_weight_path=Start,start,START"))
    assert runs[0].name == "pretrain_weight_path=Start"
    assert len({run.name.casefold() for run in runs}) == 3


def test_no_more_runs_at_a_time_than_there_are():
    asked = request(f"{RATE}=1e-4,1e-3", jobs=8)
    assert asked.at_a_time == 2  # else each gets an eighth of the cores
    assert request(f"{RATE}=1e-4,1e-3,1e-2", jobs=2).at_a_time == 2
    assert request(f"{RATE}=1e-4,1e-3").at_a_time == 1


def test_keys_of_one_name_in_two_sections_keep_their_sections():
    runs = expand(request("Train.batch_size=4,8", "Evaluate.batch_size=4,8"))
    assert runs[0].name == "Train.batch_size=4,Evaluate.batch_size=4"


@pytest.mark.parametrize(
    ("words", "options", "what", "fix"),
    [
        (["Train.lerning_rate=1"], {}, "there is no key Train.lerning_rate", f"--sweep {RATE}=..."),
        (["learning_rate=1"], {}, "there is no key learning_rate", f"--sweep {RATE}=..."),
        (["xyzzy=1"], {}, "there is no key xyzzy", "--print-config"),
        ([f"{RATE}="], {}, f"{RATE} has no values", f"--sweep {RATE}=VALUE,VALUE"),
        ([f"{RATE}=1,,2"], {}, "has an empty value", f"--sweep {RATE}=VALUE,VALUE"),
        ([f"{RATE}=[1e-4,5e-4]"], {}, "takes no list", f"--sweep {RATE}=1e-4,5e-4"),
        ([RATE], {}, "has no =", f"--sweep {RATE}=VALUE"),
        ([f"{RATE}=1,1"], {}, "has a value twice", "once"),
        ([f"{RATE}=1", f"{RATE}=2"], {}, "is swept twice", "behind one --sweep"),
        (["Global.output=a,b"], {}, "Global.output cannot be swept", "leave it out"),
        (["Global.mode=train,evaluate"], {}, "Global.mode cannot be swept", "leave it out"),
        (["Predict.threshold=0.1,0.2"], {}, "no training depends on it", "leave it out"),
        (["Global.dataset_dir=a,b"], {"folds": 2}, "one data set", "leave it out"),
        (["Global.seed=1,2"], {"seeds": 2}, "--seeds is given", "leave out one"),
        ([], {"folds": 1}, "--folds is 1", "--folds 2 or more"),
        ([], {"seeds": 0}, "--seeds is 0", "--seeds 1 or more"),
        ([f"{RATE}=1"], {"jobs": -1}, "--jobs is -1", "--jobs 1 or more"),
        ([], {"jobs": 2}, "--jobs is for a sweep", "add --sweep"),
        ([], {"section": 3}, "the section Sweep is no mapping", "-o Sweep=null"),
        ([], {"section": {1: [3]}}, "the key 1 of the section Sweep is no text", "write a key"),
        ([], {"section": {None: 3}}, "the key None of the section Sweep is no", "write a key"),
        (
            [],
            {"section": {RATE: [1e-4], "Train": {"learning_rate": [1e-3]}}},
            f"Sweep.{RATE} is swept twice",
            "in one list",
        ),
        ([], {"section": {RATE: 3}}, f"Sweep.{RATE} is 3, no list", "[3]"),
        ([], {"section": {RATE: []}}, f"{RATE} has no values", "--sweep"),
        ([], {"section": {"seeds": "many"}}, "Sweep.seeds is 'many'", "a whole number"),
        ([], {"section": {"sseeds": [3]}}, "there is no key sseeds", ""),
        ([], {"section": {"trails": 40}}, "Sweep.trails is 40", "the option trials"),
        ([], {"section": {"search": 3}}, "Sweep.search is 3", "a text"),
        ([], {"trials": 4}, "--trials is for a sweep", "add --sweep KEY=VALUE,VALUE --search tpe"),
        ([f"{RATE}=1,2"], {"trials": 4}, "--trials is for a search", "add --search tpe"),
        ([f"{RATE}=1,2"], {"prune": "asha"}, "--prune is for a search", "tpe --trials 40"),
        ([f"{RATE}=1..2"], {}, f"{RATE} has the range 1..2", "add --search tpe --trials 40"),
        ([f"{RATE}=1..2"], {"search": "tpe"}, "how many trainings", "add --trials 40"),
        ([f"{RATE}=1..2"], {"search": "tpe", "trials": 0}, "--trials is 0", "--trials 1 or more"),
        ([], {"search": "tpe", "trials": 4}, "nothing to choose", f"--sweep {RATE}=1e-5..1e-2"),
        ([f"{RATE}=1..2"], {**SEARCH, "search": "tep"}, "--search is 'tep': it", "--search tpe"),
        ([f"{RATE}=1..2"], {**SEARCH, "search": "cmaes"}, "one of tpe, random", "--search tpe"),
        (
            [f"{RATE}=1..2"],
            {**SEARCH, "prune": "hyper"},
            "one of none, asha, median",
            "--prune none",
        ),
        ([f"{RATE}=1..2"], {**SEARCH, "storage": ""}, "--storage is ''", "--storage VALUE"),
        ([f"{RATE}=1..2"], {**SEARCH, "storage": "a.log"}, "many studies", "--study NAME"),
        ([f"{RATE}=1..2"], {**SEARCH, "study": "a"}, "--study names a study in", "--storage URL"),
        ([f"{RATE}=1..2"], {**SEARCH, "seeds": 3}, "--seeds is given", "with --sweep and --seeds"),
        ([f"{RATE}=1..2"], {**SEARCH, "folds": 3}, "--folds is given", "with --sweep and --folds"),
        (["Global.seed=1..9"], SEARCH, "finds the luckiest one", "leave Global.seed out"),
    ],
)
def test_bad_input_is_one_clear_error(words, options, what, fix):
    with pytest.raises(PaddlexMLError) as caught:
        read(*words, **options)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_thousands_of_runs_are_asked_back_with_their_number():
    values = ",".join(map(str, range(1, 101)))
    asked = request(f"Train.batch_size={values}", f"Train.log_interval={values}")
    with pytest.raises(PaddlexMLError) as caught:
        grid.refuse_many(asked, 100)
    assert "10,000 runs: 100 of Train.batch_size x 100 of Train.log_interval" in caught.value.what
    assert "--max-runs 10000 if that is meant" in caught.value.fix
    grid.refuse_many(asked, 10_000)
    with pytest.raises(PaddlexMLError, match="150 runs: 3 seeds x 50 folds"):
        grid.refuse_many(request(seeds=3, folds=50), 100)
    with pytest.raises(PaddlexMLError, match="these are 400 trainings, one for each trial"):
        grid.refuse_many(request(f"{RATE}=1..2", search="tpe", trials=400), 100)
