# SPDX-License-Identifier: Apache-2.0
"""Disks that are full or closed: exit code 2, one clear message, no broken file."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.run_folder import EXPORTS
from paddlex_ml.engines.train import preflight
from paddlex_ml.models import zoo

Run = Callable[..., tuple[int, str]]
TEXTS = {"run.json", "train.log", "config.yaml", "label_dict.txt", "metrics.csv"}
TEXTS |= {".train.lock", ".paddlex_ml.lock", "val_scores.npz"}


@pytest.fixture
def data(draw_set: Callable[..., Path], tmp_path: Path) -> Path:
    return draw_set(tmp_path / "set")


def assert_refused(code: int, err: str, message: str, output: Path) -> None:
    assert code == 2, err
    assert "Traceback" not in err
    told = err.partition("error: ")[2]
    assert message in told
    assert f"where: {output}" in told
    assert "choose another folder" in told.partition("fix:")[2]
    assert not output.exists()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system in memory with these options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        arguments = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if sys.platform != "linux" or shutil.which("mount") is None:
            pytest.skip("needs the mount command of Linux")
        if subprocess.run(arguments, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a small disk: run as root")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("mode", ["check_dataset", "train", "evaluate", "export"])
def test_a_folder_that_cannot_be_written_is_refused(
    run: Run, data: Path, mount: Callable[[str], Path], mode: str
) -> None:
    output = mount("size=1m,ro") / "out"
    code, err = run(mode, data, output)
    assert_refused(code, err, "read-only", output)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    output = tmp_path / "closed" / "out"
    code, err = run("train", data, output)
    assert_refused(code, err, "Permission denied", output)


# A checkpoint of three classes takes 131 MB, `latest` of a saved epoch none, an export 33 MB.
@pytest.mark.parametrize(
    ("megabytes", "complete"),
    [
        (20, set()),
        (200, {"best_model"}),
        (280, {"best_model", "epoch_1", "latest"}),  # the export has no room
    ],
)
def test_a_full_disk_ends_the_training_clearly_and_breaks_no_file(
    run: Run, data: Path, mount: Callable[[str], Path], megabytes: int, complete: set[str]
) -> None:
    output = mount(f"size={megabytes}m") / "out"
    # Without averaging: a best model that keeps both kinds of weights would take 33 MB more.
    code, err = run("train", data, output, "Train.epochs_iters=1", "Train.ema_decay=0")
    assert code == 2, err
    assert "Traceback" not in err
    assert "Logging error" not in err
    told = err.partition("error: ")[2]
    assert told.startswith("No space left on device\n  where: ")
    assert "free some space there; otherwise choose another folder: -o Global.output=" in told
    found = {path.name for path in output.iterdir()}
    assert found - TEXTS == {"train_result.json", *complete}
    assert json.loads((output / "train_result.json").read_text())["done_flag"] is False
    for name in complete:
        assert checkpoint.load(output / name).progress["epoch"] == 1
        assert len([*(output / name).glob(f"{name}.*")]) == 4


# The weights take 33 MB and are half of what the ONNX converter needs on the way.
@pytest.mark.parametrize(
    ("form", "free"),
    [("paddle", 20), ("safetensors", 20), ("pdmodel", 20), ("onnx", 20), ("onnx", 50)],
)
def test_a_full_disk_ends_an_export_clearly_and_keeps_the_earlier_one(
    run: Run, mount: Callable[[str], Path], form: str, free: int
) -> None:
    if form == "onnx":
        pytest.importorskip("paddle2onnx")
        pytest.importorskip("onnxruntime")
    disk = mount(f"size={33 + free}m")
    path = disk / "w.pdparams"
    path.write_bytes(pickle.dumps(weights.to_arrays(zoo.build("PP-LCNet_x1_0_ML", 3).state_dict())))
    folder = disk / EXPORTS.get(form, "inference")
    folder.mkdir()
    (folder / "inference.yml").write_text("old")
    keys = f"Export.weight_path={path}", f"Export.format={form}"
    code, err = run("export", None, disk, *keys)
    assert code == 2, err
    assert "error: No space left on device\n  where: " in err
    assert "Traceback" not in err
    assert (folder / "inference.yml").read_text() == "old"
    assert os.listdir(folder) == ["inference.yml"]
    assert {path.name for path in disk.iterdir()} - {".paddlex_ml.lock"} == {
        *("w.pdparams", "export_result.json", ".export.lock", folder.name)
    }


def test_a_disk_that_fills_up_later_leaves_the_previous_checkpoint_intact(
    run: Run, data: Path, mount: Callable[[str], Path]
) -> None:
    disk = mount("size=300m")
    output = disk / "out"  # the second epoch has no room beside the first
    keys = "Train.epochs_iters=2", "Train.ema_decay=0"
    code, err = run("train", data, output, *keys)
    assert code == 2, err
    assert err.count("error: ") == 1
    assert "error: No space left on device\n  where: " in err
    kept = f"; the last checkpoint is kept in {output / 'latest'}, and with space there "
    assert err.endswith(f"{kept}-o Train.resume_path=auto goes on from it\n")
    for name in ("best_model", "epoch_1", "latest"):
        assert checkpoint.load(output / name).progress["epoch"] == 1
    assert {path.name for path in output.iterdir()} - TEXTS == {
        *("best_model", "epoch_1", "latest", "train_result.json")
    }
    subprocess.run(["mount", "-o", "remount,size=900m", str(disk)], check=True)
    code, err = run("train", data, output, *keys, "Train.resume_path=auto")
    assert code == 0, err
    assert checkpoint.load(output / "latest").progress["epoch"] == 2


def test_a_log_that_cannot_grow_does_not_hide_the_fault(
    run: Run, data: Path, mount: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "check", lambda *_: None)  # it would find the disk full
    disk = mount("size=1m")
    output = disk / "out"
    output.mkdir()
    page = os.statvfs(disk).f_frsize
    (output / "train.log").write_bytes(b"\n" * 2 * page)  # the next line needs a new page
    free = os.statvfs(disk).f_bavail
    (disk / "ballast").write_bytes(bytes((free - 7) * page))  # room for some small files
    code, err = run("train", data, output, "Train.epochs_iters=1", "Train.log_interval=1")
    assert code == 2, err
    assert "[Train][Epoch 1/1][Iter 3/3]" in err
    assert "Logging error" not in err
    assert "Traceback" not in err
    assert "error: No space left on device" in err
