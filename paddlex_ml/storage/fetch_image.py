# SPDX-License-Identifier: Apache-2.0
"""Fetching one image from the web, only ever for a URL that the user wrote."""

from __future__ import annotations

import re
import ssl
import time
from concurrent import futures
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING

from paddlex_ml.errors import PaddlexMLError

if TYPE_CHECKING:
    import httpx  # 0.1 s to import at run time, and only those pay it who give a URL

TIME_LIMIT = 30.0  # seconds for the whole image: a server that drips must not hold a run
SIZE_LIMIT = 64 * 2**20  # bytes
_REDIRECTS = 10


def fetch(url: str) -> bytes:
    """Return what an http or https URL holds; the proxies of the environment are used.

    Raises PaddlexMLError for all that goes wrong, and for a web page in place of an image.
    """
    content: futures.Future[bytes] = futures.Future()
    # Nothing bounds how long a name server takes, or a server that drips its headers: the thread
    # is left to itself then, which no exit of the program waits for.
    Thread(target=_fulfil, args=(content, url), daemon=True).start()
    try:
        return content.result(TIME_LIMIT)
    except futures.TimeoutError:
        raise _too_slow(url) from None


def _fulfil(content: futures.Future[bytes], url: str) -> None:
    try:
        content.set_result(_download(url))
    except BaseException as error:  # whatever it is, the one who waits raises it
        content.set_exception(error)


def _download(url: str) -> bytes:
    import httpx

    try:
        target = httpx.URL(url)
        client = _client(target)
        with client, client.stream("GET", target.copy_with(userinfo=b"")) as answer:
            return _read(answer, url)
    except httpx.TimeoutException:
        raise _too_slow(url) from None
    except httpx.TooManyRedirects:
        raise _failed(f"the server redirects more than {_REDIRECTS} times", url) from None
    except httpx.UnsupportedProtocol as error:
        raise _failed("it leads to something other than http or https", url) from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise _failed(f"no connection: {error}", url) from error
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _failed(str(error) or type(error).__name__, url) from error


def _client(target: httpx.URL) -> httpx.Client:
    import httpx

    try:
        return httpx.Client(
            # Some servers turn Python's own name away.
            headers={"User-Agent": "paddlex_ml", "Accept-Encoding": "identity"},
            auth=(target.username, target.password) if target.username else None,
            timeout=TIME_LIMIT,
            verify=_trust(),
            follow_redirects=True,
            max_redirects=_REDIRECTS,
        )
    except (ImportError, ValueError, OSError) as error:
        raise PaddlexMLError(
            f"no connection can be set up: {error}",
            where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE of the environment",
            fix="correct it (a proxy is http://..., https://... or socks5://...), or unset it",
        ) from error


@cache
def _trust() -> ssl.SSLContext:
    """The authorities that sign certificates: $SSL_CERT_FILE or httpx's own, and the system's.

    Companies add theirs to the system. It takes 0.1 s to read them.
    """
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _read(answer: httpx.Response, url: str) -> bytes:
    if answer.status_code != 200:
        raise _failed(f"the server answers {answer.status_code} {answer.reason_phrase}", url)
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "deflate"):  # these grow 1,032 times at most
        raise _failed(f"the server sends it compressed ({encoding}), unasked", url)
    _limit(int(answer.headers.get("Content-Length", 0)), url)
    deadline = time.monotonic() + TIME_LIMIT  # by then nobody waits any more
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        _limit(len(content), url)
        if time.monotonic() > deadline:
            raise _too_slow(url)
    kind = answer.headers.get("Content-Type", "")
    if not content:
        raise _failed("the server sent nothing (0 bytes)", url)
    if content[:512].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and "image" not in kind:
        raise _failed(f"the server sent a web page ({kind or 'of no kind'}), not an image", url)
    return bytes(content)


def _limit(size: int, url: str) -> None:
    if size > SIZE_LIMIT:
        raise PaddlexMLError(
            f"the image is larger than {SIZE_LIMIT // 2**20} MiB",
            where=_without_password(url),
            fix="download it yourself and give its path",
        )


def _too_slow(url: str) -> PaddlexMLError:
    return _failed(f"not complete after {TIME_LIMIT:g} seconds", url)


def _failed(reason: str, url: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"the image cannot be downloaded: {reason}",
        where=_without_password(url),
        fix="open the URL in a browser; then correct it, or save the image and give its path",
    )


def _without_password(url: str) -> str:
    return re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)  # messages end in logs
