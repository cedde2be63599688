# SPDX-License-Identifier: Apache-2.0
"""The overrides that an error proposes, as a user pastes them into a shell."""

from __future__ import annotations

import re
import shlex

_OPTION = re.compile(r"-o ((?:'[^']*'|\"[^\"]*\"|[^\s'\",()])+)")


def find(text: str) -> list[list[str]]:
    """The alternatives of each `fix:`; the overrides of an alternative belong together."""
    found = []
    for line in re.findall(r"fix: +(.*)", text):
        options = [shlex.split(word)[0] for word in _OPTION.findall(line)]
        keys = [option.partition("=")[0] for option in options]
        is_a_choice = re.search(r"\bor\b|\btakes\b|\bkeeps\b", line) or len(set(keys)) < len(keys)
        found += [[option] for option in options] if is_a_choice else [options] if options else []
    return found
