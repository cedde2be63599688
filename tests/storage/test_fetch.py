# SPDX-License-Identifier: Apache-2.0
"""Downloads from servers that are slow, broken, moody or malicious."""

from __future__ import annotations

import errno
import json
import logging
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, fetch

ROOT = Path(__file__).resolve().parents[2]
BODY = bytes(range(256)) * 40  # 10240 bytes
FIX = "-o Train.pretrain_weight_path=null, which trains from random weights"


def accept(path: Path) -> None:
    """A check that finds no fault."""


def get(url: str, check=accept) -> Path:
    return fetch.cached(url, check=check, fix=FIX)


def refusal(url: str, check=accept) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        get(url, check)
    return caught.value


def left(path: Path) -> set[str]:
    """What is in the cache beside `path`, without the lock."""
    return {file.name for file in path.parent.iterdir() if not file.name.endswith(".lock")}


def test_a_file_is_fetched_once_and_kept_under_a_readable_name(site, own_cache, caplog):
    caplog.set_level(logging.INFO)
    site["/models/a.pdparams"] = BODY
    path = get(site.url("/models/a.pdparams"))
    assert path.relative_to(own_cache).parts[1:] == ("models", "a.pdparams")
    assert path.read_bytes() == BODY
    assert get(site.url("/models/a.pdparams")) == path
    assert len(site.asked) == 1
    assert left(path) == {"a.pdparams"}
    ours = [record.getMessage() for record in caplog.records if "paddlex_ml" in record.name]
    assert ours == [f"fetching {site.url('/models/a.pdparams')} (0.0 MB) to {path}"]


def test_a_file_put_there_by_hand_is_used(site):
    url = site.url("/a.pdparams")
    path = cache.path_for(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert get(url).read_bytes() == b"mine"
    assert site.asked == []


def test_a_slow_line_is_waited_for_as_long_as_bytes_come(site, monkeypatch):
    monkeypatch.setattr(fetch, "STALL_LIMIT", 0.2)
    site["/a"] = site.reply(BODY[:30], pause=0.02)  # 0.6 seconds in all
    assert get(site.url("/a")).read_bytes() == BODY[:30]


def test_a_body_of_unknown_length_is_taken_to_its_end(site):
    site["/a"] = site.reply(BODY, claim="unknown")
    assert get(site.url("/a")).read_bytes() == BODY


def test_a_content_length_that_is_too_small_is_found_by_the_check(site):
    site["/a"] = site.reply(BODY, claim=9000)

    def whole(path: Path) -> None:
        if path.read_bytes() != BODY:
            raise PaddlexMLError("it is damaged", where=str(path), fix="-")

    error = refusal(site.url("/a"), whole)
    assert error.what == "what the server sent cannot be used: it is damaged"
    assert error.where == site.url("/a")
    assert FIX in error.fix
    assert left(cache.path_for(site.url("/a"))) == set()
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><p>404", b"\n <html>", b'<?xml version="1.0"?><Error/>']
)
def test_a_web_page_in_place_of_the_file_is_refused_and_not_kept(site, page):
    site["/a.pdparams"] = page
    error = refusal(site.url("/a.pdparams"))
    assert error.what == "what the server sent cannot be used: it is a web page"
    assert left(cache.path_for(site.url("/a.pdparams"))) == set()


def test_without_a_network_one_error_names_the_url_the_place_and_the_way_without():
    url = "http://127.0.0.1:9/m/a.pdparams"
    error = refusal(url)
    assert error.what.startswith("the file cannot be fetched: no connection: ")
    assert "refused" in error.what
    assert error.where == url
    assert f"or put the file by hand at {cache.path_for(url)}," in error.fix
    assert error.fix.endswith(f"or {FIX}")


def test_a_redirect_is_followed_and_the_name_is_that_of_the_first_url(site):
    site["/a"] = site.reply(b"", 302, Location="/b")
    site["/b"] = BODY
    assert get(site.url("/a")) == cache.path_for(site.url("/a"))
    assert cache.path_for(site.url("/a")).read_bytes() == BODY


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a"])
def test_a_redirect_away_from_the_web_is_refused(site, target):
    site["/a"] = site.reply(b"", 302, Location=target)
    assert "something other than http or https" in refusal(site.url("/a")).what
    assert len(site.asked) == 1


def test_a_redirect_to_nonsense_is_refused(site):
    site["/a"] = site.reply(b"", 302, Location="data:,x")
    assert "it is, or leads to, no URL" in refusal(site.url("/a")).what


def test_redirects_in_a_circle_end(site):
    site["/a"] = site.reply(b"", 302, Location="/a")
    assert "redirects" in refusal(site.url("/a")).what


def test_a_compressed_answer_is_refused(site):
    site["/a"] = site.reply(BODY, Content_Encoding="gzip")
    assert "sends the file compressed (gzip), unasked" in refusal(site.url("/a")).what


def test_a_stream_without_end_is_cut(site, monkeypatch):
    monkeypatch.setattr(fetch, "SIZE_LIMIT", 5000)
    for claim in ("unknown", None):
        site["/a"] = site.reply(BODY, claim=claim)
        assert "it is larger than " in refusal(site.url("/a")).what


def test_a_disk_without_room_is_refused_before_the_download(site, monkeypatch):
    usage = SimpleNamespace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    site["/a"] = site.reply(b"", claim=5_000_000)
    error = refusal(site.url("/a"))
    assert error.what.endswith("5 MB are to come, the disk has 2 MB left")
    assert "PADDLEX_ML_CACHE=/another/folder" in error.fix


def test_a_disk_that_fills_up_keeps_the_part(site, monkeypatch):
    class Full:
        disable = True

        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tqdm.tqdm", Full)
    site["/a"] = site.reply(BODY, etag='"1"')
    error = refusal(site.url("/a"))
    assert error.what == "the cache cannot be used: No space left on device"
    kept = cache.path_for(site.url("/a")).with_name("a.part").stat().st_size / 1e6
    assert error.fix.endswith(f"; {kept:.1f} MB have arrived and are kept: the next run goes on")
    assert left(cache.path_for(site.url("/a"))) == {"a.part", "a.part.json"}


def test_a_password_is_sent_but_not_shown(site, caplog):
    caplog.set_level(logging.INFO)
    site["/a"] = [site.reply(b"", 500), site.reply(BODY)]
    get(site.url("/a").replace("//", "//me:secret@"))
    assert site.asked[0]["Authorization"] == "Basic bWU6c2VjcmV0"
    site["/b"] = site.reply(b"", 404)
    assert "secret" not in str(refusal(site.url("/b").replace("//", "//me:secret@")))
    assert "secret" not in caplog.text


def test_two_processes_download_once(site, own_cache):
    site["/a"] = site.reply(BODY[:40], pause=0.05)
    code = (
        "import sys; from paddlex_ml.storage import fetch; "
        "print(fetch.cached(sys.argv[1], check=lambda path: None, fix='-').read_bytes().hex())"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, site.url("/a")], cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0].decode().strip() for process in both] == [
        BODY[:40].hex()
    ] * 2
    assert len(site.asked) == 1


def test_a_proxy_of_the_environment_is_asked(site, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", site.root)
    site["http://models.example/a"] = BODY  # a proxy is asked for whole URLs
    assert get("http://models.example/a").read_bytes() == BODY


def test_a_proxy_that_is_none_is_named_as_the_fault(monkeypatch):
    monkeypatch.setenv("all_proxy", "gopher://x")
    error = refusal("http://models.example/a")
    assert error.what.startswith("no connection can be set up: ")
    assert "ALL_PROXY" in error.where


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://a.org/m", True),
        ("S3://a", True),
        ("./a", False),
        ("C://m", False),
        ("a:/b", False),
    ],
)
def test_urls_differ_from_paths(text, found):
    assert fetch.is_url(text) is found


# Downloads that break off or are refused for now: resumed, tried again, given up.


def test_a_line_that_stalls_is_left_and_the_rest_is_fetched(site, monkeypatch):
    monkeypatch.setattr(fetch, "STALL_LIMIT", 0.2)
    rest = {"etag": '"1"', "ranges": True}
    site["/a"] = [
        lambda asked: (site.reply(BODY, cut=500, **rest)(asked), site.over.wait(1)),
        site.reply(BODY, **rest),
    ]
    assert get(site.url("/a")).read_bytes() == BODY
    assert [ask.get("Range") for ask in site.asked] == [None, "bytes=500-"]


def test_a_broken_download_goes_on_where_it_stopped(site):
    good = {"etag": '"1"', "ranges": True}
    site["/a"] = [site.reply(BODY, cut=4000, claim=len(BODY), **good), site.reply(BODY, **good)]
    assert get(site.url("/a")).read_bytes() == BODY
    asked = [(ask.get("Range"), ask.get("If-Range")) for ask in site.asked]
    assert asked == [(None, None), ("bytes=4000-", '"1"')]


def test_each_try_that_brings_something_new_gives_new_tries(site):
    good = {"etag": '"1"', "ranges": True}
    site["/a"] = [site.reply(BODY, cut=1000 * n, **good) for n in range(1, 10)]
    site.answers["/a"].append(site.reply(BODY, **good))
    assert get(site.url("/a")).read_bytes() == BODY
    assert len(site.asked) == 10 > fetch.TRIES


def test_a_download_that_was_given_up_is_resumed_by_the_next_command(site):
    good = {"etag": '"1"', "ranges": True}
    site["/a"] = [site.reply(BODY, cut=4000, **good), site.reply(b"", 503)]
    assert "the server answers 503 Service Unavailable" in refusal(site.url("/a")).what
    path = cache.path_for(site.url("/a"))
    assert left(path) == {"a.part", "a.part.json"}
    assert (path.parent / "a.part").read_bytes() == BODY[:4000]
    note = json.loads((path.parent / "a.part.json").read_text())
    assert note == {"url": site.url("/a"), "version": '"1"', "length": len(BODY)}
    site.asked.clear()
    site["/a"] = site.reply(BODY, **good)
    assert get(site.url("/a")).read_bytes() == BODY
    assert [ask["Range"] for ask in site.asked] == ["bytes=4000-"]


def test_a_download_that_was_killed_after_its_last_byte_is_not_repeated(site):
    path = cache.path_for(site.url("/a"))
    path.parent.mkdir(parents=True)
    (path.parent / "a.part").write_bytes(BODY)
    note = {"url": site.url("/a"), "version": '"1"', "length": len(BODY)}
    (path.parent / "a.part.json").write_text(json.dumps(note))
    assert get(site.url("/a")).read_bytes() == BODY
    assert site.asked == []


@pytest.mark.parametrize(
    ("second", "asked"),
    [
        ({"etag": '"1"'}, [None, "bytes=4000-"]),  # knows no Range: sends the whole again
        ({"etag": '"2"', "ranges": True}, [None, "bytes=4000-"]),  # If-Range: another file now
        ({"etag": '"1"', "status": 416}, [None, "bytes=4000-", None]),
        ({"etag": '"2"', "status": 206, "Content_Range": "bytes 4000-10239/10240"},
         [None, "bytes=4000-", None]),  # ignores If-Range
        ({"etag": '"1"', "status": 206, "Content_Range": "bytes 0-10239/10240"},
         [None, "bytes=4000-", None]),  # another part than asked for
    ],
)  # fmt: skip
def test_what_does_not_fit_the_part_starts_over(site, second, asked):
    new = BODY[::-1]
    site["/a"] = [
        site.reply(BODY, cut=4000, etag='"1"', ranges=True),
        site.reply(new, **second),
        site.reply(new, etag='"2"'),
    ]
    assert get(site.url("/a")).read_bytes() == new
    assert [ask.get("Range") for ask in site.asked] == asked


@pytest.mark.parametrize("version", [{}, {"etag": 'W/"1"'}])
def test_a_file_without_a_strong_version_is_not_resumed(site, version):
    site["/a"] = [site.reply(BODY, cut=4000, ranges=True, **version), site.reply(BODY)]
    assert get(site.url("/a")).read_bytes() == BODY
    assert [ask.get("Range") for ask in site.asked] == [None, None]


def test_a_truncated_body_is_an_error_after_all_tries(site):
    site["/a"] = site.reply(BODY, cut=4000)
    error = refusal(site.url("/a"))
    assert "broken off: " in error.what
    assert "received 4000 bytes, expected 10240" in error.what
    assert len(site.asked) == fetch.TRIES
    assert not cache.path_for(site.url("/a")).exists()


@pytest.mark.parametrize(
    ("status", "answer"),
    [(404, "404 Not Found"), (403, "403 Forbidden"), (401, "401"), (410, "410"), (204, "204")],
)
def test_an_answer_that_will_not_change_is_taken_at_once(site, status, answer):
    site["/a"] = site.reply(b"", status)
    error = refusal(site.url("/a"))
    assert error.what.startswith(f"the file cannot be fetched: the server answers {answer}")
    assert len(site.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(site, status):
    site["/a"] = [site.reply(b"", status), site.reply(b"", status), site.reply(BODY)]
    assert get(site.url("/a")).read_bytes() == BODY
    assert len(site.asked) == 3


def test_retry_after_is_honoured(site, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    site["/a"] = [site.reply(b"", 503, Retry_After="7"), site.reply(BODY)]
    assert get(site.url("/a")).read_bytes() == BODY
    assert waits == [7]


def test_a_retry_after_beyond_reason_ends_the_command(site):
    later = format_datetime(datetime.now(timezone.utc) + timedelta(hours=1), usegmt=True)
    for asked in ("3600", later):
        site["/a"] = site.reply(b"", 429, Retry_After=asked)
        assert re.search(r"answers 429 .* in 3(600|59\d) seconds$", refusal(site.url("/a")).what)
    assert len(site.asked) == 2


def test_the_waits_double_and_differ(site, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(fetch, "BACK_OFF", 1.0)
    site["/a"] = site.reply(b"", 500)
    refusal(site.url("/a"))
    assert len(waits) == fetch.TRIES - 1 == 4
    assert all(0.75 * 2**n <= wait <= 1.25 * 2**n for n, wait in enumerate(waits))
    assert waits != [1, 2, 4, 8]


def test_a_drip_of_bytes_is_given_up(site, monkeypatch):
    monkeypatch.setattr(fetch, "GRACE", 0.1)
    site["/a"] = site.reply(b"x" * 10_000, pause=0.01)
    start = time.monotonic()
    assert "too slow: 0." in refusal(site.url("/a")).what
    assert time.monotonic() - start < 60  # the whole body takes 100
    assert len(site.asked) == 1


def test_a_head_that_never_ends_is_given_up(site, monkeypatch):
    monkeypatch.setattr(fetch, "ANSWER_LIMIT", 0.05)

    def drip(asked) -> None:
        asked.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not site.over.wait(0.01):
            asked.wfile.write(b"X-A: b\r\n")

    site["/a"] = drip
    assert "no complete answer within 0.05 seconds" in refusal(site.url("/a")).what


def test_a_file_that_takes_a_day_is_given_up(site, monkeypatch):
    monkeypatch.setattr(fetch, "TIME_LIMIT", 0.0)
    site["/a"] = b"weights"
    assert "not complete after 0 hours" in refusal(site.url("/a")).what


def test_a_version_that_no_request_can_name_starts_over(site):
    path = cache.path_for(site.url("/a"))
    site["/a"] = [site.reply(BODY, etag='"\xe9"', cut=6000), site.reply(BODY, etag='"2"')]
    assert get(site.url("/a")).read_bytes() == BODY
    assert "Range" not in site.asked[1]
    assert left(path) == {"a"}


@pytest.mark.parametrize("note", ["[" * 5000, '{"url": "URL", "version": 7, "length": 9}', "[]"])
def test_a_damaged_note_of_a_part_is_not_used(site, note):
    url = site.url("/a")
    part = cache.beside(cache.path_for(url), ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"begin")
    cache.beside(part, ".json").write_text(note.replace("URL", url))
    site["/a"] = BODY
    assert get(url).read_bytes() == BODY
    assert "Range" not in site.asked[0]
