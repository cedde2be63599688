# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import url_without_secrets, visible, without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:SECRET@h/x.png", "http://h/x.png"),
        ("https://SECRET@h:8000", "https://h:8000"),
        ("http://me:SE/C?R#ET@h/x", "http://h/x"),
        ("s3://key:SECRET@bucket/x", "s3://bucket/x"),
        ("//me:SECRET@h/x", "//h/x"),
        ("/home/me/http:/me:SECRET@h/x", "/home/me/http:/h/x"),
        ("http:\\\\me:SECRET@h\\x", "http:\\\\h\\x"),
        ("http://h/x?a=1&token=SECRET&b=2", "http://h/x?a=1&token=***&b=2"),
        ("http://h/x?X-Amz-Signature=SECRET", "http://h/x?X-Amz-Signature=***"),
        ("http://h/x?API_KEY=SECRET#t", "http://h/x?API_KEY=***#t"),
        ("http://h/x?%74oken=SECRET", "http://h/x?%74oken=***"),
        ("http://h/x#access_token=SECRET", "http://h/x#access_token=***"),
        ("http://h/x?password%3DSECRET", "http://h/x?password%3D***"),
        ("http://h/x?a=1&token%3dSECRET&b=2", "http://h/x?a=1&token%3d***&b=2"),
        ("http://h/x%3Ftoken=SECRET", "http://h/x%3Ftoken=***"),
        ("http://h/x?a=1%26sig%3DSECRET%26SECRET", "http://h/x?a=1%26sig%3D***"),
        ("http://h/x?to=%2Fb%253Fpass%253DSECRET#t", "http://h/x?to=%2Fb%253Fpass%253D***#t"),
        ("http://h/x?token=SECRET%26SECRET", "http://h/x?token=***"),
        ("(see http://h/x;token%3DSECRET).", "(see http://h/x;token%3D***)."),
        ("http://h/x;jsessionid=SECRET?a=1", "http://h/x;jsessionid=***?a=1"),
        ("http://h/x?a=b?sig=SECRET;more", "http://h/x?a=b?sig=***"),
        ("http://h/x?" + "SECRET7" * 5, "http://h/x?***"),
        ("http://h/x?h=" + "SECRET7" * 5, "http://h/x?h=***"),
        ("{'p': 'http://h/x?sig=SECRET', 'i': []}", "{'p': 'http://h/x?sig=***', 'i': []}"),
        ("(see http://h/x?sig=SECRET).", "(see http://h/x?sig=***)."),
        (
            "k=[http://h/a?sig=SECRET,http://me:SECRET@h/b?sig=SECRET]",
            "k=[http://h/a?sig=***,http://h/b?sig=***]",
        ),
    ],
)
def test_a_secret_is_cut_out_of_a_url_and_the_rest_stays(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://h:80/@me/a@2x.png?id=5&page=2", "http://[::1]:80/a@b", "http://h:port/a",
        "http://h/x?id%3D5&a%3Db", "http://h/x%3Fid%3D5",
        "http://h/x?file=IMG_20240101_123456_a_long_name.jpg",
        "http://h/x?id=550e8400-e29b-41d4-a716-446655440000",
        "C:\\me@home\\a:b", "photos/a@b/c.png", "mail me@example.org / or not", "a;key=5/6",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert without_secrets(text) == text


def test_a_whole_url_may_have_spaces_in_its_secrets() -> None:
    assert url_without_secrets("http://me:SEC RET@h/x?token=SEC RET'X") == "http://h/x?token=***"


@pytest.mark.parametrize(
    "text",
    ["a" * 10**6, "a://b:c" * 10**5, "?" * 10**6 + "://", "http://h/" + "?a;" * 10**5,
     "//" * 10**5, "http://u:" + "x" * 10**6, "http://h/?a=" * 10**5,
     "http://h/" + "%3Fa%3D" * 10**5, "http://h/?%" + "25" * 10**6],
)  # fmt: skip
def test_a_long_text_takes_no_time(text: str) -> None:
    start = time.process_time()
    without_secrets(text)
    url_without_secrets(text)
    assert time.process_time() - start < 5  # some take a day where every place is searched again


def test_errors_have_no_secrets_in_any_part() -> None:
    url = "http://me:SECRET@h/x?token=SECRET"
    error = PaddlexMLError(f"no {url}", where=url, fix=f"-o Predict.input={url}")
    assert "SECRET" not in f"{error} {error.what} {error.where} {error.fix}"


def test_codes_that_steer_a_terminal_are_shown_as_text() -> None:
    text = "a\x1b[31m\x07\r\x9b2J\u202eb\u2066\u200f\u061c\u2028\udc9b\tc\n狗👩\u200d👩"
    assert visible(text) == (
        "a\\u001b[31m\\u0007\\u000d\\u009b2J\\u202eb\\u2066\\u200f\\u061c\\u2028\\udc9b\tc\n"
        "狗👩\u200d👩"
    )
