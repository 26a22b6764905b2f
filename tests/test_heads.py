"""A head is work for nobody before its lengths are looked at. Work is counted, on no clock."""

import hashlib
from types import SimpleNamespace

import pytest

import chatnest.asgi.heads
import chatnest.identity.keys
import chatnest.identity.principals
from chatnest import ChatNestApp
from chatnest.asgi import resumption
from chatnest.asgi.heads import check_head, query_value
from chatnest.asgi.resumption import idempotency_key, last_event_id
from chatnest.errors import HeadTooLarge, InvalidRequest
from chatnest.identity.keys import BearerKeys
from chatnest.identity.principals import ClientAddress
from chatnest.providers import DemoProvider
from chatnest.server.hosts import OnlyForHosts
from chatnest.testing import Conversation
from chatnest.wire import Formats, NativeFormat

SIZE = 60_000


def scope(*fields: tuple[bytes, bytes], query: bytes = b"", client: str = "127.0.0.1"):
    return {
        "type": "http",
        "method": "GET",
        "headers": list(fields),
        "query_string": query,
        "client": (client, 1),
    }


# ---------------------------------------------------------------- the query


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"", None),
        (b"ping=1", "1"),
        (b"a=1&ping=2&ping=3", "2"),
        (b"ping=&ping=3", "3"),
        (b"pings=1&xping=2", None),
        (b"ping", None),
        (b"ping=%31+%C3%A9", "1 \u00e9"),
        (b"&&&=&ping=a=b", "a=b"),
    ],
)
def test_a_query_has_the_first_value_of_a_name(query, value):
    assert query_value(scope(query=query), "ping") == value


QUERIES = {
    "a=%&": b"a=%&" * (SIZE // 4),
    "ampersands": b"&" * SIZE,
    "semicolons": b";" * SIZE,
    "percent signs": b"ping=" + b"%" * SIZE,
    "names that decode badly": b"%E2=1&" * (SIZE // 6),
    "plus signs": b"ping=" + b"+" * SIZE,
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_nothing_of_a_long_query_is_decoded(query, monkeypatch):
    decoded: list[int] = []

    def unquote(text: str) -> str:
        decoded.append(len(text))
        return text

    monkeypatch.setattr(chatnest.asgi.heads, "unquote_plus", unquote)
    with pytest.raises(HeadTooLarge):
        query_value(scope(query=query), "ping")
    query_value(scope(query=query[:8_192]), "ping")
    assert sum(decoded) <= 8_192
    assert len(decoded) <= 1


# ---------------------------------------------------------------- fields


class Pattern:
    """A pattern that notes how much it was asked to look at."""

    def __init__(self, pattern):
        self.pattern = pattern
        self.seen = 0

    def fullmatch(self, text: str):
        self.seen = max(self.seen, len(text))
        return self.pattern.fullmatch(text)


@pytest.mark.parametrize("value", [rb'"' + rb"\"" * SIZE + b'"', b"x" * SIZE, b'"' + b"x" * SIZE])
def test_no_pattern_sees_a_long_idempotency_key(value, monkeypatch):
    patterns = {name: Pattern(getattr(resumption, name)) for name in ("_STRING", "_BARE")}
    for name, pattern in patterns.items():
        monkeypatch.setattr(resumption, name, pattern)
    with pytest.raises(InvalidRequest, match="1 to 255"):
        idempotency_key(scope((b"idempotency-key", value)))
    assert max(pattern.seen for pattern in patterns.values()) <= 2 * 255 + 2


@pytest.mark.parametrize("character", ["x", r"\"", "\\\\"])
def test_the_longest_idempotency_key_is_taken(character):
    value = f'"{character * 255}"'.encode()

    assert len(idempotency_key(scope((b"idempotency-key", value))) or "") == 255


def test_a_last_event_id_has_fifteen_digits_at_most():
    with pytest.raises(InvalidRequest):
        last_event_id(scope((b"last-event-id", b"1" * SIZE)))


HOPS = {
    "one field": [(b"x-forwarded-for", b"10.1.2.3," * (SIZE // 9))],
    "many fields": [(b"x-forwarded-for", b"10.1.2.3")] * (SIZE // 30),
    "many of many": [(b"x-forwarded-for", b"10.1.2.3," * 100)] * (SIZE // 900),
}


@pytest.mark.parametrize("fields", HOPS.values(), ids=HOPS.keys())
def test_a_bounded_number_of_hops_is_read(fields, monkeypatch):
    parsed: list[str] = []
    parse = chatnest.identity.principals._parse

    def note(hop: str):
        parsed.append(hop)
        return parse(hop)

    monkeypatch.setattr(chatnest.identity.principals, "_parse", note)
    principal = ClientAddress(["127.0.0.0/8", "10.0.0.0/8"])(scope(*fields))

    assert principal in {"addr:10.1.2.3", "addr:127.0.0.1"}
    assert len(parsed) <= 32


def test_hops_are_read_from_the_right_over_all_fields():
    fields = [
        (b"x-forwarded-for", b"198.51.100.9, 203.0.113.7"),
        (b"via", b"1.1 a"),
        (b"x-forwarded-for", b"10.0.0.1, 10.0.0.2"),
    ]

    assert ClientAddress(["127.0.0.0/8", "10.0.0.0/8"])(scope(*fields)) == "addr:203.0.113.7"


def test_hops_that_a_client_invents_do_not_hide_its_address():
    invented = b"10.1.2.3, " * 5_000 + b"203.0.113.7"

    who = ClientAddress(["127.0.0.0/8", "10.0.0.0/8"])(scope((b"x-forwarded-for", invented)))

    assert who == "addr:203.0.113.7"


def test_what_is_too_long_for_an_address_is_none():
    long = b"[2001:db8::1]" + b":" * SIZE

    assert ClientAddress(["127.0.0.1"])(scope((b"x-forwarded-for", long))) == "addr:127.0.0.1"


def test_a_long_bearer_token_is_not_hashed(monkeypatch):
    hashed: list[int] = []

    def sha256(data: bytes):
        hashed.append(len(data))
        return hashlib.sha256(data)

    monkeypatch.setattr(chatnest.identity.keys, "hashlib", SimpleNamespace(sha256=sha256))
    keys = BearerKeys({"ann": "0" * 64})

    assert keys(scope((b"authorization", b"Bearer " + b"x" * SIZE))) is None
    assert keys(scope((b"authorization", b"Bearer abc"))) is None
    assert hashed == [3]


def test_a_request_for_several_hosts_or_a_long_one_is_refused():
    hosts = OnlyForHosts(
        ChatNestApp(provider=DemoProvider()), {"chat.example.com"}, Formats([NativeFormat()])
    )

    assert not hosts._is_refused(scope((b"host", b"chat.example.com")))
    assert hosts._is_refused(scope(*[(b"host", b"chat.example.com")] * 2))
    assert hosts._is_refused(scope((b"host", b"a" * SIZE)))


# ---------------------------------------------------------------- the application


def test_a_head_has_at_most_128_fields():
    check_head(scope(*[(b"a", b"")] * 128))
    with pytest.raises(HeadTooLarge, match="The header: expected at most 128 fields, got 129"):
        check_head(scope(*[(b"a", b"")] * 129))


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD", "BREW"])
@pytest.mark.parametrize("path", ["/", "/limits", "/runs/" + "0" * 32])
@pytest.mark.parametrize(
    ("query", "fields"), [("&" * SIZE, []), ("", [("a", "")] * 1_000)], ids=["query", "fields"]
)
async def test_a_head_is_refused_before_anybody_is_identified(method, path, query, fields):
    def identify(_: object) -> str:
        raise AssertionError

    app = ChatNestApp(provider=DemoProvider(), identify=identify)
    talk = Conversation(app, method=method, path=path, query=query, headers=fields)
    async with talk as c:
        await c.finished()

    assert c.status == 431
    assert method == "HEAD" or c.problem()["code"] == "head_too_large"
