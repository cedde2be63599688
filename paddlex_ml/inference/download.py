# SPDX-License-Identifier: Apache-2.0
"""Fetching one image from the web, only ever for a URL that the user wrote."""

from __future__ import annotations

import http.client
import time
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from paddlex_ml.errors import PaddlexMLError

TIME_LIMIT = 30.0  # seconds for the whole image: a server that drips must not hold a run
SIZE_LIMIT = 64 * 2**20  # bytes
_CHUNK = 2**16


def fetch(url: str) -> bytes:
    """Return what an http or https URL holds. Raises PaddlexMLError for all that goes wrong."""
    deadline = time.monotonic() + TIME_LIMIT
    ascii_url = quote(url, safe="%/:=&?~#+!$,;'@()*[]")  # spaces and Chinese, as browsers do
    try:
        # Some servers turn Python's own name away.
        asked = request.Request(ascii_url, headers={"User-Agent": "paddlex_ml"})
        with request.urlopen(asked, timeout=TIME_LIMIT) as answer:
            if isinstance(answer, http.client.HTTPResponse):
                return _read(answer, url, deadline)
            raise _failed("the server redirects to something other than http", url)
    except HTTPError as error:
        with error:
            raise _failed(f"the server answers {error.code} {error.reason}", url) from None
    except TimeoutError:
        raise _too_slow(url) from None
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _too_slow(url) from None
        raise _failed(f"no connection: {error.reason}", url) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failed(f"{type(error).__name__}: {error}", url) from error


def _read(answer: http.client.HTTPResponse, url: str, deadline: float) -> bytes:
    content = bytearray()
    while chunk := answer.read1(_CHUNK):  # read() would wait for a full chunk, past the deadline
        content += chunk
        if len(content) > SIZE_LIMIT:
            raise PaddlexMLError(
                f"the image is larger than {SIZE_LIMIT // 2**20} MiB",
                where=url,
                fix="download it yourself and give its path",
            )
        if time.monotonic() > deadline:
            raise _too_slow(url)
    return bytes(content)


def _too_slow(url: str) -> PaddlexMLError:
    return _failed(f"not complete after {TIME_LIMIT:g} seconds", url)


def _failed(reason: str, url: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"the image cannot be downloaded: {reason}",
        where=url,
        fix="open the URL in a browser; then correct it, or save the image and give its path",
    )
