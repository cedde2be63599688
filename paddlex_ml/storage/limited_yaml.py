# SPDX-License-Identifier: Apache-2.0
"""YAML within budgets: how deep, how much its aliases repeat, and which numbers it may hold.

Five hundred bytes of YAML can stand for 10^12 values: an alias repeats a value whose aliases repeat
others. The budgets are counted while the text is parsed, before any value is made.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

MOST_DEPTH = 50
"""Values in each other; a configuration has 4."""
MOST_REPEATED = 10_000
"""Values that all aliases of a text repeat together."""
LONGEST_NUMBER = 400
"""Letters of a number: the longest of a float64 has fewer."""
LONGEST_KEY_NUMBER = 20
"""Letters of a whole number that is a key. Python gives all multiples of 2^61 - 1 one hash, and a
table of many of them would be searched from its beginning for each."""


class LimitedComposer:
    """Mixed into a loader of PyYAML: raises yaml.MarkedYAMLError as soon as a budget is used up."""

    _depth = 0
    _repeated = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node, as the loader makes it, within the budgets."""
        loader: Any = self
        weights: dict[int, int] = self.__dict__.setdefault("_weights", {})
        event = loader.peek_event()
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _over(f"values are more than {MOST_DEPTH} deep, the most that is read", event)
        node = super().compose_node(parent, index)  # type: ignore[misc]
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            self._repeated += weights.get(id(node), MOST_REPEATED)
            if id(node) not in weights:
                raise _over("a value contains itself", node)
            if self._repeated > MOST_REPEATED:
                what = f"aliases repeat more than {MOST_REPEATED:,} values, the most that is read"
                raise _over(what, event)
            return node
        weights[id(node)] = 1 + sum(weights[id(child)] for child in _children(node))
        is_number = node.tag.rpartition(":")[2] in ("int", "float")
        if is_number and len(node.value) > LONGEST_NUMBER:
            raise _over(f"a number has more than {LONGEST_NUMBER} letters", event)
        for key in _keys(node):
            if key.tag.endswith(":int") and len(key.value) > LONGEST_KEY_NUMBER:
                raise _over(f"a key has more than {LONGEST_KEY_NUMBER} digits", key)
        return node


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _keys(node: Any) -> list[Any]:
    """The keys of a mapping that are scalars."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [key for key, _ in pairs if isinstance(key, yaml.ScalarNode)]


def _over(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


class LimitedLoader(LimitedComposer, yaml.SafeLoader):
    """PyYAML's safe loader within the budgets."""


def load(text: str) -> Any:
    """The plain value of a YAML text. Raises yaml.YAMLError for everything that is none."""
    try:
        return yaml.load(text, Loader=LimitedLoader)  # noqa: S506  a safe loader
    except yaml.YAMLError:
        raise
    except Exception as error:  # a tag with a value that is none, such as !!float x
        problem = f"a value that its tag does not allow ({error})"[:200]
        raise yaml.YAMLError(problem) from error


class Damage(NamedTuple):
    """Why a text is no YAML."""

    line: int
    """From 1."""
    what: str


def compose(text: str) -> yaml.Node | Damage | None:
    """The tree of a YAML text, whose nodes have their lines and scalars as they are written (`yes`
    stays a word). None for a text without a value.
    """
    # PyYAML's C parser crashes on deep nesting; its Python parser raises RecursionError.
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=LimitedLoader)
        return node
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Damage(mark.line + 1 if mark else 1, str(error.problem or error.context))
    except yaml.reader.ReaderError as error:
        return Damage(text.count("\n", 0, error.position) + 1, error.reason)
    except (RecursionError, OverflowError, ValueError) as error:
        return Damage(1, str(error))
