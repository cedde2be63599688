# SPDX-License-Identifier: Apache-2.0
"""The words behind the command: its options, and the page of --help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn

import paddlex_ml
from paddlex_ml import program, systems, terminal
from paddlex_ml.config import foreign_options, shipped, typed_words, validation
from paddlex_ml.config.schema import MODES
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.models import published
from paddlex_ml.safe_text import one_line

_HELP = """\
modes (-o Global.mode=...):
  check_dataset   find every fault in a data set, draw samples and a histogram
  plan            measure what a training will cost; writes nothing
  train           train a model, keep the best weights, export them
  evaluate        measure the model on val.txt: report, thresholds, doubtful labels
  export          convert weights to a static model for deployment
  benchmark       measure speed, size and accuracy of every export on this machine
  predict         name what images show

examples:
  {prog} --data my_photographs -o Global.mode=train
  {prog} -c PP-LCNet_x1_0_ML -o Global.mode=check_dataset -o Global.dataset_dir=./dataset/my_set
  {prog} -c PP-LCNet_x1_0_ML -o Global.mode=train -o Global.dataset_dir=./dataset/my_set
  {prog} -c output/config.yaml -o Global.mode=evaluate
  {prog} -c output/config.yaml -o Global.mode=predict -o Predict.input=photo.jpg
  {prog} -c output/config.yaml -o Global.mode=train -o Train.resume_path=output/latest

all options:
  {prog} -c PP-LCNet_x1_0_ML --print-config
  lists every key with its value; the comments in the shipped file explain each of them:
  {folder}

documentation:
  {documents}
"""

_DATA_KEY = "Global.dataset_dir"
_WITH_DATA = (
    "CheckDataset.convert.src_dataset_type=auto",
    "CheckDataset.convert.by_reference=true",
)
_OVERRIDE = ("-o", "--override")
_ASKED = {
    **dict.fromkeys(("help", "-help", "--h", "-?", "/?"), "--help"),
    **dict.fromkeys(("version", "-version", "-v", "--v"), "--version"),
}


_EXAMPLES = {
    "--config": "-c PP-LCNet_x1_0_ML", "--override": "-o Global.mode=train",
    "--data": "--data my_photographs", "--demo": "--demo my_folder",
    "--sweep": "--sweep Train.learning_rate=1e-4,1e-3", "--seeds": "--seeds 3",
    "--folds": "--folds 5", "--jobs": "--jobs 2", "--trials": "--trials 20",
    "--search": "--search tpe", "--prune": "--prune median", "--study": "--study my_study",
    "--storage": "--storage study.journal", "--max-runs": "--max-runs 200",
    "--emit": "--emit slurm", "--reproduce": "--reproduce output",
}  # fmt: skip
_NAMED = re.compile(r"argument (?:-\w/)?(--[\w-]+)")


class _Parser(terminal.Parser):
    """Repairs a bad argument of an option by an example of this option."""

    def error(self, message: str) -> NoReturn:
        """Raise PaddlexMLError."""
        named = _NAMED.match(message)
        if named is None or named[1] not in _EXAMPLES:
            super().error(message)
        raise PaddlexMLError(message, where="the command line", fix=_EXAMPLES[named[1]])


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command; `argv` without the program's name.

    Raises PaddlexMLError for bad ones, and SystemExit for --help, --version and --list-models.
    """
    parser = _Parser(
        prog=program.command(),
        description="Multi-label image classification on PaddlePaddle, driven by YAML.",
        epilog=_HELP.format(
            prog=program.command(), folder=shipped.folder(), documents=program.documents()
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-c", "--config", metavar="FILE",
        help="a YAML file, or the name of a model for the file that is shipped with it",
    )  # fmt: skip
    _add_data(parser)
    parser.add_argument(
        *_OVERRIDE, action="extend", nargs="+", default=[], metavar="SECTION.KEY=VALUE",
        help="set one key; VALUE is read as YAML; may be repeated, the last one wins",
    )  # fmt: skip
    parser.add_argument(
        "--print-config", action="store_true", help="print the merged configuration and stop"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as JSON in place of its summary"
    )
    parser.add_argument(
        "--list-models", action="version", version=_list_models(),
        help="print the models with their size, cost and published score, and stop",
    )  # fmt: skip
    _add_experiments(parser)
    parser.add_argument("--version", action="version", version=paddlex_ml.__version__)
    arguments = _refuse_others(parser, _parse_known(parser, argv))
    if arguments.data is not None:
        arguments.config = arguments.config or "PP-LCNet_x1_0_ML"
        arguments.override[:0] = [
            validation.assignment(_DATA_KEY, arguments.data),
            *_WITH_DATA,
        ]
    elif (arguments.config, arguments.demo, arguments.reproduce) == (None, None, None):
        raise _ask_for_more(parser, arguments.override, argv)
    return arguments


def _ask_for_more(
    parser: argparse.ArgumentParser, overrides: Sequence[str], argv: Sequence[str]
) -> PaddlexMLError:
    """Why a command without a configuration does nothing; its repair is the command with one."""
    typed = (text.partition("=") for text in overrides)
    mode = next((value for key, _, value in typed if key == "Global.mode"), "")
    command = foreign_options.Meant().command(argv, mode, is_named=False) if argv else ["--help"]
    return PaddlexMLError(
        "the following arguments are required: -c/--config, --data, --demo or --reproduce",
        where="the command line",
        fix=f"{parser.prog} {systems.join(command)}",
    )


def as_typed(error: PaddlexMLError) -> PaddlexMLError:
    """The error of a command with --data: it names that, and not the key that --data sets."""

    def name(text: str) -> Lines:
        text = re.sub(rf"-o (['\"]?){re.escape(_DATA_KEY)}=", r"--data \1", text)
        if "--data " in text:
            text = text.replace(f" -o {' -o '.join(_WITH_DATA)}", "")
        return Lines(text.replace(_DATA_KEY, "--data"))

    return error.replace(what=name(error.what), where=name(error.where), fix=name(error.fix))


def _parse_known(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The options. Raises PaddlexMLError for other words, with the command that means them."""
    words = list(argv)
    for at in reversed(range(len(words) - 1)):  # `-o --epochs=5`
        if words[at] in _OVERRIDE and words[at + 1].startswith("--"):
            del words[at]
    arguments, others = parser.parse_known_args(words)
    typed = (text.partition("=") for text in arguments.override)
    mode = next((value for key, _, value in typed if key == "Global.mode"), "")
    stray = _find_stray(arguments.override)
    if not others and not foreign_options.translate(stray, mode).values:
        return parser.parse_args(argv)
    others = _in_order(words, [*others, *stray])
    _refuse_misspelt(parser, words, others)
    asked = _ASKED.get(others[0].lower())
    meant = foreign_options.translate([] if asked else others, mode)
    what, fixes = f"unrecognized arguments: {systems.join(others)}", list(meant.notes)
    if meant.unknown:
        what += f"; unknown: {', '.join(meant.unknown)}"
        fixes.append(f"{parser.prog} --help")
    elif meant.values:
        what += f" (here: {', '.join(meant.values)})"
    is_named = bool(arguments.config or arguments.data or arguments.reproduce)
    if meant.values or meant.config or (meant.notes and is_named):
        command = meant.command(_without(words, others), mode, is_named=is_named)
        fixes.insert(0, f"{parser.prog} {systems.join(command)}")
    fix = f"{parser.prog} {asked}" if asked else Lines("\n         ".join(map(one_line, fixes)))
    raise PaddlexMLError(what, where="the command line", fix=fix)


def _refuse_misspelt(
    parser: argparse.ArgumentParser, words: Sequence[str], others: Sequence[str]
) -> None:
    """Raise PaddlexMLError with the whole command where words are nearly options of ours."""
    ours = {name[2:]: name for name in re.findall(r"--[a-z][a-z-]+", parser.format_help())}
    corrected = dict[str, str]()
    for word in others:
        typed, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--") and foreign_options.translate([word]).unknown:
            begun = [name for name in ours if name.startswith(typed)]
            near = begun if len(begun) == 1 else get_close_matches(typed, ours, 1, 0.75)
            if near:
                corrected[word] = f"{ours[near[0]]}{equals}{value}"
    if corrected:
        command = [corrected.get(word, word) for word in words]
        raise PaddlexMLError(
            f"unrecognized arguments: {systems.join(list(corrected))}",
            where="the command line",
            fix=f"{parser.prog} {systems.join(command)}",
        )


def _find_stray(overrides: Sequence[str]) -> list[str]:
    """The words behind -o that belong to no key, where one of them is a word alone: `-o train`.

    With them comes what has a key that is none of ours, and that has a meaning for the same reader.
    """
    found, is_alone = list[str](), False
    for each in typed_words.join(overrides):
        first, *rest = each.words
        key, equals, _ = first.partition("=")
        is_known = validation.example(key.strip().rstrip(":")) is not None
        has_mode = bool(equals and rest and rest[-1] in MODES)
        if not is_known and "." not in key and (has_mode or not rest):
            found += each.words
            is_alone = is_alone or has_mode or not equals
        elif each.left_out:
            found += each.left_out
            is_alone = True
        elif has_mode and key.strip() != "Global.mode":
            found.append(rest[-1])
            is_alone = True
    return found if is_alone else []


def _in_order(words: Sequence[str], some: Sequence[str]) -> list[str]:
    """Those of the words that are among `some`, each as often as there."""
    left, found = list(some), []
    for word in words:
        if word in left:
            left.remove(word)
            found.append(word)
    return found


def _without(words: Sequence[str], others: Sequence[str]) -> list[str]:
    """The words but for `others`, which stand among them in this order; no -o without words."""
    left, kept = list(others), list[str]()
    for word in [*words, ""]:
        if left and word == left[0]:
            del left[0]
            continue
        if kept and kept[-1] in _OVERRIDE and (not word or word.startswith("-")):
            del kept[-1]
        kept.append(word)
    return kept[:-1]


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="FOLDER_OR_TABLE",
        help="photographs and their labels in any form that is recognised; needs no -c, and writes "
        "a data set into <output>/dataset, which refers to the photographs",
    )  # fmt: skip
    parser.add_argument(
        "--demo", metavar="FOLDER", nargs="?", const="demo/scenes",
        help="draw a small data set into FOLDER (demo/scenes), and print the command that uses it",
    )  # fmt: skip


def _add_experiments(parser: argparse.ArgumentParser) -> None:
    page = program.page("experiments.md")
    sweep = parser.add_argument_group(f"many trainings and one table ({page})")
    sweep.add_argument(
        "--sweep", action="append", default=[], metavar="SECTION.KEY=A,B,C",
        help="train once with each value; may be repeated: all combinations are trained",
    )  # fmt: skip
    for name, letter, text in (
        ("seeds", "N", "train each combination with so many seeds, from Global.seed on"),
        ("folds", "K", "cross-validate each combination: all images are divided into K folds"),
        ("jobs", "N", "trainings at a time, which share the cores (default: 1)"),
        ("trials", "N", "trainings of a search"),
    ):
        sweep.add_argument(f"--{name}", type=int, metavar=letter, help=text)
    for name, letter, text in (
        ("search", "SAMPLER", "choose the combinations one after the other: tpe or random; a value "
         "of --sweep may be a range, LOW..HIGH"),
        ("prune", "RULE", "end a training early that others outdo: none, asha or median"),
        ("storage", "URL", "share a search between machines: a database, or a journal file"),
        ("study", "NAME", "the name of the search in the storage"),
    ):  # fmt: skip
        sweep.add_argument(f"--{name}", metavar=letter, help=text)
    sweep.add_argument("--max-runs", type=int, default=100, metavar="N", help="refuse more runs")
    shown = sweep.add_mutually_exclusive_group()
    shown.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    shown.add_argument(
        "--emit", choices=["slurm"], help="write a job script with one task for each run, and stop"
    )  # fmt: skip
    group = parser.add_argument_group(f"a training once more ({page})")
    group.add_argument(
        "--reproduce", metavar="FOLDER",
        help="train the run in this folder again, into FOLDER_again, and compare all numbers; "
        "exit code 3: they are others",
    )  # fmt: skip
    group.add_argument(
        "--anyway", action="store_true",
        help="also where lists, weights or records are not there as they were",
    )  # fmt: skip


def _refuse_others(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> argparse.Namespace:
    """Refuse what goes with neither --demo nor --reproduce, --anyway without the latter, two data
    sets, and the options of a sweep where a configuration is only printed.
    """
    names = ["config", "data", "sweep", "seeds", "folds", "jobs", "search", "trials", "prune"]
    names += ["storage", "study", "emit", "max_runs", "dry_run", "print_config"]
    typed = [name for name in names if getattr(arguments, name) != parser.get_default(name)]
    listed = " and ".join(f"--{name.replace('_', '-')}" for name in typed)
    others = arguments.override or arguments.reproduce or arguments.json
    if arguments.demo is not None and (typed or others):
        parser.error(
            "--demo draws a data set and stops: leave the other options to the next command"
        )
    keys = [text.partition("=")[0].strip() for text in arguments.override]
    if arguments.data is not None and _DATA_KEY in keys:
        parser.error("--data and -o Global.dataset_dir both name a data set: leave out one")
    if arguments.reproduce is not None and typed:
        parser.error(f"--reproduce repeats a run with its own configuration: leave out {listed}")
    runs = [name for name in typed if name not in ("config", "data", "print_config")]
    if arguments.print_config and runs:
        listed = " and ".join(f"--{name.replace('_', '-')}" for name in runs)
        parser.error(f"--print-config prints one configuration and stops: leave out {listed}")
    if arguments.reproduce is None and arguments.anyway:
        parser.error("--anyway belongs to --reproduce FOLDER")
    return arguments


def _list_models() -> str:
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
