# SPDX-License-Identifier: Apache-2.0
"""Files of JSON objects -> records: JSON lines, one list, or objects one after another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from paddlex_ml.data.inventory import HEAD, Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.formats.collector import Collector
from paddlex_ml.formats.record_labels import UnusableRecord
from paddlex_ml.formats.records import ImageRecord

_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:|"(?:[^"\\]|\\.)*"|[{}\[\]]')
_plain_decoder = json.JSONDecoder()


def decode_first(inventory: Inventory, file: str) -> dict[str, Any]:
    """The first object of a file of JSON: of its lines, of one list, or of objects one after
    another; of an object longer than 64 KiB only the keys. Empty for any other file."""
    content, _ = to_utf8(inventory.read_head(file))
    text = content.decode("utf-8", "replace").lstrip("\ufeff \r\n\t")
    text = text.removeprefix("[").lstrip()
    if not text.startswith("{"):
        return {}
    try:
        value, _ = _plain_decoder.raw_decode(text)
        return value if isinstance(value, dict) else {}
    except (ValueError, RecursionError):
        if len(content) < HEAD // 2:
            return {}
    keys: dict[str, Any] = {}
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "{}[]":
            depth += 1 if token[0] in "{[" else -1
        elif depth == 1 and token[1] is not None:
            keys[token[1]] = None
    return keys


def read_json_lines(
    collector: Collector,
    file: str,
    parse: Callable[[str, str], ImageRecord | None],
    layout: str,
) -> Iterator[ImageRecord]:
    """Yield what `parse` makes of each line that is not empty and of its place, "a.jsonl:7".

    A line that is damaged, or for which `parse` raises UnusableRecord, is a fault; `layout` shows
    a right one.
    """
    texts, where = _list_texts(collector, file), file
    while True:
        try:
            text, where = next(texts)
            if record := _parse_tolerantly(parse, text, where):
                yield record
        except StopIteration:
            return
        except (msgspec.DecodeError, RecursionError, UnusableRecord) as error:
            what = str(error)
            if isinstance(error, msgspec.ValidationError):
                what = "the line is not a JSON object, or a value has the wrong type"
                what += "" if str(error).startswith("Expected `object`, ") else f": {error}"
            elif not isinstance(error, UnusableRecord):
                what = f"the JSON is damaged: {what.removeprefix('JSON is malformed: ')}"
            fix = getattr(error, "fix", "") or layout
            collector.add_fault("malformed line", where, what, fix)


def _list_texts(collector: Collector, file: str) -> Iterator[tuple[str, str]]:
    """The text and the place of each record: of JSON lines, of the items of one list, or of
    objects that take several lines each."""
    lines = collector.read_lines(file, records=False)
    first = next((line.strip() for line in lines if line and line.strip()), "")
    if not first.startswith("[") and (not first.startswith("{") or first.endswith("}")):
        texts = [(text, number) for number, text in enumerate(lines, 1) if text and text.strip()]
        collector.account.use(file, len(texts))
        yield from ((text, f"{file}:{number}") for text, number in texts)
        return
    filled = [(line, number) for number, line in enumerate(lines, 1) if line and line.strip()]
    if len(filled) == 1 and first[0] == "{":
        collector.account.use(file, 1)
        yield filled[0][0], f"{file}:{filled[0][1]}"
        return
    content = "\n".join(line or "" for line in lines)
    if first.startswith("["):
        items = list(map(bytes, _list_decoder.decode(content)))
        collector.account.use(file, len(items))
        for number, item in enumerate(items):
            yield item.decode(), f"{file} [{number}]"
        return
    at, number = 0, 1
    while text := content[at : at + 1]:
        if text.isspace() or text == ",":
            at, number = at + 1, number + (text == "\n")
            continue
        where = f"{file}:{number}"
        try:
            _, end = _plain_decoder.raw_decode(content, at)
        except (ValueError, RecursionError) as error:
            raise msgspec.DecodeError(f"{error} (the object begins at {where})") from None
        collector.account.use(file, 1)
        yield content[at:end], where
        number += content.count("\n", at, end)
        at = end


def _parse_tolerantly(
    parse: Callable[[str, str], ImageRecord | None], text: str, where: str
) -> ImageRecord | None:
    """Like `parse`, but NaN and infinite numbers, which are not JSON, are read as null."""
    try:
        return parse(text, where)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if not re.search(r"\b(NaN|Infinity)\b", text):
            raise
        try:
            value = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            value = None
        if value is None:
            raise
    return parse(json.dumps(value), where)
