# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import io
import itertools
import socket
import time
import tracemalloc
from collections.abc import Iterator
from threading import Thread

import pytest
from PIL import Image

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import fetch_image, web


def jpeg() -> bytes:
    memory = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 100, 50)).save(memory, "JPEG")
    return memory.getvalue()


@pytest.fixture
def raw() -> Iterator[tuple[str, list[socket.socket]]]:
    """A URL whose server accepts, and what it has accepted: the test says what comes of it."""
    accepted: list[socket.socket] = []

    def accept() -> None:
        try:
            while True:
                accepted.append(listening.accept()[0])
        except OSError:  # closed
            return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/photo.jpg", accepted
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in accepted:
        connection.close()


def refused(url: str, message: str) -> None:
    """Fetching fails with one error that says what, where and how to repair it."""
    with pytest.raises(PaddlexMLError, match=message) as caught:
        fetch_image.fetch(url)
    assert caught.value.where == url
    assert "save the image and give its path" in caught.value.fix


def test_the_content_arrives_whole(site):
    site["/a.jpg"] = site.reply(jpeg(), Content_Type="image/jpeg")
    assert fetch_image.fetch(site.url("/a.jpg")) == jpeg()
    assert site.asked[0]["User-Agent"] == "paddlex_ml"


def test_spaces_and_chinese_are_written_as_the_web_wants_them(site):
    site["/good%20%E7%8C%AB%20?x=1%202"] = jpeg()
    assert fetch_image.fetch(site.url("/good 猫%20?x=1 2#top")) == jpeg()


def test_name_and_password_are_sent_and_not_shown(site):
    site["/a.jpg"] = [jpeg(), site.reply(status=401)]
    url = site.url("/a.jpg")
    secret = url.replace("http://", "http://me:p%40ss@")
    assert fetch_image.fetch(secret) == jpeg()
    assert site.asked[0]["Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
    with pytest.raises(PaddlexMLError, match="the server answers 401 Unauthorized") as caught:
        fetch_image.fetch(secret)
    assert caught.value.where == url


def test_a_redirect_is_followed(site):
    site["/away"] = site.reply(status=302, Location="/a.jpg")
    site["/a.jpg"] = jpeg()
    assert fetch_image.fetch(site.url("/away")) == jpeg()


def test_a_circle_of_redirects_is_left(site):
    site["/away"] = site.reply(status=302, Location="/back")
    site["/back"] = site.reply(status=302, Location="/away")
    refused(site.url("/away"), "the server redirects more than 20 times")


def test_redirects_that_never_repeat_are_left(site):
    for i in range(30):
        site[f"/{i}"] = site.reply(status=307, Location=f"/{i + 1}")
    refused(site.url("/0"), "the server redirects more than 20 times")
    assert len(site.asked) == 21


@pytest.mark.parametrize("place", ["file:///etc/hosts", "ftp://127.0.0.1/a.jpg"])
def test_a_redirect_to_anything_but_the_web_is_refused(site, place):
    site["/away"] = site.reply(status=302, Location=place)
    refused(site.url("/away"), "it leads to something other than http or https")


@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "404 Not Found"), (500, "500 Internal Server Error"), (204, "204 No Content")],
)
def test_the_answer_of_a_server_that_has_no_image_is_shown(site, status, message):
    site["/a.jpg"] = site.reply(status=status)
    refused(site.url("/a.jpg"), f"the server answers {message}")


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><p>Log in", b"\xef\xbb\xbf\n <script>location = 1</script>"]
)
def test_a_web_page_in_place_of_an_image_is_called_one(site, page):
    site["/a.jpg"] = site.reply(page, Content_Type="text/html")
    refused(site.url("/a.jpg"), r"the server sent a web page \(text/html\), not an image")
    site["/a.jpg"] = page
    refused(site.url("/a.jpg"), r"the server sent a web page \(of no kind\)")


def test_an_image_that_is_called_a_page_is_still_an_image(site):
    site["/a.jpg"] = site.reply(jpeg(), Content_Type="text/html")
    assert fetch_image.fetch(site.url("/a.jpg")) == jpeg()


def test_an_empty_answer_is_an_error(site):
    site["/a.jpg"] = b""
    refused(site.url("/a.jpg"), r"the server sent nothing \(0 bytes\)")


def test_an_answer_that_breaks_off_is_an_error(site):
    site["/a.jpg"] = site.reply(jpeg(), claim=10_000)
    refused(site.url("/a.jpg"), rf"received {len(jpeg())} bytes, expected 10000")


def test_a_compressed_answer_is_unpacked(site):
    site["/a.jpg"] = site.reply(gzip.compress(jpeg()), Content_Encoding="gzip")
    assert fetch_image.fetch(site.url("/a.jpg")) == jpeg()
    assert site.asked[0]["Accept-Encoding"] == "identity"
    site["/a.jpg"] = site.reply(jpeg(), Content_Encoding="gzip")
    refused(site.url("/a.jpg"), "incorrect header check")
    site["/a.jpg"] = site.reply(jpeg(), Content_Encoding="gzip, gzip")
    refused(site.url("/a.jpg"), r"the server sends it compressed \(gzip, gzip\), unasked")


def test_two_gigabytes_are_refused_before_they_come(site):
    site["/a.jpg"] = site.reply(b"x" * 1000, claim=2**31)
    with pytest.raises(PaddlexMLError, match="larger than 64 MiB") as caught:
        fetch_image.fetch(site.url("/a.jpg"))
    assert caught.value.fix == "download it yourself and give its path"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_stream_without_end_is_left_at_the_limit(site, monkeypatch, encoding):
    monkeypatch.setattr(fetch_image, "SIZE_LIMIT", 2**20)
    body = bytes(2**25) if encoding == "identity" else gzip.compress(bytes(2**27), 9)
    site["/a.jpg"] = site.reply(body, claim="unknown", Content_Encoding=encoding)
    tracemalloc.start()
    try:
        with pytest.raises(PaddlexMLError, match="larger than 1 MiB"):
            fetch_image.fetch(site.url("/a.jpg"))
        # A packed chunk of 64 KiB can hold 66 MB, which are unpacked before they are counted.
        assert tracemalloc.get_traced_memory()[1] < (5e6 if encoding == "identity" else 2.1e8)
    finally:
        tracemalloc.stop()


def test_a_server_that_drips_is_left_in_time(site, monkeypatch):
    monkeypatch.setattr(fetch_image, "TIME_LIMIT", 0.3)
    site["/a.jpg"] = site.reply(bytes(1000), pause=0.02)
    refused(site.url("/a.jpg"), r"not complete after 0\.3 seconds")


def test_a_server_that_never_answers_is_left_in_time(raw, monkeypatch):
    monkeypatch.setattr(fetch_image, "TIME_LIMIT", 0.3)
    refused(raw[0], r"not complete after 0\.3 seconds")


def test_headers_that_drip_are_left_in_time(raw, monkeypatch):
    monkeypatch.setattr(fetch_image, "TIME_LIMIT", 0.3)
    url, accepted = raw

    def drip() -> None:
        head = itertools.chain(b"HTTP/1.1 200 OK\r\nX: ", itertools.repeat(ord("x")))
        start = time.monotonic()
        while time.monotonic() - start < 1:
            time.sleep(0.02)
            for connection in accepted:
                connection.send(bytes([next(head)]))

    thread = Thread(target=drip)
    thread.start()
    refused(url, r"not complete after 0\.3 seconds")
    thread.join()


def test_a_name_server_that_hangs_is_left_in_time(monkeypatch):
    monkeypatch.setattr(fetch_image, "TIME_LIMIT", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(1) or [])
    refused("http://example.org/a.jpg", r"not complete after 0\.3 seconds")


def test_a_host_that_nobody_knows_is_an_error(monkeypatch):
    def fail(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("no_proxy", "*")
    refused("http://nowhere.invalid/a.jpg", "no connection: .*Name or service not known")


def test_nobody_at_the_address_is_a_clear_error():
    refused("http://127.0.0.1:9/photo.jpg", "no connection: .*refused")


def test_a_server_that_cannot_encrypt_is_a_clear_error(site):
    refused(site.url("/a.jpg").replace("http", "https"), "no connection: .*SSL")


def test_a_proxy_of_the_environment_is_asked(site, monkeypatch):
    site["http://example.org/a.jpg"] = jpeg()
    monkeypatch.setenv("http_proxy", site.root)
    assert fetch_image.fetch("http://example.org/a.jpg") == jpeg()


@pytest.mark.parametrize(
    ("name", "value"), [("SSL_CERT_FILE", "/nowhere.pem"), ("all_proxy", "socks://127.0.0.1:9")]
)
def test_settings_of_the_environment_that_are_wrong_are_a_clear_error(monkeypatch, name, value):
    web.trusted_authorities.cache_clear()
    monkeypatch.setenv(name, value)
    with pytest.raises(PaddlexMLError, match=r"no connection can be set up: .") as caught:
        fetch_image.fetch("http://127.0.0.1:9/photo.jpg")
    assert "ALL_PROXY or SSL_CERT_FILE of the environment" in caught.value.where
    assert "socks5://" in caught.value.fix


@pytest.mark.parametrize(
    "url",
    ["http://", "http://[::1/x.jpg", "http://a:port/x.jpg", "http://a/\x01", "http://a/\udce9.jpg"],
)
def test_a_malformed_url_is_a_clear_error(url):
    refused(url, "the image cannot be downloaded: .")


def test_several_threads_may_fetch_at_once(site):
    for i in range(8):
        site[f"/{i}"] = jpeg() + bytes([i])
    found: dict[int, bytes] = {}

    def load(i: int) -> None:
        found[i] = fetch_image.fetch(site.url(f"/{i}"))

    threads = [Thread(target=load, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {i: jpeg() + bytes([i]) for i in range(8)}
