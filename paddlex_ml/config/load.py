# SPDX-License-Identifier: Apache-2.0
"""A YAML file and the overrides of the command line -> Config, or one error with all faults."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from paddlex_ml import program
from paddlex_ml.config import rules, run_config, validation, values, yaml_text
from paddlex_ml.config.schema import IGNORED, MODES, Config
from paddlex_ml.config.typed_words import Override, join
from paddlex_ml.config.validation import ConfigFault
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import regular_file
from paddlex_ml.wording import count, first_names

SWEEP = "Sweep"
"""Section of a file that asks for many trainings (`engines/sweep`)."""
_MOST_SHOWN = 30  # faults of one error: three lines each, more than a terminal shows


@dataclass(frozen=True)
class Loaded:
    """A configuration without faults, and notes about it for the log."""

    config: Config
    notes: tuple[str, ...]
    typed: frozenset[str] = frozenset()
    """The keys that the command line sets."""


@dataclass
class _Merged:
    """The values of file and overrides, where each key was written, and the faults so far."""

    path: Path
    value: dict[Any, Any]
    origins: dict[str, str]
    faults: list[ConfigFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    typed: set[str] = field(default_factory=set)
    """The keys that the command line sets."""
    saved: Path | None = None
    """The folder of the training whose config.yaml this is."""
    sweep: Any = None
    """The section Sweep: no part of the configuration of a run."""

    def origin(self, key: str) -> str:
        """`file:line` or `-o ...` of `key`, of a key below it, or of the nearest section above."""
        if key not in self.origins:
            below = [known for known in self.origins if known.startswith(f"{key}.")]
            key = below[0] if below else key
        while key and key not in self.origins:
            key = key.rpartition(".")[0]
        return self.origins.get(key, str(self.path))


def load(path: Path, overrides: Sequence[str] = (), *, to_run: bool = True) -> Loaded:
    """Read the YAML file, apply `Section.key=value` overrides in order, and validate the result.

    With `to_run` false the rules that only a run needs (a data set is named, the rate can train)
    are left out, for showing the configuration. Raises PaddlexMLError that lists every fault.
    """
    loaded, merged = _load(path, overrides, to_run=to_run)
    if merged.faults:
        raise _error(merged)
    return loaded


def find_faults(path: Path, overrides: Sequence[str]) -> list[ConfigFault]:
    """The faults that `load` would raise. Raises PaddlexMLError where the file cannot be read."""
    return _load(path, overrides, to_run=True)[1].faults


def _load(path: Path, overrides: Sequence[str], *, to_run: bool) -> tuple[Loaded, _Merged]:
    """What is loaded counts only where no fault was found."""
    merged = _merge(path, overrides)
    notes = merged.notes
    if merged.sweep is not None:
        notes.append(f"the section {SWEEP} has a meaning in mode train alone, and is ignored")
    for key in IGNORED:
        section, _, name = key.partition(".")
        keys = merged.value.get(section)
        if isinstance(keys, dict) and name in keys:
            del keys[name]
            notes.append(f"{key} has no meaning here and is ignored")
    notes.extend(_read_none_as_null(merged.value))
    _fill_what_is_not_read(merged.value)
    config = validation.build(Config, merged.value, "", merged.faults)
    at_fault = {fault.key for fault in merged.faults}
    broken = list(rules.broken(config, at_fault, to_run=to_run))
    merged.faults = [_keep_rules(fault, config, broken, to_run=to_run) for fault in merged.faults]
    merged.faults.extend(broken)
    if to_run and not {"Global.mode", "Global.output", *run_config.MODEL_KEYS.values()} & at_fault:
        chosen = run_config.choose_model(config, merged.typed, path, merged.saved)
        config = chosen.config
        notes.extend(chosen.notes)
        merged.faults.extend(chosen.faults)
    notes = [] if merged.faults else [*notes, *rules.notes(config)]
    return Loaded(config, tuple(notes), frozenset(merged.typed)), merged


def _keep_rules(
    fault: ConfigFault, config: Config, broken: Sequence[ConfigFault], *, to_run: bool
) -> ConfigFault:
    """The fault with a fix that breaks no rule which was not broken before."""
    if not fault.proposed:
        return fault
    repaired = validation.with_value(config, fault.key, fault.proposed[0])
    for rule in rules.broken(repaired, set(), to_run=to_run):
        if rule not in broken:
            fix = rule.fix if rule.key == fault.key else f"{fault.fix} {rule.fix}"
            return dataclasses.replace(fault, fix=fix)
    return fault


def dump(config: Config) -> str:
    """The configuration as YAML that loads again to an equal Config."""
    return yaml_text.write(dataclasses.asdict(config))


def find_sweep(path: Path, overrides: Sequence[str]) -> tuple[Any, int | None]:
    """The plain value of the section Sweep, None without one; and Global.seed, None if not set.

    Raises PaddlexMLError where the file cannot be read.
    """
    merged = _merge(path, overrides)
    section = merged.value.get("Global")
    seed = section.get("seed") if isinstance(section, dict) else None
    return merged.sweep, seed if type(seed) is int else None


def destination(path: Path, overrides: Sequence[str]) -> tuple[str, Path] | None:
    """(mode, output folder) of a configuration that has faults.

    None when one of them is unknown: then a failure belongs to no result file.
    """
    try:
        merged = _merge(path, overrides)
    except PaddlexMLError:  # the file cannot be read at all: the overrides may still set both
        merged = _Merged(path, {}, {})
        for override in join(overrides):
            _apply(override, merged)
        if not {"Global.mode", "Global.output"} <= merged.origins.keys():
            return None
    section = merged.value.get("Global")
    if not isinstance(section, dict) or section.get("mode") not in MODES:
        return None
    try:
        return section["mode"], values.local_path(section.get("output", "output"))
    except values.Refused:
        return None


def _merge(path: Path, overrides: Sequence[str]) -> _Merged:
    document = _read(path)
    origins = {key: f"{path}:{line}" for key, line in document.lines.items()}
    merged = _Merged(path, document.value, origins)
    for key in document.templates - validation.sections():
        del merged.value[key]
    for key, first, second in document.doubles:
        what = f"{key} is set twice, in line {first} and in line {second}"
        fix = "remove one of the two lines"
        merged.faults.append(ConfigFault(key, what, fix, where=f"{path}:{second}"))
    merged.saved = run_config.folder_of(path)
    if merged.saved is not None:
        merged.notes.extend(run_config.move(merged.value, path, merged.saved))
    for override in join(overrides):
        _apply(override, merged)
    merged.sweep = merged.value.pop(SWEEP, None)
    return merged


def _read_none_as_null(raw: dict[Any, Any]) -> Iterator[str]:
    """Replace the word None of Python, where a key can be null; yields what was replaced."""
    for key in validation.leaf_keys():
        *parents, name = key.split(".")
        section: Any = raw
        for parent in parents:
            section = section.get(parent) if isinstance(section, dict) else None
        is_word = isinstance(section, dict) and section.get(name) == "None"
        if is_word and validation.takes_none(key) and not os.path.exists("None"):
            section[name] = None
            yield f"{key} is None, which is read as null"


def _fill_what_is_not_read(raw: dict[Any, Any]) -> None:
    """Let a file without the options of a training do for the modes that do not train."""
    section, train = raw.get("Global"), raw.get("Train") or {}
    if (
        isinstance(section, dict)
        and section.get("mode") not in rules.TRAINING
        and isinstance(train, dict)
    ):
        raw["Train"] = {**validation.typical_values("Train"), **train}


def _read(path: Path) -> yaml_text.Document:
    """Parse the file. Raises PaddlexMLError unless it is a UTF-8 text that holds a YAML mapping."""
    try:
        text = regular_file.read(path, regular_file.LARGEST_YAML).decode("utf-8-sig")
        document = yaml_text.parse(text, form_of=validation.form_of)
    except OSError as error:
        raise PaddlexMLError(
            f"the configuration cannot be read: {error.strerror}",
            where=str(path),
            fix="check the path behind -c, or give the name of a model: -c PP-LCNet_x1_0_ML",
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise PaddlexMLError(
            "the configuration is not UTF-8 text", where=f"{path}:{line}", fix="save it as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        problem, mark = _problem(error)
        fix = "correct the YAML at that line: check indents, quotes and the space after each colon"
        if "\\t" in problem:
            problem, fix = "a tab, which YAML forbids in indents", "replace each tab by spaces"
        where = f"{path}:{mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise PaddlexMLError(f"bad YAML: {problem}", where=where, fix=fix) from None
    if not isinstance(document.value, dict):
        kind = "empty" if document.value is None else f"a {type(document.value).__name__}"
        raise PaddlexMLError(
            f"the configuration must be a mapping of sections, it is {kind}",
            where=str(path),
            fix=f"start from a shipped file: {program.command()} -c PP-LCNet_x1_0_ML "
            "--print-config",
        )
    return document


def _problem(error: yaml.YAMLError) -> tuple[str, yaml.Mark | None]:
    """What is wrong, and where in the text, if that is known."""
    if isinstance(error, yaml.MarkedYAMLError):
        return error.problem or error.context or "bad syntax", error.problem_mark
    return str(error).partition("\n")[0], None


def _apply(override: Override, merged: _Merged) -> None:
    """Put one `Section.key=value` into the plain values, or add a fault."""
    text, origin = override.text, f"-o {' '.join(override.words)}"
    key, equals, value_text = text.partition("=")
    key, typed = key.strip(), value_text.strip()
    good = validation.example(key)
    problem: str | None = None
    proposed: tuple[Any, ...] = ()
    if not equals:
        problem, fix = "has no =", good or "write the key, =, and the value"
    elif not key or "" in key.split("."):
        problem, fix = "has an empty key", "write a key of --print-config before the ="
    elif not typed:  # often a shell variable that is not set: do not guess null
        problem, fix = "has no value", f"write the value, or {good}" if good else "write the value"
        if validation.is_optional(key):
            fix = f"write the value, or {validation.override(key, None)} for none"
            proposed = (None,)
    if problem:
        what = f"the override {text!r} {problem}"
        merged.faults.append(ConfigFault(key, what, fix, origin, proposed))
        return
    try:
        document = yaml_text.parse_scalar_or_flow(value_text, key, validation.form_of)
    except yaml.YAMLError as error:
        what = f"the value of {key} is bad YAML: {_problem(error)[0]}"
        fix = f"if it is a text, quote it: {validation.override(key, typed)}"
        is_known = key in validation.leaf_keys()  # the form may be that of a key that is meant
        is_text = validation.form_of(key) == "texts" and is_known and validation.accepts(key, typed)
        if good and not is_text:
            fix = f"{good}, as an example"
        merged.faults.append(ConfigFault(key, what, fix, where=origin))
        return
    for double, _, _ in document.doubles:
        what = f"{double} is set twice in one override"
        merged.faults.append(ConfigFault(key, what, "remove one of the two", where=origin))
    _put(merged, key, document.value, origin)
    if override.fix:
        proposed = (
            (validation.convert(key, document.value),) if key in validation.leaf_keys() else ()
        )
        merged.faults.append(ConfigFault(key, override.what, override.fix, origin, proposed))


def _put(merged: _Merged, key: str, value: Any, origin: str) -> None:
    """Set `key` to `value`; a mapping is merged into a section key by key."""
    is_section = any(leaf.startswith(f"{key}.") for leaf in validation.leaf_keys())
    if isinstance(value, dict) and is_section:
        for name, child in value.items():
            _put(merged, f"{key}.{name}", child, origin)
        return
    *parents, name = key.split(".")
    target = merged.value
    for depth, parent in enumerate(parents, 1):
        if target.get(parent) is None:
            target[parent] = {}
        target = target[parent]
        if not isinstance(target, dict):
            above = ".".join(parents[:depth])
            what = f"{above} holds a value, it has no key {key.removeprefix(above + '.')}"
            fix = f"set {above} as a whole: {validation.repair(above, value)}"
            merged.faults.append(ConfigFault(key, what, fix, where=origin))
            return
    target[name] = value
    merged.origins[key] = origin
    merged.typed.add(key)


def _error(merged: _Merged) -> PaddlexMLError:
    """One fault alone, or several as a numbered list, in the order in which they were found."""
    faults = merged.faults
    if len(faults) == 1:
        [only] = faults
        return PaddlexMLError(only.what, where=only.where or merged.origin(only.key), fix=only.fix)
    keys = first_names(list(dict.fromkeys(fault.key for fault in faults)))
    lines = [f"{count(len(faults), 'fault')} in the configuration: {keys}"]
    for number, fault in enumerate(faults[:_MOST_SHOWN], 1):
        lines += [
            f"  {number}. {one_line(fault.what)}",
            f"     where: {one_line(fault.where or merged.origin(fault.key))}",
            f"     fix:   {one_line(fault.fix)}",
        ]
    if len(faults) > _MOST_SHOWN:
        lines.append(f"  ... and {len(faults) - _MOST_SHOWN:,} more")
    return PaddlexMLError(
        Lines("\n".join(lines)),
        where=str(merged.path),
        fix="repair each fault as its own line says",
    )
