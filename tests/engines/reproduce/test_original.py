# SPDX-License-Identifier: Apache-2.0
"""Which run is repeated, and by which command; every refusal, before anything is trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddlex_ml import cli
from paddlex_ml.artifacts import conditions
from paddlex_ml.distributed import addresses
from paddlex_ml.engines.reproduce import original
from paddlex_ml.errors import PaddlexMLError
from tests.finished_runs import draw_scores, draw_targets, write_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run of a data set that is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    targets = draw_targets(20)
    options = {"Global.dataset_dir": str(tmp_path / "set")}
    write_run(tmp_path / "run", draw_scores(targets, 1.0, 0), targets, options)
    return tmp_path / "run"


def change(path: Path, change_it: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change_it(content)
    path.unlink()
    path.write_text(json.dumps(content))


def refused(folder: Path, *overrides: str, anyway: bool = False) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        original.read(folder, overrides, anyway=anyway)
    return caught.value


def output_of(folder: Path, *overrides: str) -> str:
    return original.read(folder, overrides, anyway=False).overrides[-4].partition("=")[2]


def test_the_command_trains_beside_the_run_and_sends_nothing(folder: Path) -> None:
    found = original.read(folder, ["Global.device=cpu"], anyway=False)
    assert found.overrides == [
        "Global.device=cpu", "Global.mode=train", f"Global.output={folder}_again",
        "Train.resume_path=null", "Train.track=[]", "Train.tensorboard=false",
    ]  # fmt: skip
    assert found.record is not None
    assert len(found.trained.history) == 4


def test_a_folder_that_is_taken_is_left_and_what_a_refused_start_left_is_used(folder: Path) -> None:
    again = folder.with_name("run_again")
    again.mkdir()
    (again / "train_result.json").write_text('{"done_flag": false}')
    (again / ".train.lock").touch()
    assert output_of(folder) == str(again)
    (again / "mine.txt").touch()
    assert output_of(folder) == f"{again}_2"
    assert output_of(folder, "Global.output=other") == "other"


def test_the_working_folder_may_be_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert output_of(Path()) == f"{folder}_again"


def test_a_folder_without_a_run_is_refused_and_the_one_that_is_meant_is_named(folder: Path) -> None:
    error = refused(folder.parent / "none")
    assert error.what == "there is no such folder"
    assert error.fix == "name the output folder of a training: --reproduce FOLDER"
    assert refused(folder.parent / "set").what == "no training has written into this folder"
    for part, what in (("run.json", "this is a file"), ("best_model", "no training has written")):
        error = refused(folder / part)
        assert error.what.startswith(what)
        assert error.fix == f"name the output folder of a training: --reproduce {folder}"


def test_a_run_without_its_configuration_is_refused(folder: Path) -> None:
    (folder / "config.yaml").write_text("Global: {}\n")
    assert "the configuration that the training has saved is not there" in refused(folder).what
    (folder / "config.yaml").unlink()
    assert "without it nobody knows the options" in refused(folder, anyway=True).fix


@pytest.mark.parametrize("content", [None, "", "{", '{"id": 3}', '{"id": "1", "conditions": 5}'])
def test_a_damaged_record_is_refused_unless_the_numbers_alone_are_wanted(
    folder: Path, content: str | None
) -> None:
    (folder / "run.json").unlink()
    if content is not None:
        (folder / "run.json").write_text(content)
    error = refused(folder)
    assert error.what.startswith(f"run.json {'is missing' if content is None else 'cannot be'}")
    assert "--anyway" in error.fix
    assert original.read(folder, [], anyway=True).record is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "it has no result"),
        ('{"done_flag": false, "err_msg": "stopped by SIGTERM\\nmore"}', "stopped by SIGTERM"),
        ("[]", "it has no result"),
    ],
)
def test_a_run_that_has_not_come_to_its_end_is_finished_first(
    folder: Path, content: str | None, why: str
) -> None:
    (folder / "train_result.json").unlink()
    if content is not None:
        (folder / "train_result.json").write_text(content)
    error = refused(folder, anyway=True)
    assert error.what.endswith(f"no numbers to reach: {why}")
    words = f" -c {folder}/config.yaml -o Global.mode=train -o Train.resume_path=auto"
    assert error.fix.endswith(words)


def test_a_run_that_went_on_from_another_one_is_refused(folder: Path) -> None:
    change(folder / "run.json", lambda record: record.update(resumed_from="/runs/a b/latest"))
    error = refused(folder, anyway=True)
    assert "went on from a checkpoint of another one, /runs/a b/latest" in error.what
    assert error.fix.endswith("--reproduce '/runs/a b'")


@pytest.mark.parametrize("what", ["options", "lists"])
def test_a_run_of_several_commands_is_refused_unless_the_last_one_is_meant(
    folder: Path, what: str
) -> None:
    started = json.loads(
        msgspec.json.encode(
            conditions.describe(device="cpu", processes=1, weights="", lists={"val.txt": "a"})
        )
    )
    other = {**started, what: "b" if what == "options" else {"val.txt": "b"}}

    def resume(record: dict[str, Any]) -> None:
        names = ("start", "command", "host", "versions", "resumed_from")
        first = {name: record[name] for name in names}
        record["earlier_starts"] = [{**first, "conditions": started}] * 2
        record["conditions"] = other
        record["resumed_from"] = str(folder / "latest")

    change(folder / "run.json", resume)
    error = refused(folder)
    assert error.what.startswith(f"this run was resumed with other {what}: no single command")
    assert error.fix == "--anyway trains with those of its last start"
    assert original.read(folder, [], anyway=True).record is not None


def test_a_run_whose_best_model_is_gone_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "best_model")
    assert "the best model of this run is not there" in refused(folder).what
    original.read(folder, [], anyway=True)


@pytest.mark.parametrize(
    "override",
    ["Train.learning_rate=0.1", "Global.seed=7", "Train={epochs_iters: 3}", "Predict.input=a",
     "Train.resume_path=latest", "Global.overwrite=true"],
)  # fmt: skip
def test_other_options_would_be_another_run(folder: Path, override: str) -> None:
    error = refused(folder, override, anyway=True)
    assert error.what == f"{override.partition('=')[0]} cannot be set: the run would be another one"
    assert "Global.dataset_dir" in error.fix
    assert f"-o Train.resume_path=null -o Global.output={folder}_2 -o " in error.fix


def test_a_misspelt_override_is_answered_as_in_any_command(folder: Path) -> None:
    assert "has no =" in refused(folder, "Global.device").what


def test_a_data_set_that_has_moved_is_named_by_an_override(folder: Path) -> None:
    moved = shutil.move(folder.parent / "set", folder.parent / "a new place")
    error = refused(folder)
    assert error.what == "the data set of this run is not there"
    assert error.fix.endswith("-o Global.dataset_dir=FOLDER")
    original.read(folder, [f"Global.dataset_dir={moved}"], anyway=False)


def test_several_machines_and_a_launcher_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").unlink()
    several = text.replace("dist_ips: null", "dist_ips: 10.0.0.1,10.0.0.2")
    (folder / "config.yaml").write_text(several)
    assert refused(folder).what == "this run was trained on several machines"
    monkeypatch.setattr(addresses, "is_launched", lambda: True)
    assert "without paddle.distributed.launch" in refused(folder).fix


@pytest.mark.parametrize("name", ["run", "run/inside", "run/../run", "link/inside"])
def test_the_run_itself_stays_as_it_is(folder: Path, name: str) -> None:
    (folder.parent / "link").symlink_to(folder)
    error = refused(folder, f"Global.output={folder.parent / name}", anyway=True)
    assert "must stay as it is" in error.what
    assert error.fix == f"choose another folder: -o Global.output={folder}_again"


def test_another_training_is_not_touched(folder: Path) -> None:
    other = shutil.copytree(folder, folder.with_name("other"))
    error = refused(folder, f"Global.output={other}")
    assert error.what == "the folder holds a training already"
    assert error.fix == f"choose another folder: -o Global.output={folder}_again"
    for words in ([f"Global.output={other}"], []):
        error = refused(folder, *words, "Train.resume_path=auto")
        assert error.what.startswith("no reproduction of this run was begun there")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-c", "x"], "leave out --config"),
        (["--data", "x", "--seeds", "2"], "leave out --data and --seeds"),
        (["--print-config", "--max-runs", "5"], "leave out --max-runs and --print-config"),
        (["--sweep", "Global.seed=1,2"], "leave out --sweep"),
    ],
)
def test_other_commands_are_refused(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["--reproduce", str(folder), *words]) == 2
    assert message in capsys.readouterr().err


def test_anyway_alone_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-c", "PP-LCNet_x1_0_ML", "--anyway"]) == 2
    assert "--anyway belongs to --reproduce FOLDER" in capsys.readouterr().err
