# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of everything that is fetched: one identity, one trust, no password in logs."""

from __future__ import annotations

import functools
import ipaddress
import logging
import socket
import ssl
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import without_secrets

if TYPE_CHECKING:
    import httpx  # imported with the first URL: it takes 0.1 s

MAX_REDIRECTS = 20
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 addresses in networks of IPv6
_INNER = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "64:ff9b:1::/48")))
"""Inner networks that only some releases of Python know as such."""
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")


def open_client(url: str, timeout: float | httpx.Timeout) -> httpx.Client:
    """A client that fetches `url`, with the name and password in it and the environment's proxies.

    Requests get the URL without its password (`cache.without_password`); what httpx logs of it is
    without tokens too.
    timeout: seconds. Raises PaddlexMLError for wrong settings of the environment, ValueError for a
    malformed URL. A request raises RedirectError where a server leads into a network that it is not
    in itself.
    """
    import httpx

    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_leave_out_secrets)  # a second time does nothing
    parts = urlsplit(url)
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    guard = _Guard()
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
            event_hooks={
                "request": [guard.look_at_request],
                "response": [guard.look_at_answer],
            },
        )
    except (ImportError, ValueError, OSError) as error:
        raise PaddlexMLError(
            f"no connection can be set up: {error}",
            where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE of the environment",
            fix="correct it (a proxy is http://..., https://... or socks5://...), or unset it",
        ) from error


class RedirectError(ValueError):
    """A server redirects to this machine, or into its network: what is there is not for it."""


class _Reach(IntEnum):
    """From where an address can be reached."""

    EVERYWHERE = 0
    NETWORK = 1
    MACHINE = 2
    """Loopback, and link-local: the services of a cloud for the machine itself."""


class _Guard:
    """Refuses redirects to where one of the hosts on the way may not reach itself."""

    def __init__(self) -> None:
        self._start: httpx.URL | None = None
        self._host = ""
        self._is_direct = False
        """Whether the connection leads to the host itself, not to a proxy."""
        self._addresses: dict[str, str] = {}
        """Where direct connections to a host and port have led."""
        self._least = _Reach.MACHINE
        """Of the hosts so far."""

    def look_at_request(self, request: httpx.Request) -> None:
        """Look at a request before it is sent; another try begins with the URL of the first one."""
        host = request.url.host
        self._start = self._start or request.url
        if request.url == self._start:
            self._least = _Reach.MACHINE
        elif host != self._host:
            self._refuse_beyond(max(_reaches(host), default=_Reach.EVERYWHERE))
        self._host = host
        request.extensions["trace"] = partial(self._look_at_connection, request.url)

    def _look_at_connection(self, url: httpx.URL, event: str, info: dict[str, Any]) -> None:
        """Remember the address of a new connection: later, a closed one does not tell it."""
        import httpx

        if event == "connection.connect_tcp.started":
            self._is_direct = info["host"] == url.raw_host.decode("ascii")
        elif event == "connection.connect_tcp.complete" and self._is_direct:
            try:
                address = info["return_value"].get_extra_info("server_addr")
            except OSError as error:
                raise httpx.ConnectError("the connection was closed at once") from error
            self._addresses[url.netloc.decode("ascii")] = str(address[0]).partition("%")[0]

    def look_at_answer(self, answer: httpx.Response) -> None:
        """Look at the address that has answered: a name can have another one for each question.

        Behind a proxy only what the name means here is known. The body of a redirect is not read.
        """
        import httpx

        address = self._addresses.get(answer.request.url.netloc.decode("ascii"))
        if address is None:
            reach = min(_reaches(self._host), default=_Reach.EVERYWHERE)
        else:
            reach = _reach(ipaddress.ip_address(address))
            self._refuse_beyond(reach)
        self._least = min(self._least, reach)
        if answer.has_redirect_location and isinstance(answer.stream, httpx.SyncByteStream):
            answer.stream.close()
            answer.stream = httpx.ByteStream(b"")

    def _refuse_beyond(self, reach: _Reach) -> None:
        if reach > self._least:
            reason = "the server redirects to an address of this machine or its network"
            raise RedirectError(reason)


def _reaches(host: str) -> list[_Reach]:
    """Of the addresses of a host; none where it is not known here, as behind a proxy."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return []
    return [_reach(ipaddress.ip_address(text.partition("%")[0])) for text in found]


def _reach(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> _Reach:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _reach(inner)
    if address.is_loopback or address.is_link_local or address.is_unspecified:
        return _Reach.MACHINE
    is_inner = not address.is_global or any(address in network for network in _INNER)
    return _Reach.NETWORK if is_inner else _Reach.EVERYWHERE


def _leave_out_secrets(record: logging.LogRecord) -> bool:
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return True


def explain_refusal(answer: httpx.Response) -> str:
    """What 401 and 403 ask for, which messages and saved files leave out of URLs; else ""."""
    if answer.status_code not in (401, 403) or "Authorization" in answer.request.headers:
        return ""
    return " (if it wants a name and password: https://NAME:PASSWORD@host/...; or a token: ?...)"


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """The accepted certificate authorities: those of $SSL_CERT_FILE or certifi, and of the system.

    Companies add their own authority to the system. Reading all of them takes 0.1 s.
    """
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context
