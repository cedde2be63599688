# SPDX-License-Identifier: Apache-2.0
"""Plain YAML values -> dataclasses. The one judge of keys and types, for the file and for `-o`."""

from __future__ import annotations

import shlex
import types
from collections.abc import Collection, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from paddlex_ml.config import values, yaml_text
from paddlex_ml.config.schema import Config
from paddlex_ml.config.values import Checked, Range, Refused

T = TypeVar("T")

_ARTICLES = {
    bool: "must be true or false",
    int: "must be a whole number",
    float: "must be a number",
}
_YES = {"yes": True, "y": True, "on": True, "1": True, "t": True}
_NO = {"no": False, "n": False, "off": False, "0": False, "f": False}


@dataclass(frozen=True)
class ConfigFault:
    """One thing that is wrong with one key, and how to repair it."""

    key: str
    what: str
    fix: str
    where: str | None = None
    """Where it was found, when that is not simply where `key` was written."""


def override(key: str, value: Any) -> str:
    """The command-line text that sets `key` to `value`, ready for a shell."""
    plain = str(value) if isinstance(value, Path) else value
    return f"-o {shlex.quote(f'{key}={yaml_text.write_inline(plain)}')}"


def build(section: type[T], raw: Any, where: str, faults: list[ConfigFault]) -> T:
    """Build one section from plain values, adding every fault found to `faults`.

    A key at fault gets its default (or its typical value), so that the rest can still be judged:
    what is returned may only be used when no fault was added.
    """
    if raw is None:  # `Train:` with nothing below it: all its keys are commented out
        raw = {}
    if not isinstance(raw, dict):
        faults.append(_not_a_section(section, raw, where))
        raw = {}
    hints = _hints(section)
    raw = _known_only(section, raw, where, faults)
    return section(
        **{
            item.name: _field(item, hints[item.name], raw, _join(where, item.name), faults)
            for item in fields(section)  # type: ignore[arg-type]
        }
    )


def _known_only(
    section: type, raw: dict[Any, Any], where: str, faults: list[ConfigFault]
) -> dict[Any, Any]:
    """The known keys of `raw`. A misspelt one is a fault, but its value is judged under the key
    that was meant, so that one slip does not also report that key as missing."""
    hints = _hints(section)
    known = {key: value for key, value in raw.items() if key in hints}
    for key, value in raw.items():
        if key not in hints:
            meant = None if _homes(key) else values.nearest(str(key), list(hints))
            faults.append(_unknown(section, key, value, where, meant))
            if meant:
                known.setdefault(meant, value)
    return known


def _field(
    item: Field[Any], kind: Any, raw: dict[Any, Any], key: str, faults: list[ConfigFault]
) -> Any:
    """The value of one key; a default when the key is missing or at fault."""
    if isinstance(kind, type) and is_dataclass(kind):
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
    """`value` as the type and the limits of `kind` want it. Raises Refused."""
    if get_origin(kind) in (Union, types.UnionType):  # `X | None`: the only union without a check
        return None if value is None else _convert(value, get_args(kind)[0])
    if get_origin(kind) is Annotated:
        base, marker = get_args(kind)
        if isinstance(marker, Checked):
            return marker.check(value)
        number = _convert(value, base)
        marker.check(number)
        return number
    if get_origin(kind) is Literal:
        return values.one_of(get_args(kind))(value)
    return _PLAIN[kind](value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    meant = (_YES | _NO).get(str(value).lower())
    raise Refused(_ARTICLES[bool], *([] if meant is None else [meant]))


def _int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        number = values.finite(value)
    except Refused:
        raise Refused(_ARTICLES[int]) from None
    raise Refused(_ARTICLES[int], *([int(number)] if number >= 1 else []))


def _path(value: Any) -> Path:
    return Path(values.place(value))


_PLAIN = {bool: _bool, int: _int, float: values.finite, Path: _path}


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


def _not_a_section(section: type, raw: Any, where: str) -> ConfigFault:
    names = ", ".join(_hints(section))
    what = f"{where} is {_show(raw)}: must be a section with the keys {names}"
    return ConfigFault(where, what, f"set its keys, as in {_example(section, where)}")


def _example(section: type, where: str) -> str:
    """An override that sets the first key of a section to a good value."""
    first: Field[Any] = fields(section)[0]
    key, kind = _join(where, first.name), _hints(section)[first.name]
    if isinstance(kind, type) and is_dataclass(kind):
        return _example(kind, key)
    return override(key, _substitute(first, kind))


def _unknown(section: type, key: Any, value: Any, where: str, meant: str | None) -> ConfigFault:
    """The fault of an unknown key, which names where the key lives or which one is alike."""
    dotted = _join(where, key)
    if homes := _homes(key):
        fix = ", or ".join(_write(home, value) for home in homes)
    elif meant:
        fix = _write(_join(where, meant), value)
    else:
        fix = (
            f"remove it, or choose from {', '.join(_join(where, name) for name in _hints(section))}"
        )
    return ConfigFault(dotted, f"unknown {'key' if where else 'section'} {dotted}", fix)


def _homes(key: Any) -> list[str]:
    """The dotted keys, two at most, that end in `key`: it was written in the wrong section."""
    return [known for known in leaf_keys() if known.rpartition(".")[2] == str(key)][:2]


def _write(key: str, value: Any) -> str:
    return f"write {key} instead" + (f" ({override(key, value)})" if key in leaf_keys() else "")


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _hints(section: type) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


@cache
def leaf_keys() -> Collection[str]:
    """Every dotted key that holds a value: `Global.model`, ..., `Predict.save_path`."""
    return tuple(_leaves(Config, ""))


def _leaves(section: type, where: str) -> Iterator[str]:
    for name, kind in _hints(section).items():
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _leaves(kind, _join(where, name))
        else:
            yield _join(where, name)


def section_keys() -> Collection[str]:
    """Every dotted key that holds other keys: `Global`, ..., `Train.loss`."""
    parents = {key.rpartition(".")[0] for key in leaf_keys()}
    return parents | {parent.partition(".")[0] for parent in parents}
