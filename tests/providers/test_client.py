"""Connections, as a provider of one's own uses them: requests, event streams, bounds, errors."""

import gzip

import pytest

from chatnest import ConfigurationError, ServerSettings
from chatnest.errors import UpstreamBadResponse, UpstreamTimeout
from chatnest.events import Delta
from chatnest.providers.http import Connections
from chatnest.testing import Answer, FakeUpstream
from chatnest.testing.answer_contract import question

pytestmark = pytest.mark.anyio

EVENTS = (b"data: one\n\n", b"event: note\ndata: two\ndata: lines\n\n", b": alive\n\n")


async def read(connections: Connections, body: bytes = b"{}") -> list[bytes]:
    async with connections.open(body) as response:
        assert response.status == 200
        return [data async for arrived in response for data in arrived]


async def test_events_arrive_and_the_connection_is_reused():
    with FakeUpstream(path="/ask") as upstream:
        upstream.default = Answer(events=EVENTS)
        connections = Connections(upstream.url)
        assert await read(connections) == [b"one", b"two\nlines"]
        assert await read(connections) == [b"one", b"two\nlines"]
        await connections.aclose()
        assert (upstream.connections, upstream.served) == (1, 2)


def decode(data: bytes) -> list[Delta]:
    if data == b"two\nlines":
        raise UpstreamBadResponse
    return [Delta(data.decode())]


async def test_events_that_arrived_with_a_broken_one_come_before_its_error():
    with FakeUpstream(Answer(body=b"".join(EVENTS)), path="/ask") as upstream:
        connections = Connections(upstream.url)
        async with connections.open(b"{}", decode=decode) as response:
            assert await anext(response.events) == [Delta("one")]
            for _ in range(2):
                with pytest.raises(UpstreamBadResponse):
                    await anext(response.events)
        await connections.aclose()


async def test_events_need_a_function_that_decodes_them():
    with FakeUpstream(path="/ask") as upstream:
        connections = Connections(upstream.url)
        async with connections.open(b"{}") as response:
            with pytest.raises(ValueError, match="decode: expected a function"):
                _ = response.events
        await connections.aclose()


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("fields", [{}, {"headers": {"content-encoding": "gzip"}}])
async def test_what_arrived_of_an_answer_that_is_left_is_unread_up_to_a_broken_event(fields):
    body = b"data: a\n\ndata: b\n\n" + EVENTS[1] + EVENTS[0]
    body = gzip.compress(body) if fields else body
    call = question()
    with FakeUpstream(Answer(body=body, **fields), path="/ask") as upstream:
        connections = Connections(upstream.url)
        async with connections.open(b"{}", call, decode):
            await upstream.until(lambda upstream: upstream.served == 1)
        await connections.aclose()
    assert call.unread is not None
    assert [event for batch in call.unread for event in batch] == [Delta("a"), Delta("b")]


@pytest.mark.loops("asyncio")
async def test_a_refusal_has_nothing_to_charge():
    call = question()
    with FakeUpstream(Answer(status=400, body=EVENTS[0]), path="/ask") as upstream:
        connections = Connections(upstream.url)
        async with connections.open(b"{}", call, decode):
            await upstream.until(lambda upstream: upstream.served == 1)
        await connections.aclose()
    assert call.unread is None


async def test_headers_and_query_come_from_the_arguments_and_the_settings():
    server = ServerSettings(headers={"X-Gateway": "b"}, query={"version": "2"})
    with FakeUpstream(Answer(events=EVENTS), path="/ask") as upstream:
        headers = {"x-gateway": "a", "X-Key": "k", "Accept": "text/x-events"}
        connections = Connections(f"{upstream.url}?of=us", headers=headers, server=server)
        assert connections._head.url == f"{upstream.url}?of=us&version=2"
        await read(connections)
        await connections.aclose()
        seen = upstream.last.headers
    assert (seen["x-gateway"], seen["x-key"]) == ("b", "k")
    assert (seen["accept"], seen["content-type"]) == ("text/x-events", "application/json")


async def test_another_method_is_sent():
    with FakeUpstream() as upstream:
        url = upstream.base_url + "/models"
        connections = Connections(url, method="GET", headers={"accept": "application/json"})
        async with connections.open(b"") as response:
            document = await response.document()
        await connections.aclose()
        assert upstream.last.method == "GET"
        assert b'"fake"' in document


async def test_a_call_is_noted_without_the_query():
    with FakeUpstream(path="/ask") as upstream:
        upstream.default = Answer.error(418)
        url = upstream.url.replace("//", "//me:pw@") + "?key=secret"
        connections, call = Connections(url), question()
        async with connections.open(b"{}", call) as response:
            assert b"error" in await response.document()
        await connections.aclose()
        assert call.place == f"http://127.0.0.1:{upstream.port}/ask"
    assert (call.sent, call.status, call.content_type) == (True, 418, "application/json")


async def test_a_compressed_body_is_inflated_and_another_coding_is_refused():
    body = gzip.compress(b"data: one\n\n")
    headers = {"content-encoding": "gzip"}
    with FakeUpstream(path="/ask") as upstream:
        upstream.script(Answer(body=body, headers=headers))
        upstream.default = Answer(body=b"x", headers={"content-encoding": "br"})
        connections = Connections(upstream.url)
        assert await read(connections) == [b"one"]
        with pytest.raises(UpstreamBadResponse):
            await read(connections)
        await connections.aclose()


async def test_silence_is_a_timeout_before_the_head_and_within_the_body():
    with FakeUpstream(Answer.silence(), path="/ask") as upstream:
        upstream.default = Answer(events=EVENTS, after=1, ending="stall")
        connections = Connections(upstream.url, idle_seconds=0.05)
        with pytest.raises(UpstreamTimeout):
            await read(connections)
        with pytest.raises(UpstreamTimeout):
            await read(connections)
        await upstream.until(lambda upstream: upstream.aborted == 2)
        await connections.aclose()


async def test_an_event_and_a_body_have_bounds():
    with FakeUpstream(path="/ask") as upstream:
        upstream.default = Answer(events=(b"data: " + b"a" * 100 + b"\n\n",) * 10)
        for connections in (
            Connections(upstream.url, max_event_bytes=50),
            Connections(upstream.url, max_body_bytes=500),
        ):
            with pytest.raises(UpstreamBadResponse):
                await read(connections)
            await connections.aclose()


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://example.com", {}),
        ("http://", {}),
        ("http://example.com/ a", {}),
        ("http://example.com/#a", {}),
        ("http://example.com", {"x-key": "a\r\nb: c"}),
        ("http://example.com", {"x-key\r\nb": "c"}),
        ("http://example.com", {"content-length": "3"}),
    ],
)
def test_what_cannot_be_requested_is_a_configuration_error(url, headers):
    with pytest.raises(ConfigurationError):
        Connections(url, headers=headers)


def test_a_method_is_a_word():
    with pytest.raises(ConfigurationError):
        Connections("http://example.com", method="GET / HTTP/1.1\r\nX:")
