# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of everything that is fetched: one identity, one trust, no password in logs."""

from __future__ import annotations

import functools
import ssl
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from paddlex_ml.errors import PaddlexMLError

if TYPE_CHECKING:
    import httpx  # imported with the first URL: it takes 0.1 s

MAX_REDIRECTS = 20


def open_client(url: str, timeout: float | httpx.Timeout) -> httpx.Client:
    """A client that fetches `url`, with the name and password in it and the environment's proxies.

    Requests get the URL without its password (`cache.without_password`), because httpx logs it.
    timeout: seconds. Raises PaddlexMLError for wrong settings of the environment, ValueError for a
    malformed URL.
    """
    import httpx

    parts = urlsplit(url)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    try:
        return httpx.Client(
            auth=auth,
            # Some servers refuse Python's own name. The size of a compressed answer cannot be
            # checked, and its download cannot be resumed.
            headers={"User-Agent": "paddlex_ml", "Accept-Encoding": "identity"},
            timeout=timeout,
            verify=trusted_authorities(),
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
        )
    except (ImportError, ValueError, OSError) as error:
        raise PaddlexMLError(
            f"no connection can be set up: {error}",
            where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE of the environment",
            fix="correct it (a proxy is http://..., https://... or socks5://...), or unset it",
        ) from error


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """The accepted certificate authorities: those of $SSL_CERT_FILE or certifi, and of the system.

    Companies add their own authority to the system. Reading all of them takes 0.1 s.
    """
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context
