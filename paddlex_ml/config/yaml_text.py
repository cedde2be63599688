# SPDX-License-Identifier: Apache-2.0
"""YAML text <-> plain values, stricter than PyYAML: one meaning per word, no key twice.

Scalars follow the core schema of YAML 1.2: only true and false are booleans (PyYAML reads `OFF`
and `no` as False), 1e-4 is a number (PyYAML: text), a date is text, and no tag runs code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
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
        return True  # an anchor only makes a file harder to read


for _tag, _pattern, _letters in _CORE_SCHEMA:
    _full_match = re.compile(rf"(?:{_pattern.pattern})\Z")
    _Loader.add_implicit_resolver(_tag, _full_match, _letters)
    _Dumper.add_implicit_resolver(_tag, _full_match, _letters)
_Dumper.add_multi_representer(Path, lambda dumper, path: dumper.represent_str(str(path)))


@dataclass
class Document:
    """A parsed text: its plain value, the line of each dotted key, and keys that are set twice."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    doubles: list[tuple[str, int, int]] = field(default_factory=list)
    """(dotted key, its first line, its second line), lines counted from 1."""


def parse(text: str) -> Document:
    """Parse one YAML document. Raises yaml.YAMLError, with the line, for bad syntax."""
    document = Document(None)
    node = yaml.compose(text, Loader=_Loader)
    if node is not None:
        document.value = _value(node, "", document, ())
    return document


def parse_scalar_or_flow(text: str) -> Document:
    """Parse the value of one override.

    A text without quotes has no comments, so that `photo #1.jpg` keeps its end, and a first letter
    with a meaning in YAML (`*.jpg`, `@file`) makes a text instead of an error.
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
    """Plain values and paths as YAML text of several lines, which `parse` reads back."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text


def write_inline(value: Any) -> str:
    """A plain value or a path as YAML on one line: how it is written behind `-o key=`."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        try:
            if parse_scalar_or_flow(value).value == value:  # it needs no quotes
                return value
        except yaml.YAMLError:
            pass
    style = '"' if isinstance(value, str) else None  # single quotes have a meaning in a shell
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


def _value(node: yaml.Node, key: str, document: Document, parents: tuple[yaml.Node, ...]) -> Any:
    """The plain value of a node; the lines of its keys go into `document`."""
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
    for key_node, child in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(
                problem="a key must be one word", problem_mark=key_node.start_mark
            )
        name, line = _scalar(key_node), key_node.start_mark.line + 1
        dotted = f"{where}.{name}" if where else str(name)
        if name in result:
            document.doubles.append((dotted, first_lines[name], line))
        first_lines[name] = document.lines[dotted] = line
        result[name] = _value(child, dotted, document, parents)
    return result


def _scalar(node: yaml.Node) -> Any:
    text = node.value
    match node.tag.rpartition(":")[2]:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            try:
                return int(text)
            except ValueError:  # Python refuses thousands of digits: text, which no number accepts
                return text
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "str":
            return text
    raise yaml.MarkedYAMLError(
        problem=f"the tag {node.tag} has no meaning here", problem_mark=node.start_mark
    )
