# SPDX-License-Identifier: Apache-2.0
"""What a sweep is asked for, and its combinations: keys x values x seeds x folds.

--sweep Train.learning_rate=1e-4,5e-4 --seeds 2      Sweep: {Train.learning_rate: [1e-4, 5e-4]}
--sweep Train.learning_rate=1e-5..1e-2 --search tpe --trials 40     a search chooses them instead
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from paddlex_ml import systems
from paddlex_ml.artifacts.sweep_folder import PlannedRun, SweepFolder
from paddlex_ml.config import validation, values
from paddlex_ml.config.load import SWEEP
from paddlex_ml.engines.search import space
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

MOST_RUNS = 100
"""Runs that are started without a question."""
_COUNTS = ("seeds", "folds", "jobs", "trials")
_TEXTS = ("search", "prune", "storage", "study")
OPTIONS = (*_COUNTS, *_TEXTS)
"""What a sweep is told beside its keys, on the command line and in the section."""
_OF_SEARCH = (*_TEXTS, "trials")
_CHOICES = {"search": ("tpe", "random"), "prune": ("none", "asha", "median")}
_FIXED = {
    "Global.output": "each run gets a folder of its own below it",
    "Global.mode": "a sweep trains",
    "Global.overwrite": "a sweep goes on where it was",
    "Train.resume_path": "a sweep goes on where it was",
    "Train.rescore_best": "a sweep goes on where it was",
}
_OTHER_MODES = ("CheckDataset", "Export", "Predict")
_LONGEST = 120
"""Bytes of a folder's name: a Chinese character has three, and a disk takes 255 with the rest."""


@dataclass(frozen=True)
class SearchRequest:
    """How a search chooses its combinations."""

    sampler: str
    trials: int
    pruner: str
    storage: str | None
    """URL of an Optuna storage, or the path of a journal; None: a file in the folder."""
    study: str | None
    """Its name there."""


@dataclass(frozen=True)
class SweepRequest:
    """A sweep as the user asks for it."""

    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Key -> values, each as it is written behind -o key=."""
    seeds: int | None = None
    folds: int | None = None
    jobs: int | None = None
    search: SearchRequest | None = None
    """None: all combinations are trained."""

    @property
    def count(self) -> int:
        """Number of runs."""
        if self.search is not None:
            return self.search.trials
        sizes = map(len, self.values.values())
        return math.prod(sizes) * (self.seeds or 1) * (self.folds or 1)

    @property
    def at_a_time(self) -> int:
        """Runs at a time, not more than there are: each gets a larger part of the cores then. It
        depends on no run that is done, so that one which goes on has as many cores as before.
        """
        return min(self.jobs or 1, self.count)


def read_request(
    words: Sequence[str], options: Mapping[str, int | str | None], section: Any
) -> SweepRequest | None:
    """The sweep of a command line and of the section Sweep of its file; None where none is asked.

    words: behind --sweep. options: those of OPTIONS, None where they are not given. The command
    line wins. Raises PaddlexMLError for everything that cannot be meant.
    """
    found, own = _read_section(section)
    typed: dict[str, tuple[str, ...]] = {}
    for text in words:
        key, equals, listed = text.partition("=")
        key = key.strip()
        if not equals:
            raise _refuse(f"--sweep {text} has no =", f"write --sweep {key}=VALUE,VALUE")
        if key in typed:
            raise _refuse(f"{key} is swept twice", "write all of its values behind one --sweep")
        typed[key] = tuple(split_values(listed))
    found |= typed
    chosen = own | {name: value for name, value in options.items() if value is not None}
    numbers = {name: value for name, value in chosen.items() if isinstance(value, int)}
    if not found and not chosen.keys() & {"seeds", "folds", "search"}:
        if chosen:
            wanted = " --search tpe" if chosen.keys() & {*_OF_SEARCH} else " or --seeds N"
            fix = f"add --sweep KEY=VALUE,VALUE{wanted}"
            raise _refuse(f"--{next(iter(chosen))} is for a sweep", fix)
        return None
    for key, texts in found.items():
        _refuse_key(key, texts, has_folds="folds" in numbers)
    for name, number in numbers.items():
        least = 2 if name == "folds" else 1
        if number < least:
            raise _refuse(f"--{name} is {number}", f"--{name} {least} or more")
    if "seeds" in numbers and "Global.seed" in found:
        raise _refuse("Global.seed is swept, and --seeds is given", "leave out one of the two")
    search = _read_search(chosen, found)
    counts = (numbers.get("seeds"), numbers.get("folds"), numbers.get("jobs"))
    return SweepRequest(found, *counts, search)


def _read_section(
    section: Any,
) -> tuple[dict[str, tuple[str, ...]], dict[str, int | str]]:
    """Swept keys and options of the section in the file; both are empty for None."""
    if section is None:
        return {}, {}
    if not isinstance(section, dict):
        raise _refuse(f"the section {SWEEP} is no mapping", f"-o {SWEEP}=null leaves it out")
    found, options = dict[str, tuple[str, ...]](), dict[str, int | str]()
    waiting = list(section.items())
    while waiting:
        key, value = waiting.pop(0)
        if not isinstance(key, str):
            raise _refuse(f"the key {key!r} of the section {SWEEP} is no text", "write a key in it")
        if key in found:
            raise _refuse(f"{SWEEP}.{key} is swept twice", "write all of its values in one list")
        if isinstance(value, dict):
            waiting = [*((f"{key}.{below}", each) for below, each in value.items()), *waiting]
        elif key in OPTIONS:
            kind, words = (int, "a whole number") if key in _COUNTS else (str, "a text")
            if type(value) is not kind:
                raise _refuse(f"{SWEEP}.{key} is {value!r}", f"write {words}")
            options[key] = value
        elif isinstance(value, str) and space.is_range(value):
            found[key] = (value,)
        elif not isinstance(value, list):
            meant = values.nearest(str(key), OPTIONS)
            also = f"the option {meant}, " if meant else ""
            raise _refuse(
                f"{SWEEP}.{key} is {value!r}, no list",
                f"write {also}[{value}], LOW..HIGH for a search, or one of {', '.join(OPTIONS)}",
            )
        else:
            found[key] = tuple(validation.assignment(key, each).partition("=")[2] for each in value)
    return found, options


def _read_search(
    chosen: Mapping[str, int | str], found: Mapping[str, Sequence[str]]
) -> SearchRequest | None:
    """The search of these options; None where all combinations are to be trained."""
    if "search" not in chosen:
        if alone := [name for name in _OF_SEARCH if name in chosen]:
            more = "" if "trials" in chosen else " --trials 40"
            raise _refuse(f"--{alone[0]} is for a search", f"add --search tpe{more}")
        for key, texts in found.items():
            if ranges := [text for text in texts if space.is_range(text)]:
                raise _refuse(
                    f"{key} has the range {ranges[0]}, in which a search alone can choose",
                    f"add --search tpe --trials 40, or list values: --sweep {key}=VALUE,VALUE",
                )
        return None
    for name in _TEXTS:
        value, choices = chosen.get(name), _CHOICES.get(name)
        if value is not None and (not value or (choices and value not in choices)):
            meant = values.nearest(str(value), choices or ()) or (choices or ["VALUE"])[0]
            listed = f": it is one of {', '.join(choices)}" if choices else ""
            raise _refuse(f"--{name} is {value!r}{listed}", f"--{name} {meant}")
    if "trials" not in chosen:
        raise _refuse("--search does not say how many trainings it may make", "add --trials 40")
    if not found:
        fix = "add --sweep Train.learning_rate=1e-5..1e-2, or a list of values"
        raise _refuse("--search has nothing to choose", fix)
    for name in ("seeds", "folds"):
        if name in chosen:
            raise _refuse(
                f"--{name} is given, but a search trains each combination once",
                f"leave it out; then train the best combinations with --sweep and --{name}",
            )
    if "Global.seed" in found:
        raise _refuse("a search for a seed finds the luckiest one", "leave Global.seed out")
    if ("storage" in chosen) != ("study" in chosen):
        if "study" in chosen:
            raise _refuse("--study names a study in a --storage", "add --storage URL")
        raise _refuse("--storage may hold many studies: which is meant?", "add --study NAME")
    named = {name: str(chosen[name]) for name in _TEXTS if name in chosen}
    return SearchRequest(
        sampler=named["search"],
        trials=int(chosen["trials"]),
        pruner=named.get("prune", "none"),
        storage=named.get("storage"),
        study=named.get("study"),
    )


def split_values(text: str) -> list[str]:
    """Divide a text at its commas, except for those within brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        parts[-1] += letter
    return [part.strip() for part in parts]


def _refuse_key(key: str, texts: Sequence[str], *, has_folds: bool) -> None:
    known = validation.leaf_keys()
    if key not in known:
        near = values.nearest(key, known) or values.nearest(
            key.rpartition(".")[2], [each.rpartition(".")[2] for each in known]
        )
        full = next((each for each in known if near in (each, each.rpartition(".")[2])), None)
        fix = f"--sweep {full}=..." if full else "choose a key of --print-config"
        raise _refuse(f"there is no key {key}", fix)
    if not texts or "" in texts:
        what = f"{key} has an empty value" if len(texts) > 1 else f"{key} has no values"
        raise _refuse(what, f"write --sweep {key}=VALUE,VALUE")
    inner = texts[0][1:-1] if len(texts) == 1 and texts[0][0] + texts[0][-1] == "[]" else ""
    if inner and not validation.accepts(key, split_values(inner)):
        raise _refuse(f"{key} takes no list", f"leave out the brackets: --sweep {key}={inner}")
    if len(set(texts)) < len(texts):
        raise _refuse(f"{key} has a value twice: {', '.join(texts)}", "write each value once")
    reason = _FIXED.get(key)
    if key.partition(".")[0] in _OTHER_MODES:
        reason = "no training depends on it"
    if key == "Global.dataset_dir" and has_folds:
        reason = "the folds are those of one data set"
    if reason is not None:
        raise _refuse(f"{key} cannot be swept: {reason}", "leave it out of the sweep")


def _refuse(what: str, fix: str) -> PaddlexMLError:
    return PaddlexMLError(what, where="the sweep", fix=fix)


def refuse_many(request: SweepRequest, most: int) -> None:
    """Raise PaddlexMLError where there are more than `most` runs: nobody meant ten thousand."""
    if request.count > most:
        if request.search is not None:
            what = f"these are {count(request.count, 'training')}, one for each trial"
            raise _refuse(what, f"--max-runs {request.count} if that is meant; else fewer --trials")
        sizes = [f"{len(texts)} of {key}" for key, texts in request.values.items()]
        sizes += [f"{n} {name}" for name in ("seeds", "folds") if (n := getattr(request, name))]
        raise _refuse(
            f"these are {count(request.count, 'run')}: {' x '.join(sizes)}",
            f"--max-runs {request.count} if that is meant; else leave some values out",
        )


def expand(request: SweepRequest, seed: int, folder: SweepFolder) -> list[PlannedRun]:
    """All combinations, the folds of one beside each other.

    seed: the first one; the others follow it.
    """
    keys, short = list(request.values), shorten(list(request.values))
    seeds: list[int | None] = [None]
    if request.seeds is not None:
        seeds = [seed + k for k in range(request.seeds)]
    runs, taken = list[PlannedRun](), set[str]()
    for texts in product(*request.values.values()):
        for own_seed in seeds:
            words = [f"{key}={text}" for key, text in zip(keys, texts, strict=True)]
            parts = [f"{short[key]}={text}" for key, text in zip(keys, texts, strict=True)]
            if own_seed is not None:
                words.append(f"Global.seed={own_seed}")
                parts.append(f"seed={own_seed}")
            if request.folds is None:
                runs.append(PlannedRun(name=name_run(parts, taken), overrides=words, group=""))
                continue
            group = name_run(parts or ["all"], taken)
            for number in range(1, request.folds + 1):
                data = validation.assignment(
                    "Global.dataset_dir", str(folder.fold(number, request.folds))
                )
                name = name_run([*parts, f"fold={number}of{request.folds}"], taken)
                runs.append(PlannedRun(name=name, overrides=[*words, data], group=group))
    return runs


def shorten(keys: Sequence[str]) -> dict[str, str]:
    """Keys without their sections, where that is enough to tell them apart."""
    short = [key.partition(".")[2] for key in keys]
    return {k: s if short.count(s) == 1 else k for k, s in zip(keys, short, strict=True)}


def name_run(parts: Sequence[str], taken: set[str]) -> str:
    """A file name for a combination; a digest keeps those apart that would have the same one.

    Also names that differ in capitals alone, which are one folder on the disks of many machines.
    """
    text = ",".join(parts)
    name = re.sub(r"[^\w.+=,-]+", "_", text)
    short = name.encode()[:_LONGEST].decode(errors="ignore")
    if short != name or name.casefold() in taken or name.startswith((".", "-")):
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        name = f"{short.lstrip('.-')}-{digest[:8]}"
    taken.add(name.casefold())
    return name


def write_command(start: str, words: Sequence[str]) -> str:
    """A command line that can be pasted. start: the words before the options."""
    return f"{start} {systems.join(words)}"
