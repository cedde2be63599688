# SPDX-License-Identifier: Apache-2.0
"""The YAML files that come with the package, one per model, and how `-c` finds them."""

from __future__ import annotations

import os
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from paddlex_ml import systems
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config import values, yaml_text
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import near_names
from paddlex_ml.wording import literal_path

_IN_A_CLONE = Path("configs") / "modules" / "image_multilabel_classification"


TRAINED = RunFolder(Path("output")).config_yaml
"""The configuration of a training where no output folder was named."""
_MOST = 500
"""Folders that are looked at for a training."""


def folder() -> Path:
    """The folder of the shipped files: beside the package in a clone, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    clone = package.parent / _IN_A_CLONE
    return clone if clone.is_dir() else package / "configs"  # setup.cfg puts the files there


MODELS = tuple(sorted(file.stem for file in folder().glob("*.yaml")))
"""Each shipped file makes its model known."""


def find(name: str) -> tuple[Path, str | None]:
    """The file that `-c name` means, and a note when that is not literally the path given.

    `name` is a path, a model name, or a path of another tool whose file name is a shipped one.
    Raises PaddlexMLError, naming the models, when nothing fits.
    """
    path = Path(os.path.expandvars(os.path.expanduser(name)))
    if os.path.isfile(path):  # os.path: False where a folder on the way cannot be entered
        return path, None
    stem = path.name.removesuffix(".yaml")
    if stem in MODELS and not os.path.isdir(path):
        file = folder() / f"{stem}.yaml"
        return file, f"using the shipped file {file}" + ("" if stem == name else f" for {name}")
    what = "is a folder, not a YAML file" if os.path.isdir(path) else "does not exist"
    if near := _find_near(path):
        raise PaddlexMLError(
            f"the configuration {path} {what}",
            where="-c",
            fix=f"-c {systems.quote(literal_path(near))}",
        )
    guess = values.nearest(stem, MODELS) or "PP-LCNet_x1_0_ML"
    raise PaddlexMLError(
        f"the configuration {path} {what}",
        where="-c",
        fix=f"-c {guess}, or the path of a YAML file; models: {', '.join(MODELS)}",
    )


def _find_near(path: Path) -> Path | None:
    """The YAML file that is probably meant: in the folder, or of the name with another ending."""
    candidates = [RunFolder(path).config_yaml]
    if path.suffix.lower() in ("", ".yaml", ".yml", ".json"):
        candidates += [path.with_suffix(ending) for ending in (".yaml", ".yml") if path.name]
    if os.path.isdir(path) and path.name not in ("", ".."):  # of a checkpoint
        candidates.append(RunFolder(path.parent).config_yaml)
    candidates.append(near_names.find(path) or path)
    if path.name == TRAINED.name:
        candidates.append(find_trained())
    return next((each for each in candidates if os.path.isfile(each)), None)


def find_trained() -> Path:
    """`TRAINED`, or where it is not there the newest of the trainings up to two folders below."""
    here = [TRAINED] if os.path.isfile(TRAINED) else []
    found = here or [
        run.config_yaml
        for depth in ("*", "*/*")
        for run in map(RunFolder, islice(Path().glob(depth), _MOST))
        if os.path.isfile(run.config_yaml) and os.path.isfile(run.run_json)
    ]
    return max(found, key=os.path.getmtime, default=TRAINED)


@cache
def learning_rate(model: str) -> float:
    """The peak rate in the shipped file for `model`."""
    return float(_read_training(model)["learning_rate"])


@cache
def batch_size(model: str) -> int:
    """The images per step in the shipped file for `model`, which belong to its peak rate."""
    return int(_read_training(model)["batch_size"])


def _read_training(model: str) -> dict[str, Any]:
    text = (folder() / f"{model}.yaml").read_text(encoding="utf-8")
    section: dict[str, Any] = yaml_text.parse(text).value["Train"]
    return section
