# SPDX-License-Identifier: Apache-2.0
"""Options for data sets as a user pastes them into a shell: overrides of the configuration, or what
the scripts in dataset_tools have in their place.

    -o CheckDataset.convert.uncertain=negative    --uncertain negative
    -o CheckDataset.convert.separator=null        without --separator
    CheckDataset.split.group_regex                --group-regex
    convert.label_value has no effect             --label-value has no effect
    -o 'CheckDataset.drop=[missing]'              mode check_dataset with -o 'CheckDataset.drop=...'
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields

import yaml

from paddlex_ml import systems
from paddlex_ml.data.split import Division
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.formats.collector import Options
from paddlex_ml.storage.limited_yaml import LimitedComposer

_KEY = r"(?:CheckDataset\.)?(?:convert|split)\.([a-z_]+)"
_QUOTED = r"""'[^']*'|"[^"]*\""""
_OVERRIDE = re.compile(
    rf"""-o ({_KEY}=(?:[^\s,;:)'"]|{_QUOTED}|(?<==),)+|'{_KEY}=[^']*'(?:{_QUOTED})*"""
    rf"""|"{_KEY}=[^"]*")"""
)
_NAME = re.compile(rf"\b{_KEY}\b(?!=)")
_OTHER = re.compile(r"""(?<!with )(?=-o ['"]?CheckDataset\.(?!convert\.|split\.))""")
_FLAGS = {
    item.name: f"--{item.name.replace('_', '-')}" for item in (*fields(Options), *fields(Division))
}
_FLAGS["src_dataset_type"] = "--source"


class _Texts(LimitedComposer, yaml.BaseLoader):
    """Makes texts, lists and mappings of texts: `no` and 1.10 are names as they stand there."""


def write_override(key: str, value: str | Sequence[str]) -> str:
    """Write `-o CheckDataset.<key>=<value>` with the quotes that the shell and YAML need."""
    shown = json.dumps(value if isinstance(value, str) else list(value), ensure_ascii=False)
    return f"-o CheckDataset.{key}={systems.quote(shown)}"


def for_script(text: str) -> str:
    """A message with the options of a script in the place of keys and overrides."""
    text = _OTHER.sub("mode check_dataset with ", _OVERRIDE.sub(_translate, text))
    text = text.replace("-o Global.dataset_dir=", "name another folder, such as ")
    return _NAME.sub(lambda match: _FLAGS.get(match[1], match[0]), text)


def in_script(body: Callable[[], None]) -> Callable[[], None]:
    """The body of a script, whose errors propose what a script can do."""

    def run() -> None:
        try:
            body()
        except PaddlexMLError as error:
            raise error_for_script(error) from None

    return run


def error_for_script(error: PaddlexMLError) -> PaddlexMLError:
    """The same error, as `for_script`."""
    rows = [tuple(map(for_script, row)) for row in error.rows]
    what, fix = Lines(for_script(error.what)), Lines(for_script(error.fix))
    return PaddlexMLError(what, where=for_script(error.where), fix=fix, rows=rows)


def _translate(match: re.Match[str]) -> str:
    key, _, text = match[1].partition("=")
    with suppress(ValueError):  # a name in the message may look like an override
        key, _, text = "".join(systems.split(match[1])).partition("=")
    name = key.rpartition(".")[2]
    if name == "enable":
        return "mode check_dataset, which reads them as they are"
    if name not in _FLAGS:
        return match[0]
    flag = _FLAGS[name]
    if text == "null" or (text == "false" and name != "merge_names"):
        return f"without {flag}"
    if text in ("true", "false"):
        return flag if text == "true" else flag.replace("--", "--no-")
    if "..." in text:
        return f"{flag} ..."
    value: object = text
    if text[:1] in ("[", "{", '"'):
        with suppress(yaml.YAMLError):
            value = yaml.load(text, Loader=_Texts)  # noqa: S506  makes no objects
    words = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        pairs = [[str(part).replace("=", r"\=") for part in pair] for pair in value.items()]
        words = ["=".join(pair) for pair in pairs]
    return " ".join([flag, *map(systems.quote, map(str, words))])
