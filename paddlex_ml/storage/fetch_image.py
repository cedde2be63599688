# SPDX-License-Identifier: Apache-2.0
"""Fetching one image from the web, only for a URL that the user wrote."""

from __future__ import annotations

import time
from concurrent import futures
from threading import Thread
from typing import TYPE_CHECKING

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import url_without_secrets
from paddlex_ml.storage import cache, web

if TYPE_CHECKING:
    import httpx  # imported with the first URL: it takes 0.1 s

TIME_LIMIT = 30.0  # seconds for the whole image: a slow server must not hold up a run
SIZE_LIMIT = 64 * 2**20  # bytes
FAILED = "the image cannot be downloaded"


def fetch(url: str) -> bytes:
    """Return the content of an http or https URL.

    Raises PaddlexMLError for all that goes wrong, and for a web page instead of an image.
    """
    content: futures.Future[bytes] = futures.Future()

    def run() -> None:
        try:
            content.set_result(_download(url))
        except BaseException as error:  # raised again below
            content.set_exception(error)

    # No timeout of httpx limits a slow name server, or one header after the other. The daemon
    # thread goes on in such a case, and the program can end without it.
    Thread(target=run, daemon=True).start()
    try:
        return content.result(TIME_LIMIT)
    except futures.TimeoutError:
        raise _failed(f"not complete after {TIME_LIMIT:g} seconds", url) from None


def _download(url: str) -> bytes:
    import httpx

    try:
        client = web.open_client(url, TIME_LIMIT)
        with client, client.stream("GET", cache.without_password(url)) as answer:
            return _read(answer, url)
    except httpx.TimeoutException:
        raise _failed(f"not complete after {TIME_LIMIT:g} seconds", url) from None
    except httpx.TooManyRedirects:
        reason = f"the server redirects more than {web.MAX_REDIRECTS} times"
        raise _failed(reason, url) from None
    except httpx.UnsupportedProtocol as error:
        raise _failed("it leads to something other than http or https", url) from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise _failed(f"no connection: {error}", url) from error
    except web.RedirectError as error:
        raise _failed(str(error), url) from error
    # Their text may have a part of a password; the last: a port of twenty digits.
    except (httpx.InvalidURL, ValueError, OverflowError) as error:
        reason = "it is, or leads to, no URL: host or port are malformed"
        raise _failed(reason, url) from error
    except httpx.HTTPError as error:
        raise _failed(str(error) or type(error).__name__, url) from error


def _read(answer: httpx.Response, url: str) -> bytes:
    if answer.status_code != 200:
        reason = f"the server answers {answer.status_code} {answer.reason_phrase}"
        raise _failed(reason + web.explain_refusal(answer), url)
    encoding = answer.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip", "deflate"):  # these grow 1,032 times at most
        raise _failed(f"the server sends it compressed ({encoding}), unasked", url)
    size = int(answer.headers.get("Content-Length", 0))
    deadline = time.monotonic() + TIME_LIMIT  # `fetch` has given up by then
    content, chunks = bytearray(), answer.iter_bytes()
    while size <= SIZE_LIMIT and (chunk := next(chunks, b"")):
        content += chunk
        size = max(size, len(content))
        if time.monotonic() > deadline:
            raise _failed(f"not complete after {TIME_LIMIT:g} seconds", url)
    if size > SIZE_LIMIT:
        raise PaddlexMLError(
            f"the image is larger than {SIZE_LIMIT // 2**20} MiB",
            where=url_without_secrets(url),
            fix="download it yourself and give its path",
        )
    if not content:
        raise _failed("the server sent nothing (0 bytes)", url)
    kind = answer.headers.get("Content-Type", "")
    if content[:512].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and "image" not in kind:
        raise _failed(f"the server sent a web page ({kind or 'of no kind'}), not an image", url)
    return bytes(content)


def _failed(reason: str, url: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"{FAILED}: {reason}",
        where=url_without_secrets(url),
        fix="open the URL in a browser; then correct it, or save the image and give its path",
    )
