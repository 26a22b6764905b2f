"""A chat under a real uvicorn, with a client that is a plain socket."""

import socket
import statistics
import time
from contextlib import contextmanager
from typing import Any

import pytest

from chatnest import Bounds, ChatNestApp, DemoProvider, MemoryLedger, OpenAIProvider, Profile
from chatnest.profiles import BALANCED, HardCaps
from chatnest.testing import Answer, FakeUpstream
from tests.servers.support import KEY, PATIENCE, Client, uvicorn_thread
from tests.support.soak import SOAKS
from tests.support.waiting import wait_for

SERVERS = [("asyncio", "h11"), ("asyncio", "httptools"), ("uvloop", "h11"), ("uvloop", "httptools")]
START = b"event: start\ndata: \n\n"
DONE = b"event: done\ndata: \n\n"


@pytest.fixture(params=SERVERS, ids="-".join)
def server(request) -> dict[str, Any]:
    """Options of uvicorn: each event loop with each parser."""
    loop, http = request.param
    return {"loop": loop, "http": http}


def chat(upstream: FakeUpstream, **options: Any) -> ChatNestApp:
    """A chat that hardly anything limits."""
    fields = {name: getattr(BALANCED, name) for name in BALANCED.__struct_fields__}
    roomy = Profile(
        **{
            **fields,
            "name": "roomy",
            "requests_per_minute": 100_000,
            "daily_token_limit": 100_000_000,
            "max_concurrent_streams": 1_000,
            "max_output_tokens": 1_000_000,
            "max_tokens_per_request": 1_010_000,
        }
    )
    caps = HardCaps(
        requests_per_minute=None,
        daily_token_limit=None,
        max_output_tokens=None,
        max_tokens_per_request=None,
    )
    provider = OpenAIProvider(base_url=upstream.base_url, api_key=KEY)
    return ChatNestApp(
        **{
            "provider": provider,
            "profiles": [roomy],
            "default_profile": "roomy",
            "hard_caps": caps,
            **options,
        }
    )


@contextmanager
def connected(port: int, **options: Any):
    with Client(port, **options) as client:
        yield client


def token(text: str) -> bytes:
    return b'event: token\ndata: "%b"\n\n' % text.encode()


def held(port: int) -> tuple[int, int]:
    """Tokens and streams."""
    with connected(port) as client:
        limits = {limit["name"]: limit for limit in client.get("/api/chat/limits").json()["limits"]}
    return limits["tokens"]["held"], limits["streams"]["held"]


def test_frames_arrive_one_by_one(upstream, server):
    upstream.script(*[Answer.stall(n, pieces=("one", "two", "three")) for n in (1, 2)])
    with uvicorn_thread(chat(upstream), **server) as port:
        for number in (1, 2):
            with connected(port) as client:
                reply = client.chat()
                assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
                assert "connection" not in reply.headers
                said = [token(word) for word in ("one", "two", "three")[:number]]
                assert reply.until(said[-1]) == START + b"".join(said)
                upstream.release()
                assert reply.read_all().endswith(token("three") + DONE)
                assert reply.text == "onetwothree"


@pytest.mark.parametrize("how", ["FIN", "RST", "half-close"])
@pytest.mark.parametrize("phase", ["headers", "first token", "between tokens"])
def test_a_client_that_leaves_closes_the_upstream(upstream, server, how, phase):
    upstream.default = (
        Answer.silence()
        if phase == "headers"
        else Answer.stall(1 if phase == "between tokens" else 0)
    )
    with uvicorn_thread(chat(upstream, bounds=Bounds(early_start_seconds=0.1)), **server) as port:
        client = Client(port)
        client.request("POST", body={"messages": [{"role": "user", "content": "Hi"}]})
        if phase != "headers":
            client.reply().until(token("Hello") if phase == "between tokens" else START)
        upstream.wait(lambda u: u.requests)
        if how == "FIN":
            client.socket.close()
        elif how == "RST":
            client.reset()
        else:
            client.socket.shutdown(socket.SHUT_WR)
        upstream.wait(lambda u: u.aborted == 1 and not u.open_sockets, timeout=PATIENCE)
        client.socket.close()


@pytest.mark.soak
def test_stop_stops_within_a_tenth_of_a_second(upstream, server, record_property):
    """Promise C, over a hundred cancels: the time from the FIN to the upstream's end."""
    upstream.default = Answer.stall(1)
    ledger = MemoryLedger()
    took = []
    with uvicorn_thread(chat(upstream, ledger=ledger), **server) as port:
        for number in range(1, 101):
            client = Client(port)
            client.chat().until(token("Hello"))
            left = time.monotonic()
            client.socket.close()
            upstream.wait(lambda u, number=number: u.aborted == number, timeout=PATIENCE)
            closed = upstream.last.closed_at
            assert closed is not None
            took.append(max(0.0, closed - left) * 1000)
        wait_for(lambda: held(port) == (0, 0))  # settled when the upstream has seen the end
        upstream.wait(lambda u: not u.open_sockets)
    centiles = statistics.quantiles(took, n=100)
    figures = f"p50 {centiles[49]:.2f} ms, p99 {centiles[98]:.2f} ms"
    record_property("soak", f"from FIN to FIN: {figures}")
    if SOAKS:
        assert centiles[98] < 100  # it is about 2 ms where nothing else runs


def test_a_connection_is_used_again_after_an_answer(upstream, server):
    with uvicorn_thread(chat(upstream), **server) as port, connected(port) as client:
        for _ in range(3):
            reply = client.chat()
            reply.read_all()
            assert reply.events == ["start", "token", "token", "token", "done"]
        assert client.get("/api/chat/limits").status == 200
        client.request("POST", body={"messages": []})
        refused = client.reply()
        assert (refused.status, refused.json()["code"]) == (400, "invalid_request")
        assert client.chat().read_all().endswith(DONE)


def test_http_1_0_gets_its_stream_and_an_end(upstream, server):
    with uvicorn_thread(chat(upstream), **server) as port, connected(port) as client:
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        client.request("POST", body=body, version="HTTP/1.0")
        reply = client.reply()
        assert reply.read_all().endswith(DONE)
        assert reply.text == "Hello world!"


def test_an_early_refusal_is_read_although_the_body_never_comes(upstream, server):
    with uvicorn_thread(chat(upstream), **server) as port, connected(port) as client:
        head = "Content-Type: application/json", "Content-Length: 99999999"
        client.request("POST", headers=head)
        reply = client.reply()
        assert (reply.status, reply.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("split", [0, 64])
def test_upstream_connections_are_used_again(upstream, server, split, monkeypatch):
    """Also where the end of a body comes after its last event, in a packet of its own: it is waited
    for a little, and here for as long as a busy machine may take.
    """
    monkeypatch.setattr("chatnest.providers.http.answer_stream._DRAIN_SECONDS", PATIENCE)
    monkeypatch.setattr("chatnest.providers.http.bodies._CLOSE_SECONDS", PATIENCE)
    upstream.default = Answer(split=split)
    with uvicorn_thread(chat(upstream), **server) as port, connected(port) as client:
        for _ in range(20):
            assert client.chat().read_all().endswith(DONE)
        assert len(upstream.requests) == 20
        assert upstream.connections == 1


def test_two_apps_in_one_process_keep_apart(upstream):
    with FakeUpstream(Answer(pieces=("other",))) as other:
        first, second = chat(upstream), chat(other)
        with (
            uvicorn_thread(first) as port,
            uvicorn_thread(second, loop="asyncio") as other_port,
            connected(port) as client,
            connected(other_port) as other_client,
        ):
            replies = client.chat(), other_client.chat()
            for reply in replies:
                assert reply.read_all().endswith(DONE)
            assert [reply.text for reply in replies] == ["Hello world!", "other"]
            used = []
            for asker in (client, other_client):
                limits = asker.get("/api/chat/limits").json()["limits"]
                used.append(limits[-1]["used"])
            assert used == [12, 10]


def test_one_app_on_two_event_loops_shares_its_books(upstream):
    app = chat(upstream)
    with (
        uvicorn_thread(app, lifespan="off", loop="asyncio") as port,
        uvicorn_thread(app, lifespan="off", loop="uvloop") as other_port,
        connected(port) as client,
        connected(other_port) as other_client,
    ):
        assert client.chat().read_all().endswith(DONE)
        assert other_client.chat().read_all().endswith(DONE)
        assert client.get("/api/chat/limits").json()["limits"][-1]["used"] == 24


def test_a_shutdown_tells_streams_and_settles(upstream, server):
    """A host that shuts down ends what runs; a new start takes requests again."""
    upstream.default = Answer.stall(1)
    ledger = MemoryLedger()
    app = chat(upstream, ledger=ledger)
    with uvicorn_thread(app, timeout_graceful_shutdown=1, **server) as port:
        client = Client(port)
        client.chat().until(token("Hello"))
    upstream.wait(lambda u: u.aborted == 1)
    client.socket.close()
    upstream.default = Answer()
    with uvicorn_thread(app, **server) as port, connected(port) as client:
        assert client.chat().read_all().endswith(DONE)
        limits = {limit["name"]: limit for limit in client.get("/api/chat/limits").json()["limits"]}
        assert limits["streams"]["held"] == 0
        assert limits["tokens"]["held"] == 0
        assert limits["tokens"]["used"] > 12


def test_a_slow_reader_gets_all_of_it(upstream, server):
    """More than fits the kernel's buffers, read only after the model could have ended."""
    upstream.default = Answer.tokens(390, "x" * 2_000)
    app = chat(upstream)
    with uvicorn_thread(app, **server) as port, connected(port, receive_buffer=4_096) as client:
        reply = client.chat()
        upstream.wait(lambda u: u.last.pieces_sent > 50)
        assert reply.read_all().endswith(DONE)
        assert len(reply.text) == 780_000


def test_the_demo_runs_under_it(server):
    app = ChatNestApp(provider=DemoProvider(pace=0))
    with uvicorn_thread(app, **server) as port, connected(port) as client:
        assert client.chat("a table").read_all().endswith(DONE)
