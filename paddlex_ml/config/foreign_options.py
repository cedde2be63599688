# SPDX-License-Identifier: Apache-2.0
"""Words of a command line that are no options here -> the overrides that they mean.

train data=my_set --epochs 5    Global.mode=train  Global.dataset_dir=my_set  Train.epochs_iters=5
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paddlex_ml.config import foreign_words, shipped, validation, yaml_text

_LETTERS = {
    "b": "batch_size", "d": "dataset_dir", "e": "epochs", "g": "device", "i": "input",
    "j": "num_workers", "m": "model", "r": "resume", "s": "seed",
}  # fmt: skip
_PROGRAMS = re.compile(r"yolo|detect|segment|classify|paddlex|python3?|.*\.py")
_SECTION_OF_MODE = {"evaluate": "Evaluate", "export": "Export", "predict": "Predict"}
_WEIGHTS_KEYS = {
    "Evaluate": "Evaluate.weight_path", "Export": "Export.weight_path",
    "Predict": "Predict.model_dir",
}  # fmt: skip
_WEIGHTS_WORDS = ("model", "model_path", "model_dir", "weight", "weights", "checkpoint", "ckpt")
_CONFIGS = ("cfg", "config_file", "config_path", "yaml")
_AFTER_TRAINING = ("evaluate", "export", "benchmark", "predict")
_SHIPPED = "PP-LCNet_x1_0_ML"
_FILE = re.compile(r".+\.(pdparams|safetensors|pt|pth)", re.IGNORECASE)


@dataclass
class Meant:
    """What words mean together."""

    values: dict[str, Any] = field(default_factory=dict)
    """Our dotted key -> our value."""
    notes: list[str] = field(default_factory=list)
    """What there is in place of words that have no key here."""
    unknown: list[str] = field(default_factory=list)
    config: str = ""
    """What stands behind `-c`."""

    def take(self, keys: Mapping[str, validation.Good], typed: Any) -> None:
        """Add what a word means; a note tells an example in place of the value that was typed."""
        for key, good in keys.items():
            self.values[key] = good.written
            if good.is_example and typed is not True:
                self.notes.append(f"{validation.mark(key, good)}, in place of {typed}")

    def command(self, kept: Sequence[str], mode: str, *, is_named: bool) -> list[str]:
        """The words of a command that means all; `is_named`: `kept` names a file or data."""
        values = dict(self.values)
        mode = values.get("Global.mode", mode)
        start = ["-c", self.config] if self.config else []
        if not start and not is_named:
            if "Global.model" in values:
                start = ["-c", values.pop("Global.model")]
            elif "Global.dataset_dir" in values and mode in ("", "train", "check_dataset"):
                start = ["--data", values.pop("Global.dataset_dir")]
            else:
                trained = mode in _AFTER_TRAINING
                start = ["-c", str(shipped.find_trained()) if trained else _SHIPPED]
        overrides = [validation.assignment(key, value) for key, value in values.items()]
        return [*start, *kept, *(["-o", *overrides] if overrides else [])]


def translate(words: Sequence[str], mode: str = "") -> Meant:
    """The meaning of words that the parser has refused; `mode` is that of the rest, "" for none."""
    meant = Meant()
    pairs = list(_pairs(words))
    is_mode = [name in (None, "mode") and _mode_of(str(value)) is not None for name, value in pairs]
    if not mode and True in is_mode:
        _, value = pairs.pop(is_mode.index(True))
        meant.values["Global.mode"] = mode = _mode_of(str(value)) or ""
    for name, value in pairs:
        if name is None:
            _place(str(value), meant, mode)
        elif name.lower() in _CONFIGS:
            meant.config = str(value)
        elif keys := _keys(name, value, mode):
            meant.take(keys, value)
        elif note := foreign_words.NOTES.get(name.lower()):
            meant.notes.append(f"{name} has no key here: {note}")
        else:
            meant.unknown.append(name)
    if "Predict.input" in meant.values and not mode:
        meant.values["Global.mode"] = "predict"
        if weights := meant.values.pop("Train.pretrain_weight_path", None):
            meant.values["Predict.model_dir"] = weights
    return meant


def _mode_of(word: str) -> str | None:
    return None if _PROGRAMS.fullmatch(word) else foreign_words.our_mode(word)


def _pairs(words: Sequence[str]) -> Iterator[tuple[str | None, Any]]:
    """Names with values, True for an option without one; None and a word that stands alone."""
    left = list(words)
    while left:
        word = left.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        name = name.strip()
        name = name if "." in name else name.replace("-", "_")
        if not word.startswith("-"):
            yield (name, value) if equals else (None, word)
        elif equals:
            yield name, value
        else:
            name = _LETTERS.get(name, name) if not word.startswith("--") else name
            has_value = bool(left) and (not left[0].startswith("-") or _is_number(left[0]))
            yield name, left.pop(0) if has_value else True


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-\d[\d.e-]*", text) is not None


def _place(word: str, meant: Meant, mode: str) -> None:
    """A word without a name: a configuration, weights, images, the data, or another program."""
    has_data = "Global.dataset_dir" in meant.values
    if word.lower().endswith((".yaml", ".yml")):
        meant.config = word
    elif _FILE.fullmatch(word):
        section = _SECTION_OF_MODE.get(mode, "Train")
        meant.values[_WEIGHTS_KEYS.get(section, "Train.pretrain_weight_path")] = word
    elif mode == "predict":
        meant.values["Predict.input"] = word
    elif _PROGRAMS.fullmatch(word):
        pass
    elif (mode or os.path.isdir(word)) and not has_data:
        meant.values["Global.dataset_dir"] = word
    elif keys := _keys(word, True, mode):
        meant.take(keys, True)
    else:
        meant.unknown.append(word)


def _keys(name: str, value: Any, mode: str) -> dict[str, validation.Good]:
    """Our keys for a word of another tool, with our values; empty where there are none."""
    section = _SECTION_OF_MODE.get(mode)
    if section and name.lower() in _WEIGHTS_WORDS and value not in (True, *shipped.MODELS):
        return {_WEIGHTS_KEYS[section]: validation.Good(value, value)}
    here = f"{section}.{name}" if section else name
    found = [key for key in validation.meant_by(here) if key.startswith(f"{section}.")]
    chosen = here if found else name
    typed = value
    if isinstance(value, str):
        typed = yaml_text.parse_scalar_or_flow(value, chosen, validation.form_of).value
    return validation.translate(chosen, typed)
