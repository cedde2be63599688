# SPDX-License-Identifier: Apache-2.0
"""Figures of the result as text that carries its key in evaluate_result.json, and class links."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup, escape

from paddlex_ml.artifacts.evaluate_result import EvaluationResult

_SHOWN = Markup('<span data-key="{}" data-value="{}">{}</span>')
_UNDEFINED = Markup('<span class="none" data-key="{}" data-value="" title="{}">&ndash;</span>')
_LINK = Markup('<a href="#class-{}">{}</a>')
_WHY = "undefined for this evaluation"


class Figures:
    """Shows numbers of a result by keys such as per_class.3.f1."""

    def __init__(self, result: EvaluationResult, label_names: Sequence[str]) -> None:
        self.result = result
        self.label_names = label_names
        self.rows = result.per_class
        self.images = result.metrics.images
        self.drawn: frozenset[int] = frozenset(range(len(self.rows)))
        """Classes whose curves are on the page: others have no link."""

    def value(self, key: str) -> Any:
        """Return the value of a key; None where the result has no such key."""
        value: Any = self.result
        for part in key.split("."):
            if isinstance(value, msgspec.Struct):
                value = getattr(value, part, None)
            elif isinstance(value, Mapping):
                value = value.get(part)
            elif isinstance(value, list | tuple):
                value = value[int(part)] if int(part) < len(value) else None
            else:
                return None
        return value

    def show(self, key: str, why: str = _WHY, *, digits: int = 3, signed: bool = False) -> Markup:
        """Return the number of a key, rounded; data-value holds all of its digits.

        An undefined number is a dash with the reason `why` as its tooltip.
        """
        value = self.value(key)
        if value is None:
            return _UNDEFINED.format(key, why)
        return _SHOWN.format(key, repr(value), format_number(value, digits=digits, signed=signed))

    def interval(self, key: str, why: str = _WHY, *, signed: bool = False) -> Markup:
        """Return two numbers, from and to."""
        if self.value(key) is None:
            return self.show(key, why)
        ends = (self.show(f"{key}.{end}", signed=signed) for end in (0, 1))
        return Markup("{} to {}").format(*ends) if signed else Markup("{}&ndash;{}").format(*ends)

    def share(self, class_id: int) -> float:
        """Return the share of the images that show a class, of those where it is known."""
        row = self.rows[class_id]
        known = self.images if row.negatives is None else row.positives + row.negatives
        return row.positives / max(1, known)

    def is_unseen(self, class_id: int) -> bool:
        """Return whether nobody has looked for a class in any image."""
        row = self.rows[class_id]
        return row.positives == row.negatives == 0 < self.images

    def label(self, class_id: int) -> str:
        """Return the name of a class; a blank one is replaced by text that can be clicked."""
        name = self.label_names[class_id]
        return name if name.strip() else f"(class {class_id}, no name)"

    def link(self, class_id: int) -> Markup:
        """Return the name of a class, as a link to its curves where the page has them."""
        label = self.label(class_id)
        return _LINK.format(class_id, label) if class_id in self.drawn else escape(label)

    def links(
        self, classes: Sequence[int], detail: Callable[[int], object] | None = None, most: int = 6
    ) -> Markup:
        """Return the names of classes with a detail each, the first `most` of them."""
        items = [
            self.link(i) if detail is None else Markup("{} ({})").format(self.link(i), detail(i))
            for i in classes[:most]
        ]
        if len(classes) > most:
            items.append(Markup("{:,} more").format(len(classes) - most))
        if len(items) < 2:
            return Markup("").join(items)
        return Markup(", ").join(items[:-1]) + " and " + items[-1]

    def worst_first(self) -> list[int]:
        """Return the classes that have an average precision, the lowest first."""
        values = {i: row.average_precision for i, row in enumerate(self.rows)}
        defined = {i: value for i, value in values.items() if value is not None}
        return sorted(defined, key=defined.__getitem__)


def format_number(value: float, *, digits: int = 3, signed: bool = False) -> str:
    """Return a count with commas or a fraction with `digits` places."""
    if isinstance(value, int):
        return f"{value:+,}" if signed else f"{value:,}"
    rounded = round(value, digits) or 0.0  # no sign where it is rounded to zero
    text = f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")
