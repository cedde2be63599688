# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import download


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.02)
            except OSError:  # the client has left, as it should
                return
        elif self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
        elif self.path.startswith("/good"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode() * 10)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_the_content_arrives_whole(address):
    assert download.fetch(f"{address}/good") == b"/good" * 10


def test_spaces_and_chinese_are_written_as_the_web_wants_them(address):
    assert download.fetch(f"{address}/good 猫%20") == b"/good%20%E7%8C%AB%20" * 10


def test_a_redirect_is_followed(address):
    assert download.fetch(f"{address}/away") == b"/good" * 10


def test_a_missing_image_tells_the_answer_of_the_server(address):
    with pytest.raises(PaddlexMLError, match="the server answers 404 Not Found"):
        download.fetch(f"{address}/nothing")


def test_a_server_that_drips_is_left_in_time(address, monkeypatch):
    monkeypatch.setattr(download, "TIME_LIMIT", 0.2)
    start = time.monotonic()
    with pytest.raises(PaddlexMLError, match=r"not complete after 0\.2 seconds"):
        download.fetch(f"{address}/drip")
    assert time.monotonic() - start < 1


def test_more_than_the_limit_is_refused(address, monkeypatch):
    monkeypatch.setattr(download, "SIZE_LIMIT", 20)
    with pytest.raises(PaddlexMLError, match="larger than 0 MiB"):
        download.fetch(f"{address}/good")


def test_nobody_at_the_address_is_a_clear_error():
    with pytest.raises(PaddlexMLError, match=r"no connection: .*refused"):
        download.fetch("http://127.0.0.1:9/photo.jpg")


@pytest.mark.parametrize("url", ["http://", "http://[::1/x.jpg", "http://a:port/x.jpg"])
def test_a_malformed_url_is_a_clear_error(url):
    with pytest.raises(PaddlexMLError, match="the image cannot be downloaded"):
        download.fetch(url)
