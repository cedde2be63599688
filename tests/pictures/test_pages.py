# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import jinja2
import pytest

from paddlex_ml.pictures import pages


def test_every_text_is_escaped_and_what_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "page.j2").write_text("<p>{{ text }}</p>")
    page = pages.environment(tmp_path).get_template("page.j2")
    assert page.render(text="<b>&") == "<p>&lt;b&gt;&amp;</p>"
    with pytest.raises(jinja2.UndefinedError):
        page.render()
    assert pages.environment(tmp_path).get_template("page.j2") is page  # compiled once


def test_a_page_has_no_password_and_any_name_of_a_file(tmp_path: Path) -> None:
    pages.write(tmp_path / "page.html", "a\udcff.jpg http://me:secret@host/a.jpg 图")
    assert (tmp_path / "page.html").read_text("utf-8") == "a?.jpg http://host/a.jpg 图"


def test_a_script_is_allowed_by_its_hash() -> None:
    found = pages.allow_inline("script", "1 < 2")
    assert str(found["script"].__html__()) == "1 < 2"  # type: ignore[attr-defined]
    digest = hashlib.sha256(b"1 < 2").digest()
    assert base64.b64decode(found["script_hash"]) == digest


def test_no_text_ends_the_script_element_of_json() -> None:
    text = "</script><!-- 图"
    written = pages.format_json({"name": text})
    assert "<" not in written
    assert json.loads(written) == {"name": text}
