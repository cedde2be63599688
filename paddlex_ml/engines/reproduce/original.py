# SPDX-License-Identifier: Apache-2.0
"""The run that is to be had again: read, refused where that cannot be, and the command it means.

Needs neither Paddle nor numpy, because the command line reads it before their threads are set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_ml import program, systems
from paddlex_ml.artifacts import reproduction, run_record, train_result
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.run_record import RunRecord
from paddlex_ml.artifacts.train_result import FinishedTraining
from paddlex_ml.config import load, run_config, validation
from paddlex_ml.config.schema import Config
from paddlex_ml.config.typed_words import join
from paddlex_ml.distributed import addresses
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.engines.train.earlier_run import AUTO
from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.wording import literal_path

OPTION, ANYWAY = "--reproduce", "--anyway"
_RESUME, _OUTPUT, _DEVICE = "Train.resume_path", "Global.output", "Global.device"


@dataclass(frozen=True)
class Original:
    """A finished run, and what is asked for."""

    run: RunFolder
    record: RunRecord | None
    """None: run.json cannot be read, and the comparison goes on without it."""
    trained: FinishedTraining
    overrides: list[str]
    """Those of the command that trains it again, with its config.yaml."""
    anyway: bool
    """Whether inputs that have changed are told, and not refused."""


def read(folder: Path, overrides: Sequence[str], *, anyway: bool) -> Original:
    """Read the run in `folder`, whose training is repeated with `overrides` (paths alone).

    Raises PaddlexMLError where there is no run that can be repeated, and for other overrides.
    """
    run = RunFolder(folder)
    _refuse_no_run(run)
    record = run_record.read(run.run_json)
    if record is None and not anyway:
        found = "cannot be read" if os.path.lexists(run.run_json) else "is missing"
        raise PaddlexMLError(
            f"run.json {found}, which says under which conditions the run was trained",
            where=str(run.run_json),
            fix=f"restore it from a copy, or add {ANYWAY}: the numbers alone are compared then",
        )
    try:
        trained = train_result.read(run.result("train"))
    except (PaddlexMLError, OSError, ValueError) as error:
        why = error.what if isinstance(error, PaddlexMLError) else "it has no result"
        raise PaddlexMLError(
            f"this run has not come to its end, so there are no numbers to reach: {why}",
            where=str(folder),
            fix=f"finish it first: {_command(run)} -o {_RESUME}={AUTO}",
        ) from None
    if record is not None:
        _refuse_mixed_starts(record, run, anyway=anyway)
    if not run.best_model.weights.is_file() and not anyway:
        raise PaddlexMLError(
            "the best model of this run is not there, with which the new one is compared",
            where=str(run.best_model.weights),
            fix=f"put it back, or add {ANYWAY}: the numbers alone are compared then",
        )
    chosen = _choose_overrides(run, record, overrides)
    _refuse_unusable(run, load.load(run.config_yaml, chosen).config)
    return Original(run, record, trained, chosen, anyway)


def _command(run: RunFolder) -> str:
    config = systems.quote(literal_path(run.config_yaml))
    return f"{program.command()} -c {config} -o Global.mode=train"


def _refuse_no_run(run: RunFolder) -> None:
    """Raise PaddlexMLError unless the folder holds a training with its configuration."""
    if not os.path.isdir(run.output) or not run_config.holds_training(run.output):
        is_there = os.path.isdir(run.output)
        around = [*Path(os.path.abspath(run.output)).parents][:2]
        near = next((path for path in around if run_config.holds_training(path)), None)
        name = "FOLDER" if near is None else systems.quote(literal_path(near))
        raise PaddlexMLError(
            "no training has written into this folder"
            if is_there
            else "this is a file"
            if os.path.exists(run.output)
            else "there is no such folder",
            where=str(run.output),
            fix=f"name the output folder of a training: {OPTION} {name}",
        )
    if not run_config.is_saved(run.config_yaml):
        raise PaddlexMLError(
            "the configuration that the training has saved is not there",
            where=str(run.config_yaml),
            fix="restore it from a copy: without it nobody knows the options of the run",
        )


def _refuse_mixed_starts(record: RunRecord, run: RunFolder, *, anyway: bool) -> None:
    """Raise PaddlexMLError where several commands have made the numbers of a run."""
    begun_from = record.starts[0].resumed_from
    if begun_from is not None:
        first = Path(begun_from).parent
        raise PaddlexMLError(
            f"this run went on from a checkpoint of another one, {begun_from}: its first epochs "
            "are not its own",
            where=str(run.run_json),
            fix=f"reproduce that run, and resume it in the same way: {OPTION} "
            f"{systems.quote(literal_path(first))}",
        )
    known = [start.conditions for start in record.starts if start.conditions is not None]
    mixed = [name for name, values in (
        ("options", {each.options for each in known}),
        ("lists", {tuple(sorted(each.lists.items())) for each in known}),
    ) if len(values) > 1]  # fmt: skip
    if mixed and not anyway:
        raise PaddlexMLError(
            f"this run was resumed with other {' and '.join(mixed)}: no single command gives its "
            "numbers",
            where=str(run.run_json),
            fix=f"{ANYWAY} trains with those of its last start",
        )


def _refuse_unusable(run: RunFolder, config: Config) -> None:
    """Raise PaddlexMLError where the data set is not there, or other machines are needed."""
    if addresses.is_launched():
        raise PaddlexMLError(
            "a reproduction starts the processes of the run itself",
            where=OPTION,
            fix="start it without paddle.distributed.launch",
        )
    if config.Train.dist_ips is not None:
        raise PaddlexMLError(
            "this run was trained on several machines",
            where=str(run.config_yaml),
            fix=f"start it on each of them: {_command(run)} -o {_OUTPUT}=FOLDER",
        )
    root = config.Global.dataset_dir
    if root is not None and not os.path.isdir(root):
        raise PaddlexMLError(
            "the data set of this run is not there",
            where=str(root),
            fix="if it was moved, say where it is: -o Global.dataset_dir=FOLDER",
        )


def _choose_overrides(
    run: RunFolder, record: RunRecord | None, overrides: Sequence[str]
) -> list[str]:
    """The overrides of the command that trains the run again, in a folder of its own."""
    paths = [key for key in validation.path_keys() if key.startswith(("Global.", "Train."))]
    allowed = [key for key in paths if key != _RESUME] + [_DEVICE]
    typed, goes_on = list[str](), False
    for word in (each.text for each in join(overrides)):
        key, equals, value = word.partition("=")
        if not equals:  # a fault of the configuration, which says how to write it
            continue
        if (key.strip(), value.strip()) == (_RESUME, AUTO):
            goes_on = True
        elif key.strip() not in allowed:
            free = validation.override(_OUTPUT, str(earlier_run.free_folder(run.output)))
            raise PaddlexMLError(
                f"{key.strip()} cannot be set: the run would be another one",
                where=f"-o {word}",
                fix=f"leave it out (what may be set: {', '.join(allowed)}), or train another run: "
                f"{_command(run)} -o {_RESUME}=null {free} -o {systems.quote(word)}",
            )
        typed.append(key.strip())
    place = load.destination(run.config_yaml, overrides) if _OUTPUT in typed else None
    output = _choose_folder(run, goes_on=goes_on) if place is None else place[1]
    _refuse_folder(run, record, output, goes_on=goes_on)
    return [
        *overrides,
        "Global.mode=train",
        validation.assignment(_OUTPUT, literal_path(output)),
        f"{_RESUME}={AUTO if goes_on else 'null'}",
        "Train.track=[]",
        "Train.tensorboard=false",
    ]


def _choose_folder(run: RunFolder, *, goes_on: bool) -> Path:
    """`<run>_again`, or with a number where that is taken; to go on, the last one that is there."""
    folder = run.output
    folder = folder.resolve() if folder.name in ("", "..") else folder
    found = [folder.with_name(f"{folder.name}_again")]
    while os.path.lexists(found[-1]) and (goes_on or not _is_left_by_us(found[-1])):
        found.append(found[0].with_name(f"{found[0].name}_{len(found) + 1}"))
    return found[-2] if goes_on and len(found) > 1 else found[-1]


def _is_left_by_us(folder: Path) -> bool:
    """Whether nothing is in a folder but what a reproduction that was refused leaves there."""
    own = RunFolder(folder)
    names = {own.result("train").name, own.reproduction.name}
    is_empty = folder.is_dir() and all(
        path.name in names or path.name.endswith(".lock") for path in folder.iterdir()
    )
    return is_empty and not earlier_run.holds_results(folder)


def _refuse_folder(
    run: RunFolder, record: RunRecord | None, output: Path, *, goes_on: bool
) -> None:
    """Raise PaddlexMLError where the new run would touch the first one, or any other."""
    free = validation.override(_OUTPUT, str(_choose_folder(run, goes_on=False)))
    inside, outside = os.path.realpath(output), os.path.realpath(run.output)
    if inside == outside or inside.startswith(os.path.join(outside, "")):
        raise PaddlexMLError(
            "the run would be repeated in its own folder, which must stay as it is",
            where=str(output),
            fix=f"choose another folder: {free}",
        )
    try:
        begun = reproduction.read(RunFolder(output).reproduction)
        is_own = begun.run_id == ("" if record is None else record.id)
    except (OSError, ValueError):
        is_own = False
    if goes_on and not is_own:
        raise PaddlexMLError(
            "no reproduction of this run was begun there, with which one could go on",
            where=str(output),
            fix=alternatives(
                f"leave out -o {_RESUME}={AUTO}",
                f"name its folder: -o {_OUTPUT}=FOLDER",
            ),
        )
    if not goes_on and earlier_run.holds_results(output):
        raise PaddlexMLError(
            "the folder holds a training already",
            where=str(output),
            fix=alternatives(f"choose another folder: {free}", *(
                [f"-o {_RESUME}={AUTO} goes on with the reproduction there"] if is_own else []
            )),
        )  # fmt: skip
