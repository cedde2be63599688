# SPDX-License-Identifier: Apache-2.0
"""YAML text <-> plain values, stricter than PyYAML: one meaning per word, no key twice.

Scalars follow the core schema of YAML 1.2: only true and false are booleans (PyYAML reads `OFF`
and `no` as False), 1e-4 is a number (PyYAML: text), a date is text, and no tag runs code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

# Tag, pattern, first letters: the core schema of YAML 1.2, section 10.3.2.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_CORE_SCHEMA = (
    ("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", _BOOL, list("tTfF")),
    ("tag:yaml.org,2002:int", _INT, list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789.")),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True  # an anchor in a file for people helps nobody


for _tag, _pattern, _letters in _CORE_SCHEMA:
    _whole = re.compile(rf"(?:{_pattern.pattern})\Z")
    _Loader.add_implicit_resolver(_tag, _whole, _letters)
    _Dumper.add_implicit_resolver(_tag, _whole, _letters)


@dataclass
class Document:
    """A parsed text: its plain value, the line of each dotted key, and the doubled keys."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    doubles: list[tuple[str, int, int]] = field(default_factory=list)
    """(dotted key, its first line, its second line), lines counted from 1."""


def parse(text: str) -> Document:
    """Parse one YAML document. Raises yaml.YAMLError, which knows its line, for bad syntax."""
    document = Document(None)
    node = yaml.compose(text, Loader=_Loader)
    if node is not None:
        document.value = _value(node, "", document, ())
    return document


def parse_scalar_or_flow(text: str) -> Document:
    """Parse the value of one override.

    A plain word is taken as a whole, so that `photo #1.jpg` does not lose its end to a comment, and
    a first letter that YAML keeps for itself (`*.jpg`, `@file`) makes a text instead of an error.
    """
    text = text.strip()
    if text[:1] in tuple("*&!%@`|>#"):
        return Document(text)
    node = yaml.compose(text, Loader=_Loader)
    if isinstance(node, yaml.ScalarNode) and node.style is None:
        loader = _Loader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return Document(_scalar(yaml.ScalarNode(tag, text, node.start_mark)))
    return parse(text)


def write(value: Any) -> str:
    """Plain values as YAML text of several lines, which `parse` reads back to the same values."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text


def write_inline(value: Any) -> str:
    """A plain value as YAML on one line: how it is written behind `-o key=`."""
    if isinstance(value, str) and _is_plain(value):
        return value
    style = '"' if isinstance(value, str) else None  # a shell wants the single quotes for itself
    line: str = yaml.dump(
        value,
        Dumper=_Dumper,
        default_style=style,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=True,
        width=float("inf"),
    )
    return line.removesuffix("\n").removesuffix("\n...")


def _is_plain(text: str) -> bool:
    """Whether a text means itself behind `-o key=`, without quotes."""
    try:
        return bool(parse_scalar_or_flow(text).value == text)
    except yaml.YAMLError:
        return False


def _value(node: yaml.Node, key: str, document: Document, parents: tuple[yaml.Node, ...]) -> Any:
    """The plain value of a node; what is learned about keys goes into `document`."""
    if any(node is parent for parent in parents):
        raise yaml.MarkedYAMLError(problem="a value contains itself", problem_mark=node.start_mark)
    parents = (*parents, node)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, key, document, parents)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, key, document, parents) for item in node.value]
    return _scalar(node)


def _mapping(
    node: yaml.MappingNode, where: str, document: Document, parents: tuple[yaml.Node, ...]
) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    first_lines: dict[Any, int] = {}
    for name, dotted, line, child in _pairs(node, where):
        if name in result:
            document.doubles.append((dotted, first_lines[name], line))
        first_lines[name] = document.lines[dotted] = line
        result[name] = _value(child, dotted, document, parents)
    return result


def _pairs(node: yaml.MappingNode, where: str) -> Iterator[tuple[Any, str, int, yaml.Node]]:
    """(key, dotted key, line, value node) of a mapping."""
    for key_node, child in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(
                problem="a key must be one word", problem_mark=key_node.start_mark
            )
        name = _scalar(key_node)
        dotted = f"{where}.{name}" if where else str(name)
        yield name, dotted, key_node.start_mark.line + 1, child


def _scalar(node: yaml.Node) -> Any:
    text = node.value
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _integer(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "str":
            return text
    raise yaml.MarkedYAMLError(
        problem=f"the tag {node.tag} has no meaning here", problem_mark=node.start_mark
    )


def _integer(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:  # Python refuses thousands of digits: it stays text, which no number takes
        return text
