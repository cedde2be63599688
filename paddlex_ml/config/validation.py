# SPDX-License-Identifier: Apache-2.0
"""Plain YAML values -> dataclasses: checks keys and types, for the file and for `-o` alike."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from paddlex_ml import systems
from paddlex_ml.config import foreign_words, values, yaml_text
from paddlex_ml.config.schema import Config
from paddlex_ml.config.values import Checked, Form, Range, Refused
from paddlex_ml.safe_text import without_secrets

T = TypeVar("T")

_WHOLE = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)  # text that can be no other number
_MOST_CHOICES = 10  # keys in an answer: of more, none is found
_MOST_INSIDE = 5
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
    proposed: tuple[Any, ...] = ()
    """The value that the fix gives to `key`, if it gives one."""


class Good(NamedTuple):
    """A value that a key takes: as it is written, and as the configuration holds it."""

    written: Any
    held: Any
    is_example: bool = False
    """It has nothing of the value that it replaces."""


def override(key: str, value: Any) -> str:
    """The command-line text that sets `key` to `value`, ready for a shell."""
    return f"-o {systems.quote(assignment(key, value))}"


def assignment(key: str, value: Any) -> str:
    """`key=value`, as the program gets it behind `-o`."""
    return f"{key}={yaml_text.write_inline(value, key, form_of)}"


def repair(key: str, value: Any) -> str:
    """The override that sets `key` to `value` where that is allowed, else to a good value."""
    return _write(key, _good(key, value)) if key in _kinds() else override(key, value)


def translate(key: str, value: Any) -> dict[str, Good]:
    """The keys of ours that a word of another tool means, with values that they take; or none."""
    if key in _kinds():
        return {key: _good(key, value)}
    if meaning := _meaning(key):
        return {name: _good(name, held) for name, held in meaning(value).items()}
    return {name: _good(name, value) for name in meant_by(key)[:1]}


def meant_by(key: str) -> list[str]:
    """The keys with a value that a word of another tool may mean; letters are not guessed."""
    if key in _kinds():
        return [key]
    return [name for name in _meant_keys(key, guess=False) if name in _kinds()]


def _good(key: str, value: Any) -> Good:
    """The value where the key takes it, else one in its place that it takes."""
    try:
        return Good(value, convert(key, value))
    except Refused as refused:
        return _replace(key, value, refused, _substitutes()[key])


def _replace(key: str, value: Any, refused: Refused, substitute: Any) -> Good:
    """What stands in place of a value: what other tools mean by it, what keeps the rule; else an
    example, which has nothing of it."""
    translate = foreign_words.VALUES.get(key)
    ours = translate(value) if translate else None
    meant = [*([] if ours is None else [ours]), *refused.repairs]
    for good in (*meant, *refused.examples):
        with suppress(Refused):
            return Good(good, convert(key, good), is_example=good not in meant)
    return Good(substitute, substitute, is_example=True)


def _write(key: str, good: Good) -> str:
    """The override, which says so where its value has nothing of the one that it replaces."""
    text = override(key, good.written)
    return f"{text}, where {mark(key, good)}" if good.is_example else text


def mark(key: str, good: Good) -> str:
    """The words that tell an example: "20 is only an example"."""
    shown = assignment(key, good.written).partition("=")[2]
    return f"{shown} is {'the default' if good.written is None else 'only an example'}"


def accepts(key: str, value: Any) -> bool:
    """Whether a plain value may stand behind a known key."""
    with suppress(Refused):
        convert(key, value)
        return True
    return False


def convert(key: str, value: Any) -> Any:
    """What the configuration holds for a plain value of a known key. Raises Refused."""
    return _convert(value, _kinds()[key])


def with_value(section: T, key: str, value: Any) -> T:
    """The configuration, or one of its sections, with another value of a dotted key."""
    name, _, below = key.partition(".")
    if below:
        value = with_value(getattr(section, name), below, value)
    return replace(section, **{name: value})  # type: ignore[type-var]


def example(key: str) -> str | None:
    """An override of `key`, or of the first key of that section, that works; None: unknown key."""
    below = [leaf for leaf in leaf_keys() if leaf == key or leaf.startswith(f"{key}.")]
    return override(below[0], _substitutes()[below[0]]) if below else None


def build(section: type[T], raw: Any, where: str, faults: list[ConfigFault]) -> T:
    """Build one section from plain values, adding every fault found to `faults`.

    A key at fault gets its default (or its typical value), so that the other keys can still be
    checked: use the result only when no fault was added.
    """
    if raw is None:  # `Train:` with nothing below it: all its keys are commented out
        raw = {}
    hints = _hints(section)  # type: ignore[arg-type]
    if not isinstance(raw, dict):
        what = f"{where} is {_show(raw)}: must be a section with the keys {', '.join(hints)}"
        named = f"{where}.name"
        is_name = named in _kinds() and accepts(named, raw)
        fix = f"set its keys, as in {override(named, raw) if is_name else example(where)}"
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
        dotted = _join(where, key)
        meaning = _meaning(dotted)
        meant = meaning(value) if meaning else dict.fromkeys(_meant_keys(dotted), value)
        if isinstance(value, dict):  # of another tool, unless it is a section that is misspelt
            is_foreign = dotted.lower() in foreign_words.SECTIONS
            meant = {k: v for k, v in meant.items() if k not in leaf_keys() and not is_foreign}
        if len(meant) == 1 and next(iter(meant)).rpartition(".")[0] == where:
            [(name, held)] = meant.items()
            known.setdefault(name.rpartition(".")[2], held)
        is_section = not where and (
            isinstance(value, dict) or not (meant or str(key).lower() in foreign_words.NOTES)
        )
        what = f"unknown {'section' if is_section else 'key'} {dotted}"
        if meant:
            fix = _rename(meant, is_whole=meaning is not None)
        else:
            fix = _answer(dotted, value, [_join(where, name) for name in hints])
        faults.append(ConfigFault(dotted, what, fix))
    return known


def _rename(meant: dict[str, Any], *, is_whole: bool) -> str:
    """The repair that writes other keys: all of them, or any one of several that may be meant."""
    shown = {name: repair(name, value) for name, value in meant.items() if name in leaf_keys()}
    for name, value in meant.items():
        if (
            isinstance(value, dict)
            and 0 < len(inside := list(_inside(name, value))) <= _MOST_INSIDE
        ):
            shown[name] = " ".join(inside)
    if is_whole:
        return f"write {' and '.join(meant)} instead ({' '.join(shown.values())})"
    return ", or ".join(
        f"write {name} instead" + (f" ({shown[name]})" if name in shown else "") for name in meant
    )


def _answer(dotted: str, value: Any, choices: Sequence[str]) -> str:
    """The repair of a key or section that is no word for a key of ours."""
    if isinstance(value, dict) and (inside := list(_words_inside(dotted, value))):
        of = foreign_words.SECTIONS.get(dotted.lower(), "another tool")
        more = f", and {len(inside) - _MOST_INSIDE} more" if len(inside) > _MOST_INSIDE else ""
        return (
            f"remove it, a section of {of}; in our keys: {', '.join(inside[:_MOST_INSIDE])}{more}"
        )
    for part in reversed(dotted.split(".")):
        if note := foreign_words.NOTES.get(part.lower()):
            return f"remove it: {note}"
    if len(choices) > _MOST_CHOICES:
        section = dotted.rpartition(".")[0]
        none = f"none of the {len(choices)} keys of {section} is like it"
        return f"remove it: {none}; --print-config lists them"
    return f"remove it, or choose from {', '.join(choices)}"


def _inside(section: str, keys: dict[Any, Any]) -> Iterator[str]:
    """The keys of a section whose name is misspelt, as overrides."""
    for name, value in keys.items():
        key = _join(section, name)
        if not isinstance(value, dict):
            meant = [key] if key in leaf_keys() else _meant_keys(key)
            yield from (repair(each, value) for each in meant[:1] if each in leaf_keys())


def _words_inside(dotted: str, section: dict[Any, Any]) -> Iterator[str]:
    """What the keys of a foreign section are here, as overrides."""
    for name, value in section.items():
        key = _join(dotted, name)
        if isinstance(value, dict):
            yield from _words_inside(key, value)
        elif name == "name" and key not in foreign_words.MEANINGS:  # of anything
            continue
        elif meaning := _meaning(key):
            yield from (repair(*item) for item in meaning(value).items())
        elif meant := [each for each in _meant_keys(key, guess=False) if each in leaf_keys()]:
            yield repair(meant[0], value)


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
        what = f"{key} is {_show(value)}: {refused.rule}"
        good = _replace(key, value, refused, substitute)
        option = foreign_words.NO_MODES.get(str(value).lower()) if key == "Global.mode" else None
        fix = option or _write(key, good)
        faults.append(ConfigFault(key, what, fix, proposed=(good.held,)))
        return substitute


def _convert(value: Any, kind: Any) -> Any:
    """`value` as the type and the range of `kind` require it. Raises Refused."""
    if _is_optional(kind):  # always `X | None`
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
        return values.local_path(value)
    if kind is float:
        return values.finite(value)
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):  # in quotes
            return str(value).lower() == "true"
        meant = (_YES | _NO).get(str(value).lower())
        raise Refused("must be true or false", *([] if meant is None else [meant]))
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):  # in quotes
        return int(value)
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
    shown = "a mapping" if isinstance(value, dict) else without_secrets(repr(value))
    return shown if len(shown) <= 80 else shown[:77] + "..."


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


@cache
def _hints(section: type) -> dict[str, Any]:
    return get_type_hints(section, include_extras=True)


def is_section(kind: Any) -> TypeGuard[type]:
    """Whether a field of this type is a section, which holds keys of its own."""
    return isinstance(kind, type) and is_dataclass(kind)


@cache
def leaf_keys() -> tuple[str, ...]:
    """Every dotted key that holds a value: `Global.model`, ..., `Predict.save_path`."""
    return tuple(_kinds())


def _leaves(section: type = Config, where: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Every dotted key that holds a value, with its field and its type."""
    for item in fields(section):
        key, kind = _join(where, item.name), _hints(section)[item.name]
        if is_section(kind):
            yield from _leaves(kind, key)
        else:
            yield key, item, kind


@cache
def _kinds() -> dict[str, Any]:
    return {key: kind for key, _, kind in _leaves()}


@cache
def _substitutes() -> dict[str, Any]:
    return {key: _substitute(item, kind) for key, item, kind in _leaves()}


def typical_values(section: str) -> dict[str, Any]:
    """A good value for each key of a section of the first level that has no default."""
    required = [item for key, item, _ in _leaves() if key == f"{section}.{item.name}"]
    return {
        item.name: _substitutes()[f"{section}.{item.name}"]
        for item in required
        if item.default is MISSING
    }


@cache
def sections() -> frozenset[str]:
    """The names of the sections of the first level."""
    return frozenset(item.name for item in fields(Config))


def is_optional(key: str) -> bool:
    """Whether a known key may be null."""
    return _is_optional(_kinds().get(key))


def _is_optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _marker(kind: Any) -> Any:
    """What marks a field, or None: the Checked or Range of its type."""
    kind = get_args(kind)[0] if _is_optional(kind) else kind
    return get_args(kind)[1] if get_origin(kind) is Annotated else None


@cache
def path_keys() -> tuple[str, ...]:
    """The keys of paths, and those of a path, a URL, or a list of them."""
    checks = (values.path_text, values.path_texts, values.pictures)

    def is_path(kind: Any) -> bool:
        marker = _marker(kind)
        is_checked = isinstance(marker, Checked) and marker.check in checks
        return kind in (Path, Path | None) or is_checked

    return tuple(key for key, kind in _kinds().items() if is_path(kind))


@cache
def form_of(key: str) -> Form:
    """How the value of a dotted key is written; of a misspelt key, that of the one it means."""
    known = key
    while known and known not in _kinds():
        known = known.rpartition(".")[0]
    if not known and not any(leaf.startswith(f"{key}.") for leaf in leaf_keys()):
        known = next(iter(_meant_keys(key)), "")
    kind = _kinds().get(known)
    if kind is None:
        return "yaml"
    marker = _marker(kind)
    if isinstance(marker, Checked):
        return marker.form
    bare = get_args(kind)[0] if _is_optional(kind) else kind
    return "text" if bare is Path or get_origin(bare) is Literal else "yaml"


def takes_none(key: str) -> bool:
    """Whether the word None of Python can only mean null behind `key`."""
    kind = _kinds().get(key)
    marker = _marker(kind)
    is_free = isinstance(marker, Checked) and marker.check in (values.text, values.texts)
    return _is_optional(kind) and not is_free


def _meaning(key: str) -> foreign_words.Meaning | None:
    """What turns the value of an unknown key into keys of ours, where it means another value."""
    if _renamed(key):
        return None
    name = key.rpartition(".")[2].lower()
    return foreign_words.MEANINGS.get(key) or foreign_words.MEANINGS.get(name)


def _renamed(key: str) -> list[str]:
    """The keys of the same section that other tools call `key`."""
    where, _, name = key.rpartition(".")
    usual = [known for known, others in foreign_words.SYNONYMS.items() if name.lower() in others]
    return [each for each in (_join(where, known) for known in usual) if each in _kinds()]


@cache
def _meant_keys(key: str, *, guess: bool = True) -> tuple[str, ...]:
    """The keys that an unknown key may mean: two at most of another section, or the nearest."""
    where, _, name = key.rpartition(".")
    if here := _renamed(key):
        return tuple(here[:1])
    if meaning := _meaning(key):
        return tuple(meaning(True))
    if name.lower() in foreign_words.NOTES:
        return ()
    usual = [known for known, others in foreign_words.SYNONYMS.items() if name.lower() in others]
    for names in ((name,), usual):
        if elsewhere := [leaf for leaf in leaf_keys() if leaf.rpartition(".")[2] in names][:2]:
            return tuple(elsewhere)
    prefix = f"{where}." if where else ""
    siblings = [leaf.removeprefix(prefix) for leaf in leaf_keys() if leaf.startswith(prefix)]
    choices = list(dict.fromkeys(leaf.partition(".")[0] for leaf in siblings))
    similar = values.nearest(name, choices) if guess else None
    return (_join(where, similar),) if similar else ()
