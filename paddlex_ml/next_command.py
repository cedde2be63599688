# SPDX-License-Identifier: Apache-2.0
"""The command that a user most likely wants after the one that has just ended, or before it.

It is printed behind `next:` or `fix:`, and works when it is pasted into the shell that ran the
first one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from paddlex_ml import program, systems
from paddlex_ml.artifacts.benchmark_result import BenchmarkResult
from paddlex_ml.artifacts.export_result import ExportResult
from paddlex_ml.artifacts.plan_result import PlanResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config import load, mode_keys, options_by_size, shipped, validation
from paddlex_ml.config.schema import Config
from paddlex_ml.data.missing_lists import LABEL_FILE, TRAIN_FILE, VAL_FILE
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.formats import source_path
from paddlex_ml.storage import fetch
from paddlex_ml.wording import literal_path

if TYPE_CHECKING:  # numpy must not be imported before the number of its threads is set
    from paddlex_ml.artifacts.evaluate_result import EvaluationResult

_OF_DATA = ("Global.dataset_dir", "Global.output", "CheckDataset.convert.")
"""Overrides that are in the config.yaml of a training."""


def after_check(
    config: Config, config_file: str, overrides: Sequence[str], classes: int, free: Path | None
) -> str:
    """Training, with the repairs that it would ask for: a check refuses less.

    `config_file` and `overrides` are those of the command that ended, as typed; `classes`: of the
    data set; `free`: the output folder of the training, where that of the check has another one.
    """
    options, repairs = config.Train, dict[str, str]()
    if options.num_classes not in (None, classes):
        repairs["Train.num_classes"] = validation.assignment("Train.num_classes", None)
    if options.num_queries != "auto" and options.num_queries > classes:
        repairs["Train.num_queries"] = validation.assignment("Train.num_queries", "auto")
    if free is not None:
        repairs["Global.output"] = validation.assignment("Global.output", str(free))
    path, _ = shipped.find(config_file)
    while True:
        words = _list_words("train", overrides, {}, repairs)
        faults = load.find_faults(path, words)
        more = {text.partition("=")[0]: text for fault in faults for text in _read_fix(fault.fix)}
        if not more.keys() - repairs.keys():
            return _write(config_file, words)
        repairs |= more


def _read_fix(fix: str) -> Iterator[str]:
    """The overrides of the first repair in the words of a fault."""
    with suppress(ValueError):  # words with an apostrophe: no repair that can be pasted
        words = systems.split(fix)
        while words[:1] == ["-o"]:
            yield words[1].rstrip(",;")
            words = words[2:]


def after_plan(
    config: Config, config_file: str, overrides: Sequence[str], result: PlanResult
) -> str:
    """The training, with the batch size that was planned."""
    chosen = {}
    if config.Train.batch_size == "auto":
        chosen = {"Train.batch_size": result.batch_size}
    return _write(config_file, _list_words("train", overrides, chosen))


def after_training(config: Config) -> str:
    """Prediction: the saved config.yaml holds all options of the training."""
    saved = literal_path(RunFolder(config.Global.output).config_yaml)
    return _write(saved, _list_words("predict", [], _choose_image(config, [])))


def after_stop(output: Path) -> str:
    """The rest of the training that stopped in this folder, with the options saved there."""
    saved = literal_path(RunFolder(output).config_yaml)
    rest = [validation.assignment("Global.mode", "train")]
    return _write(saved, [*rest, validation.assignment("Train.resume_path", "auto")])


def after_evaluation(
    config: Config, config_file: str, overrides: Sequence[str], result: EvaluationResult
) -> str:
    """Export of the evaluated weights, or prediction with an exported model.

    A model whose thresholds were saved predicts: it is exported already.
    """
    named, own = config.Evaluate.weight_path, RunFolder(config.Global.output).best_model
    is_own = named is None or os.path.realpath(named) == os.path.realpath(own.weights)
    if result.thresholds is not None and result.thresholds.saved:
        folder = str(Path(result.thresholds.saved[0]).parent)
    elif is_own and own.inference.inference_yml.is_file():
        folder = str(own.inference.folder)
    elif named is not None and os.path.isdir(named):
        folder = named
    else:
        is_default = named is None and config.Export.weight_path is None
        source = {} if is_default else {"Export.weight_path": named or result.weight_path}
        return _write(config_file, _list_words("export", overrides, source))
    chosen = {} if is_own and config.Predict.model_dir is None else {"Predict.model_dir": folder}
    chosen |= _choose_image(config, overrides)
    return _write(config_file, _list_words("predict", _drop_data(config, overrides), chosen))


def after_export(
    config: Config, config_file: str, overrides: Sequence[str], result: ExportResult
) -> str | None:
    """Prediction with the exported model; None after an export of weights alone."""
    if not isinstance(result.inference_dir, str):
        return None
    wanted, chosen = config.Export, {}
    if wanted.weight_path or wanted.format != "paddle" or config.Predict.model_dir:
        chosen = {"Predict.model_dir": result.inference_dir}
    chosen |= _choose_image(config, overrides)
    return _write(config_file, _list_words("predict", _drop_data(config, overrides), chosen))


def _drop_data(config: Config, overrides: Sequence[str]) -> list[str]:
    """The overrides of a prediction, which reads a data set only to add to it."""
    is_used = config.Predict.save_labels is not None
    return [text for text in overrides if is_used or not text.startswith("Global.dataset_dir")]


def after_benchmark(
    config: Config, config_file: str, overrides: Sequence[str], result: BenchmarkResult
) -> str:
    """Prediction as recommended; of an export that is gone, the export, which names it then."""
    row = next(row for row in result.rows if row.is_recommended)
    if row.folder is None:
        form, _, precision = row.format.partition(" ")
        wanted = {"Export.format": form, "Export.precision": precision or "fp32"}
        usual = {key: getattr(config.Export, key.partition(".")[2]) for key in wanted}
        chosen = {key: value for key, value in wanted.items() if value != usual[key]}
        return _write(config_file, _list_words("export", overrides, chosen))
    chosen = {
        "Predict.kernel_option.run_mode": row.run_mode,
        "Predict.model_dir": row.folder,
        **_choose_image(config, overrides),
    }
    return _write(config_file, _list_words("predict", overrides, chosen))


def find_earlier(
    config: Config, config_file: str, overrides: Sequence[str]
) -> PaddlexMLError | None:
    """The error of a mode that needs what a check or a training makes of a source of images.

    None where all is there. Raises PaddlexMLError where no source is there.
    """
    mode, source, run = (
        config.Global.mode,
        config.Global.dataset_dir,
        RunFolder(config.Global.output),
    )
    is_source = source is not None and options_by_size.is_by_reference(config)
    if source is None or not is_source or mode in ("check_dataset", "train"):
        return None
    source_path.refuse(source)
    trained = config_file
    if mode != "plan" and not _names_weights(config):
        if not run.best_model.folder.is_dir():
            what = f"mode {mode} needs a model, and none is trained on {source} yet"
            return _begin_with("train", what, config_file, overrides)
        trained = literal_path(run.config_yaml) if run.config_yaml.is_file() else config_file
    kept = [text for text in overrides if trained == config_file or not text.startswith(_OF_DATA)]
    if mode == "predict" and config.Predict.input is None:
        images = str(source if source.is_dir() else source.parent)
        command = _write(trained, _list_words(mode, kept, {"Predict.input": images}))
        what = "Predict.input is not set: mode predict needs images"
        return PaddlexMLError(what, where="Predict.input", fix=command)
    reads = mode in ("plan", "evaluate", "benchmark") or config.Export.precision == "int8"
    if not reads or mode == "predict" or _has_lists(source):
        return None
    what = f"mode {mode} reads a data set, and {source} is none yet"
    if not _has_lists(run.dataset) or not _is_made_of(run.dataset, source):
        return _begin_with("check_dataset", what, config_file, overrides)
    chosen = {"Global.dataset_dir": str(run.dataset)} if trained == config_file else {}
    command = _write(trained, _list_words(mode, kept, chosen))
    return PaddlexMLError(what, where="Global.dataset_dir", fix=command)


def _names_weights(config: Config) -> bool:
    """Whether the mode takes other weights than those of the output folder."""
    named = {
        "evaluate": config.Evaluate.weight_path,
        "predict": config.Predict.model_dir,
    }
    return named.get(config.Global.mode, config.Export.weight_path) is not None


def _has_lists(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (LABEL_FILE, TRAIN_FILE, VAL_FILE))


def _is_made_of(dataset: Path, source: Path) -> bool:
    """Whether the images of a data set by reference lie in its source, or around it."""
    images = Path(os.path.realpath(dataset / "images"))
    folder = Path(os.path.realpath(source if source.is_dir() else source.parent))
    return images.is_relative_to(folder) or folder.is_relative_to(images)


def _begin_with(mode: str, what: str, config_file: str, overrides: Sequence[str]) -> PaddlexMLError:
    command = _write(config_file, _list_words(mode, overrides, {}))
    fix = Lines(f"{command}\n         and then this command again")
    return PaddlexMLError(what, where="Global.dataset_dir", fix=fix)


def _choose_image(config: Config, overrides: Sequence[str]) -> dict[str, str]:
    """The image to predict on: the user's own, else one of the data set."""
    from paddlex_ml.data import annotation, lines  # imports numpy

    own, data = config.Predict.input, config.Global.dataset_dir
    is_typed = any(text.lstrip().startswith(("Predict.input", "Predict=")) for text in overrides)
    is_local = own is not None and not (isinstance(own, str) and fetch.is_url(own))
    if is_typed or is_local:
        return {}
    if data is not None:
        (first, *_) = [*lines.read_lines(data / annotation.VAL_FILE).lines, None]
        image = data / (first or "").partition("\t")[0]
        if image.is_file():
            return {"Predict.input": str(image)}
    return {} if own else {"Predict.input": "photo.jpg"}


def _list_words(
    mode: str,
    overrides: Sequence[str],
    chosen: Mapping[str, Any],
    repairs: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """The overrides of a command: `mode` and `chosen` replace what `overrides` say of them.

    `repairs` are overrides by key. What the mode does not read is left out.
    """
    read = [text for each in overrides if (text := mode_keys.keep_read(mode, each)) is not None]
    keys = {text: text.partition("=")[0].strip() for text in read}
    kept = [text for text in read if keys[text] not in {"Global.mode", *chosen, *repairs}]
    first = [validation.assignment("Global.mode", mode)]
    last = [*(validation.assignment(*item) for item in chosen.items()), *repairs.values()]
    # A mapping may hold another mode.
    return [*first, *kept, *last, *(first if "Global" in keys.values() else ())]


def _write(config_file: str, words: Sequence[str]) -> str:
    """A command line that can be pasted."""
    options = [part for text in words for part in ("-o", text)]
    return f"{program.command()} {systems.join(['-c', config_file, *options])}"
