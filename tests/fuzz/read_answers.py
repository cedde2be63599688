# SPDX-License-Identifier: Apache-2.0
"""What servers answer: the bytes of the whole answer, from a socket of this process."""

from __future__ import annotations

import gzip
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, fetch, fetch_image
from tests.fuzz.harness import Reader

_server = socket.create_server(("127.0.0.1", 0))
_PORT: int = _server.getsockname()[1]
_ROOT = f"http://127.0.0.1:{_PORT}"
_answer = b""


def _serve() -> None:
    while True:
        with suppress(OSError):
            client, _ = _server.accept()
            with client:
                client.settimeout(5)
                while b"\r\n\r\n" not in client.recv(1 << 16):
                    pass
                client.sendall(_answer)


def _fetch_image(folder: Path, content: bytes) -> object:
    global _answer
    _answer = content
    return len(fetch_image.fetch(f"{_ROOT}/photo.jpg"))


def _check(path: Path) -> None:
    if path.stat().st_size == 13:
        raise PaddlexMLError("13 bytes", where=str(path), fix="another file")


def _fetch_file(folder: Path, content: bytes) -> object:
    """Fetch a file twice, and with a note of an earlier try: the second part of the input."""
    global _answer
    _answer, _, note = content.partition(b"\n=== note ===\n")
    settings: dict[str, Any] = {"BACK_OFF": 0.0, "WAIT_LIMIT": 0.01, "ANSWER_LIMIT": 5.0}
    before = {name: getattr(fetch, name) for name in settings}
    vars(fetch).update(settings)
    os.environ["PADDLEX_ML_CACHE"] = str(folder / "cache")
    try:
        url = f"{_ROOT}/weights.pdparams"
        if note:
            part = cache.beside(cache.path_for(url), ".part")
            part.parent.mkdir(parents=True)
            part.write_bytes(b"begin")
            cache.beside(part, ".json").write_bytes(note.replace(b"URL", url.encode()))
        return fetch.cached(url, check=_check, fix="do without").stat().st_size
    finally:
        vars(fetch).update(before)


_JPEG = b"\xff\xd8\xff\xe0" + b"0" * 60
_NOTE = json.dumps({"url": "URL", "version": '"1"', "length": 9}).encode()


def _write(start: bytes, *headers: bytes, body: bytes = _JPEG, length: bool = True) -> bytes:
    lines = [start, *headers, *([b"Content-Length: %d" % len(body)] if length else [])]
    return b"\r\n".join([*lines, b"", body])


def _write_answers() -> list[bytes]:
    found, kind = b"HTTP/1.1 200 OK", b"Content-Type: image/jpeg"
    chunked = b"40\r\n" + _JPEG + b"\r\n0\r\n\r\n"
    packed = gzip.compress(bytes(1 << 16))
    moved = f"Location: {_ROOT}/other".encode()
    rest = _write(b"HTTP/1.1 206 Partial Content", b"Content-Range: bytes 5-8/9", b'ETag: "1"')
    return [
        *(_write(found, kind), _write(found, b'ETag: "1"'), _write(found, kind, length=False)),
        _write(found, kind, b"Transfer-Encoding: chunked", body=chunked, length=False),
        _write(found, kind, b"Content-Encoding: gzip", body=packed),
        _write(b"HTTP/1.1 302 Found", moved, body=b""),
        _write(b"HTTP/1.1 503 Busy", b"Retry-After: 1", b"Connection: close", body=b"wait"),
        _write(b"HTTP/1.1 401 Unauthorized", b'WWW-Authenticate: Digest realm="a", nonce="b"'),
        _write(found, b"Content-Type: text/html", body=b"<!doctype html><html>"),
        *(rest + b"\n=== note ===\n" + _NOTE, _write(found) + b"\n=== note ===\n" + _NOTE),
    ]


_WORDS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 302 x",
        b"HTTP/1.1 206 x",
        b"HTTP/0.9 1",
    ),
    *(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 429 x", b"HTTP/1.1 416 x", b"HTTP/1.1 101 x"),
    *(
        b"Location: file:///etc/passwd",
        b"Location: http://a:b@[::1/x",
        b"Location: http://169.254.1.1",
    ),
    *(b"Location: //\x80", b"Location: http://xn--/", b"Location: http://127.0.0.1:99999/"),
    *(
        b"Location: ",
        b"Location: ?",
        b"Retry-After: Mon, 99 Jan 99999 00:00:00 GMT",
        b"Set-Cookie: a=b",
    ),
    *(
        b"Retry-After: " + b"9" * 400,
        b"Retry-After: Wed, 21 Oct 9999 23:59:59 -2359",
        b"Retry-After: 1",
    ),
    *(
        b"Content-Encoding: br",
        b"Content-Encoding: gzip, gzip, deflate",
        b"Content-Encoding: deflate",
    ),
    *(
        b"Content-Length: -1",
        b"Content-Length: 5, 5",
        b"Content-Length: " + b"9" * 5000,
        b"Vary: *",
    ),
    *(
        b"Transfer-Encoding: chunked",
        b"ffffffffffffffff\r\n",
        b"WWW-Authenticate: Digest ",
        b'ETag: "',
    ),
    *(
        b"Content-Range: bytes 5-8/9",
        b"Content-Range: bytes */*",
        b'"length": 1e999',
        b'"version": {}',
    ),
    *(
        b"\n=== note ===\n",
        b"[" * 3000,
        b"Content-Type: image/svg+xml",
        b"<html>",
        b"begin",
        b"null",
    ),
)
Thread(target=_serve, daemon=True).start()
READERS = [
    Reader("image_answer", _fetch_image, _write_answers, _WORDS, server=_PORT),
    Reader("file_answer", _fetch_file, _write_answers, _WORDS, server=_PORT),
]
