# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import paddle
import pytest
from safetensors.numpy import save_file

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, folders

EXPORTS = ("inference", "inference_onnx", "inference_pdmodel")
SUFFIXES = (".pdema", ".pdopt", ".pdparams", ".pdstates")


def example(number: int) -> Checkpoint:
    """A small checkpoint whose every part depends on `number`."""
    rng = np.random.default_rng(number)

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return Checkpoint(
        info=ModelInfo("PP-LCNet_x1_0_ML", ["cat", "狗", f"class {number}"], 32 * (number + 1)),
        weights={"a.weight": array(3, 4), "bn._mean": array(4)},
        ema={"a.weight": array(3, 4), "bn._mean": array(4)},
        optimizer={"moments": {"a.weight/moment1_0": array(3, 4)}, "scaler": {"scale": 2.0}},
        progress={
            "epoch": number,
            "best": {"score": 1 / 3, "weights": "raw", "epoch": number},
            "seconds": 0.1 + number,
        },
        fingerprint={"Train.batch_size": number, "Train.amp": "OFF"},
    )


def same(left: Any, right: Any) -> bool:
    """Equality bit for bit, into mappings and arrays."""
    if isinstance(left, Mapping):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    return bool(left == right)


def assert_equal(found: Checkpoint, expected: Checkpoint) -> None:
    for part in ("info", "weights", "ema", "optimizer", "progress", "fingerprint", "use_ema"):
        assert same(getattr(found, part), getattr(expected, part)), part


def names(folder: Path) -> list[str]:
    return sorted({*os.listdir(folder)} - {".paddlex_ml.lock"})


@pytest.mark.parametrize("use_ema", [False, True])
def test_every_part_comes_back_bit_for_bit(tmp_path: Path, use_ema: bool) -> None:
    written = replace(example(1), use_ema=use_ema)
    checkpoint.write(tmp_path / "latest", written)
    assert_equal(checkpoint.load(tmp_path / "latest"), written)
    assert names(tmp_path / "latest") == [f"latest{suffix}" for suffix in SUFFIXES]
    assert names(tmp_path) == ["latest"]


def test_the_weight_file_of_a_best_ema_model_holds_the_averaged_weights(tmp_path: Path) -> None:
    written = replace(example(1), use_ema=True)
    checkpoint.write(tmp_path / "best_model", written)
    usable = paddle.load(str(tmp_path / "best_model" / "best_model.pdparams"), return_numpy=True)
    assert same(usable, written.ema)


@pytest.mark.parametrize("suffix", [".pdparams", ".pdema"])
def test_paddle_reads_the_weight_files(tmp_path: Path, suffix: str) -> None:
    written = example(1)
    checkpoint.write(tmp_path / "latest", written)
    state = paddle.load(str(tmp_path / "latest" / f"latest{suffix}"))
    expected = written.ema if suffix == ".pdema" else written.weights
    assert {name: value.shape for name, value in state.items()} == {
        "a.weight": [3, 4],
        "bn._mean": [4],
    }
    assert all(isinstance(value, paddle.Tensor) for value in state.values())
    assert same({name: value.numpy() for name, value in state.items()}, expected)


class Kill(BaseException):
    """Stands for SIGKILL: nothing catches it, and the clean-up that Python does is undone."""


class FaultyDisk:
    """Counts every call that changes the disk, and dies at the `fatal`-th, before or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fatal: int, *, after: bool) -> None:
        self.calls = 0
        self.fatal, self.after = fatal, after
        self.dead = False
        for owner, name in (
            (Path, "mkdir"),
            (os, "replace"),
            (checkpoint, "_write_pickle"),
            (files, "flush_folder"),
            (folders, "_exchange"),
            (os, "fsync"),
            (shutil, "rmtree"),
        ):
            monkeypatch.setattr(owner, name, self.wrapped(getattr(owner, name)))

    def wrapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **keys: Any) -> Any:
            if self.dead:  # what `except` and `finally` would still do: a killed process does not
                raise Kill
            self.calls += 1
            last = self.calls == self.fatal
            result = None if last and not self.after else function(*args, **keys)
            if last or self.dead:
                self.dead = True
                raise Kill
            return result

        return call


def prepare(folder: Path) -> None:
    """The old checkpoint, with a static model of its weights and a file of the user."""
    checkpoint.write(folder, example(1))
    (folder / "notes.txt").write_text("mine")
    for name in EXPORTS:
        (folder / name).mkdir()
        (folder / name / "inference.yml").touch()
    save_file({}, folder / "latest.safetensors", checkpoint.describe(example(1).info))


def steps_of_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    folder = tmp_path / "count" / "latest"
    prepare(folder)
    with monkeypatch.context() as patch:
        disk = FaultyDisk(patch, fatal=0, after=False)
        checkpoint.write(folder, example(2))
    return disk.calls


@pytest.mark.usefixtures("way_to_swap")
@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    steps = steps_of_a_write(tmp_path, monkeypatch)
    assert steps >= 14  # a folder, four files with their flush, exchange or renames, clean-up
    seen = set()
    for fatal in range(1, steps + 1):
        folder = tmp_path / f"{fatal}_{after}" / "latest"
        prepare(folder)
        with monkeypatch.context() as patch:
            FaultyDisk(patch, fatal, after=after)
            with pytest.raises(Kill):
                checkpoint.write(folder, example(2))
        found = checkpoint.load(folder)
        number = found.progress["epoch"]
        assert_equal(found, example(number))
        assert (folder / "notes.txt").read_text() == "mine"
        for name in (*EXPORTS, "latest.safetensors"):  # never beside other weights
            assert (folder / name).exists() == (number == 1)
        seen.add(number)
        checkpoint.write(folder, example(3))
        assert_equal(checkpoint.load(folder), example(3))
        assert names(folder) == [*(f"latest{suffix}" for suffix in SUFFIXES), "notes.txt"]
        assert names(folder.parent) == ["latest"]
    assert seen == {1, 2}


@pytest.mark.parametrize("links", [True, False])
def test_a_duplicate_is_a_checkpoint_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    epoch, latest = tmp_path / "epoch_2", tmp_path / "latest"
    checkpoint.write(latest, example(1))
    checkpoint.write(epoch, example(2))
    if not links:
        monkeypatch.setattr("os.link", Mock(side_effect=OSError(95, "Operation not supported")))
    checkpoint.duplicate(epoch, latest)
    assert_equal(checkpoint.load(latest), example(2))
    assert names(latest) == [f"latest{suffix}" for suffix in SUFFIXES]
    same = [os.path.samefile(epoch / f"epoch_2{s}", latest / f"latest{s}") for s in SUFFIXES]
    assert same == [links] * 4
    checkpoint.write(latest, example(3))
    assert_equal(checkpoint.load(epoch), example(2))


def test_a_half_written_file_never_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "latest"
    checkpoint.write(folder, example(1))

    def half(path: Path, content: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write_pickle", half)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.write(folder, example(2))
    assert_equal(checkpoint.load(folder), example(1))
    assert names(tmp_path) == ["latest"]  # the space is free again


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_part_is_named(tmp_path: Path, suffix: str) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    (tmp_path / "latest" / f"latest{suffix}").unlink()
    with pytest.raises(PaddlexMLError, match=rf"latest\{suffix} is missing") as caught:
        checkpoint.load(tmp_path / "latest")
    assert caught.value.where == str(tmp_path / "latest")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_truncated_part_is_named(tmp_path: Path, suffix: str) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    path = tmp_path / "latest" / f"latest{suffix}"
    size = len(path.read_bytes())
    path.write_bytes(path.read_bytes()[:-20])
    told = "a damaged one" if suffix == ".pdstates" else f"it has {size - 20} bytes of {size}"
    with pytest.raises(PaddlexMLError, match=told) as caught:
        checkpoint.load(tmp_path / "latest")
    assert caught.value.where == str(path)


def test_the_states_of_another_tool_are_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    states = tmp_path / "latest" / "latest.pdstates"
    states.write_bytes(pickle.dumps({"epoch": 3, "metric": 0.5}))
    with pytest.raises(PaddlexMLError, match="not a checkpoint of this tool") as caught:
        checkpoint.load(tmp_path / "latest")
    assert "Train.pretrain_weight_path" in caught.value.fix


def test_the_card_is_read_from_beside_the_weights(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    weights = tmp_path / "latest" / "latest.pdparams"
    assert checkpoint.read_model_info(weights) == example(1).info
    bare = shutil.copy(weights, tmp_path / "bare.pdparams")
    assert checkpoint.read_model_info(Path(bare)) is None


def test_a_safetensors_file_of_the_user_outlives_the_weights_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "latest"
    checkpoint.write(folder, example(1))
    save_file({}, folder / "latest.safetensors", {"format": "pt"})
    checkpoint.write(folder, example(2))
    assert (folder / "latest.safetensors").is_file()


def test_the_card_in_the_file_is_the_one_that_counts(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    info = checkpoint.ModelInfo("M", ["a, b", "蓝"], 96, "first_patch")
    for path in (tmp_path / "latest" / "latest.safetensors", tmp_path / "alone.safetensors"):
        save_file({}, path, checkpoint.describe(info))
        assert checkpoint.read_model_info(path) == info


@pytest.mark.parametrize(
    "texts",
    [
        None,
        {"format": "pt"},
        {"model_name": "M", "label_names": "[1]", "image_size": "64"},
        {"model_name": "M", "label_names": '{"a": 0}', "image_size": "64"},
        {"model_name": "M", "label_names": "a, b", "image_size": "64"},
        {"model_name": "M", "label_names": '["a"]', "image_size": "large"},
        {"label_names": '["a"]', "image_size": "64"},
    ],
)
def test_texts_that_are_not_ours_mean_somebody_elses_weights(
    tmp_path: Path, texts: dict[str, str] | None
) -> None:
    save_file({}, tmp_path / "w.safetensors", texts)
    assert checkpoint.read_model_info(tmp_path / "w.safetensors") is None


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"card": "x"}, {"card": {"id": 1}}])
def test_states_without_our_card_mean_somebody_elses_weights(tmp_path: Path, content: Any) -> None:
    (tmp_path / "w.pdstates").write_bytes(pickle.dumps(content))
    assert checkpoint.read_model_info(tmp_path / "w.pdparams") is None


def test_progress_of_a_folder_that_does_not_exist_is_none(tmp_path: Path) -> None:
    assert checkpoint.read_progress(tmp_path / "latest") is None
    checkpoint.write(tmp_path / "latest", example(2))
    assert checkpoint.read_progress(tmp_path / "latest") == example(2).progress


@pytest.mark.parametrize(
    "text", ["latest", "latest/", "latest/latest", "latest/latest.pdparams", "latest/latest.pdopt"]
)
def test_a_checkpoint_is_found_by_folder_file_and_prefix(tmp_path: Path, text: str) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    found = checkpoint.find_folder(f"{tmp_path}/{text}", "Train.resume_path")
    assert found == tmp_path / "latest"


def test_a_checkpoint_is_found_from_inside_it_and_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    (tmp_path / "link").symlink_to(tmp_path / "latest")
    monkeypatch.chdir(tmp_path / "latest")
    for text in (".", "latest.pdparams", "../link"):
        assert checkpoint.find_folder(text, "Train.resume_path") == tmp_path / "latest"


def test_a_sigkill_at_any_step_leaves_the_old_or_the_new_checkpoint(
    kill_at_every_step: Callable[..., list[Path]], way_to_swap: str
) -> None:
    seen = []
    for root in kill_at_every_step(
        lambda root: prepare(root / "latest"),
        lambda root: checkpoint.write(root / "latest", example(2)),
    ):
        at_once = (root / "latest").is_dir()
        assert at_once or way_to_swap == "in two renames"
        number = checkpoint.load(root / "latest").progress["epoch"]
        assert_equal(checkpoint.load(root / "latest"), example(number))
        assert (root / "latest" / "notes.txt").read_text() == "mine"
        seen.append(number)
    assert seen == sorted(seen)
    assert {*seen} == {1, 2}


def test_through_a_link_a_checkpoint_is_read_and_never_changed(tmp_path: Path) -> None:
    there = tmp_path / "disk" / "latest"
    checkpoint.write(there, example(1))
    (there / "mine.txt").write_text("mine")
    (tmp_path / "latest").symlink_to(there)
    assert_equal(checkpoint.load(tmp_path / "latest"), example(1))
    checkpoint.remove(tmp_path / "latest")
    checkpoint.remove_own_files(tmp_path / "latest")
    assert_equal(checkpoint.load(tmp_path / "latest"), example(1))
    checkpoint.write(tmp_path / "latest", example(2))
    assert_equal(checkpoint.load(tmp_path / "latest"), example(2))
    assert_equal(checkpoint.load(there), example(1))
    assert (there / "mine.txt").read_text() == "mine"
    assert os.readlink(tmp_path / "latest.bak") == str(there)


def test_hidden_files_of_a_user_in_a_checkpoint_stay(tmp_path: Path) -> None:
    folder = tmp_path / "latest"
    checkpoint.write(folder, example(1))
    (folder / ".gitignore").write_text("mine")
    (folder / ".inference.new").mkdir()  # of an export that was killed
    checkpoint.write(folder, example(2))
    assert (folder / ".gitignore").read_text() == "mine"
    assert not (folder / ".inference.new").exists()


def test_a_checkpoint_between_two_renames_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "latest"
    checkpoint.write(folder, example(1))
    folder.rename(tmp_path / ".latest.old")
    assert checkpoint.find_folder(str(folder), "Train.resume_path") == folder


def test_no_checkpoint_names_the_key_and_an_example(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="no checkpoint there") as caught:
        checkpoint.find_folder(str(tmp_path / "none"), "Train.resume_path")
    assert caught.value.where == "Train.resume_path"
    assert caught.value.fix.endswith("-o Train.resume_path=null begins anew")
    assert "such as" not in caught.value.fix


def test_no_checkpoint_names_one_that_is_there(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    checkpoint.write(tmp_path / "epoch_1", example(1))
    for missed in ("", "epoch_7", "best_model/best_model.pdparams"):
        with pytest.raises(PaddlexMLError) as caught:
            checkpoint.find_folder(str(tmp_path / missed), "Train.resume_path")
        assert f"a training wrote, such as {tmp_path / 'latest'}; -o" in caught.value.fix
    (tmp_path / "latest" / "latest.pdema").unlink()
    with pytest.raises(PaddlexMLError, match=f"such as {tmp_path / 'epoch_1'}$"):
        checkpoint.load(tmp_path / "latest")


def rewrite_states(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the content of a checkpoint's .pdstates."""
    path = folder / f"{folder.name}.pdstates"
    states = pickle.loads(path.read_bytes())
    change(states)
    path.write_bytes(pickle.dumps(states, protocol=4))
    return path


def test_a_checkpoint_of_the_first_release_has_no_version_and_is_read(tmp_path: Path) -> None:
    written = example(1)
    checkpoint.write(tmp_path / "latest", written)
    rewrite_states(tmp_path / "latest", lambda states: states.pop("format_version"))
    assert_equal(checkpoint.load(tmp_path / "latest"), written)
    assert checkpoint.read_model_info(tmp_path / "latest" / "latest.pdparams") == written.info
    assert checkpoint.read_progress(tmp_path / "latest") == written.progress


@pytest.mark.parametrize(
    "read",
    [
        checkpoint.load,
        checkpoint.read_progress,
        lambda folder: checkpoint.read_model_info(folder / "latest.pdparams"),
    ],
)
def test_a_checkpoint_of_a_later_release_is_refused_by_its_version(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    checkpoint.write(tmp_path / "latest", example(1))
    path = rewrite_states(
        tmp_path / "latest", lambda states: states.update(format_version=2, card="otherwise")
    )
    message = "the checkpoint has format version 2; this release reads up to version 1"
    with pytest.raises(PaddlexMLError, match=message) as caught:
        read(tmp_path / "latest")
    assert caught.value.where == str(path)
    assert "-m pip install --upgrade paddlex-ml" in caught.value.fix


@pytest.mark.parametrize(
    "damage",
    [
        {"progress": {"saved_epochs": ["x/../../victim", 1, 2]}},
        {"progress": {"saved_epochs": [-1]}},
        {"progress": {"saved_epochs": [10**40]}},
        {"progress": {"saved_epochs": [1, 1]}},
        {"progress": {"epoch": 2, "saved_epochs": [3]}},
        {"progress": {"epoch": "2"}},
        {"progress": {"epoch": True}},
        {"progress": {"step": -1}},
        {"progress": {"best": {"score": float("nan"), "weights": "raw", "epoch": 1}}},
        {"progress": {"best": {"score": 0.5, "weights": "../x", "epoch": 1}}},
        {"progress": {"seconds": float("inf")}},
        {"progress": {"ema_updates": -5}},
        {"progress": {"history": [{"epoch": 1}]}},
        {"progress": []},
        {"settings": 3},
        {"settings": {1: 2}},
        {"use_ema": "yes"},
        {"use_ema": True, "raw_weights": {"a": 1}},
        {"format_version": -1},
        {"format_version": "1"},
        {"checksums": {"/../../victim": (0, 0)}},
        {"checksums": {".pdopt": (-1, 0)}},
        {"card": {"model": "m", "label_names": ["a"], "image_size": 10**30}},
        {"card": {"model": "m", "label_names": [1], "image_size": 32}},
    ],
    ids=str,
)
def test_states_of_another_type_or_range_are_refused(
    tmp_path: Path, damage: dict[str, Any]
) -> None:
    folder = tmp_path / "latest"
    checkpoint.write(folder, example(1))
    states = folder / "latest.pdstates"
    content = pickle.loads(states.read_bytes())
    for key, value in damage.items():
        part = isinstance(value, dict) and key == "progress"
        content[key] = {**content[key], **value} if part else value
    states.write_bytes(pickle.dumps(content, protocol=4))
    for read in (checkpoint.load, checkpoint.verify, checkpoint.read_progress):
        with pytest.raises(PaddlexMLError, match=r"damaged|not a checkpoint") as caught:
            read(folder)
        assert caught.value.where == str(states)


@pytest.mark.parametrize(
    "content",
    [[], {"moments": 1, "scaler": {}}, {"moments": {}}, {"moments": {1: 2}, "scaler": {}}],
)
def test_an_optimizer_of_another_form_is_refused(tmp_path: Path, content: Any) -> None:
    folder = tmp_path / "latest"
    checkpoint.write(folder, example(1))
    (folder / "latest.pdopt").write_bytes(pickle.dumps(content))
    with pytest.raises(PaddlexMLError, match="damaged") as caught:
        checkpoint.load(folder)
    assert caught.value.where == str(folder / "latest.pdopt")


@pytest.mark.parametrize("suffix", [".pdparams", ".pdema", ".pdopt"])
def test_the_parts_of_two_checkpoints_are_not_taken_for_one(tmp_path: Path, suffix: str) -> None:
    for number, place in enumerate(("one", "two"), start=1):
        checkpoint.write(tmp_path / place / "latest", example(number))
    name = f"latest/latest{suffix}"
    (tmp_path / "one" / name).write_bytes((tmp_path / "two" / name).read_bytes())
    with pytest.raises(PaddlexMLError, match="of another checkpoint than") as caught:
        checkpoint.load(tmp_path / "one" / "latest")
    assert caught.value.where.endswith(name)
