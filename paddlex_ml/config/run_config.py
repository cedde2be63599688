# SPDX-License-Identifier: Apache-2.0
"""The config.yaml that a training saves, and whose weights a configuration means.

Beside a training it means that folder, under any name, from any working folder, after a move:

- its paths are absolute, so that they mean what they meant when the training was started;
- `Global.output` is the folder of the file, and what lay in the old folder is looked for there;
- the weights of its own training are the default of evaluate, export, benchmark and predict.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from paddlex_ml import systems
from paddlex_ml.artifacts.run_folder import EXAMPLE, RunFolder
from paddlex_ml.config import yaml_text
from paddlex_ml.config.schema import WORDS, Config
from paddlex_ml.config.validation import ConfigFault, override, path_keys, with_value
from paddlex_ml.safe_text import url_without_secrets
from paddlex_ml.storage import fetch, regular_file
from paddlex_ml.wording import literal_path

MODEL_KEYS = {
    "evaluate": "Evaluate.weight_path",
    "export": "Export.weight_path",
    "benchmark": "Export.weight_path",
    "predict": "Predict.model_dir",
}
"""Mode -> the key that names its model; null: the best one of the training in Global.output."""

_PERMISSIONS = ("Global.overwrite", "Train.rescore_best")
"""What a user allows for one start: a saved configuration would allow it for every later one."""

_HEAD = """\
# The options of the training in this folder: paddlex-ml -c config.yaml -o Global.mode=evaluate
# This file means the folder that it lies in, also after a move: Global.output is that folder.
"""

_SECRETS_CUT = """\
# {0} is without its name, password or token, which others could read here. A resume does not need
# them; where the file is fetched again, give the whole URL: -o {0}=https://...
"""


def holds_training(folder: Path) -> bool:
    """Whether a training has written into `folder`."""
    run = RunFolder(folder)
    written = (run.run_json, run.label_dict, run.best_model.folder, run.latest.folder)
    return any(os.path.exists(path) for path in written)


def write(config: Config) -> str:
    """The text of the config.yaml of a training."""
    values = dataclasses.asdict(config)
    for key in path_keys():
        _change(values, key, _make_absolute)
    for key in MODEL_KEYS.values():
        section, _, name = key.partition(".")
        values[section][name] = None
    for key in _PERMISSIONS:
        section, _, name = key.partition(".")
        values[section][name] = False
    cut: list[str] = []
    values = _leave_out_secrets(values, "", cut)
    return _HEAD + "".join(map(_SECRETS_CUT.format, cut)) + yaml_text.write(values)


def _make_absolute(path: str) -> str:
    """The path from any working folder: without "..", so that runs started in two folders tell the
    same one, unless a link on the way gives it another meaning.
    """
    typed, plain = str(Path(path).absolute()), os.path.abspath(path)
    return plain if os.path.realpath(plain) == os.path.realpath(typed) else typed


def _leave_out_secrets(value: Any, key: str, cut: list[str]) -> Any:
    """The value with its URLs as they may be kept; the keys of those that change go into `cut`."""
    if isinstance(value, dict):
        inner = f"{key}." if key else ""
        return {
            name: _leave_out_secrets(item, f"{inner}{name}", cut) for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_leave_out_secrets(item, key, cut) for item in value]
    if not isinstance(value, str) or not fetch.is_url(value):
        return value
    kept = url_without_secrets(value)
    if kept != value and key not in cut:
        cut.append(key)
    return kept


def is_saved(path: Path) -> bool:
    """Whether `path` is a configuration that a training has saved, and not one of a user."""
    try:
        with regular_file.open_regular(path, regular_file.LARGEST_YAML) as file:
            return file.readline(len(_HEAD)).startswith(_HEAD.partition("\n")[0].encode())
    except OSError:
        return False


def read_texts(path: Path) -> dict[str, str]:
    """Each key of a saved configuration and the text of its value, for a comparison of runs.

    Raises OSError and ValueError where the file is no such text.
    """
    return split_texts(regular_file.read(path, regular_file.LARGEST_YAML).decode("utf-8"))


def split_texts(text: str) -> dict[str, str]:
    """The same of what `write` gives.

    Not parsed as YAML, which takes a hundred times as long: `write` puts each key on a line of its
    own, below its section. What stands below a key without a value belongs to it, line by line.
    """
    found: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = line.strip()
        key, colon, value = bare.partition(":")
        indent = len(line) - len(line.lstrip())
        if not bare or bare.startswith("#"):
            continue
        while parents and parents[-1][0] >= indent and not bare.startswith("- "):
            parents.pop()
        inside = parents[-1][1] if parents else ""
        if bare.startswith("- ") or not colon or not key.isidentifier():
            found[inside] = f"{found.get(inside, '')} {bare}".strip()
            continue
        dotted = f"{inside}.{key}" if inside else key
        parents.append((indent, dotted))
        if value.strip():
            found[dotted] = value.strip()
    return found


def folder_of(path: Path) -> Path | None:
    """The folder of the training beside which a saved configuration lies; None: it is another file.

    A copy or a file that was renamed means that folder too.
    """
    if path.is_symlink():
        path = path.resolve()
    if not holds_training(path.parent):
        return None
    has_name = path.name == EXAMPLE.config_yaml.name  # older releases wrote it without our head
    return path.parent if has_name or is_saved(path) else None


def move(values: dict[Any, Any], path: Path, folder: Path) -> Iterator[str]:
    """Let the plain values of the config.yaml at `path` mean `folder`; yields what was changed."""
    section = values.setdefault("Global", {})
    written = section.get("output", "output") if isinstance(section, dict) else None
    if not isinstance(written, str):
        return  # a fault, which the validation reports
    section["output"] = literal_path(folder)
    if os.path.realpath(written) == os.path.realpath(folder):
        return
    yield f"{path} means the folder that it lies in; it was written for {written}"
    moved: list[str] = []

    def follow(text: str) -> str:
        found = _follow(text, written, folder)
        if found != text and not _is_inside(text, written):
            moved.append(f"{text} is looked for where {path} is now: {found}")
        return found

    for key in path_keys():
        if key != "Global.output":
            _change(values, key, follow)
    yield from dict.fromkeys(moved)


def _follow(text: str, written: str, folder: Path) -> str:
    """Where the path of a config.yaml that was written for the folder `written` lies now."""
    is_of_kind = os.path.isabs(text) == os.path.isabs(written)
    between = systems.relative(text, written) if is_of_kind else None
    if between is None:
        return text
    found = os.path.normpath(os.path.join(folder, between))
    if _is_inside(text, written):
        return found
    # Data beside the folder has moved with it, as in a container. Paths that were relative to a
    # working folder, which older releases saved, are found so from any working folder.
    is_lost = not os.path.isabs(text) or not os.path.exists(text)
    return found if is_lost and os.path.exists(found) else text


def _is_inside(text: str, folder: str) -> bool:
    return Path(os.path.abspath(text)).is_relative_to(os.path.abspath(folder))


def _change(values: dict[Any, Any], key: str, change: Callable[[str], str]) -> None:
    """Replace the paths behind `key`, where they are paths, in plain values."""
    *sections, name = key.split(".")
    for section in sections:
        values = values.get(section)  # type: ignore[assignment]
        if not isinstance(values, dict):
            return
    if name in values and values[name] not in WORDS.get(key, ()):
        values[name] = _changed(values[name], change)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, list | tuple):
        return [_changed(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _changed(item, change) for key, item in value.items()}
    if isinstance(value, str | Path) and not fetch.is_url(str(value)):
        return change(str(value))
    return value


@dataclasses.dataclass(frozen=True)
class ChosenModel:
    """A configuration whose mode reads the right model, and what was decided."""

    config: Config
    notes: tuple[str, ...] = ()
    faults: tuple[ConfigFault, ...] = ()


def choose_model(config: Config, typed: set[str], path: Path, saved: Path | None) -> ChosenModel:
    """Prefer the training in Global.output to another model that a YAML file still names.

    `typed`: the keys that the command line sets, which win. `path`: the file that was read;
    `saved`: the folder of the training whose configuration that is.
    """
    mode, output = config.Global.mode, config.Global.output
    if mode == "train":
        keys = dict.fromkeys(MODEL_KEYS.values())  # of two modes with one key, once
        left = [key for key in keys if _names_another(config, key)]
        if not left:
            return ChosenModel(config)
        file = RunFolder(output).config_yaml
        note = f"{', '.join(left)}: not kept in {file}, whose modes take the weights of this run"
        return ChosenModel(config, (note,))
    if mode not in MODEL_KEYS:
        return ChosenModel(config)
    key = MODEL_KEYS[mode]
    text, is_trained = attrgetter(key)(config), holds_training(output)
    if text is None and saved is not None and not is_trained:
        best = RunFolder(saved).best_model
        own = str(best.inference.folder if mode == "predict" else best.weights)
        note = f"{output} holds no training: taking {own}, beside the configuration"
        return ChosenModel(with_value(config, key, own), (note,))
    if key in typed:
        return ChosenModel(config)
    if text is None and is_trained:
        return _tell_runs_apart(config, key, path, saved)
    if not _names_another(config, key):
        return ChosenModel(config)
    if not is_trained:
        return ChosenModel(config, (f"{key} is {text}: {output} holds no training of its own",))
    if key == MODEL_KEYS["export"] and fetch.is_url(text):
        note = (
            f"{key} {text} is left out: {output} holds a training, whose best weights are "
            f"taken; to take the others: {override(key, text)}"
        )
        return ChosenModel(with_value(config, key, None), (note,))
    fault = ConfigFault(
        key,
        f"{key} is {text}, but {output} holds a training of its own: whose weights are meant?",
        f"{override(key, None)} takes those of {output}, {override(key, text)} the others",
    )
    return ChosenModel(config, faults=(fault,))


def _tell_runs_apart(config: Config, key: str, path: Path, saved: Path | None) -> ChosenModel:
    """Ask whose weights are meant where a run's configuration is used with the folder of another.

    A YAML file of the user that only lies beside a training is told.
    """
    output, beside = config.Global.output, saved or path.parent
    if os.path.realpath(beside) == os.path.realpath(output) or not holds_training(beside):
        return ChosenModel(config)
    if saved is None:
        note = f"{path} lies beside a training, but Global.output is {output}: taking its weights"
        return ChosenModel(config, (note,))
    best = RunFolder(saved).best_model
    own = str(best.inference.folder if config.Global.mode == "predict" else best.weights)
    fault = ConfigFault(
        key,
        f"{path} is of the training in {saved}, but {output} holds another one: whose weights are "
        "meant?",
        f"{override(key, None)} takes those of {output}, {override(key, own)} those of {saved}",
    )
    return ChosenModel(config, faults=(fault,))


def name_model(config: Config) -> str:
    """The override that keeps the model where results must go into another folder; "": no need."""
    mode, output = config.Global.mode, config.Global.output
    key = MODEL_KEYS.get(mode)
    if key is None or attrgetter(key)(config) is not None or not holds_training(output):
        return ""
    best = RunFolder(output).best_model
    return override(key, str(best.inference.folder if mode == "predict" else best.weights))


def _names_another(config: Config, key: str) -> bool:
    """Whether `key` names a model that does not lie in Global.output."""
    text = attrgetter(key)(config)
    if text is None:
        return False
    inside = os.path.realpath(config.Global.output)
    return fetch.is_url(text) or not _is_inside(os.path.realpath(text), inside)
