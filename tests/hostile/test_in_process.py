"""What a server would have refused before us: other servers may not, and nothing may come of it."""

from typing import Any

import pytest

from chatnest import BearerKeys, ChatNestMiddleware, ClientAddress, TrustedHeader
from chatnest.testing import Conversation
from tests.hostile.bodies import CANARY
from tests.hostile.support import LETMEIN
from tests.streams.support import Books, answer_to, ask, serving

pytestmark = pytest.mark.anyio

ODD = (
    *(b"a\r\nX-Injected: %b", b"a\n%b", b"\r%b", b"\0%b", b"%b\x7f", b"\xff\xfe%b", b"\x85%b"),
    *(b"", b" ", b"%b" * 11_000, b'"%b', b"%b, %b", b"\xe2\x80\xa8%b", b"=?utf-8?b?%b?=", b"%b;;;"),
)
FIELDS = (
    *(b"authorization", b"idempotency-key", b"content-type", b"content-length", b"origin", b"host"),
    *(b"content-encoding", b"last-event-id", b"x-forwarded-for", b"x-user", b"accept", b"expect"),
    *(b"transfer-encoding", b"cookie", b"user-agent", b"forwarded"),
)


def filled(value: bytes) -> bytes:
    return value.replace(b"%b", CANARY.encode())


async def told(app: Any, headers: list[tuple[bytes, bytes]], **scope: Any) -> Conversation:
    """What comes of a request with these very bytes for fields, behind those that are usual."""
    extras = scope.pop("extras", {})
    c = Conversation(app, json=ask(CANARY), timeout=20, **scope)
    usual = [(n, v) for n, v in c.scope["headers"] if n not in dict(headers)]
    c.scope |= {"headers": [*usual, *headers], **extras}
    async with c:
        await c.read_all()
        await c.finished()
    for message in c.messages:
        assert CANARY.encode() not in message.get("body", b"")
        for name, value in message.get("headers", ()):
            assert CANARY.encode() not in name + value
            assert not set(b"\r\n\0") & set(name + value)
    assert c.status < 500
    if c.status != 200:
        assert len(c.received) <= 2_048
    return c


IDENTITIES = {
    "keys": lambda: BearerKeys({"ann": LETMEIN}),
    "header": lambda: TrustedHeader("x-user"),
    "proxies": lambda: ClientAddress(["127.0.0.0/8", "unix"]),
    "address": lambda: None,
}


@pytest.mark.parametrize(
    ("field", "identity"),
    [
        *((field, "address") for field in FIELDS),
        *((b"authorization", "keys"), (b"x-user", "header"), (b"x-forwarded-for", "proxies")),
    ],
)
async def test_a_field_of_any_bytes(upstream, field, identity):
    books = Books()
    async with serving(upstream, ledger=books, identify=IDENTITIES[identity]()) as app:
        for value in ODD:
            c = await told(app, [(field, filled(value))])
            if c.status != 200:
                assert c.problem()["code"]
    assert await books.held() == (0, 0)
    assert len(upstream.requests) == len(books.reservations)


@pytest.mark.parametrize("value", [filled(value) for value in ODD if value.strip()], ids=repr)
async def test_an_account_is_nobody_s_to_forge(upstream, value):
    """Whatever stands in the fields, a principal is one line of printable text, or nobody."""
    books = Books()
    async with serving(upstream, ledger=books, identify=TrustedHeader("x-user")) as app:
        await told(app, [(b"x-user", value)])
    accounts = {limit.account for r in books.reservations for limit in r.limits}
    assert all(a.startswith("header:") and a.isprintable() and len(a) <= 263 for a in accounts)


PATHS = ("", "/", "//", "/\0", "/\udcff", "/api/chat\r\n", "/../x", "/limits/", "/é/limits")


@pytest.mark.parametrize("path", PATHS, ids=ascii)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "OPTIONS", "", "get", "\0"])
async def test_a_path_of_any_characters(upstream, path, method):
    async with serving(upstream) as app:
        scope = {"method": method, "extras": {"path": path, "raw_path": b"\xff"}}
        await told(app, [], **scope)

        async def nothing(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        await told(ChatNestMiddleware(nothing, chat=app), [], **scope)


CLIENTS: tuple[Any, ...] = (
    *(None, ("", 0), ("unix", 0), ("999.1.1.1", 1), ("::ffff:1.2.3.4", 1), ("fe80::1%eth0", 1)),
    *((CANARY, 1), ("127.0.0.1\0", 1), ["127.0.0.1", 1], ("\udcff", 1), ("1" * 5_000, 1)),
)


@pytest.mark.parametrize("client", CLIENTS, ids=repr)
async def test_a_client_from_anywhere(upstream, client):
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await told(app, [], extras={"client": client})
    assert c.status == 200
    accounts = {limit.account for r in books.reservations for limit in r.limits}
    assert len(accounts) == 1
    assert CANARY not in accounts.pop()


QUERIES = (
    b"profile=\xff",
    b"&&&=",
    b"profile",
    b"profile=%",
    b"profile=%zz",
    b"a=" * 30_000,
    b"\0",
)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: repr(query[:20]))
async def test_a_query_of_any_bytes(upstream, query):
    async with serving(upstream) as app:
        for path in ("/api/chat/limits", f"/api/chat/runs/{'0' * 32}"):
            extras = {"path": path, "method": "GET", "query_string": query}
            assert (await told(app, [], extras=extras)).status in {200, 400, 404, 431}


EVENTS: dict[str, list[dict[str, Any]]] = {
    "nothing in it": [{"type": "http.request"}],
    "no body": [{"type": "http.request", "more_body": False}],
    "nothing for long": [{"type": "http.request", "body": b"", "more_body": True}] * 5_000,
    "gone at once": [{"type": "http.disconnect"}],
    "gone in the middle": [
        {"type": "http.request", "body": b'{"messages":', "more_body": True},
        {"type": "http.disconnect"},
    ],
    "a byte at a time": [
        *({"type": "http.request", "body": b"[", "more_body": True} for _ in range(5_000)),
        {"type": "http.request", "body": b"", "more_body": False},
    ],
    "too much in one": [{"type": "http.request", "body": b"[" * 300_000, "more_body": False}],
}


@pytest.mark.parametrize("name", EVENTS)
async def test_a_body_of_any_events(upstream, name):
    events = iter([*EVENTS[name], {"type": "http.disconnect"}])
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return next(events)

    async def send(message: Any) -> None:
        sent.append(message)

    async with serving(upstream) as app:
        scope = Conversation(app, json=ask()).scope
        scope["headers"] = [(n, v) for n, v in scope["headers"] if n != b"content-length"]
        await app(scope, receive, send)
        statuses = [message["status"] for message in sent if "status" in message]
        assert statuses in ([], [400], [413])
        assert (await answer_to(app, ask())).status == 200
    assert len(upstream.requests) == 1
