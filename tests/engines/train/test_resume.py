# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replace_fields

from paddlex_ml.artifacts import checkpoint, inference_yml, run_record, weights
from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.training import saving
from tests.artifacts.test_checkpoint import example
from tests.running import killed_at

Run = Callable[..., tuple[int, str]]
AUTO = "Train.resume_path=auto"


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Length and time of every file."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("train_result.json", ".train.lock")
    }


def cut(path: Path) -> None:
    """Leave half of a file that may be a hard link to another one."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])


def damage(path: Path) -> None:
    """Change one byte in the middle: the file can still be read."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.fixture
def unfinished(copy_of_run: Path) -> Path:
    """A run after its first epoch of two: `latest` and `epoch_1` hold the same."""
    shutil.rmtree(copy_of_run / "epoch_2")
    shutil.rmtree(copy_of_run / "latest")
    checkpoint.duplicate(copy_of_run / "epoch_1", copy_of_run / "latest")
    return copy_of_run


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda run: shutil.rmtree(run / "latest"), ""),
        (lambda run: (run / "latest" / "latest.pdopt").unlink(), "latest.pdopt is missing"),
        (lambda run: (run / "latest" / "latest.pdstates").unlink(), "latest.pdstates is missing"),
        (lambda run: cut(run / "latest" / "latest.pdparams"), "the file is damaged"),
        (lambda run: cut(run / "latest" / "latest.pdstates"), "latest.pdstates"),
        (lambda run: damage(run / "latest" / "latest.pdema"), "the file is damaged"),
        (lambda run: (run / "latest" / "latest.pdema").write_bytes(b""), "the file is damaged"),
    ],
    ids=["gone", "without a file", "without states", "cut", "states cut", "one byte", "empty"],
)
def test_auto_takes_the_newest_sound_checkpoint_and_says_which(
    run: Run, toy: Path, unfinished: Path, harm: Callable[[Path], Any], reason: str
) -> None:
    if reason == "the file is damaged" and (unfinished / "latest" / "latest.pdema").stat():
        # `latest` shares its files with epoch_1 by hard links: it must not share the damage.
        for path in (unfinished / "latest").iterdir():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    harm(unfinished)
    code, err = run("train", toy, unfinished, AUTO)
    assert code == 0, err
    assert f"Train.resume_path=auto: {unfinished / 'epoch_1'} (after epoch 1)" in err
    assert ("not resumed from a newer checkpoint: " in err) == bool(reason)
    assert reason in err
    assert ", after 1 epoch and 0 steps" in err
    assert "[Epoch 2/2]" in err
    assert "[Epoch 1/2]" not in err


def test_auto_refuses_a_folder_with_results_and_nothing_sound(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    for name in ("latest", "epoch_1", "epoch_2", "best_model"):
        path = copy_of_run / name / f"{name}.pdparams"
        path.unlink()
        path.write_bytes(b"cut")
    before = state(copy_of_run)
    code, err = run("train", toy, copy_of_run, AUTO)
    assert code == 2
    assert "holds results of a training, but no sound checkpoint to go on from" in err
    assert f"-o Global.output={copy_of_run}_2 starts anew beside it" in err
    assert state(copy_of_run) == before
    code, err = run("train", toy, copy_of_run, AUTO, "Global.overwrite=true")
    assert code == 0, err
    assert "[Epoch 1/2]" in err


def test_auto_refuses_a_folder_whose_scores_alone_are_left(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    for name in ("latest", "epoch_1", "epoch_2", "best_model"):
        shutil.rmtree(copy_of_run / name)
    code, err = run("train", toy, copy_of_run, AUTO)
    assert code == 2
    assert "but no sound checkpoint" in err
    assert (copy_of_run / "metrics.csv").is_file()


def test_auto_does_not_take_a_checkpoint_of_another_run(
    run: Run, toy: Path, unfinished: Path
) -> None:
    record = json.loads((unfinished / "run.json").read_text())
    (unfinished / "run.json").unlink()
    (unfinished / "run.json").write_text(json.dumps({**record, "id": "another"}))
    code, err = run("train", toy, unfinished, AUTO)
    assert code == 2
    assert f"{unfinished / 'latest'}: it belongs to another run" in err


def test_going_back_in_the_own_folder_is_refused(run: Run, toy: Path, copy_of_run: Path) -> None:
    before = state(copy_of_run)
    resume = f"Train.resume_path={copy_of_run / 'epoch_1'}"
    code, err = run("train", toy, copy_of_run, resume)
    assert code == 2
    assert "this checkpoint (after epoch 1) is older than latest (after epoch 2)" in err
    assert "-o Global.overwrite=true replaces the later results" in err
    assert state(copy_of_run) == before


def test_latest_means_the_newest_where_a_kill_came_before_it_was_written(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    checkpoint.duplicate(copy_of_run / "epoch_1", copy_of_run / "latest")
    resume = f"Train.resume_path={copy_of_run / 'latest'}"
    code, err = run("train", toy, copy_of_run, resume, "Train.epochs_iters=3")
    assert code == 0, err
    assert f"{copy_of_run / 'latest'} is older than {copy_of_run / 'epoch_2'}, from which" in err
    assert ", after 2 epochs" in err
    assert "[Epoch 3/3]" in err


@pytest.mark.parametrize("resume", ["latest", "auto"])
@pytest.mark.parametrize("written", [["best_model"], ["best_model", "epoch_2"]])
def test_a_kill_within_the_last_checkpoints_leaves_none_of_them_behind(
    run: Run, toy: Path, start_weights: Path, tmp_path: Path, written: list[str], resume: str
) -> None:
    output, expected = tmp_path / "run", tmp_path / "expected"
    # The last epoch is the best one, so that best_model is written first, then epoch_2, and latest.
    keys = ["Train.start_eval_epoch=2", f"Train.pretrain_weight_path={start_weights}"]
    assert run("train", toy, output, *keys)[0] == 0
    shutil.copytree(output, expected)
    shutil.copytree(output / "epoch_1", output / ".best_model.new")  # that of before
    shutil.rmtree(output / "latest")
    checkpoint.duplicate(output / "epoch_1", output / "latest")
    for name in {"epoch_2"}.difference(written):
        shutil.rmtree(output / name)
    code, err = run(
        "train",
        toy,
        output,
        *keys,
        f"Train.resume_path={resume if resume == 'auto' else output / resume}",
    )
    assert code == 0, err
    assert "nothing is left to train" in err
    for name in ("best_model", "epoch_2", "latest"):
        found, wanted = (checkpoint.load(folder / name) for folder in (output, expected))
        assert found.progress["epoch"] == wanted.progress["epoch"] == 2
        for part in ("weights", "ema"):
            ours, theirs = getattr(found, part), getattr(wanted, part)
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours), (name, part)
    hidden = {path.name for path in output.iterdir() if path.name.startswith(".")}
    assert hidden <= {".train.lock", ".paddlex_ml.lock"}


def test_a_refused_start_leaves_the_result_of_the_finished_run(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    path = copy_of_run / "train_result.json"
    before = path.read_bytes()
    assert run("train", toy, copy_of_run, f"Train.resume_path={copy_of_run / 'epoch_1'}")[0] == 2
    assert path.read_bytes() == before
    nothing = ("Global.overwrite=true", "Train.resume_path=nothing")
    assert run("train", toy, copy_of_run, *nothing)[0] == 2
    assert path.read_bytes() == before
    path.unlink()  # it is a link to that of all tests
    path.write_text('{"done_flag": false, "err_msg": "an earlier failure"}')
    assert run("train", toy, copy_of_run, f"Train.resume_path={copy_of_run / 'epoch_1'}")[0] == 2
    assert "later" in json.loads(path.read_text())["err_msg"]
    assert not [entry.name for entry in copy_of_run.iterdir() if entry.name.endswith(".json.old")]


def test_a_checkpoint_of_another_run_in_the_own_folder_is_refused(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "epoch_1"
    saved = checkpoint.load(folder)
    assert saved.info.run is not None
    other = replace(saved.info, run=replace_fields(saved.info.run, id="another"))
    checkpoint.write(folder, replace(saved, info=other))
    before = state(copy_of_run)
    resume = f"Train.resume_path={folder}"
    code, err = run("train", toy, copy_of_run, resume)
    assert code == 2
    assert "this checkpoint belongs to another run than the folder it lies in" in err
    assert f"-o Global.output={copy_of_run}_2 keeps both" in err
    assert state(copy_of_run) == before
    code, err = run("train", toy, copy_of_run, resume, "Global.overwrite=true")
    assert code == 0, err
    assert ", after 1 epoch" in err


def test_going_back_is_done_where_the_later_results_may_be_overwritten(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    first = json.loads((copy_of_run / "run.json").read_text())
    resume = f"Train.resume_path={copy_of_run / 'epoch_1'}"
    code, err = run("train", toy, copy_of_run, resume, "Global.overwrite=true")
    assert code == 0, err
    assert f"resumed from {copy_of_run / 'epoch_1'}, after 1 epoch and 0 steps" in err
    assert "[Epoch 2/2]" in err
    assert not Path(f"{copy_of_run}.old").exists()
    second = json.loads((copy_of_run / "run.json").read_text())
    assert second["id"] != first["id"]
    assert second["resumed_from"].endswith("epoch_1")


@pytest.mark.parametrize("again", ["epoch_1", "auto"])
def test_killed_while_it_goes_back_the_next_start_does_the_same(
    run: Run, toy: Path, copy_of_run: Path, again: str
) -> None:
    resume = f"Train.resume_path={copy_of_run / 'epoch_1'}"

    with killed_at(saving.Keeper, "on_step"):
        run("train", toy, copy_of_run, resume, "Global.overwrite=true")
    keys = [AUTO] if again == "auto" else [resume, "Global.overwrite=true"]
    code, err = run("train", toy, copy_of_run, *keys)
    assert code == 0, err
    assert ", after 1 epoch and 0 steps" in err
    assert not Path(f"{copy_of_run}.old").exists()


def test_going_back_is_allowed_where_nothing_newer_is_sound(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    for name in ("latest", "epoch_2"):
        path = copy_of_run / name / f"{name}.pdparams"
        path.unlink()
        path.write_bytes(b"cut")
    (copy_of_run / "best_model" / "best_model.pdopt").unlink()
    resume = f"Train.resume_path={copy_of_run / 'epoch_1'}"
    code, err = run("train", toy, copy_of_run, resume)
    assert code == 0, err
    assert "[Epoch 2/2]" in err


@pytest.mark.parametrize("name", ["best_model.pdparams", "best_model.pdstates"])
def test_a_damaged_best_model_is_found_at_the_start_and_not_after_the_last_epoch(
    run: Run, toy: Path, copy_of_run: Path, name: str
) -> None:
    cut(copy_of_run / "best_model" / name)
    code, err = run("train", toy, copy_of_run, AUTO)
    assert code == 2
    assert f"warning: {copy_of_run / 'best_model' / name}: " in err
    assert "2 epochs are done, but the best model is not there" in err
    code, err = run("train", toy, copy_of_run, AUTO, "Train.epochs_iters=3")
    assert code == 0, err
    assert "the next evaluation starts a new search for the best" in err
    checkpoint.verify(copy_of_run / "best_model")


def test_a_finished_run_says_that_nothing_is_left(run: Run, toy: Path, copy_of_run: Path) -> None:
    code, err = run("train", toy, copy_of_run, AUTO)
    assert code == 0
    assert "nothing is left to train after 2 epochs" in err
    assert "-o Train.epochs_iters=3" in err


def test_a_run_keeps_its_id_and_lists_its_starts(run: Run, toy: Path, unfinished: Path) -> None:
    first = json.loads((unfinished / "run.json").read_text())
    assert (first["earlier_starts"], first["resumed_from"]) == ([], None)
    assert set(first["digests"]) == {"label.txt", "train.txt", "val.txt", "config.yaml"}
    assert {"python", "numpy"} < set(first["versions"])
    assert run("train", toy, unfinished, AUTO)[0] == 0
    second = json.loads((unfinished / "run.json").read_text())
    assert second["id"] == first["id"]
    assert [start["start"] for start in second["earlier_starts"]] == [first["start"]]
    assert second["resumed_from"] == str(unfinished / "latest")
    for name in ("latest", "best_model"):
        info = checkpoint.read_model_info(unfinished / name / f"{name}.pdparams")
        assert info is not None
        assert info.run is not None
        assert info.run.id == first["id"]
        assert info.run.digests["val.txt"] == first["digests"]["val.txt"]


def test_a_checkpoint_of_release_0_1_0_is_resumed(run: Run, toy: Path, unfinished: Path) -> None:
    for name in ("latest", "epoch_1", "best_model"):
        path = unfinished / name / f"{name}.pdstates"
        states = weights.load_pickle(path)
        del states["checksums"], states["card"]["run"], states["format_version"]
        path.unlink()
        checkpoint._write_pickle(path, states)
    os.unlink(unfinished / "run.json")
    code, err = run("train", toy, unfinished, AUTO)
    assert code == 0, err
    assert f"Train.resume_path=auto: {unfinished / 'latest'} (after epoch 1)" in err
    assert json.loads((unfinished / "run.json").read_text())["id"]


def test_auto_follows_no_origin_that_a_stranger_wrote(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    output, origin = tmp_path / "stranger", copy_of_run / "latest"
    output.mkdir()
    record = run_record.begin({}, resumed_from=origin)
    forged = replace_fields(record, id="another")
    run_record.write(output / "run.json", forged)
    code, err = run("train", toy, output, AUTO)
    assert code == 2, err
    assert f"this run began from {origin}, says a file that no start of yours wrote" in err
    assert f"-o Train.resume_path={origin} goes on from there" in err
    names = {path.name for path in output.iterdir()} - {".train.lock"}
    assert names == {"run.json", "train_result.json"}
    run_record.write(output / "run.json", record)  # as the start of this user wrote it
    code, err = run("train", toy, output, AUTO)
    assert code == 0, err
    assert f"{AUTO}: {origin}, from which this run began" in err


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ["red", "green", "purple"],
            "3 instead of 3: 1 added (purple), 1 removed (blue)",
        ),
        (
            ["green", "red", "blue"],
            "3 instead of 3: another order, first class 0, which was red and is green",
        ),
        (
            ["red", *(f"class {i}" for i in range(5000))],
            "5001 instead of 3: 5000 added (class 0, class 1, class 2, class 3, class 4 and 4995 "
            "more), 2 removed (green, blue)",
        ),
    ],
)
def test_a_resume_with_other_classes_is_refused_in_a_few_words_and_its_repair_works(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path, names: list[str], told: str
) -> None:
    data = shutil.copytree(toy, tmp_path / "set")
    annotation.write_labels(data / "label.txt", names)
    for name in ("train", "val"):
        images = getattr(annotation.read(toy), name)
        targets = np.zeros((len(images), len(names)), np.uint8)
        targets[:, :3] = images.targets[:, :3]
        paths = [images.path(i).relative_to(toy).as_posix() for i in range(len(images))]
        annotation.write_list(data / f"{name}.txt", paths, targets)
    output = tmp_path / "out"
    code, err = run("train", data, output, f"Train.resume_path={toy_run / 'latest'}")
    assert code == 2
    assert f"label.txt has other classes than the checkpoint, {told}" in err
    (fix,) = (line for line in err.splitlines() if line.strip().startswith("fix:"))
    assert len(fix) < 1000
    assert f"Train.pretrain_weight_path={toy_run / 'latest' / 'latest.pdparams'}" in fix
    if len(names) > 3:
        return
    pasted = [word for word in shlex.split(fix.partition("each class: ")[2]) if word != "-o"]
    code, err = run(
        "train", data, output, f"Train.resume_path={toy_run / 'latest'}", *pasted,
        "Train.epochs_iters=1",
    )  # fmt: skip
    assert code == 0, err
    assert f"classes by name: {len({*names} & {'red', 'green', 'blue'})} kept" in err


def test_a_resume_with_another_number_of_queries_is_refused(
    run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    this = (f"Train.resume_path={toy_run / 'latest'}", "Train.epochs_iters=3")
    code, err = run("train", toy, tmp_path / "out", *this, "Train.num_queries=2")
    assert code == 2
    assert "the checkpoint has a head of 3 queries, Train.num_queries is 2" in err
    assert "-o Train.num_queries=auto goes on with its head" in err
    code, err = run("train", toy, tmp_path / "out", *this, "Train.num_queries=3")
    assert code == 0, err
    assert "Train.num_queries was" not in err


@pytest.mark.parametrize("missed", ["epoch_7.pdparams", "lattest", "lattest.pdparams"])
def test_a_file_that_is_not_there_does_not_mean_the_checkpoint_beside_it(
    tmp_path: Path, missed: str
) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    with pytest.raises(PaddlexMLError, match=f"no checkpoint there: .*{missed}") as caught:
        checkpoint.find_folder(str(tmp_path / "latest" / missed), "Train.resume_path")
    assert f"such as {tmp_path / 'latest'}; -o" in caught.value.fix


def test_thresholds_that_were_tuned_before_the_training_goes_on_are_kept_and_told(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    inference_yml.set_thresholds(folder / "inference.yml", [0.3, 0.4, 0.6], 0.5)
    code, err = run("train", toy, copy_of_run, AUTO, "Train.epochs_iters=3")
    assert code == 0, err
    kept = folder / "inference.yml.bak.1"
    assert inference_yml.read(folder / "inference.yml").threshold == 0.5
    assert inference_yml.read(kept).threshold == [0.3, 0.4, 0.6]
    assert str(kept) in err
    result = json.loads((copy_of_run / "train_result.json").read_text())
    assert result["earlier_thresholds"] == [kept.relative_to(copy_of_run).as_posix()]
