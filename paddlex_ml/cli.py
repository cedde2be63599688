# SPDX-License-Identifier: Apache-2.0
"""Arguments -> Config -> engine -> exit code.

Paddle takes seconds to import, so nothing here imports it: an engine is imported only when its
mode runs. Exit codes: 0 done, 1 a bug of ours, 2 something the user can repair, 130 and 143
stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import paddlex_ml
from paddlex_ml import paddle_runtime, terminal
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config import load, shipped
from paddlex_ml.config.schema import MODES, Config
from paddlex_ml.distributed import addresses
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.engines.train.summary import summarise
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.models import published
from paddlex_ml.storage import files

logger = logging.getLogger(__name__)

ENGINES = {
    "check_dataset": "paddlex_ml.engines.check_dataset",
    "train": "paddlex_ml.engines.train.run",
    "evaluate": "paddlex_ml.engines.evaluate.run",
    "export": "paddlex_ml.engines.export",
    "predict": "paddlex_ml.engines.predict.run",
}
_WITHOUT_PADDLE = {"check_dataset", "predict"}  # predict imports it when a model needs it
_EVALUATED = {"report": "report:", "per_class_csv": "classes:"}

_HELP = """\
modes (-o Global.mode=...):
  check_dataset   look for every fault in a data set, draw samples and a histogram
  train           train a model, keep the best weights, export them
  evaluate        measure the model on val.txt: report, thresholds, doubtful labels
  export          turn weights into a static model for deployment
  predict         name what is on images

examples:
  {prog} -c PP-LCNet_x1_0_ML -o Global.mode=check_dataset -o Global.dataset_dir=./dataset/my_set
  {prog} -c PP-LCNet_x1_0_ML -o Global.mode=train -o Global.dataset_dir=./dataset/my_set
  {prog} -c output/config.yaml -o Global.mode=evaluate
  {prog} -c output/config.yaml -o Global.mode=predict -o Predict.input=photo.jpg
  {prog} -c output/config.yaml -o Global.mode=train -o Train.resume_path=output/latest

all options:
  {prog} -c PP-LCNet_x1_0_ML --print-config
  lists every key with its value; the comments in the shipped file explain each of them:
  {folder}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` without the program's name.

    Writes `<output>/<mode>_result.json` whether the run succeeds or fails. Raises SystemExit, as
    argparse does, for --help and --version.
    """
    job: tuple[str, Path] | None = None
    with terminal.speaking(silent=not addresses.is_main_process()):
        try:
            arguments = _parse(sys.argv[1:] if argv is None else argv)
            path = _find_config(arguments.config)
            if arguments.print_config:
                print(load.dump(load.load(path, arguments.override, to_run=False).config), end="")
                return 0
            job = load.destination(path, arguments.override)
            config = _load(path, arguments.override)
            if conflict := earlier_run.find_conflict(config):
                job = None  # the result file there is that of the other training
                raise conflict
            if config.Global.mode == "train" and not addresses.is_main_process(
                config.Train.dist_ips
            ):
                job = None  # the files are the leader's
                _run_engine(config)
                logger.info("done: the results are on the first machine")
                return 0
            _open_output(*_job(config))
            result = _run_engine(config)
            files.write_json(_result_file(*_job(config)), result)
        except (Exception, KeyboardInterrupt, Stopped) as error:
            return _fail(error, job if addresses.is_main_process() else None)
    print(_farewell(config, arguments, result))
    if result["done_flag"]:
        return 0
    print(f"error: {result['err_msg']}", file=sys.stderr)
    return 2


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = terminal.Parser(
        prog=_program(),
        description="Multi-label image classification on PaddlePaddle, driven by YAML.",
        epilog=_HELP.format(prog=_program(), folder=shipped.folder()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-c", "--config", required=True, metavar="FILE",
        help="a YAML file, or the name of a model for the file that is shipped with it",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--override", action="extend", nargs="+", default=[], metavar="SECTION.KEY=VALUE",
        help="set one key; VALUE is read as YAML; may be repeated, the last one counts",
    )  # fmt: skip
    parser.add_argument(
        "--print-config", action="store_true", help="print the merged configuration and stop"
    )
    parser.add_argument(
        "--list-models", action="version", version=_list_of_models(),
        help="print the models with their size, cost and published score, and stop",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=paddlex_ml.__version__)
    return parser.parse_args(argv)


def _list_of_models() -> str:
    rows = [("model", "parameters", "MiB", "GFLOPs at 448", "mAP on COCO", "for")]
    for name in (*published.MODELS, *sorted(set(shipped.MODELS) - set(published.MODELS))):
        if model := published.TABLE.get(name):
            size = (f"{model.parameters / 1e6:.1f} M", f"{model.mebibytes:.0f}")
            rows.append((name, *size, f"{model.gflops:.1f}", f"{model.coco_map:.2f} %", model.use))
        else:
            rows.append((name, "-", "-", "-", "not published", "-"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, 5) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", "GFLOPs: 10^9 multiply-adds; mAP: published weights, COCO 2017"])


def _find_config(name: str) -> Path:
    path, note = shipped.find(name)
    if note:
        logger.info("%s", note)
    return path


def _load(path: Path, overrides: Sequence[str]) -> Config:
    loaded = load.load(path, overrides)
    for note in loaded.notes:
        logger.warning("%s", note)
    return loaded.config


def _run_engine(config: Config) -> dict[str, Any]:
    """Run the engine of the mode; returns the content of its result file."""
    mode = config.Global.mode
    if mode not in _WITHOUT_PADDLE:
        logger.info("%s", paddle_runtime.prepare())
    engine = importlib.import_module(ENGINES[mode])
    result: dict[str, Any] = engine.run(config)
    return result


def _open_output(mode: str, output: Path) -> None:
    """Make the output folder, write in it once, and remove the result of an earlier run.

    A folder that cannot be written is found now, not after an epoch; and who waits for the result
    file never reads the success of the last run, even when this one is killed.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"\0" * 4096)  # an empty file can be made on a full disk
        _result_file(mode, output).unlink(missing_ok=True)
    except OSError as error:
        raise files.explain(error) or PaddlexMLError(
            f"the output folder cannot be written: {error.strerror}",
            where=str(output),
            fix="choose another folder: -o Global.output=...",
        ) from error


def _fail(error: BaseException, job: tuple[str, Path] | None) -> int:
    """Tell the user, write the failed result when its place is known, and return the exit code."""
    told = terminal.tell(error, _resume_hint(job))
    if job:
        _write_failure(*job, told.kind, told.message)
    return told.code


def _write_failure(mode: str, output: Path, err_type: str, err_msg: str) -> None:
    result: dict[str, Any] = {"done_flag": False, "err_type": err_type, "err_msg": err_msg}
    if mode == "check_dataset":
        result["check_pass"] = False
    with suppress(OSError):  # the first fault, often the same full disk, is the one to report
        files.write_json(_result_file(mode, output), result)


def _resume_hint(job: tuple[str, Path] | None) -> str:
    if job is None or job[0] != "train" or not RunFolder(job[1]).latest.weights.is_file():
        return ""
    return "; to go on, repeat the command with -o Train.resume_path=auto"


def _farewell(config: Config, arguments: argparse.Namespace, made: Mapping[str, Any]) -> str:
    """What was made and the command that a user most likely wants next."""
    mode, output = _job(config)
    run, result, keep = RunFolder(output), _result_file(mode, output), list(arguments.override)
    match mode:
        case "check_dataset":
            train = _command(arguments.config, "train", arguments.override)
            return (
                "Check dataset passed !\n"
                f"  result:    {result}\n"
                f"  samples:   {run.check_dataset.demo_img}\n"
                f"  histogram: {run.check_dataset.histogram}\n"
                f"  report:    {run.check_dataset.report}\n"
                f"next: {train}"
            )
        case "train":
            merged = run.config_yaml  # no other override is needed
            predict = _command(str(merged), "predict", ["Predict.input=photo.jpg"])
            return f"{summarise(made, output)}\nnext: {predict}"
        case "predict":
            pictures = config.Predict.save_path or run.predict.folder
            draws = config.Predict.save_img or config.Predict.explain
            drawn = "pictures and scores" if draws else "scores"
            return f"Prediction done: {result}\n{drawn}: {pictures}"
        case "evaluate":
            told = "".join(
                f"{title} {output / made[key]}\n"
                for key, title in _EVALUATED.items()
                if key in made
            )
            return (
                f"Evaluate done: {result}\n{told}next: {_after_evaluation(config, arguments, made)}"
            )
        case "export" if config.Export.format == "safetensors":
            return f"Export done: {result}\nweights: {made['files'][0]}"
        case "export" if config.Export.weight_path or config.Export.format != "paddle":
            keep.append(f"Predict.model_dir={made['inference_dir']}")
    predict = _command(arguments.config, "predict", [*keep, "Predict.input=photo.jpg"])
    return f"{mode.capitalize()} done: {result}\nnext: {predict}"


def _after_evaluation(
    config: Config, arguments: argparse.Namespace, made: Mapping[str, Any]
) -> str:
    """Weights that were named are exported next; what training or the user exported predicts.

    A model that was given its thresholds predicts too: an export anew would undo them.
    """
    keep, named = list(arguments.override), config.Evaluate.weight_path
    saved = (made.get("thresholds") or {}).get("saved")
    if named and saved:
        named = str(Path(saved[0]).parent)
    elif named and not Path(made["weight_path"]).is_dir():
        return _command(arguments.config, "export", [*keep, f"Export.weight_path={named}"])
    if named:
        keep.append(f"Predict.model_dir={named}")
    return _command(arguments.config, "predict", [*keep, "Predict.input=photo.jpg"])


def _command(config: str, mode: str, overrides: Sequence[str]) -> str:
    """A command line ready to be pasted; the mode replaces that of `overrides`.

    What the check was told to convert or divide is done, and left out.
    """
    done = ("Global.mode=", "CheckDataset.")
    kept = [text for text in overrides if not text.replace(" ", "").startswith(done)]
    words = ["-c", config, *(w for text in (f"Global.mode={mode}", *kept) for w in ("-o", text))]
    return f"{_program()} {shlex.join(words)}"


def _program() -> str:
    """How the user started this program, for commands that can be pasted."""
    started = Path(sys.argv[0])
    if started.name == "main.py":
        return f"python {shlex.quote(sys.argv[0])}"
    if started == Path(__file__).with_name("__main__.py"):
        return "python -m paddlex_ml"
    return "paddlex-ml"


def _job(config: Config) -> tuple[str, Path]:
    return config.Global.mode, config.Global.output


def _result_file(mode: str, output: Path) -> Path:
    assert mode in MODES
    return RunFolder(output).result(mode)
