"""A network that is left through a proxy only, with a certificate authority of its own."""

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import trustme

from chatnest.testing import FakeUpstream
from tests.servers.conftest import Serve
from tests.servers.support import KEY, Client

HOST = "model.example.invalid"
LOGIN = "ann:hunter2"
DONE = b"event: done\ndata: \n\n"


class Proxy:
    """An HTTP proxy for one host, which only it can find: it ends TLS for it, and hands on to the
    fake upstream. ``heads`` are the heads of what it was asked.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self.heads: list[str] = []
        self._port = port
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(65_536)
            self.heads.append(data.decode("latin-1"))
            wire, data = client, data.replace(f" http://{HOST}/".encode(), b" /", 1)
            if data.startswith(b"CONNECT "):
                assert self._tls is not None
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                wire, data = self._tls.wrap_socket(client, server_side=True), b""
            with wire, socket.create_connection(("127.0.0.1", self._port)) as upstream:
                upstream.sendall(data)
                back = threading.Thread(target=_relay, args=(upstream, wire), daemon=True)
                back.start()
                _relay(wire, upstream)
                back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def proxy(upstream: FakeUpstream, authority: trustme.CA) -> Iterator[Proxy]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(tls)
    with Proxy(int(upstream.base_url.split(":")[2].partition("/")[0]), tls) as proxy:
        yield proxy


def test_an_environment_with_a_proxy_and_an_authority_is_enough(
    serve: Serve, proxy: Proxy, authority: trustme.CA, tmp_path: Path
):
    trust = tmp_path / "trust.pem"
    authority.cert_pem.write_to_path(trust)
    process = serve(
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"https://{HOST}/v1",
        HTTPS_PROXY=f"http://{LOGIN}@{proxy.address}",
        NO_PROXY="other.example",
        SSL_CERT_FILE=str(trust),
    )
    with Client(process.ready()) as client:
        assert client.chat().read_all().endswith(DONE)

    assert proxy.heads[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
    login = base64.b64encode(LOGIN.encode()).decode()
    assert f"proxy-authorization: basic {login.lower()}" in proxy.heads[0].lower()
    assert KEY not in proxy.heads[0]
    assert not any("hunter2" in line for line in process.lines)


def test_an_authority_that_is_not_trusted_is_refused(serve: Serve, proxy: Proxy):
    process = serve(
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"https://{HOST}/v1",
        HTTPS_PROXY=f"http://{proxy.address}",
    )
    with Client(process.ready()) as client:
        assert client.chat().json()["code"] == "upstream_unavailable"


def test_a_plain_request_goes_to_the_proxy_by_its_whole_address(serve: Serve, proxy: Proxy):
    process = serve(
        OPENAI_API_KEY=KEY,
        OPENAI_BASE_URL=f"http://{HOST}/v1",
        http_proxy=f"http://{proxy.address}",
    )
    with Client(process.ready()) as client:
        assert client.chat().read_all().endswith(DONE)
    assert proxy.heads[0].startswith(f"POST http://{HOST}/v1/chat/completions HTTP/1.1\r\n")


def test_a_server_of_this_machine_is_not_asked_through_a_proxy(real: Serve, proxy: Proxy):
    process = real(HTTP_PROXY=f"http://{proxy.address}", ALL_PROXY=f"http://{proxy.address}")
    with Client(process.ready()) as client:
        assert client.chat().read_all().endswith(DONE)
    assert proxy.heads == []


def test_what_a_gateway_wants_is_a_setting(real: Serve, upstream: FakeUpstream):
    process = real(
        CHATNEST_PROVIDER__HEADERS__CF_ACCESS_CLIENT_ID="an id",
        CHATNEST_PROVIDER__HEADERS_ENV__API_KEY="GATEWAY_KEY",
        CHATNEST_PROVIDER__QUERY__API_VERSION="2024-10-21",
        GATEWAY_KEY="a secret",
    )
    with Client(process.ready()) as client:
        assert client.chat().read_all().endswith(DONE)
    request = upstream.requests[0]
    assert request.headers["cf-access-client-id"] == "an id"
    assert request.headers["api-key"] == "a secret"
    assert "a secret" not in "".join(process.lines)
