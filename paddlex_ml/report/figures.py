# SPDX-License-Identifier: Apache-2.0
"""Figures of evaluate_result.json as text that remembers its place there, and links to classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

_SHOWN = Markup('<span data-key="{}" data-value="{}">{}</span>')
_UNDEFINED = Markup('<span class="none" data-key="{}" data-value="" title="{}">&ndash;</span>')
_LINK = Markup('<a href="#class-{}">{}</a>')
_WHY = "undefined for this evaluation"


class Figures:
    """Reads the result by paths such as per_class.3.f1."""

    def __init__(self, result: Mapping[str, Any], label_names: Sequence[str]) -> None:
        self.result = result
        self.label_names = label_names
        self.rows: Sequence[Mapping[str, Any]] = result["per_class"]
        self.images: int = result["metrics"]["images"]

    def value(self, key: str) -> Any:
        """Return what stands at a path; None where nothing does."""
        found: Any = self.result
        for part in key.split("."):
            if isinstance(found, Mapping):
                found = found.get(part)
            elif isinstance(found, Sequence) and not isinstance(found, str):
                found = found[int(part)] if int(part) < len(found) else None
            else:
                return None
        return found

    def show(self, key: str, why: str = _WHY, *, digits: int = 3, signed: bool = False) -> Markup:
        """Return the number at a path, rounded; data-value holds all of it.

        An undefined one is a dash that says `why` when it is pointed at.
        """
        value = self.value(key)
        if value is None:
            return _UNDEFINED.format(key, why)
        return _SHOWN.format(key, repr(value), write_number(value, digits=digits, signed=signed))

    def interval(self, key: str, why: str = _WHY, *, signed: bool = False) -> Markup:
        """Return two numbers, from and to."""
        if self.value(key) is None:
            return self.show(key, why)
        ends = (self.show(f"{key}.{end}", signed=signed) for end in (0, 1))
        return Markup("{} to {}").format(*ends) if signed else Markup("{}&ndash;{}").format(*ends)

    def share(self, class_id: int) -> float:
        """Return the share of the images that show a class."""
        return float(self.rows[class_id]["positives"] / max(1, self.images))

    def label(self, class_id: int) -> str:
        """Return the name of a class, or words in its place where it is blank."""
        return name_or_words(self.label_names[class_id], class_id)

    def link(self, class_id: int) -> Markup:
        """Return the name of a class as a link to its curves."""
        return _LINK.format(class_id, self.label(class_id))

    def links(
        self, classes: Sequence[int], detail: Callable[[int], object] | None = None, most: int = 6
    ) -> Markup:
        """Return the names of classes with a detail each, the first `most` of them."""
        parts = [
            self.link(i) if detail is None else Markup("{} ({})").format(self.link(i), detail(i))
            for i in classes[:most]
        ]
        if len(classes) > most:
            parts.append(Markup("{:,} more").format(len(classes) - most))
        return join(parts)

    def worst_first(self) -> list[int]:
        """Return the classes that have an average precision, the lowest first."""
        values = [row["average_precision"] for row in self.rows]
        return sorted(
            (i for i, value in enumerate(values) if value is not None), key=lambda i: values[i]
        )


def write_number(value: float, *, digits: int = 3, signed: bool = False) -> str:
    """Return a count with commas or a fraction with `digits` places."""
    if isinstance(value, int):
        return f"{value:+,}" if signed else f"{value:,}"
    rounded = round(value, digits) or 0.0  # no sign before what is rounded to zero
    text = f"{rounded:+.{digits}f}" if signed and rounded else f"{rounded:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def name_or_words(name: str, class_id: int) -> str:
    """Return a name that can be seen and clicked."""
    return name if name.strip() else f"(class {class_id}, no name)"


def join(parts: Sequence[Markup]) -> Markup:
    """Join by commas, the last two by `and`."""
    if len(parts) < 2:
        return Markup("").join(parts)
    return Markup(", ").join(parts[:-1]) + " and " + parts[-1]
