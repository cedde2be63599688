# SPDX-License-Identifier: Apache-2.0
"""Arguments -> Config -> engine -> exit code.

Paddle takes seconds to import, so nothing here imports it: an engine is imported only when its
mode runs. Exit codes: `terminal`.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import json
import logging
import os
import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from paddlex_ml import (
    command_line,
    gpus,
    next_command,
    paddle_runtime,
    progress,
    streams,
    terminal,
)
from paddlex_ml.artifacts import reproduction, run_lock
from paddlex_ml.artifacts.benchmark_result import BenchmarkResult
from paddlex_ml.artifacts.check_result import CheckResult
from paddlex_ml.artifacts.export_result import ExportResult
from paddlex_ml.artifacts.plan_result import PlanResult
from paddlex_ml.artifacts.predict_result import PredictResult
from paddlex_ml.artifacts.reproduction import Reproduction
from paddlex_ml.artifacts.run_folder import PredictFiles, RunFolder
from paddlex_ml.artifacts.train_result import TrainResult
from paddlex_ml.config import load, options_by_size, run_config, shipped, validation
from paddlex_ml.config.schema import Config
from paddlex_ml.cores import usable_cores
from paddlex_ml.data import worker_server
from paddlex_ml.distributed import addresses
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.kernels import compiler, families
from paddlex_ml.models import published
from paddlex_ml.storage import cache, files
from paddlex_ml.wording import literal_path

if TYPE_CHECKING:  # numpy must not be imported before the number of its threads is set
    from paddlex_ml.artifacts.evaluate_result import EvaluationResult
    from paddlex_ml.engines.reproduce.original import Original

logger = logging.getLogger(__name__)

ENGINES = {
    "check_dataset": "paddlex_ml.engines.check_dataset",
    "plan": "paddlex_ml.engines.plan.run",
    "train": "paddlex_ml.engines.train.run",
    "evaluate": "paddlex_ml.engines.evaluate.run",
    "export": "paddlex_ml.engines.export.run",
    "benchmark": "paddlex_ml.engines.benchmark.run",
    "predict": "paddlex_ml.engines.predict.run",
}
_REPRODUCE = "paddlex_ml.engines.reproduce.run"
_WITHOUT_PADDLE = {"check_dataset", "predict"}  # predict imports it when a model needs it

Result: TypeAlias = (
    "CheckResult | PlanResult | TrainResult | EvaluationResult | ExportResult | BenchmarkResult"
    " | PredictResult"
)
"""What an engine returns: the content of its result file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name.

    Writes `<output>/<mode>_result.json` whether the run succeeds or fails. Raises SystemExit, as
    argparse does, for --help and --version.
    """
    has_data = False
    job: tuple[str, Path] | None = None  # mode and output folder of the result file to write
    with terminal.session(silent=not addresses.is_main_process()):
        try:
            arguments = command_line.parse(sys.argv[1:] if argv is None else argv)
            has_data = arguments.data is not None
            repeated = _find_original(arguments)
            if (text := _answer(arguments)) is not None:
                print(text)
                streams.refuse_loss()
                return 0
            path, _ = shipped.find(arguments.config)
            job = load.destination(path, arguments.override)
            job = None if job is not None and job[0] == "plan" else job  # it writes nothing
            loaded = load.load(path, arguments.override)
            config = loaded.config
            for note in loaded.notes:
                logger.warning("%s", note)
            if earlier := next_command.find_earlier(config, arguments.config, arguments.override):
                raise earlier
            if conflict := earlier_run.find_conflict(config):
                job = None  # the result file there is that of the other training
                raise conflict
            mode, output, ips = config.Global.mode, config.Global.output, config.Train.dist_ips
            if mode == "train" and not addresses.is_main_process(ips):
                job = None  # only the main process writes files
                _run_engine(config)
                logger.info("done: the results are on the first machine")
                return 0
            with ExitStack() as held:
                if mode != "plan":
                    _open_output(config, held)
                config, result = _run_engine(config, loaded.typed, repeated)
                if mode != "plan":
                    files.write_json(RunFolder(output).result(mode), msgspec.to_builtins(result))
                    _write_card(mode, output)
        except (Exception, KeyboardInterrupt, Stopped) as error:
            is_ours = addresses.is_main_process() and not _is_of_another(error, job)
            if has_data and isinstance(error, PaddlexMLError):
                error = command_line.as_typed(error)
            return _fail(error, job if is_ours else None)
        return _tell(config, arguments, result)


def _find_original(arguments: argparse.Namespace) -> Original | None:
    """The run that is to be trained again, whose command the arguments then are; None: none is."""
    if arguments.reproduce is None:
        return None
    from paddlex_ml.engines.reproduce import original  # here and below: --help is not to wait

    folder = Path(os.path.expanduser(arguments.reproduce))
    found = original.read(folder, arguments.override, anyway=arguments.anyway)
    arguments.config = literal_path(found.run.config_yaml)
    arguments.override = found.overrides
    return found


def _tell(config: Config, arguments: argparse.Namespace, result: Result) -> int:
    """Print what a command gave, and return its exit code."""
    shown: Result | Reproduction = result
    lines, code = "", 0
    if arguments.reproduce is not None:
        from paddlex_ml.engines.reproduce import verdict

        output = config.Global.output
        shown = reproduction.read(RunFolder(output).reproduction)
        lines = "\n".join(verdict.describe(shown, str(output)))
        code = 0 if shown.outcome == "reproduced" else 3
    elif not arguments.json:
        lines = _summarise(config, arguments, result)
    if arguments.json:
        lines = json.dumps(msgspec.to_builtins(shown), indent=2, ensure_ascii=False)
    print(lines)
    if isinstance(result, PredictResult) and not result.done_flag:
        print(f"error: {result.err_msg}", file=sys.stderr)
        return 2
    return code


def _answer(arguments: argparse.Namespace) -> str | None:
    """What is printed where no engine runs: of a demo, a configuration, or the table of a sweep."""
    if arguments.demo is not None:
        from paddlex_ml.data import demo  # imports numpy

        return demo.draw_and_tell(Path(arguments.demo))
    path, note = shipped.find(arguments.config)
    if note:
        logger.info("%s", note)
    if arguments.print_config:
        merged = load.load(path, arguments.override, to_run=False).config
        return load.dump(merged).removesuffix("\n")
    lines = _sweep(path, arguments)
    return None if lines is None else "\n".join(lines)


def _sweep(path: Path, arguments: argparse.Namespace) -> list[str] | None:
    """Run the sweep that is asked for; returns the lines to print, None where none is.

    Raises PaddlexMLError where it is refused, and where trainings failed, after their table.
    """
    from paddlex_ml.engines.sweep import grid

    section, _ = load.find_sweep(path, arguments.override)
    options = {name: getattr(arguments, name) for name in grid.OPTIONS}
    asked = {
        "--dry-run": arguments.dry_run,
        "--emit": arguments.emit is not None,
        "--max-runs": arguments.max_runs != grid.MOST_RUNS,
    }
    alone = next((name for name, is_asked in asked.items() if is_asked), None)
    is_typed = bool(arguments.sweep or any(value is not None for value in options.values()))
    place = load.destination(path, arguments.override)
    if (section is None and not is_typed and alone is None) or place is None:
        return None
    mode, output = place
    if mode != "train":
        if not is_typed and alone is None:
            return None
        fix = f"add {validation.override('Global.mode', 'train')}"
        raise PaddlexMLError(f"a sweep trains: the mode is {mode}", where="--sweep", fix=fix)
    from paddlex_ml.artifacts import leaderboard
    from paddlex_ml.engines.search import run as searches  # they import numpy
    from paddlex_ml.engines.sweep import run, slurm

    request = grid.read_request(arguments.sweep, options, section)
    if request is None:
        if alone is not None:
            raise PaddlexMLError(
                f"{alone} is for a sweep", where=alone, fix="add --sweep KEY=VALUE,VALUE"
            )
        return None
    if arguments.json:
        fix = f"leave it out; the numbers will be in {output / leaderboard.CSV}"
        raise PaddlexMLError("a sweep prints no JSON", where="--json", fix=fix)
    command = run.SweepCommand(section is not None, arguments.config, path, arguments.override)
    most = arguments.max_runs
    if arguments.emit is not None:
        return slurm.emit(command, request, output=output, most=most)
    begin = run.run if request.search is None else searches.run
    outcome = begin(command, request, output=output, is_dry=arguments.dry_run, most=most)
    if outcome.error is not None:
        print("\n".join(outcome.lines))
        raise outcome.error
    return outcome.lines


def _run_engine(
    config: Config, typed: Collection[str] = (), repeated: Original | None = None
) -> tuple[Config, Result]:
    """Run the engine of the mode; the configuration that it ran with, and its result.

    A training of a source that is no data set yet is one from its check to its report. `typed`: the
    keys that the command line sets. `repeated`: the run that is trained again.
    """
    mode = config.Global.mode
    if repeated is None:
        from paddlex_ml.engines import named_paths

        named_paths.check(config)
    with _compiling_ahead(config) if mode == "train" else nullcontext():
        if mode not in _WITHOUT_PADDLE:
            logger.info("%s", paddle_runtime.prepare(partial(_start_ahead, config)))
        with progress.named("importing libraries"):
            engine = importlib.import_module(ENGINES[mode] if repeated is None else _REPRODUCE)
        is_whole = mode == "train" and options_by_size.is_by_reference(config)
        if is_whole:
            straight_on = importlib.import_module("paddlex_ml.engines.straight_on")
            config = straight_on.check(config, typed)
        result: Result = engine.run(config) if repeated is None else engine.run(config, repeated)
        if is_whole:
            straight_on.evaluate(config, result)
    return config, result


def _compiling_ahead(config: Config) -> AbstractContextManager[None]:
    """While Paddle is imported and the data are checked, compile on another core what will train.

    Where it may train on the CPU, and the machine has not compiled it before.
    """
    kind, model = config.Global.device.partition(":")[0], published.TABLE.get(config.Global.model)
    is_on_cpu = kind == "cpu" or (kind == "auto" and gpus.are_missing())
    if not is_on_cpu or config.Train.amp != "OFF" or config.Train.compile or usable_cores() == 1:
        return nullcontext()
    wanted = compiler.missing(families.names(model.kernels if model else tuple(families.FAMILIES)))
    return compiler.assisted(wanted) if wanted else nullcontext()


def _start_ahead(config: Config) -> None:
    """While Paddle is imported, start the server of workers, where this process will have workers.

    With several devices each of them has a process, and a server, of its own.
    """
    options = config.Train
    is_one = (
        "," not in config.Global.device and not options.dist_ips and not addresses.is_launched()
    )
    if config.Global.mode == "train" and is_one and options.num_workers != 0:
        worker_server.start()


def _open_output(config: Config, held: ExitStack) -> None:
    """Make the output folder, write in it once, lock it, and remove the result of an earlier run.

    So a folder that cannot be written is found now, not after an epoch; and a program that waits
    for the result file never reads that of an earlier run, even when this run is killed. Raises
    FolderInUse where another process does the same there.
    """
    mode, output, model = (
        config.Global.mode,
        config.Global.output,
        run_config.name_model(config),
    )
    try:
        files.make_output(output)
    except PaddlexMLError as error:
        raise error.replace(fix=f"{error.fix} {model}".rstrip()) from error
    held.enter_context(run_lock.writing(output, mode, model=model))
    if mode in ("train", "evaluate"):
        earlier_run.hide_result(output, mode)
    RunFolder(output).result(mode).unlink(missing_ok=True)


def _write_card(mode: str, output: Path) -> None:
    """Write MODEL_CARD.md again where a command has changed what it says: an export, thresholds."""
    if mode in ("train", "evaluate", "export"):
        from paddlex_ml.report import model_card  # imports numpy

        try:
            model_card.write(output)
        except OSError as error:  # such as a full disk: the result itself is written
            logger.warning("no model card was written: %s", error)


def _is_of_another(error: BaseException, job: tuple[str, Path] | None) -> bool:
    """Whether another process holds the output folder, and not just Predict.save_path."""
    if not isinstance(error, run_lock.FolderInUse) or job is None:
        return False
    return os.path.realpath(error.where) == os.path.realpath(job[1])


def _fail(error: BaseException, job: tuple[str, Path] | None) -> int:
    """Print the error, write the failed result if `job` is known, and return the exit code."""
    hint = ""
    if job and job[0] == "train" and RunFolder(job[1]).latest.weights.is_file():
        hint = "; to go on, repeat the command with -o Train.resume_path=auto"
        if RunFolder(job[1]).config_yaml.is_file():  # for who typed `make demo`, or a script
            hint += f", or: {next_command.after_stop(job[1])}"
        error = _name_checkpoint(error, RunFolder(job[1]).latest.folder)
    report = terminal.print_error(error, hint)
    if job and job[0] == "train" and earlier_run.show_result(job[1]):
        return report.code  # refused before it began: the result there is that of the earlier one
    if job:
        if job[0] == "evaluate":  # refused before it began: the next evaluation decides
            earlier_run.hide_result(job[1], job[0])
        content = {"done_flag": False, "err_type": report.kind, "err_msg": report.message}
        if job[0] == "check_dataset":
            content["check_pass"] = False
        with suppress(OSError):  # the first error, often the same full disk, is already reported
            files.write_json(RunFolder(job[1]).result(job[0]), content)
    return report.code


def _name_checkpoint(error: BaseException, latest: Path) -> BaseException:
    """The error; that of a full disk says which checkpoint is kept, and how to go on from it."""
    known = cache.explain(error) if isinstance(error, OSError) else error
    full = {os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT)}
    if not isinstance(known, PaddlexMLError) or known.what not in full:
        return error
    kept = f"; the last checkpoint is kept in {latest}, and with space there "
    kept += "-o Train.resume_path=auto goes on from it"
    return known.replace(fix=known.fix + kept)


def _summarise(config: Config, arguments: argparse.Namespace, result: Result) -> str:
    """What was written, and the command that a user most likely wants next."""
    following = _find_next(config, arguments, result)
    written = _list_written(config, result)
    return "\n".join([*written, *([f"next: {following}"] if following else [])])


def _list_written(config: Config, result: Result) -> list[str]:
    from paddlex_ml.artifacts.evaluate_result import EvaluationResult

    output = config.Global.output
    run = RunFolder(output)
    path = run.result(config.Global.mode)
    match result:
        case CheckResult():
            return [
                "Check dataset passed !",
                f"  result:    {path}",
                f"  samples:   {run.check_dataset.demo_img}",
                f"  histogram: {run.check_dataset.histogram}",
                f"  report:    {run.check_dataset.report}",
            ]
        case PlanResult():
            from paddlex_ml.engines.plan import plan_text

            return [plan_text.describe(result)]
        case TrainResult():
            from paddlex_ml.engines.train.summary import summarise

            return [summarise(result, output)]
        case EvaluationResult():
            report = [f"report: {output / result.report}"] if result.report is not None else []
            classes = f"classes: {output / result.per_class_csv}"
            return [f"Evaluate done: {path}", *report, classes]
        case ExportResult():
            is_whole = isinstance(result.inference_dir, str)
            return [f"Export done: {path}", *([] if is_whole else [f"weights: {result.files[0]}"])]
        case BenchmarkResult():
            from paddlex_ml.engines.benchmark.files import tabulate

            files = [f"table:  {run.benchmark.benchmark_csv}", f"report: {run.benchmark.report}"]
            return [*tabulate(result), f"Benchmark done: {path}", *files]
        case PredictResult():
            saved = PredictFiles(config.Predict.save_path or run.predict.folder)
            what = "pictures and scores" if config.Predict.save_img else "scores"
            maps = [f"heatmaps: {saved.explain}"] if config.Predict.explain else []
            return [f"Prediction done: {path}", f"{what}: {saved.folder}", *maps]


def _find_next(config: Config, arguments: argparse.Namespace, result: Result) -> str | None:
    from paddlex_ml.artifacts.evaluate_result import EvaluationResult

    typed = (arguments.config, arguments.override)
    match result:
        case CheckResult():
            return _find_training(config, *typed, result)
        case PlanResult():
            return next_command.after_plan(config, *typed, result)
        case TrainResult():
            return next_command.after_training(config)
        case EvaluationResult():
            return next_command.after_evaluation(config, *typed, result)
        case ExportResult():
            return next_command.after_export(config, *typed, result)
        case BenchmarkResult():
            return next_command.after_benchmark(config, *typed, result)
        case PredictResult():
            return None


def _find_training(config: Config, name: str, overrides: Sequence[str], result: CheckResult) -> str:
    """The command that trains on what was checked, into a folder that no other training has."""
    if options_by_size.is_by_reference(config):
        overrides = options_by_size.go_on(config, overrides, result)
    training = validation.with_value(config, "Global.mode", "train")
    is_taken = earlier_run.find_conflict(training) is not None
    free = earlier_run.free_folder(config.Global.output) if is_taken else None
    classes = result.attributes.num_classes
    return next_command.after_check(config, name, overrides, classes, free)
