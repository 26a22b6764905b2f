"""What a turn knows of its request: the conversation's id, and headers if a policy needs them."""

from typing import Any

import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, MemoryRunLog, Turn
from chatnest.asgi.heads import Headers
from chatnest.runs.key import fingerprint
from chatnest.testing import Answer
from chatnest.wire.native import parse_request
from tests.hostile.logs import everything_logged
from tests.streams.support import answer_to, ask, get_limits, serving

pytestmark = pytest.mark.anyio

FIELD = "ChatNest-Conversation-Id"


class Watching:
    """Keeps the turns."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    async def prepare(self, turn: Turn) -> None:
        self.turns.append(turn)


class Reading:
    """Reads a header, for a request and for what is left."""

    needs_headers = True

    def __init__(self) -> None:
        self.seen: list[str | None] = []

    def limits(self, turn: Turn) -> tuple[()]:
        self.seen.append(turn.headers.get("x-batch"))
        return ()


# ---------------------------------------------------------------- the conversation


@pytest.mark.parametrize(
    ("fields", "headers", "conversation"),
    [
        ({}, {}, None),
        ({"conversation": "c-1 \xe4"}, {}, "c-1 \xe4"),
        ({"conversation": None}, {FIELD: "\tc 2 "}, "c 2"),
        ({}, {FIELD: "c" * 256}, "c" * 256),
        ({"conversation": "body"}, {FIELD: "header"}, "body"),
        ({"conversation": "body"}, {FIELD: "\xe4"}, "body"),
    ],
)
async def test_a_turn_knows_its_conversation(upstream, fields, headers, conversation):
    watching = Watching()
    async with serving(upstream, policies=[watching]) as app:
        for key in ({}, {"idempotency-key": '"1"'}):
            c = await answer_to(app, ask(**fields), headers=headers | key)
            assert c.status == 200
    assert [turn.conversation for turn in watching.turns] == [conversation] * 2


@pytest.mark.parametrize("values", [[""], [" "], ["\xe4"], ["a\x7f"], ["c" * 257], ["a", "a"]])
async def test_a_header_that_is_no_id_is_a_400(upstream, values):
    async with serving(upstream) as app:
        c = await answer_to(app, ask(), headers=[(FIELD, value) for value in values])
    assert (c.status, c.problem()["code"]) == (400, "invalid_request")
    assert c.problem()["detail"] == (
        "ChatNest-Conversation-Id: must be one field of 1 to 256 printable ASCII characters."
    )
    assert upstream.requests == []


async def test_a_key_stands_for_one_conversation(upstream):
    async with serving(upstream, run_log=MemoryRunLog()) as app:
        key = {"idempotency-key": '"1"'}
        first, again, other = [
            await answer_to(app, ask(conversation=name), headers=key) for name in ("a", "a", "b")
        ]
        by_header = await answer_to(app, ask(), headers=key | {FIELD: "a"})
    assert [first.status, again.status, by_header.status] == [200, 200, 200]
    assert again.headers["idempotency-replayed"] == by_header.headers["idempotency-replayed"]
    assert (other.status, other.problem()["code"]) == (422, "idempotency_key_reused")


async def test_a_request_without_one_has_the_fingerprint_that_it_always_had():
    request = parse_request(b'{"messages":[{"role":"user","content":"Hi"}],"linger":3}')
    assert fingerprint(request) == FINGERPRINT


FINGERPRINT = "e40519786d5aecfc1ca8bc3681d5f4201fde0fede15e989e4a1894915d687630"
"""Of runs in stores: a retry after an upgrade is the same request."""


async def test_the_log_and_reprs_do_not_show_it(upstream):
    watching = Watching()
    upstream.default = Answer.error(500)
    with everything_logged() as log:
        async with serving(upstream, policies=[watching]) as app:
            await answer_to(app, ask(conversation="c-canary"))
    (turn,) = watching.turns
    assert "model call failed" in str(log)
    assert "c-canary" not in str(log) + repr(turn) + repr(turn.request)


# ---------------------------------------------------------------- headers


async def test_a_policy_that_needs_headers_has_them(upstream):
    reading = Reading()
    async with serving(upstream, policies=[reading]) as app:
        for headers in ({"X-Batch": "1"}, {}, {"X-Batch": "2", "idempotency-key": '"1"'}):
            assert (await answer_to(app, ask(), headers=headers)).status == 200
        await get_limits(app, headers={"x-batch": "3"})
    assert list(dict.fromkeys(reading.seen)) == ["1", None, "2", "3"]


async def test_one_policy_needs_them_for_all(upstream):
    watching = Watching()
    async with serving(upstream, policies=[watching, Reading()]) as app:
        await answer_to(app, ask(), headers={"x-batch": "1"})
    assert watching.turns[0].headers["x-batch"] == "1"


async def test_without_such_a_policy_they_are_not_kept(upstream, caplog):
    class Forgetful(Reading):
        needs_headers = False

    async with serving(upstream, policies=[Forgetful()]) as app:
        c = await answer_to(app, ask(), headers={"x-batch": "1"})
    assert (c.status, c.problem()["code"]) == (500, "internal_error")
    assert "turn.headers: expected a policy with needs_headers = True, got none." in caplog.text
    assert upstream.requests == []


def scope(*fields: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "headers": list(fields)}


def test_headers_are_a_read_only_mapping():
    raw = scope(
        (b"X-Name", b"J\xf6rg"),
        (b"cookie", b"a=1"),
        (b"via", b"a"),
        (b"via", b"b"),
        (b"cookie", b"b"),
    )
    headers = Headers(raw)
    raw["headers"].clear()
    assert dict(headers) == {"x-name": "J\xf6rg", "cookie": "a=1; b", "via": "a, b"}
    assert headers["X-NAME"] == headers.get("x-Name") == "J\xf6rg"
    assert "VIA" in headers
    assert "x-other" not in headers
    assert len(headers) == 3
    assert repr(headers) == "Headers(x-name, cookie, via)"
    with pytest.raises(TypeError):
        headers["via"] = "c"  # type: ignore[index]


@pytest.mark.parametrize("needs", ["yes", 1, None, lambda self: True])
def test_needs_headers_is_true_or_false(needs):
    policy = type("Odd", (Reading,), {"needs_headers": needs})()
    with pytest.raises(ConfigurationError, match="needs_headers: expected True or False, got "):
        ChatNestApp(provider=DemoProvider(), policies=[policy])
