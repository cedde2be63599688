# SPDX-License-Identifier: Apache-2.0
"""The client of everything that is fetched, and whose certificates it accepts."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, fetch, fetch_image, web

BODY = b"weights or an image"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the authority of a company (ca.pem), and a certificate of it for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the command openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificates")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl(
        folder, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem",
        "-days", "2", "-subj", "/CN=Authority of a company",
        "-addext", "keyUsage=critical,keyCertSign",  # Python 3.13 asks for it
    )  # fmt: skip
    openssl(
        folder, "req", *new_key, "-keyout", "server.key", "-out", "server.csr",
        "-subj", "/CN=server",
    )  # fmt: skip
    (folder / "names.txt").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    openssl(
        folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-days", "2", "-extfile", "names.txt", "-out", "server.pem",
    )  # fmt: skip
    return folder


@pytest.fixture
def secure_url(certificates: Path) -> Iterator[str]:
    """URL of a server whose certificate the authority of the company has signed."""

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that does not accept the certificate ends the connection."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with Quiet(("127.0.0.1", 0), Server) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}/a.pdparams"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def read_authorities_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    web.trusted_authorities.cache_clear()
    yield
    web.trusted_authorities.cache_clear()


def get(url: str) -> bytes:
    return fetch.cached(url, check=lambda _: None, fix="-").read_bytes()


def test_an_authority_that_only_the_system_has_is_trusted(
    secure_url: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(context: ssl.SSLContext, *_: object) -> None:  # as the store of the system has it
        context.load_verify_locations(certificates / "ca.pem")

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
    assert get(secure_url) == BODY
    assert fetch_image.fetch(secure_url) == BODY


def test_an_authority_of_the_environment_is_trusted(
    secure_url: str, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    assert get(secure_url) == BODY
    assert fetch_image.fetch(secure_url) == BODY


def test_an_authority_that_nobody_knows_is_refused_at_once(secure_url: str) -> None:
    with pytest.raises(PaddlexMLError, match=r"no connection: .*CERTIFICATE_VERIFY_FAILED"):
        get(secure_url)
    with pytest.raises(PaddlexMLError, match=r"no connection: .*CERTIFICATE_VERIFY_FAILED"):
        fetch_image.fetch(secure_url)
    assert not cache.path_for(secure_url).exists()


def test_the_authorities_of_certifi_stay() -> None:
    assert len(web.trusted_authorities().get_ca_certs()) > 50


@pytest.mark.parametrize("module", ["storage.fetch", "storage.fetch_image", "inference.predictor"])
def test_httpx_is_not_imported_before_a_url_is_fetched(module: str) -> None:
    code = f"import sys, paddlex_ml.{module}; print('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


PUBLIC, INNER, OWN = "93.184.216.34", "10.1.2.3", "127.0.0.1"


def answer_by(
    answer: Callable[[httpx.Request], httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let this function be all servers of the next clients."""
    client_class, transport = httpx.Client, httpx.MockTransport(answer)
    monkeypatch.setattr(
        httpx, "Client", lambda **options: client_class(**options, transport=transport)
    )


@pytest.mark.parametrize(
    ("first", "target", "is_refused"),
    [
        *((PUBLIC, host, True) for host in (
            INNER, OWN, "169.254.169.254", "192.168.0.1", "172.16.9.9", "100.64.0.1", "0.0.0.0",
            "[::1]", "[::ffff:127.0.0.1]", "[fe80::1]", "[fd00::1]", "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]", "localhost", "2130706433", "127.1", "0x7f000001",
        )),
        (INNER, OWN, True), (INNER, "169.254.169.254", True),
        (INNER, "192.168.0.1", False), (OWN, "[::1]", False), (OWN, INNER, False),
        (PUBLIC, "8.8.8.8", False), (INNER, PUBLIC, False), (PUBLIC, "no-such-host.invalid", False),
    ],
)  # fmt: skip
def test_a_redirect_into_an_inner_network_is_refused(
    first: str, target: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        moved = {"Location": f"http://{target}/secret"}
        return httpx.Response(302, headers=moved) if len(asked) == 1 else httpx.Response(200)

    answer_by(answer, monkeypatch)
    with web.open_client(f"http://{first}/a", 5) as client:
        if is_refused:
            with pytest.raises(web.RedirectError, match="this machine or its network"):
                client.get(f"http://{first}/a")
            assert asked == [first]
        else:
            assert client.get(f"http://{first}/a").status_code == 200


def test_a_public_host_on_the_way_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {INNER: PUBLIC, PUBLIC: "10.9.9.9"}

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": f"http://{places[request.url.host]}/"})

    answer_by(answer, monkeypatch)
    with web.open_client(f"http://{INNER}/a", 5) as client:
        for _ in range(2):  # another try is judged as the first one
            with pytest.raises(web.RedirectError):
                client.get(f"http://{INNER}/a")


class Peer:
    """A connection to this address, as httpx tells it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get_extra_info(self, name: str) -> object:
        return {"server_addr": (self.address, 80)}[name]


@pytest.mark.parametrize(
    ("first", "second", "proxy", "is_refused"),
    [
        (PUBLIC, PUBLIC, "", False),
        (PUBLIC, OWN, "", True),
        (PUBLIC, "::ffff:10.0.0.7", "", True),
        (PUBLIC, "64:ff9b:1::a00:1", "", True),
        (INNER, INNER, "", False),
        (INNER, OWN, "", True),
        (PUBLIC, OWN, "proxy.test", False),  # the address of the proxy
    ],
)
def test_a_name_that_changes_its_address_leads_nowhere_else(
    first: str, second: str, proxy: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a name can give another address to the check than to the connection."""
    monkeypatch.setattr(web, "_reaches", lambda _: [web._Reach.EVERYWHERE])
    peers = {"a.test": first, "b.test": second}

    def answer(request: httpx.Request) -> httpx.Response:
        host, connect = request.url.host, "connection.connect_tcp"
        request.extensions["trace"](f"{connect}.started", {"host": proxy or host, "port": 80})
        request.extensions["trace"](f"{connect}.complete", {"return_value": Peer(peers[host])})
        moved = {"Location": "http://b.test/"}
        return httpx.Response(302, headers=moved) if host == "a.test" else httpx.Response(200)

    answer_by(answer, monkeypatch)
    with web.open_client("http://a.test/a", 5) as client:
        if is_refused:
            with pytest.raises(web.RedirectError):
                client.get("http://a.test/a")
        else:
            assert client.get("http://a.test/a").status_code == 200


def test_the_address_of_a_real_connection_is_judged(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site["/a"] = site.reply(b"x")
    judged = []
    monkeypatch.setattr(web, "_reach", lambda address: judged.append(str(address)) or 0)
    with web.open_client(site.url("/a"), 5) as client:
        assert client.get(site.url("/a")).content == b"x"
        assert client.get(site.url("/a")).content == b"x"
    assert judged == ["127.0.0.1", "127.0.0.1"]


def test_the_body_of_a_redirect_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(httpx.SyncByteStream):
        closed = False

        def __iter__(self) -> Iterator[bytes]:
            pytest.fail("it is read")

        def close(self) -> None:
            self.closed = True

    body = Endless()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/b":
            return httpx.Response(200, content=b"x")
        return httpx.Response(302, headers={"Location": "/b"}, stream=body)

    answer_by(answer, monkeypatch)
    with web.open_client(f"http://{PUBLIC}/a", 5) as client:
        assert client.get(f"http://{PUBLIC}/a").content == b"x"
    assert body.closed
