# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.config.schema import TRACKERS
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.tracking import tracker

Run = Callable[..., tuple[int, str]]


def test_the_schema_names_every_tracker_and_each_has_a_module_and_an_extra() -> None:
    root = Path(tracker.__file__).parent
    assert set(TRACKERS) == set(tracker.PACKAGES)
    extras = (root.parent.parent / "setup.cfg").read_text()
    for name in TRACKERS:
        assert "def begin(run: TrackedRun)" in (root / f"{name}.py").read_text()
        assert f"\n{name} =\n" in extras


def test_what_is_not_installed_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        tracker, "find_spec", lambda name: None if name in ("mlflow", "wandb") else name
    )
    tracker.require(["swanlab"])
    with pytest.raises(PaddlexMLError, match="mlflow and wandb must be installed") as caught:
        tracker.require(["mlflow", "swanlab", "wandb"])
    assert "pip install 'paddlex-ml[mlflow,wandb]'" in caught.value.fix
    assert "-o Train.track=[swanlab]" in caught.value.fix


def test_a_package_that_cannot_be_imported_is_an_error_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(name: str) -> Any:
        raise RuntimeError("protobuf is too new")

    monkeypatch.setattr(tracker, "import_module", broken)
    with pytest.raises(PaddlexMLError, match="wandb cannot be imported: protobuf is too new"):
        tracker.load("wandb")


def test_an_unknown_tracker_is_refused_with_the_list(run: Run, toy: Path, tmp_path: Path) -> None:
    code, err = run("train", toy, tmp_path / "out", "Train.track=[mlfow]")
    assert code == 2
    assert "mlflow, swanlab, wandb, tensorboard" in err


def test_a_training_without_the_package_is_refused_before_it_begins(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "find_spec", lambda name: None)
    code, err = run("train", toy, tmp_path / "out", "Train.tensorboard=true")
    assert code == 2
    assert "where: Train.track" in err
    assert not (tmp_path / "out" / "train.log").exists()


def test_errors_of_trackers_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWANLAB_API_KEY", "s3cr3tk3y")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22")
    error = OSError("http://ann:pw@host/api refused\nhunter22 with s3cr3tk3y")
    assert tracker.describe(error) == r"http://host/api refused\n*** with ***"
    assert tracker.describe(ValueError()) == "ValueError"
    assert tracker.describe(ValueError("x" * 999)) == "x" * 300 + "..."


@pytest.mark.parametrize(
    ("text", "name"),
    [("lr 0.1/a", "lr_0.1_a"), ("数据", "paddlex_ml"), ("", "paddlex_ml"), ("a" * 200, "a" * 100)],
)
def test_names_of_folders_become_names_that_every_service_takes(text: str, name: str) -> None:
    assert tracker.plain_name(text) == name
