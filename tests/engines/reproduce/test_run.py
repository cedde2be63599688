# SPDX-License-Identifier: Apache-2.0
"""Trainings that are repeated, by the command."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml import cli
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.data import annotation
from paddlex_ml.storage import files

Run = Callable[..., tuple[int, str]]
Reproduce = Callable[..., tuple[int, str, str]]


@pytest.fixture
def reproduce(capsys: pytest.CaptureFixture[str]) -> Reproduce:
    """Runs the command: exit code, stdout, stderr."""

    def call(folder: Path, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main(["--reproduce", str(folder), *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def change(path: Path, change_it: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change_it(content)
    path.unlink()  # a link to the file of all tests
    files.write_json(path, content)


def read(output: Path) -> Any:
    return json.loads((output / "reproduction.json").read_text())


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_is_had_again_bit_for_bit_and_stays_as_it_is(
    copy_of_run: Path, reproduce: Reproduce, assert_same_ending: Callable[[Path, Path], None]
) -> None:
    before, again = state(copy_of_run), copy_of_run.with_name("run_again")
    code, out, err = reproduce(copy_of_run)
    assert code == 0, err
    assert "the numbers must be the same, bit for bit" in err
    assert out.splitlines()[0] == f"Reproduction of {copy_of_run} in {again}"
    assert out.splitlines()[-1] == (
        "verdict: reproduced: every number of 2 epochs and the weights are the same, bit for bit"
    )
    assert_same_ending(again, copy_of_run)
    assert state(copy_of_run) == before
    found = read(again)
    assert (found["outcome"], found["run"]) == ("reproduced", str(copy_of_run))
    assert [each["differing"] for each in found["weights"]] == [0, 0, 0]
    first, second = (json.loads((f / "run.json").read_text()) for f in (copy_of_run, again))
    assert first["id"] == found["run_id"] != second["id"]
    told = first["conditions"]
    assert len(told["weights"]) == len(told["code"]) == len(told["options"]) == 64
    assert told["lists"].keys() == {"label.txt", "train.txt", "val.txt"}
    assert (told["device"], told["processes"]) == ("cpu", 1)
    assert {**told, "git": 0} == {**second["conditions"], "git": 0}  # files may change meanwhile


def test_other_numbers_under_the_same_conditions_end_with_exit_code_3(
    copy_of_run: Path, reproduce: Reproduce
) -> None:
    def nudge(result: Any) -> None:
        row = result["metrics"]["history"][1]
        row["loss"] = math.nextafter(row["loss"], 0)

    change(copy_of_run / "train_result.json", nudge)
    code, out, err = reproduce(copy_of_run, "--json")
    assert code == 3, err
    told = json.loads(out)
    assert told == read(copy_of_run.with_name("run_again"))
    assert told["outcome"] == "different"
    assert [epoch["is_same"] for epoch in told["epochs"]] == [True, False]
    assert "from epoch 2 on, under the same conditions" in told["verdict"]


def test_a_resumed_run_is_had_again(
    run: Run, toy: Path, copy_of_run: Path, reproduce: Reproduce, start_weights: Path
) -> None:
    for name in ("epoch_2", "latest"):
        shutil.rmtree(copy_of_run / name)
    checkpoint.duplicate(copy_of_run / "epoch_1", copy_of_run / "latest")
    start = f"Train.pretrain_weight_path={start_weights}"
    code, err = run("train", toy, copy_of_run, start, "Train.resume_path=auto")
    assert code == 0, err
    record = json.loads((copy_of_run / "run.json").read_text())
    assert len(record["earlier_starts"]) == 1
    assert record["conditions"]["weights"] == ""
    code, out, err = reproduce(copy_of_run)
    assert code == 0, err
    assert "verdict: reproduced" in out


def test_what_an_older_release_has_not_recorded_is_told(
    copy_of_run: Path, reproduce: Reproduce
) -> None:
    change(copy_of_run / "run.json", lambda record: record.pop("conditions"))
    code, out, err = reproduce(copy_of_run)
    assert code == 0, err
    assert "not recorded by the first run, so not compared: processor, device" in err
    assert "  unknown:   processor, device" in out


def test_a_condition_that_differs_is_told_before_the_first_epoch(
    copy_of_run: Path, reproduce: Reproduce
) -> None:
    def age(record: Any) -> None:
        record["versions"]["numpy"] = "1.0"
        record["conditions"]["processor"]["threads"] += 1

    change(copy_of_run / "run.json", age)
    code, out, err = reproduce(copy_of_run)
    assert code == 0, err  # the numbers are the same all the same
    told = err.index("numpy: 1.0 then, ")
    assert err.index("threads: ") > told
    assert err.index("[Epoch 1/2]") > told
    assert "  other:     numpy: 1.0 then, " in out


@pytest.fixture
def moved(toy: Path, tmp_path: Path) -> Path:
    """The data set in another place."""
    return shutil.copytree(toy, tmp_path / "moved")


def test_the_data_set_may_have_moved(copy_of_run: Path, moved: Path, reproduce: Reproduce) -> None:
    code, out, err = reproduce(copy_of_run, "-o", f"Global.dataset_dir={moved}")
    assert code == 0, err
    assert "verdict: reproduced" in out


def test_other_lists_are_refused_unless_they_are_meant(
    copy_of_run: Path, moved: Path, reproduce: Reproduce
) -> None:
    lines = (moved / "train.txt").read_text().splitlines(keepends=True)
    (moved / "train.txt").write_text("".join(lines[::-1]))
    words = ["-o", f"Global.dataset_dir={moved}"]
    code, _, err = reproduce(copy_of_run, *words)
    assert code == 2
    assert "train.txt changed since this run was trained" in err
    assert "--anyway trains with what is there" in err
    again = copy_of_run.with_name("run_again")
    assert not (again / "run.json").exists()
    code, out, err = reproduce(copy_of_run, *words, "--anyway")
    assert code == 3, err
    assert read(again)["outcome"] == "different_conditions"  # in the folder that was left
    assert "from epoch 1 on, under other conditions (train.txt)" in out


def test_other_classes_are_refused_too(
    copy_of_run: Path, moved: Path, reproduce: Reproduce
) -> None:
    annotation.write_labels(moved / "label.txt", ["red", "green", "violet"])
    code, _, err = reproduce(copy_of_run, "-o", f"Global.dataset_dir={moved}")
    assert code == 2
    assert "label.txt changed since this run was trained" in err


def test_other_weights_to_start_from_are_refused(
    copy_of_run: Path, reproduce: Reproduce, start_weights: Path, tmp_path: Path
) -> None:
    other = shutil.copy(copy_of_run / "best_model" / "best_model.pdparams", tmp_path)
    code, _, err = reproduce(copy_of_run, "-o", f"Train.pretrain_weight_path={other}")
    assert code == 2
    assert "weights changed since this run was trained" in err
    same = shutil.copy(start_weights, tmp_path / "renamed.pdparams")
    code, _, err = reproduce(copy_of_run, "-o", f"Train.pretrain_weight_path={same}")
    assert code == 0, err


def test_another_number_of_processes_is_refused_with_the_device_that_has_it(
    copy_of_run: Path, reproduce: Reproduce
) -> None:
    change(copy_of_run / "run.json", lambda record: record["conditions"].update(processes=2))
    code, _, err = reproduce(copy_of_run)
    assert code == 2
    assert "processes changed since this run was trained" in err
    assert "-o Global.device=cpu:0,1" in err


def test_a_stopped_reproduction_goes_on_in_its_folder(
    copy_of_run: Path, reproduce: Reproduce, assert_same_ending: Callable[[Path, Path], None]
) -> None:
    assert reproduce(copy_of_run)[0] == 0
    again = copy_of_run.with_name("run_again")
    for name in ("epoch_2", "latest"):  # as a signal in the second epoch leaves it
        shutil.rmtree(again / name)
    checkpoint.duplicate(again / "epoch_1", again / "latest")
    (again / "train_result.json").unlink()
    code, out, err = reproduce(copy_of_run, "-o", "Train.resume_path=auto")
    assert code == 0, err
    assert ", after 1 epoch" in err
    assert out.splitlines()[0].endswith(f" in {again}")
    assert_same_ending(again, copy_of_run)


def test_numbers_alone_are_compared_where_record_and_weights_are_lost(
    copy_of_run: Path, reproduce: Reproduce
) -> None:
    (copy_of_run / "run.json").unlink()
    for name in ("best_model", "latest"):
        shutil.rmtree(copy_of_run / name)
    code, out, err = reproduce(copy_of_run, "--anyway")
    assert code == 0, err
    assert "the weights were not compared" in out
    assert "  unknown:   versions, processor" in out
