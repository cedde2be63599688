# SPDX-License-Identifier: Apache-2.0
"""Reads the options that docstrings of this project explain, as "name: what it is"."""

from __future__ import annotations

import re
from typing import Any

import griffe


class OptionsInDocstrings(griffe.Extension):
    """Gives paragraphs and options of a docstring the form of Google, which griffe knows."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Put the lines about parameters, and what is indented below them, under `Args:`."""
        if func.docstring is None:
            return
        names = "|".join(re.escape(each.name.lstrip("*")) for each in func.parameters)
        option = re.compile(rf"^(?:{names}): .*(?:\n {{4}}.*)*\n?", re.MULTILINE)
        text = func.docstring.value
        options = [each.rstrip("\n") for each in option.findall(text)]
        if names and options:
            rows = "\n".join(options).replace("\n", "\n    ")
            func.docstring.value = f"{option.sub('', text).strip()}\n\nArgs:\n    {rows}\n"
