# SPDX-License-Identifier: Apache-2.0
"""Options of a conversion as a user pastes them into a shell: overrides of the configuration, or
what dataset_tools/convert.py has in their place.

    -o CheckDataset.convert.uncertain=negative    --uncertain negative
    -o CheckDataset.convert.separator=null        without --separator
    convert.label_value has no effect             --label-value has no effect
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from contextlib import suppress

import yaml

from paddlex_ml.errors import Lines, PaddlexMLError

_KEY = r"(?:CheckDataset\.)?convert\.([a-z_]+)"
_QUOTED = r"""'[^']*'|"[^"]*\""""
_OVERRIDE = re.compile(
    rf"""-o ({_KEY}=(?:[^\s,;:)'"]|{_QUOTED}|(?<==),)+|'{_KEY}=[^']*'(?:{_QUOTED})*)"""
)
_NAME = re.compile(rf"\b{_KEY}\b(?!=)")
_FILES = ("csv", "json", "py", "txt", "xml")
_LOOSE = {"src_dataset_type": "--source"}


def write_override(key: str, value: str | Sequence[str]) -> str:
    """Write `-o CheckDataset.<key>=<value>` with the quotes that the shell and YAML need."""
    shown = json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False)
    return f"-o CheckDataset.{key}={shlex.quote(shown)}"


def for_script(text: str) -> str:
    """A message with the options of the script in the place of keys and overrides."""
    text = _OVERRIDE.sub(_translate, text)
    return _NAME.sub(lambda m: m[0] if m[1] in _FILES else _flag(m[1]), text)


def error_for_script(error: PaddlexMLError) -> PaddlexMLError:
    """The same error, as `for_script`."""
    rows = [tuple(map(for_script, row)) for row in error.rows]
    what, fix = Lines(for_script(error.what)), Lines(for_script(error.fix))
    return PaddlexMLError(what, where=for_script(error.where), fix=fix, rows=rows)


def _flag(name: str) -> str:
    return _LOOSE.get(name, f"--{name.replace('_', '-')}")


def _translate(match: re.Match[str]) -> str:
    key, _, text = "".join(shlex.split(match[1])).partition("=")
    name = key.rpartition(".")[2]
    flag = _flag(name)
    if name == "enable":
        return "mode check_dataset, which reads them as they are"
    if text == "null" or (text == "false" and name != "merge_names"):
        return f"without {flag}"
    if text in ("true", "false"):
        return flag if text == "true" else flag.replace("--", "--no-")
    if "..." in text:
        return f"{flag} ..."
    value: object = text
    if text[:1] in ("[", "{", '"'):
        with suppress(yaml.YAMLError):  # the loader makes texts, lists and mappings, nothing else
            value = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506
    words = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        pairs = [[part.replace("=", r"\=") for part in pair] for pair in value.items()]
        words = ["=".join(pair) for pair in pairs]
    return " ".join([flag, *map(shlex.quote, map(str, words))])
