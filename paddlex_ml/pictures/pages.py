# SPDX-License-Identifier: Apache-2.0
"""HTML pages that need no other file: from a template to the disk."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import files


@functools.cache
def environment(*folders: Path) -> jinja2.Environment:
    """Templates of these folders, each of which is compiled once. They escape every text."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders), autoescape=True, undefined=jinja2.StrictUndefined
    )


def write(path: Path, text: str) -> None:
    """Write a page atomically, without passwords of addresses in it."""
    # A file name that is not UTF-8 arrives as lone surrogates.
    files.write_bytes(path, without_secrets(text).encode("utf-8", "replace"))


def allow_inline(name: str, text: str) -> dict[str, str]:
    """A script or style of ours for a template, as `name`, and its hash for the page's policy."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return {name: Markup(text), f"{name}_hash": digest}  # noqa: S704  it is ours


def format_json(value: Any) -> Markup:
    """JSON that may stand in a script element: no text of a user can end it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704  JSON without "<"
