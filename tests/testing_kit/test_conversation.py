"""Conversation, against small apps written here."""

from typing import Any

import anyio
import pytest

from chatnest.testing import Conversation, ProtocolViolation

pytestmark = pytest.mark.anyio

Message = dict[str, Any]

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-test", b"1")]}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send(START)
    await send({"type": "http.response.body", "body": body})


async def stream(scope, receive, send):
    """Streams an event, and a second one when the client has left."""
    assert (await receive())["type"] == "http.request"
    await send(START)
    await send(part(b"event: one\n"))
    await send(part(b"data: 1\n\n"))
    assert (await receive())["type"] == "http.disconnect"
    await send(part(b"data: 2\n\n"))


async def test_sends_the_body_and_reads_the_answer():
    async with Conversation(echo, json={"text": "ü"}) as c:
        assert await c.read_all() == '{"text":"ü"}'.encode()
        await c.finished()
        assert (c.status, c.headers) == (200, {"x-test": "1"})
        assert c.problem() == {"text": "ü"}
    assert c.is_complete
    assert dict(c.scope["headers"]) == {
        b"host": b"127.0.0.1:8000",
        b"content-type": b"application/json",
        b"content-length": b"13",
    }


async def test_scope_has_what_the_test_gives():
    async def app(scope, receive, send):
        seen.update(scope)
        await echo(scope, receive, send)

    seen: dict[str, Any] = {}
    conversation = Conversation(
        app,
        method="GET",
        path="/pre/x",
        root_path="/pre",
        query="a=1",
        headers={"Host": "example.org", "X-A": "b"},
        client=None,
        http_version="2",
        extras={"user": "ada", "scheme": "https"},
    )
    async with conversation as c:
        await c.read_all()
    assert (seen["method"], seen["path"], seen["root_path"]) == ("GET", "/pre/x", "/pre")
    assert (seen["query_string"], seen["client"], seen["http_version"]) == (b"a=1", None, "2")
    assert (seen["user"], seen["scheme"]) == ("ada", "https")
    expected = [(b"content-length", b"0"), (b"host", b"example.org"), (b"x-a", b"b")]
    assert sorted(seen["headers"]) == expected


async def test_body_piece_by_piece():
    async with Conversation(echo, send_body=False) as c:
        c.send_body(b"ab", more=True)
        c.send_body(b"cd")
        assert await c.read_all() == b"abcd"
    assert b"content-length" not in dict(c.scope["headers"])


async def test_events_come_as_they_are_sent():
    async with Conversation(stream) as c:
        await c.started()
        async for event in c.events():
            assert event == ("one", "1")
            assert not c.is_finished
            c.disconnect()
        await c.finished()
        assert c.late == [part(b"data: 2\n\n")]
        assert c.received == b"event: one\ndata: 1\n\n"
        assert not c.is_complete


async def test_leaving_the_block_disconnects():
    async with Conversation(stream) as c:
        await c.started()
    assert c.is_disconnected
    assert c.is_finished


async def test_an_app_that_ignores_the_disconnect_is_reported_and_cancelled():
    async def app(scope, receive, send):
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError, match="return after a disconnect"):
        async with Conversation(app, timeout=0.01) as c:
            pass
    assert c.is_finished


@pytest.mark.parametrize("repeat", [True, False])
async def test_receive_after_the_disconnect(repeat):
    async def app(scope, receive, send):
        await receive()
        await receive()
        with anyio.move_on_after(0.01) as limit:
            assert (await receive())["type"] == "http.disconnect"
        repeated.append(not limit.cancelled_caught)

    repeated: list[bool] = []
    async with Conversation(app, repeat_disconnect=repeat):
        pass
    assert repeated == [repeat]


async def test_receive_after_the_response_disconnects():
    async def app(scope, receive, send):
        await echo(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"

    async with Conversation(app) as c:
        await c.finished()


async def test_stalled_client_blocks_send():
    async with Conversation(echo, body=b"abc") as c:
        c.stall(room=2)
        await c.started()
        await c.blocked()
        assert (c.received, c.is_complete) == (b"", False)
        c.resume()
        assert await c.read_all() == b"abc"
        assert c.blocked_sends == 0


async def test_disconnect_frees_a_blocked_send():
    async with Conversation(echo, body=b"abc") as c:
        c.stall()
        await c.blocked()
        c.disconnect()
        await c.finished()
    assert [message["type"] for message in c.late] == ["http.response.body"]


async def test_blocked_send_can_be_cancelled():
    async def app(scope, receive, send):
        await send(START)
        with anyio.move_on_after(0.01):
            await send(part(b"never read"))
        c.resume()
        await send(END)

    async with Conversation(app) as c:
        c.stall()
        assert await c.read_all() == b""


async def test_send_can_fail():
    async def app(scope, receive, send):
        with pytest.raises(OSError, match="gone"):
            await send(START)
        await receive()
        await receive()

    async with Conversation(app) as c:
        c.fail_send(OSError("gone"))


async def broken(scope, receive, send):
    await send(START)
    raise KeyError("mine")


async def test_exception_of_the_app_reaches_the_test():
    with pytest.raises(KeyError, match="mine"):
        async with Conversation(broken) as c:
            await c.read_all()
    with pytest.raises(KeyError, match="mine"):
        async with Conversation(broken):
            pass


async def test_exception_seen_by_the_test_is_not_raised_twice():
    async with Conversation(broken) as c:
        with pytest.raises(KeyError):
            await c.finished()
        assert c.is_finished


async def test_exception_of_the_test_stays_its_own():
    c = Conversation(stream)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block is what is tested
        async with c:
            await c.started()
            raise ZeroDivisionError
    assert c.is_finished


async def test_waits_are_bounded():
    async with Conversation(stream) as c:
        await c.started()
        patience, c.timeout = c.timeout, 0.01
        with pytest.raises(TimeoutError, match=r"0\.01 s for the end of the body; so far: <Conv"):
            await c.read_all()
        c.timeout = patience  # for what does come


async def test_waiting_for_what_cannot_come():
    async with Conversation(echo) as c:
        with pytest.raises(EOFError, match="pigs"):
            await c.until(lambda: False, "pigs to fly")
        with pytest.raises(ValueError, match="Expecting value"):
            c.problem()


async def test_status_before_the_start():
    async with Conversation(stream, send_body=False) as c:
        with pytest.raises(LookupError):
            _ = c.status
        c.send_body()
        await c.started()


async def test_problem_must_be_an_object():
    async with Conversation(echo, json=[1]) as c:
        await c.read_all()
        with pytest.raises(ValueError, match="not a JSON object"):
            c.problem()


VIOLATIONS: dict[str, list[Message]] = {
    "start twice": [START, START],
    "body first": [END],
    "after the last": [START, END, END],
    "no answer": [],
    "no end": [START],
    "unknown type": [{"type": "http.response.trailers"}],
    "no type": [{}],
    "status": [START | {"status": "200"}],
    "upper case": [START | {"headers": [(b"X-A", b"b")]}],
    "str name": [START | {"headers": [("x", b"b")]}],
    "str value": [START | {"headers": [(b"x", "b")]}],
    "injected": [START | {"headers": [(b"x", b"a\r\nb: c")]}],
    "str body": [START, {"type": "http.response.body", "body": "x"}],
    "more_body": [START, {"type": "http.response.body", "more_body": 1}],
    "too long": [START | {"headers": [(b"content-length", b"1")]}, part(b"ab"), END],
    "too short": [START | {"headers": [(b"content-length", b"1")]}, END],
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_violations_are_seen(name):
    async def app(scope, receive, send):
        for message in VIOLATIONS[name]:
            await send(message)

    async with Conversation(app) as c:
        with pytest.raises(ProtocolViolation):
            await c.finished()


async def test_violation_the_app_swallows_is_seen():
    async def app(scope, receive, send):
        await echo(scope, receive, send)
        with pytest.raises(ProtocolViolation):
            await send(END)

    with pytest.raises(ProtocolViolation, match="after the last one"):
        async with Conversation(app) as c:
            await c.finished()


@pytest.mark.parametrize(("body", "valid"), [(b"", True), (b"x", False)])
async def test_head_has_no_body(body, valid):
    async def app(scope, receive, send):
        await send(START | {"headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": body})

    async with Conversation(app, method="HEAD") as c:
        if valid:
            await c.finished()
        else:
            with pytest.raises(ProtocolViolation):
                await c.finished()
