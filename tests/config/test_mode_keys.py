# SPDX-License-Identifier: Apache-2.0
"""Which keys a mode reads: compared with what its engine asks a configuration for."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml import cli
from paddlex_ml.config import validation
from paddlex_ml.config.mode_keys import READ, is_read, keep_read
from paddlex_ml.config.schema import MODES, Config
from tests.shallow import small_models

ENGINE = {
    "check_dataset": ["engines/check_dataset.py"],
    "evaluate": ["engines/evaluate", "engines/load_model.py", "config/schema.py"],
    "export": ["engines/export", "engines/load_model.py"],
    "benchmark": ["engines/benchmark", "engines/load_model.py", "engines/export/images.py"],
    "predict": ["engines/predict"],
}
EVERYWHERE = {"mode", "model", "output"}


def sources(mode: str) -> str:
    package = Path(cli.__file__).parent
    paths = [package / name for name in ENGINE[mode]]
    files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def test_every_mode_has_its_keys_and_they_exist() -> None:
    assert tuple(READ) == MODES
    keys = validation.leaf_keys()
    for known in {name for names in READ.values() for name in names}:
        assert known in keys or any(key.startswith(f"{known}.") for key in keys), known


@pytest.mark.parametrize("mode", ENGINE)
def test_the_engine_names_each_key_that_its_mode_reads(mode: str) -> None:
    text = sources(mode)
    for key in validation.leaf_keys():
        name = key.rpartition(".")[2]
        if is_read(mode, key) and name not in EVERYWHERE and "CheckDataset" not in key:
            assert f".{name}" in text, f"{mode} does not read {key}"


class Recorder:
    """Notes the keys of a configuration that are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: set[str]) -> None:
        self.keys = keys
        self._watch(monkeypatch, Config, "")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, section: type, where: str) -> None:
        hints = validation._hints(section)
        names = {item.name for item in dataclasses.fields(section)}

        def get(held: Any, name: str) -> Any:
            if name in names and not validation.is_section(hints[name]):
                self.keys.add(f"{where}{name}")
            return object.__getattribute__(held, name)

        monkeypatch.setattr(section, "__getattribute__", get, raising=False)
        for name in names:
            if validation.is_section(hints[name]):
                self._watch(monkeypatch, hints[name], f"{where}{name}.")


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("check_dataset", ["CheckDataset.split.enable=true", "CheckDataset.split.train_percent=80",
                           "CheckDataset.split.val_percent=20"]),
        ("evaluate", ["Evaluate.label_errors=all", "Evaluate.save_threshold=true",
                      "Evaluate.compare_with=raw", "Evaluate.bootstrap=20"]),
        ("export", ["Export.format=onnx"]),
        ("export", ["Export.format=safetensors"]),
        ("predict", ["Predict.save_labels=[0.1, 0.9]", "Predict.return_all_scores=true"]),
    ],
)  # fmt: skip
def test_an_engine_reads_no_key_that_its_mode_does_not_have(
    mode: str,
    options: list[str],
    toy: Path,
    toy_run: Path,
    tmp_path: Path,
    command: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "Export.format=onnx" in options:
        pytest.importorskip("paddle2onnx")
    data, output = tmp_path / "set", tmp_path / "output"
    shutil.copytree(toy, data)
    shutil.copytree(toy_run, output)
    if mode == "predict":
        options = [*options, f"Predict.input={next(data.rglob('*.png'))}", "Predict.save_img=true"]
    asked: set[str] = set()

    def watch(config: Config, *others: Any) -> Any:
        monkeypatch.setattr(cli, "_summarise", lambda *_: "")  # it reads what the next mode needs
        Recorder(monkeypatch, asked)
        return original(config, *others)

    original = cli._run_engine
    monkeypatch.setattr(cli, "_run_engine", watch)
    with small_models():
        assert cli.main(command(mode, data, output, *options)) == 0
    assert len(asked) > 5
    assert sorted(key for key in asked if not is_read(mode, key)) == []


@pytest.mark.parametrize("mode", MODES)
def test_an_override_is_kept_by_the_modes_that_read_it(mode: str) -> None:
    for key in validation.leaf_keys():
        text = f"{key}=null"
        assert keep_read(mode, text) == (text if is_read(mode, key) else None)


def test_of_a_section_the_keys_that_are_read_are_kept() -> None:
    whole = "Train={batch_size: 8, amp: O1, loss: {name: bce}}"
    assert keep_read("train", whole) == whole
    assert keep_read("evaluate", whole) == "Train={batch_size: 8}"
    assert keep_read("predict", whole) is None
    assert keep_read("predict", "Predict.threshold={default: 0.5}") == (
        "Predict.threshold={default: 0.5}"
    )
    assert keep_read("predict", "Predict.kernel_option={run_mode: paddle}") == (
        "Predict.kernel_option={run_mode: paddle}"
    )
