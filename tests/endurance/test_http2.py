"""HTTP/2 under Hypercorn, whose last ``send`` never comes back once its client has left."""

import json
import socket
import threading
from typing import Any

import anyio
import h2.config
import h2.connection
import h2.events
import pytest

from chatnest import Bounds, ChatNestApp, OpenAIProvider
from chatnest.testing import Answer, FakeUpstream
from tests.endurance.support import leave
from tests.servers.support import ask
from tests.servers.test_frameworks import hypercorn_thread
from tests.support.waiting import wait_for

BACKENDS = ("asyncio", "trio")


class Http2:
    """One request over a connection of its own, by prior knowledge (RFC 9113, section 3.3)."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.connection.initiate_connection()
        self.body = b""
        self.over = False

    def ask(self, method: str, path: str, body: Any = None) -> None:
        headers = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "x")]
        content = b"" if body is None else json.dumps(body).encode()
        if body is not None:
            headers += [("content-type", "application/json")]
        self.connection.send_headers(1, headers, end_stream=body is None)
        if body is not None:
            self.connection.send_data(1, content, end_stream=True)
        self._flush()

    def until(self, mark: bytes) -> None:
        while mark not in self.body:
            data = self.socket.recv(65_536)
            assert data, self.body
            for event in self.connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    self.body += event.data or b""
                    self.connection.acknowledge_received_data(event.flow_controlled_length, 1)
            self._flush()

    def cancel(self) -> None:
        self.connection.reset_stream(1)
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self.connection.data_to_send())


class Calls:
    """The chat, how many calls of it have not come back, and whether a GET's client has left."""

    def __init__(self, chat: ChatNestApp) -> None:
        self.chat = chat
        self.running = 0
        self.gone = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        http = scope["type"] == "http"
        self.running += http
        try:
            async with anyio.create_task_group() as tasks:
                if http and scope["method"] == "GET":
                    tasks.start_soon(self._watch, receive)
                await self.chat(scope, receive, send)
                tasks.cancel_scope.cancel()
        finally:
            self.running -= http

    async def _watch(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone.set()


def make_chat(upstream: FakeUpstream, **options: Any) -> ChatNestApp:
    provider = OpenAIProvider(base_url=upstream.base_url, api_key="k")
    return ChatNestApp(provider=provider, **options)


@pytest.mark.parametrize("how", ["FIN", "RST", "RST_STREAM"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_stop_stops_over_http_2(upstream: FakeUpstream, backend: str, how: str):
    upstream.default = Answer.stall(1)
    calls = Calls(make_chat(upstream))
    with hypercorn_thread(calls, backend) as port:
        client = Http2(port)
        client.ask("POST", "/api/chat", ask())
        client.until(b'"Hello"')
        if how == "RST_STREAM":
            client.cancel()
        else:
            leave(client.socket, how)
        upstream.wait(lambda u: u.aborted == 1, timeout=20)
        wait_for(lambda: not calls.running, 20)
        client.socket.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_answer_to_nobody_is_given_up(upstream: FakeUpstream, backend: str):
    """A reply that is no stream watches for nobody: the bound of a write ends it."""
    entered, go_on = threading.Event(), threading.Event()

    async def identify(_: Any) -> str:
        entered.set()
        await anyio.to_thread.run_sync(go_on.wait)
        return "ann"

    bounds = Bounds(send_seconds=0.5)
    calls = Calls(make_chat(upstream, identify=identify, bounds=bounds))
    with hypercorn_thread(calls, backend) as port:
        client = Http2(port)
        client.ask("GET", "/api/chat/limits")
        assert entered.wait(20)
        leave(client.socket, "RST")
        assert calls.gone.wait(20)
        go_on.set()
        wait_for(lambda: not calls.running, 20)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_whole_answer_over_http_2(upstream: FakeUpstream, backend: str):
    with hypercorn_thread(Calls(make_chat(upstream)), backend) as port:
        client = Http2(port)
        client.ask("POST", "/api/chat", ask())
        client.until(b"event: done")
        client.socket.close()
