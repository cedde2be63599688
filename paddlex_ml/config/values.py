# SPDX-License-Identifier: Apache-2.0
"""What a single value of the configuration may be, beyond its type: ranges, names, paths.

A checker takes a plain YAML value, returns the value that the dataclass holds, and raises `Refused`
with the rule that was broken and a value that keeps it. Texts arrive as they were typed, so that
007 and 1e5 are names too.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from paddlex_ml.storage import fetch

_DEVICE = re.compile(r"auto|(cpu|gpu)(:\d+(,\d+)*)?")
_DEVICE_RULE = "must be auto, cpu, gpu, or one of these two with numbers: gpu:0, gpu:0,1, cpu:0,1"
_OTHER_DEVICE = re.compile(
    r"(cpu|gpu|cuda)[: ]*(\d{1,3} *- *\d{1,3}|\d{1,3}(?:[ ,;]+\d{1,3})*)", re.ASCII | re.IGNORECASE
)
"""Other ways to write a device, which are refused with the right one as the repair."""
_DECIMAL_COMMA = re.compile(r"[-+]?\d{0,9},\d{1,15}", re.ASCII)
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")

Form: TypeAlias = Literal["text", "texts", "yaml"]
"""How a value is written: one text, as it is typed; one or a list of them; or YAML."""


class Refused(ValueError):
    """A value breaks a rule; `repairs` holds what it most likely means, if that is known.

    `example` is a value that keeps the rule and has nothing of the refused one; None: the default.
    """

    def __init__(self, rule: str, *repairs: Any, example: Any = None) -> None:
        super().__init__(rule)
        self.rule = rule
        self.repairs = repairs
        self.examples = () if example is None else (example,)


@dataclass(frozen=True)
class Checked:
    """Marks a field, as in `Annotated[str, Checked(device)]`: only `check` validates its values."""

    check: Callable[[Any], Any]
    typical: Any = None
    """A good value for a field without default: offered as the repair when it is missing."""
    form: Form = "text"


@dataclass(frozen=True, kw_only=True)
class Range:
    """Marks a number field with the range of its values, both ends included by default."""

    low: float = 0
    high: float = math.inf
    above: bool = False
    """`low` itself is refused."""
    below: bool = False
    """`high` itself is refused."""
    multiple: int | None = None
    typical: float | None = None
    """A good value for a field without default: offered as the repair when it is missing."""

    def check(self, value: float) -> None:
        """Raise Refused unless `value` lies in the range."""
        too_low = value <= self.low if self.above else value < self.low
        too_high = value >= self.high if self.below else value > self.high
        if too_low or too_high:
            raise Refused(f"must be {self}")
        if self.multiple and value % self.multiple:
            raise Refused(f"must be {self}", max(1, round(value / self.multiple)) * self.multiple)

    def __str__(self) -> str:
        if math.isinf(self.high):
            text = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        else:
            first = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            text = f"{first} to {'below ' if self.below else ''}{self.high:.12g}"
        return f"{text}, a multiple of {self.multiple}" if self.multiple else text


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """The choice most like `word` whatever the case of its letters, or else the first one that
    contains it; None when there is none.
    """
    typed, by_lower = word.lower(), {choice.lower(): choice for choice in choices}
    parts = [choice for choice in by_lower if len(typed) > 1 and typed in choice]
    matches = get_close_matches(typed, by_lower, n=1) or parts
    return by_lower[matches[0]] if matches else None


def one_of(choices: Sequence[str]) -> Callable[[Any], str]:
    """A checker that accepts these names only."""

    def check(value: Any) -> str:
        if isinstance(value, str) and value in choices:
            return value
        guess = nearest(str(value), choices)
        raise Refused(f"must be one of {', '.join(choices)}", *([guess] if guess else []))

    return check


def one_of_any_case(choices: Sequence[str]) -> Callable[[Any], str]:
    """A checker that accepts these names in any capitals, and returns them as listed."""
    by_lower = {choice.lower(): choice for choice in choices}
    plain = one_of(choices)

    def check(value: Any) -> str:
        return by_lower.get(str(value).lower()) or plain(value)

    return check


def some_of(choices: Sequence[str]) -> Callable[[Any], tuple[str, ...]]:
    """A checker that accepts a list of these names, or one of them."""
    single = one_of(choices)

    def check(value: Any) -> tuple[str, ...]:
        if value == []:
            return ()
        return tuple(dict.fromkeys(map(single, value if isinstance(value, list) else [value])))

    return check


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text."""
    if value == []:
        raise Refused("must name at least one")
    return tuple(map(text, value if isinstance(value, list) else [value]))


def text(value: Any) -> str:
    """A text that can be a name or a path: not empty, no NUL, no lone surrogates."""
    if not isinstance(value, str):
        raise Refused("must be text")
    if not value.strip():
        raise Refused("must not be empty")
    if value == "...":  # in messages and in documents
        raise Refused("stands for a value of your own: write that in its place")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refused("holds a character that no file name can have")
    return value


def path_text(value: Any) -> str:
    """A path or a URL. `~` and `$HOME` are expanded: behind an `=` and in a file no shell does it.

    Raises Refused for a variable that is not set, unless a file has that very name.
    """
    path = os.path.expanduser(text(value))
    if "$" not in path or fetch.is_url(path) or os.path.exists(path):
        return path
    for plain, braced in _VARIABLE.findall(path):
        if (plain or braced) not in os.environ:
            raise Refused(f"names the variable {plain or braced}, which is not set")
    return os.path.expandvars(path)


def path_texts(value: Any) -> tuple[str, ...]:
    """A list of paths or URLs, or one of them, each expanded like `path_text`."""
    return tuple(map(path_text, texts(value)))


def local_path(value: Any) -> Path:
    """A path on this machine, expanded like `path_text`: a URL would name a folder `s3:` here."""
    path = path_text(value)
    if fetch.is_url(path):
        name = PurePosixPath(urlsplit(path).path).name or "my_set"
        raise Refused("must be a path on this machine, not a URL", f"./{name}")
    return Path(path)


def pattern(value: Any) -> str:
    """A regular expression of Python."""
    try:
        re.compile(text(value))
    except (re.error, OverflowError, RecursionError) as error:
        raise Refused(f"must be a regular expression: {error}", example=r"(.+)_[0-9]+") from None
    return str(value)


def device(value: Any) -> str:
    """A device as PaddleX writes it. Whether the machine has it is checked later."""
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        meant = _device_meant(str(value))
        raise Refused(_DEVICE_RULE, *([meant] if meant else []))
    numbers = value.partition(":")[2].split(",")
    if len({number.lstrip("0") for number in numbers}) < len(numbers):
        raise Refused("names a device twice", "auto")
    return value


def _device_meant(text: str) -> str | None:
    """The device that another way to write one most likely means: gpu0, GPU:0, gpu:0-3, cuda:1."""
    match = _OTHER_DEVICE.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(number) for number in re.findall(r"\d+", match[2])]
    if "-" in match[2]:
        numbers = list(range(numbers[0], numbers[1] + 1)[:16])
    listed = ",".join(str(number) for number in dict.fromkeys(numbers))
    kind = match[1].lower().replace("cuda", "gpu")
    return f"{kind}:{listed}" if listed else None


def addresses(value: Any) -> str:
    """Addresses of machines, separated by commas; YAML lists of them are accepted too."""
    listed = value if isinstance(value, list) else text(value).split(",")
    machines = [str(item).strip() for item in listed]
    if not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", machine) for machine in machines):
        raise Refused("must be addresses separated by commas", example="192.168.0.1,192.168.0.2")
    if len(set(machines)) < len(machines):
        raise Refused("names a machine twice", ",".join(dict.fromkeys(machines)))
    return ",".join(machines)


def pos_weight(value: Any) -> list[float] | str:
    """One number above 0 per class, or `auto`."""
    if value == "auto":
        return "auto"
    if not isinstance(value, list) or not value:
        raise Refused("must be auto, or a list with one number per class", example="auto")
    weights = [finite(number) for number in value]
    if min(weights) <= 0:
        raise Refused("must hold numbers above 0", example="auto")
    return weights


def count_or_auto(usual: int | str) -> Callable[[Any], int | str]:
    """A checker that accepts a whole number of at least 1, or `auto`; `usual` is the example."""

    def check(value: Any) -> int | str:
        if value == "auto":
            return "auto"
        typed = isinstance(value, str) and value.isdecimal() and len(value) < 10  # as behind -o
        number = int(value) if typed else value
        if isinstance(number, str) and not number.isdecimal():
            with suppress(ValueError):
                number = float(number)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            is_whole = isinstance(number, float) and number.is_integer() and 1 <= number < 1e9
            meant = [int(number)] if is_whole else []
            raise Refused("must be auto, or a whole number of at least 1", *meant, example=usual)
        return number

    return check


def counts(value: Any) -> tuple[int, ...]:
    """Whole numbers of at least 1, each once, from the lowest on; a list, or one alone."""
    listed = value if isinstance(value, list | tuple) else [value]
    numbers = [finite(number) for number in listed]
    if not numbers or any(number < 1 or number != int(number) for number in numbers):
        raise Refused("must hold whole numbers of at least 1", example=[8, 32])
    return tuple(sorted({int(number) for number in numbers}))


def rename(value: Any) -> dict[str, str]:
    """Old name -> new name. Numbers are names as well: {0: zero}."""
    if not isinstance(value, dict) or not value:
        raise Refused("must hold old and new names, as {automobile: car}", None)
    plain = [part for pair in value.items() for part in pair]
    if any(isinstance(part, bool) or not isinstance(part, str | int) for part in plain):
        raise Refused('must hold names; quote those that YAML reads otherwise, as {"yes": dog}')
    return {text(str(old)): text(str(new)).strip() for old, new in value.items()}


def threshold(value: Any) -> Any:
    """A score from 0 to 1, a list with one per class, or a mapping with `default` and classes."""
    if isinstance(value, list):
        if not value:
            raise Refused("must hold one number per class, the list is empty", example=0.5)
        return [_score(number) for number in value]
    if not isinstance(value, dict):
        return _score(value)
    for name in value:
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise Refused(f"must name classes by id or name, got {name!r}")
    scores = {name: _score(number) for name, number in value.items()}
    if "default" not in scores:
        rule = "must hold the key default, for the classes that it does not name"
        raise Refused(rule, {"default": 0.5, **scores})
    return scores


def label_scores(value: Any) -> tuple[float, float] | Literal["soft"]:
    """The scores below which a label is absent, and from which it is present; or "soft"."""
    if value == "soft":
        return "soft"
    if not isinstance(value, list) or len(value) != 2:
        raise Refused(
            "must be two scores, [absent below, present from], or soft", example=[0.1, 0.9]
        )
    low, high = map(_score, value)
    if low > high:
        raise Refused("must begin with the lower score", [high, low])
    return low, high


def _score(value: Any) -> float:
    number = finite(value)
    if not 0 <= number <= 1:
        raise Refused("must hold numbers from 0 to 1", example=0.5)
    return number


def finite(value: Any) -> float:
    """A number that is neither NaN nor infinite; text that spells one (`1e-4`) counts."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused("must be a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        comma = _DECIMAL_COMMA.fullmatch(str(value))
        meant = [float(str(value).replace(",", "."))] if comma else []
        raise Refused("must be a number", *meant) from None
    if not math.isfinite(number):
        raise Refused("must be a finite number")
    return number


def pictures(value: Any) -> Any:
    """What to predict on: a path, URL, folder or glob, {img: ...}, or a list of these."""
    if isinstance(value, list):
        if not value:
            raise Refused("is an empty list: name at least one image", example="photo.jpg")
        return [pictures(item) for item in value]
    if isinstance(value, dict):
        if set(value) != {"img"}:
            raise Refused("must be {img: path} when it is a mapping", example={"img": "photo.jpg"})
        return {"img": pictures(value["img"])}
    return path_text(value)
