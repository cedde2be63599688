# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts import conditions, reproduction, run_record, saved_scores
from paddlex_ml.artifacts.reproduction import BestScore, Reproduction
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.engines.leaderboard import files as files_of_table
from paddlex_ml.engines.leaderboard.collect import FoundRun, collect
from paddlex_ml.engines.leaderboard.rank import rank
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files
from tests.finished_runs import draw_scores, draw_targets, write_run
from tests.results import BENCHMARKED, benchmark_row

TARGETS = draw_targets(40)
SCORES = draw_scores(TARGETS, 1.0, 0)


def one(root: Path) -> FoundRun:
    [found] = collect([root])
    return found


def test_runs_are_found_at_any_depth_and_parts_of_a_run_are_none(tmp_path):
    write_run(tmp_path / "a", SCORES, TARGETS)
    write_run(tmp_path / "deep" / "er" / "b", SCORES, TARGETS)
    write_run(tmp_path / "a" / "inner", SCORES, TARGETS)
    (tmp_path / "a" / "evaluate" / "best_model").mkdir(parents=True)
    (tmp_path / "a" / "epoch_2" / "latest").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    (tmp_path / ".hidden" / "best_model").mkdir(parents=True)
    shutil.copytree(tmp_path / "a", tmp_path / "a.old")
    (tmp_path / "a.old" / ".set_aside").touch()
    assert [run.name for run in collect([tmp_path])] == ["a", "a/inner", "deep/er/b"]


def test_a_run_itself_may_be_named_and_each_counts_once(tmp_path):
    write_run(tmp_path / "a", SCORES, TARGETS)
    assert one(tmp_path / "a").name == "a"
    both = collect([tmp_path, tmp_path / "a"])
    assert [run.name for run in both] == [str(tmp_path / "a")]


def test_what_a_run_tells(tmp_path):
    options = {
        "Global.seed": 7,
        "Train.learning_rate": 0.0005,
        "Train.loss.name": "bce",
        "Train.loss.pos_weight": [1, 2, 3, 4.5],
        "Train.num_workers": 3,
        "Predict.strict": True,
        "Global.dataset_dir": "/data/folds/fold_2_of_5",
    }
    score = write_run(tmp_path / "a", SCORES, TARGETS, options)
    run = one(tmp_path)
    assert run.trained is not None
    assert run.trained.best_map == score
    assert (run.seed, run.fold, run.problem) == ("7", "2 of 5", "")
    assert run.options["Train.learning_rate"] == "0.0005"
    assert run.options["Train.loss.name"] == "bce"
    assert run.options["Train.loss.pos_weight"] == "- 1.0 - 2.0 - 3.0 - 4.5"
    assert run.options["Global.dataset_dir"] == "/data/folds"
    without_effect = {"Global.output", "Global.seed", "Train.num_workers", "Predict.strict"}
    assert not run.options.keys() & without_effect
    assert run.scores == RunFolder(tmp_path / "a").val_scores


@pytest.mark.parametrize("folder", ["/a: b", "/it's # 1", "/一 二", '/a "b"', "/a\u2028b"])
def test_a_fold_is_found_whatever_the_path_of_the_sweep(tmp_path, folder):
    for number in (1, 2):
        own = {"Global.dataset_dir": f"{folder}/folds/fold_{number}_of_2"}
        write_run(tmp_path / str(number), SCORES, TARGETS, own)
    found = collect([tmp_path])
    assert [run.fold for run in found] == ["1 of 2", "2 of 2"]
    assert {run.options["Global.dataset_dir"] for run in found} == {f"{folder}/folds"}


def test_folds_of_a_sweep_that_was_moved_stay_together(tmp_path):
    for place, old in (("moved", "/old"), ("moved", f"{tmp_path}/moved"), ("other", "/old")):
        own = {"Global.output": f"{old}/a", "Global.dataset_dir": f"{old}/folds/fold_1_of_2"}
        write_run(tmp_path / place / Path(old).name, SCORES, TARGETS, own)
    (tmp_path / "moved" / "folds").mkdir()
    found = {run.name: run.options["Global.dataset_dir"] for run in collect([tmp_path])}
    here = f"{tmp_path}/moved/folds"
    assert found == {"moved/moved": here, "moved/old": here, "other/old": "/old/folds"}


def test_a_data_set_that_a_run_has_made_by_itself_is_no_difference_between_runs(tmp_path):
    for name in ("a", "b: 'c'"):
        own = {"Global.output": f"/x/{name}", "Global.dataset_dir": f"/x/{name}/dataset"}
        write_run(tmp_path / name, SCORES, TARGETS, own)
    assert [run.options["Global.dataset_dir"] for run in collect([tmp_path])] == ["dataset"] * 2


def test_runs_without_a_result_say_why(tmp_path):
    files.write_json(tmp_path / "failed" / "run.json", {})
    failed = {"done_flag": False, "err_type": "E", "err_msg": "no space left"}
    files.write_json(tmp_path / "failed" / "train_result.json", failed)
    files.write_json(tmp_path / "killed" / "run.json", {})
    files.write_text(tmp_path / "killed" / "metrics.csv", "epoch,raw_map,ema_map\n3,0.5,0.25\n")
    files.write_json(tmp_path / "odd" / "run.json", {})
    files.write_text(tmp_path / "odd" / "train_result.json", "[]")
    problems = {run.name: run.problem for run in collect([tmp_path])}
    assert problems["failed"] == "failed: no space left"
    assert problems["killed"] == "it has not come to its end: best mAP 0.5000 up to epoch 3"
    assert problems["odd"].startswith("its result cannot be read")


@pytest.mark.parametrize(
    "name", ["train_result.json", "benchmark_result.json", "reproduction.json"]
)
def test_a_file_of_values_deep_in_each_other_ends_no_table(tmp_path, name):
    for run in "ab":
        write_run(tmp_path / run, SCORES, TARGETS)
    files.write_text(tmp_path / "a" / name, '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    problems = {run.name: run.problem for run in collect([tmp_path])}
    is_needed = name == "train_result.json"
    told = "its result cannot be read: its values are too deep in each other"
    assert problems == {"a": told if is_needed else "", "b": ""}


def test_a_run_whose_options_are_not_known_has_no_place(tmp_path):
    for name in "abc":
        write_run(tmp_path / name, SCORES, TARGETS)
    files.write_text(tmp_path / "a" / "config.yaml", "")
    (tmp_path / "b" / "config.yaml").unlink()
    found = rank(collect([tmp_path]))
    assert [run.name for run in found.lists[0].runs] == ["c"]
    assert found.options == []
    told = "its config.yaml is missing or damaged: its options are not known"
    assert {run.name: run.problem for run in found.others} == {"a": told, "b": told}


def test_what_the_options_do_not_tell_is_a_difference_too(tmp_path):
    write_run(tmp_path / "a", SCORES, TARGETS)
    write_run(tmp_path / "b", SCORES, TARGETS, {"Train.teacher": ["/runs/teacher"]})
    for name, change in (("c", "train.txt"), ("d", "processes")):
        write_run(tmp_path / name, SCORES, TARGETS)
        path = RunFolder(tmp_path / name).run_json
        record = run_record.read(path)
        assert record is not None
        if change == "processes":
            there = conditions.describe(device="cpu", processes=2, weights="", lists={})
            record = replace(record, conditions=there)
        else:
            record = replace(record, digests={**record.digests, "train.txt": "3" * 64})
        run_record.write(path, record)
    found = rank(collect([tmp_path]))
    assert found.options == ["Train.teacher", "processes", "train_list"]
    assert found.configurations == []  # four configurations of one run
    told = {run.name: files_of_table.shorten_options(run.options) for run in found.lists[0].runs}
    assert told["c"] == "teacher=null processes= train_list=33333333"
    assert told["d"] == "teacher=null processes=2 train_list=11111111"


def test_a_folder_that_cannot_be_searched_is_told(tmp_path, monkeypatch, caplog):
    write_run(tmp_path / "a", SCORES, TARGETS)
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "scandir", refuse)
        assert [run.name for run in collect([tmp_path])] == ["a"]
    assert f"{tmp_path}/closed cannot be searched for runs: Permission denied" in caplog.text


def test_scores_of_an_evaluation_do_where_they_are_of_the_best_model(tmp_path):
    run = RunFolder(tmp_path / "a")
    write_run(run.output, SCORES, TARGETS)
    evaluated = run.evaluate.val_scores
    evaluated.parent.mkdir()
    run.val_scores.rename(evaluated)
    assert one(tmp_path).scores == evaluated
    digest = saved_scores.read_summary(evaluated).note.val_digest
    names = ["a", "b", "c", "d"]
    for scores, val_digest in ((draw_scores(TARGETS, 3.0, 1), digest), (SCORES, "another")):
        saved_scores.write(evaluated, scores, TARGETS, val_digest=val_digest, label_names=names)
        assert one(tmp_path).scores is None
    saved_scores.write(  # of an earlier epoch
        run.val_scores, SCORES, TARGETS, val_digest=digest, label_names=names,
        weights="raw", epoch=3,
    )  # fmt: skip
    assert one(tmp_path).scores is None


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(PaddlexMLError, match="no such folder"):
        collect([tmp_path / "none"])
    with pytest.raises(PaddlexMLError, match="no training has written"):
        collect([tmp_path])


def benchmark(of: RunFolder, **changed: object) -> None:
    """Write what a benchmark of the best model leaves."""
    record = run_record.read(of.run_json)
    assert record is not None
    row = benchmark_row("onnx", "onnxruntime", 12.5, 0.5, is_recommended=True)
    result = replace(
        BENCHMARKED, rows=[row], weights=str(of.best_model.weights), run=record.identity, epoch=4,
        device="cpu", processor="A CPU", threads=2,
    )  # fmt: skip
    files.write_json(of.result("benchmark"), msgspec.to_builtins(replace(result, **changed)))


def test_the_latency_is_that_of_the_recommended_export(tmp_path):
    write_run(tmp_path / "a", SCORES, TARGETS)
    assert one(tmp_path).latency is None
    benchmark(RunFolder(tmp_path / "a"))
    found = one(tmp_path).latency
    assert found is not None
    assert (found.seconds, found.export) == (0.0125, "onnx by onnxruntime")
    assert found.machine == "cpu, A CPU, 2 threads"


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 3},
        {"run": RunIdentity("another", {})},
        {"run": None},
        {"weights": "latest/latest.pdparams"},
        {"rows": []},
        {"done_flag": "no"},
    ],
)
def test_a_benchmark_of_another_model_is_none(tmp_path, changed):
    write_run(tmp_path / "a", SCORES, TARGETS)
    benchmark(RunFolder(tmp_path / "a"), **changed)
    assert one(tmp_path).latency is None


def test_a_reproduction_is_no_further_run(tmp_path):
    write_run(tmp_path / "a", SCORES, TARGETS)
    write_run(tmp_path / "a_again", SCORES, TARGETS)
    best = BestScore(map=0.5, epoch=4, weights="raw", interval=None)
    content = Reproduction(
        outcome="reproduced", run="/runs/a", run_id="1", changed=[], unknown=[], before=best,
        epochs_before=4, verdict="reproduced: all",
    )  # fmt: skip
    reproduction.write(RunFolder(tmp_path / "a_again").reproduction, content)
    problems = {run.name: run.problem for run in collect([tmp_path])}
    assert problems == {"a": "", "a_again": "a reproduction of /runs/a: reproduced: all"}
    [ranked] = rank(collect([tmp_path])).lists
    assert [run.name for run in ranked.runs] == ["a"]
    files.write_json(
        RunFolder(tmp_path / "a_again").result("train"), {"done_flag": False, "err_msg": "full"}
    )
    problems = {run.name: run.problem for run in collect([tmp_path])}
    assert problems["a_again"] == "a reproduction of /runs/a: failed: full"
