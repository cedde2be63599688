# SPDX-License-Identifier: Apache-2.0
"""The words behind `-o` -> overrides: a value that a shell has split for want of quotes is joined.

-o Predict.input=mix/a photo, 1.jpg    three words: Predict.input=mix/a  photo,  1.jpg
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import yaml

from paddlex_ml.config import validation, yaml_text

_KEY = re.compile(r"[^\s=:,{}\[\]()'\"/\\]*")
_SPOILT = 20  # words: each try reads the whole value


@dataclass(frozen=True)
class Override:
    """One override, as it is meant."""

    text: str
    words: tuple[str, ...]
    """As they were typed."""
    fix: str | None = None
    """The option that means it, where the words do not; None: nothing is wrong with them."""
    left_out: tuple[str, ...] = ()
    """Words at the end that are not in `text`."""

    @property
    def what(self) -> str:
        """What is wrong with the words."""
        key, _, value = self.text.partition("=")
        if self.left_out:
            return f"{' '.join(self.left_out)!r} belongs to no key"
        if " " in value:
            return f"quotes are missing: the shell has split the value of {key} into several words"
        return f"there must be a = without spaces around it between {key} and its value"


def join(words: Sequence[str]) -> Iterator[Override]:
    """The overrides that the words mean; a word without a key belongs to the one before it."""
    groups: list[list[str]] = []
    for word in words:
        if groups and _goes_on(word, groups[-1]):
            groups[-1].append(word)
        else:
            groups.append([word])
    yield from map(_read, groups)


def _goes_on(word: str, before: Sequence[str]) -> bool:
    """Whether `word` belongs to the value of the words before it."""
    key = _key(before[0])
    if "=" not in before[0] and validation.example(key) is None:
        return False
    head, equals, _ = word.partition("=")
    if equals and not head:  # `Global.mode = train`
        return "=" not in "".join(before)
    if equals:
        is_section = head.strip().partition(".")[0] in validation.sections()
        return not (is_section or _KEY.fullmatch(head.strip()))
    return validation.example(_key(word)) is None


def _key(word: str) -> str:
    return word.partition("=")[0].strip().rstrip(":")


def _read(words: Sequence[str]) -> Override:
    key = _key(words[0])
    if len(words) == 1:
        return Override(words[0], tuple(words))
    ends = (*range(len(words), max(1, len(words) - _SPOILT), -1), 1)
    for end in ends:  # words at the end that spoil the value are left out
        text = _write(key, words[:end])
        if text.partition("=")[2] and _is_good(text):
            value = yaml_text.parse_scalar_or_flow(text.partition("=")[2], key, validation.form_of)
            fix = validation.override(key, value.value)
            return Override(text, tuple(words), fix, tuple(words[end:]))
    return Override(_write(key, words), tuple(words))


def _write(key: str, words: Sequence[str]) -> str:
    """The words as one override."""
    first = words[0].partition("=")[2].strip()
    return f"{key}=" + " ".join([first, *words[1:]]).strip().removeprefix("=").strip()


def _is_good(text: str) -> bool:
    """Whether the key is known and takes the value; a section takes each mapping."""
    key, _, typed = text.partition("=")
    try:
        document = yaml_text.parse_scalar_or_flow(typed, key, validation.form_of)
    except yaml.YAMLError:
        return False
    if key in validation.leaf_keys():
        return not document.doubles and validation.accepts(key, document.value)
    return isinstance(document.value, dict) and validation.example(key) is not None
