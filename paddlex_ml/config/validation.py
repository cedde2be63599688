# SPDX-License-Identifier: Apache-2.0
"""Plain YAML values -> dataclasses: checks keys and types, for the file and for `-o` alike."""

from __future__ import annotations

import shlex
import types
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from paddlex_ml.config import values, yaml_text
from paddlex_ml.config.schema import Config
from paddlex_ml.config.values import Checked, Range, Refused

T = TypeVar("T")

_YES = {"yes": True, "y": True, "on": True, "1": True, "t": True}
_NO = {"no": False, "n": False, "off": False, "0": False, "f": False}


@dataclass(frozen=True)
class ConfigFault:
    """One thing that is wrong with one key, and how to repair it."""

    key: str
    what: str
    fix: str
    where: str | None = None
    """Where it was found, if not simply where `key` was written."""


def override(key: str, value: Any) -> str:
    """The command-line text that sets `key` to `value`, ready for a shell."""
    return f"-o {shlex.quote(f'{key}={yaml_text.write_inline(value)}')}"


def build(section: type[T], raw: Any, where: str, faults: list[ConfigFault]) -> T:
    """Build one section from plain values, adding every fault found to `faults`.

    A key at fault gets its default (or its typical value), so that the other keys can still be
    checked: use the result only when no fault was added.
    """
    if raw is None:  # `Train:` with nothing below it: all its keys are commented out
        raw = {}
    hints = _hints(section)
    if not isinstance(raw, dict):
        what = f"{where} is {_show(raw)}: must be a section with the keys {', '.join(hints)}"
        fix = f"set its keys, as in {_example(section, where)}"
        faults.append(ConfigFault(where, what, fix))
        raw = {}
    raw = _known_keys(section, raw, where, faults)
    return section(
        **{
            item.name: _field_value(item, hints[item.name], raw, _join(where, item.name), faults)
            for item in fields(section)  # type: ignore[arg-type]
        }
    )


def _known_keys(
    section: type, raw: dict[Any, Any], where: str, faults: list[ConfigFault]
) -> dict[Any, Any]:
    """The known keys of `raw`; each other key is a fault.

    The value of a misspelt key is validated under the key that was meant, so that one slip does not
    also report that key as missing.
    """
    hints = _hints(section)
    known = {key: value for key, value in raw.items() if key in hints}
    for key, value in raw.items():
        if key in hints:
            continue
        # Two keys at most that were written in the wrong section, else the most similar key.
        meant = [leaf for leaf in leaf_keys() if leaf.rpartition(".")[2] == str(key)][:2]
        if not meant and (similar := values.nearest(str(key), list(hints))):
            known.setdefault(similar, value)
            meant = [_join(where, similar)]
        fixes = [
            f"write {name} instead" + (f" ({override(name, value)})" if name in leaf_keys() else "")
            for name in meant
        ]
        choices = ", ".join(_join(where, name) for name in hints)
        dotted = _join(where, key)
        what = f"unknown {'key' if where else 'section'} {dotted}"
        fix = ", or ".join(fixes) or f"remove it, or choose from {choices}"
        faults.append(ConfigFault(dotted, what, fix))
    return known


def _field_value(
    item: Field[Any], kind: Any, raw: dict[Any, Any], key: str, faults: list[ConfigFault]
) -> Any:
    """The value of one key; a default when the key is missing or at fault."""
    if is_section(kind):
        return build(kind, raw.get(item.name), key, faults)
    substitute = _substitute(item, kind)
    if item.name not in raw:
        if item.default is MISSING:
            faults.append(ConfigFault(key, f"{key} is missing", override(key, substitute)))
        return substitute
    value = raw[item.name]
    try:
        return _convert(value, kind)
    except Refused as refused:
        repair = refused.repairs[0] if refused.repairs else substitute
        what = f"{key} is {_show(value)}: {refused.rule}"
        faults.append(ConfigFault(key, what, override(key, repair)))
        return substitute


def _convert(value: Any, kind: Any) -> Any:
    """`value` as the type and the range of `kind` require it. Raises Refused."""
    if get_origin(kind) in (Union, types.UnionType):  # always `X | None`
        return None if value is None else _convert(value, get_args(kind)[0])
    if get_origin(kind) is Literal:
        return values.one_of(get_args(kind))(value)
    if get_origin(kind) is not Annotated:
        return _convert_plain(value, kind)
    base, marker = get_args(kind)
    if isinstance(marker, Checked):
        return marker.check(value)
    number = _convert(value, base)
    marker.check(number)
    return number


def _convert_plain(value: Any, kind: type) -> Any:
    """`value` as a Path, float, bool or int. Raises Refused, with what was probably meant."""
    if kind is Path:
        return Path(values.path_text(value))
    if kind is float:
        return values.finite(value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        meant = (_YES | _NO).get(str(value).lower())
        raise Refused("must be true or false", *([] if meant is None else [meant]))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    rule = "must be a whole number"
    try:
        number = values.finite(value)
    except Refused:
        raise Refused(rule) from None
    raise Refused(rule, *([int(number)] if number >= 1 else []))


def _substitute(item: Field[Any], kind: Any) -> Any:
    """A value that is surely good: the default, else the typical value, else the first choice."""
    if item.default is not MISSING:
        return item.default
    if get_origin(kind) is Annotated:
        marker: Range | Checked = get_args(kind)[1]
        return marker.typical
    return get_args(kind)[0]


def _show(value: Any) -> str:
    shown = "a mapping" if isinstance(value, dict) else repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _example(section: type, where: str) -> str:
    """An override that sets the first key of a section to a good value."""
    first: Field[Any] = fields(section)[0]
    key, kind = _join(where, first.name), _hints(section)[first.name]
    return _example(kind, key) if is_section(kind) else override(key, _substitute(first, kind))


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _hints(section: type) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


def is_section(kind: Any) -> TypeGuard[type]:
    """Whether a field of this type is a section, which holds keys of its own."""
    return isinstance(kind, type) and is_dataclass(kind)


@cache
def leaf_keys(section: type = Config, where: str = "") -> tuple[str, ...]:
    """Every dotted key that holds a value: `Global.model`, ..., `Predict.save_path`."""
    keys: list[str] = []
    for name, kind in _hints(section).items():
        key = _join(where, name)
        keys += leaf_keys(kind, key) if is_section(kind) else [key]
    return tuple(keys)
