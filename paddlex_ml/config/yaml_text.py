# SPDX-License-Identifier: Apache-2.0
"""YAML text <-> plain values, stricter than PyYAML: one meaning per word, no key twice.

Scalars follow the core schema of YAML 1.2: only true and false are booleans (PyYAML reads `OFF`
and `no` as False), 1e-4 is a number (PyYAML: text), a date is text, and no tag runs code. Where
the caller knows that a key holds a text, 007 and true are texts. Anchors, aliases and merge keys
(`<<`) work.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from paddlex_ml.config.values import Form
from paddlex_ml.storage.limited_yaml import LimitedComposer

FormOf: TypeAlias = Callable[[str], Form]
"""Dotted key -> how its value is written."""

# Tag, pattern, first letters: the core schema of YAML 1.2, section 10.3.2.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_WORDS_FOR_NONE = ("null", "Null", "NULL")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
_CLASS_ID = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_CORE_SCHEMA = (
    ("tag:yaml.org,2002:null", _NULL, ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", _BOOL, list("tTfF")),
    ("tag:yaml.org,2002:int", _INT, list("-+0123456789")),
    ("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789.")),
)


class _Loader(LimitedComposer, yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True  # an anchor only makes a file harder to read


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Ends of lines of Unicode are written as escapes: read back, one of them would be a space."""
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


for _tag, _pattern, _letters in _CORE_SCHEMA:
    _full_match = re.compile(rf"(?:{_pattern.pattern})\Z")
    _Loader.add_implicit_resolver(_tag, _full_match, _letters)
    _Dumper.add_implicit_resolver(_tag, _full_match, _letters)
_Dumper.add_representer(str, _represent_text)
_Dumper.add_multi_representer(Path, lambda dumper, path: _represent_text(dumper, str(path)))


@dataclass
class Document:
    """A parsed text: its plain value, the line of each dotted key, and keys that are set twice."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)
    doubles: list[tuple[str, int, int]] = field(default_factory=list)
    """(dotted key, its first line, its second line), lines counted from 1."""
    templates: frozenset[str | int] = frozenset()
    """Keys of the first level with content that an alias (`*name`) repeats elsewhere."""


def _as_yaml(key: str) -> Form:
    return "yaml"


def parse(text: str, where: str = "", form_of: FormOf = _as_yaml) -> Document:
    """Parse one YAML document, the value of the dotted key `where`; "": a whole configuration.

    Raises yaml.YAMLError, with the line, for bad syntax.
    """
    document = Document(None)
    node = _compose(text)
    if node is not None:
        document.templates = _find_templates(node)
        document.value = _Reader(document, form_of).value(node, where, ())
    return document


# A command reads its file twice, for its values and for where a failure is told: most of a tenth of
# a second in PyYAML's parser. Nobody changes the nodes.
@lru_cache(maxsize=4)
def _compose(text: str) -> yaml.Node | None:
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


def parse_scalar_or_flow(text: str, where: str = "", form_of: FormOf = _as_yaml) -> Document:
    """Parse the value of one override of the key `where`.

    A text without quotes has no comments, so that `photo #1.jpg` keeps its end, and a first letter
    with a meaning in YAML (`*.jpg`, `@file`) makes a text instead of an error. Where the key holds
    a text, all of it is meant as it is typed, but for `null`, and quotes around the whole.
    """
    text, form = text.strip(), form_of(where)
    if form == "text" or (form == "texts" and text[:1] not in ("[", "{") and "\n" not in text):
        return Document(None if text in _WORDS_FOR_NONE else without_quotes(text))
    if text[:1] in tuple("*&!%@`|>#"):
        return Document(text)
    node = yaml.compose(text, Loader=_Loader)
    if isinstance(node, yaml.ScalarNode) and node.style is None:
        loader = _Loader("")
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return Document(_scalar(yaml.ScalarNode(tag, text, node.start_mark)))
    return parse(text, where, form_of)


def without_quotes(text: str) -> str:
    """The content of a quoted text; a text with other quotes is meant as it is."""
    if text[:1] in ("'", '"'):
        with suppress(yaml.YAMLError):
            node = yaml.compose(text, Loader=_Loader)
            if isinstance(node, yaml.ScalarNode):
                return str(node.value)
    return text


def write(value: Any) -> str:
    """Plain values and paths as YAML text of several lines, which `parse` reads back."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    return text


def write_inline(value: Any, key: str = "", form_of: FormOf = _as_yaml) -> str:
    """A plain value or a path as YAML on one line: how it is written behind `-o key=`."""
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        try:
            if parse_scalar_or_flow(value, key, form_of).value == value:  # it needs no quotes
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


def _find_templates(root: yaml.Node) -> frozenset[str | int]:
    """Keys of the first level whose content, or a part of it, an alias repeats."""
    if not isinstance(root, yaml.MappingNode):
        return frozenset()
    used = Counter(id(child) for node in _walk(root) for child in _children(node))
    return frozenset(
        _name(key)
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode) and not _is_merge(key)
        if any(used[id(node)] > 1 for node in _walk(value))
    )


def _walk(root: yaml.Node) -> Iterator[yaml.Node]:
    """The nodes below `root` and itself, each once."""
    seen, waiting = set[int](), [root]
    while waiting:
        node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            waiting.extend(_children(node))


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for _, child in node.value]
    return node.value if isinstance(node, yaml.SequenceNode) else []


@dataclass(frozen=True)
class _Reader:
    """Nodes -> plain values; the lines of keys go into the document."""

    document: Document
    form_of: FormOf

    def value(self, node: yaml.Node, key: str, parents: tuple[yaml.Node, ...]) -> Any:
        if any(node is parent for parent in parents):
            mark = node.start_mark
            raise yaml.MarkedYAMLError(problem="a value contains itself", problem_mark=mark)
        parents = (*parents, node)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, key, parents)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, key, parents) for item in node.value]
        return _scalar(node, as_text=self.form_of(key) != "yaml")

    def mapping(
        self, node: yaml.MappingNode, where: str, parents: tuple[yaml.Node, ...]
    ) -> dict[Any, Any]:
        """A mapping; what it takes over with `<<` gives way to its own keys."""
        result: dict[Any, Any] = {}
        first_lines: dict[Any, int] = {}
        for key_node, child in node.value:
            if _is_merge(key_node):
                for source in reversed(_merged(child)):  # the first of several wins
                    result.update(self.value(source, where, parents))
        for key_node, child in node.value:
            if _is_merge(key_node):
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                mark = key_node.start_mark
                raise yaml.MarkedYAMLError(problem="a key must be one word", problem_mark=mark)
            name, line = _name(key_node), key_node.start_mark.line + 1
            dotted = f"{where}.{name}" if where else str(name)
            if name in first_lines:
                self.document.doubles.append((dotted, first_lines[name], line))
            first_lines[name] = self.document.lines[dotted] = line
            result[name] = self.value(child, dotted, parents)
        return result


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.style is None and key.value == "<<"


def _merged(node: yaml.Node) -> list[yaml.Node]:
    """The mappings that are named behind `<<`."""
    sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(source, yaml.MappingNode) for source in sources):
        problem = "<< takes over a mapping, or a list of mappings"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return list(sources)


def _name(key: yaml.ScalarNode) -> str | int:
    """A key as it is typed; a whole number, the id of a class, as a number."""
    is_id = key.style is None and _CLASS_ID.fullmatch(key.value)
    return int(key.value) if is_id else str(key.value)


def _scalar(node: yaml.Node, *, as_text: bool = False) -> Any:
    text = node.value
    if as_text and node.tag.rpartition(":")[2] in ("bool", "int", "float"):
        return text
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
        case "float" if _FLOAT.fullmatch(text):
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case "str":
            return text
    raise yaml.MarkedYAMLError(
        problem=f"the tag {node.tag[:100]} has no meaning here", problem_mark=node.start_mark
    )
