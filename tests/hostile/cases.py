"""What a hostile client can send, and what comes of it: kinds of twenty cases, a line for each.

A case is a name, the bytes of a request, and the status it is answered with. ``CANARY`` stands in
whatever a client can choose, since nothing of that may come back.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from tests.hostile import bodies
from tests.hostile.bodies import CANARY

CLOSED: Final = 0
"""Not answered: the connection ends."""

LIMIT: Final = 262_144
PATH: Final = "/api/chat"


class Case(NamedTuple):
    """A request as bytes, and how it may be answered. Each of ``pauses`` is bytes that come after
    a pause, so that the body never ends; ``leaves`` says that the client does not wait.
    """

    name: str
    sent: bytes
    status: tuple[int, ...]
    pauses: tuple[bytes, ...] = ()
    leaves: bool = False


Row = tuple[str, bytes, *tuple[int, ...]]


def request(
    method: str = "POST",
    path: str | bytes = PATH,
    headers: Iterable[str | bytes] = (),
    data: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """Any request, with exactly these header fields beside Host."""
    fields = ["Host: test", *headers]
    lines = [f if isinstance(f, bytes) else f.encode() for f in fields]
    target = path if isinstance(path, bytes) else path.encode()
    start = b"%b %b %b" % (method.encode(), target, version.encode())
    return b"\r\n".join([start, *lines, b"", b""]) + data


def post(data: bytes, *headers: str | bytes, kind: str | bytes = "application/json") -> bytes:
    """A POST of ``data``, honestly declared."""
    typed = b"Content-Type: " + (kind if isinstance(kind, bytes) else kind.encode())
    return request(headers=[typed, f"Content-Length: {len(data)}", *headers], data=data)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", size: str = "%x") -> bytes:
    """A POST in chunks."""
    data = b"".join(b"%b\r\n%b\r\n" % ((size % len(c)).encode(), c) for c in chunks) + end
    headers = ["Content-Type: application/json", "Transfer-Encoding: chunked"]
    return request(headers=headers, data=data)


def get(path: str, *headers: str | bytes, method: str = "GET") -> bytes:
    return request(method, path, headers)


def say(text: str, **fields: Any) -> bytes:
    """A body in which the user says ``text``."""
    return json.dumps(
        {"messages": [{"role": "user", "content": text}], **fields}, ensure_ascii=False
    ).encode()


ASK = say(CANARY)
SIZE = len(ASK)

METHODS: list[Row] = [
    *((name, request(name, headers=["Content-Length: 0"]), 405) for name in ("PUT", "PATCH")),
    ("DELETE", request("DELETE"), 405),
    ("TRACE", request("TRACE"), 405),
    ("PROPFIND", request("PROPFIND"), 405),
    ("a method of the client's", request(CANARY.upper()), 400, 405),
    ("a method in small letters", request("post", headers=["Content-Length: 0"]), 400, 405),
    ("a path below", request(path=f"{PATH}/{CANARY}"), 404),
    ("a path above", request(path=f"{PATH}/../{CANARY}"), 404),
    ("two slashes too many", request(path=f"{PATH}//"), 404),
    ("slashes before it", request(path=f"//{CANARY}{PATH}"), 404),
    ("an escaped NUL", request(path=f"{PATH}%00{CANARY}"), 404),
    ("a path of bytes", request(path=b"/api/chat\xff\xfe"), 400, 404),
    ("a path of 30,000 characters", request(path=f"{PATH}/{CANARY * 5_000}"), 404, 414),
    ("a run of another shape", request("GET", f"{PATH}/runs/{CANARY}"), 404),
    ("a run that is not there", request("GET", f"{PATH}/runs/{'0' * 32}"), 404),
    ("no content type", request(headers=[f"Content-Length: {SIZE}"], data=ASK), 415),
    *(
        (f"content type {kind!r}", post(ASK, kind=kind), 415)
        for kind in (
            *("", "text/plain", "text/html", "multipart/form-data; boundary=x"),
            "application/x-www-form-urlencoded",
            *("application/jsonp", "application/json5", "text/json", "application/x-json"),
            *("application/ld+json", CANARY, f"application/{CANARY}", "application/json, text/x"),
            *("application\xa0/json", "json", "*/*", "application/*"),
            *("application/json; charset=latin-1", "application/json; charset=utf-16"),
            *("application/json; charset=utf-7", f"application/json; charset={CANARY}"),
            "application/json; charset=utf-8; charset=utf-16",
        )
    ),
    *(
        (f"content encoding {coding}", post(ASK, f"Content-Encoding: {coding}"), 415)
        for coding in ("gzip", "br", "deflate", "zstd", CANARY, "identity, gzip")
    ),
]

LENGTHS: list[Row] = [
    ("no length and no body", request(headers=["Content-Type: application/json"]), 400),
    ("a length of none", post(b""), 400),
    ("no chunks", chunked(), 400),
    ("one chunk", chunked(ASK), 200),
    ("a chunk for each byte", chunked(*(ASK[n : n + 1] for n in range(SIZE))), 200),
    ("chunks of sizes in capitals", chunked(ASK, size="%X"), 200),
    ("chunks of sizes with zeros before", chunked(ASK, size="%08x"), 200),
    ("a chunk extension", chunked(ASK, size=f"%x;{CANARY}={CANARY}"), 200, 400),
    ("a trailer", chunked(ASK, end=f"0\r\n{CANARY}: {CANARY}\r\n\r\n".encode()), 200, 400),
    ("a size that is no number", chunked(ASK, size=f"{CANARY}%x"), 400, CLOSED),
    ("a size below zero", chunked(ASK, size="-%x"), 400, CLOSED),
    ("a size of 0x", chunked(ASK, size="0x%x"), 400, CLOSED),
    ("a size beyond 64 bits", chunked(ASK, size="ffffffffffffffffffff%x"), 400, CLOSED),
    ("a size without an end", chunked(ASK, size="1" * 20_000 + "%x"), 400, CLOSED),
    *(
        (
            f"Content-Length: {written[:30]} of {len(written)}",
            request(
                headers=["Content-Type: application/json", f"Content-Length: {written}"], data=ASK
            ),
            400,
            CLOSED,
        )
        for written in (
            *("-1", "+5", "1e3", "0x10", "5.0", "", "five", CANARY, f"{SIZE}, {SIZE + 1}"),
            *("²", "9" * 30, "9" * 5_000, f"{SIZE} {CANARY}"),
        )
    ),
    (
        "two lengths",
        request(
            headers=[
                "Content-Type: application/json",
                f"Content-Length: {SIZE}",
                f"Content-Length: {SIZE - 1}",
            ],
            data=ASK,
        ),
        400,
    ),
    (
        "a length and chunks",
        request(
            headers=[
                "Content-Type: application/json",
                "Content-Length: 5",
                "Transfer-Encoding: chunked",
            ],
            data=b"0\r\n\r\n",
        ),
        400,
    ),
    (
        "a length too small",
        request(
            headers=["Content-Type: application/json", f"Content-Length: {SIZE - 4}"], data=ASK
        ),
        400,
    ),
    (
        "HTTP/1.0 without a length",
        request(headers=["Content-Type: application/json"], data=ASK, version="HTTP/1.0"),
        400,
    ),
    (
        "a transfer coding of the client's",
        request(
            headers=["Content-Type: application/json", f"Transfer-Encoding: {CANARY}"], data=ASK
        ),
        400,
        501,
    ),
]

TOO_LARGE: list[Row] = [
    *(
        (
            f"{size:,} bytes declared",
            request(headers=["Content-Type: application/json", f"Content-Length: {size}"]),
            413,
        )
        for size in (LIMIT + 1, LIMIT + 2, 10**6, 10**7, 10**9, 2**31, 2**32, 2**53, 10**18)
    ),
    (
        "zeros before it",
        request(headers=["Content-Type: application/json", f"Content-Length: 000{10**7}"]),
        413,
    ),
    *(
        (f"{size:,} bytes of {name}, declared and sent", post(filler * (size // len(filler))), 413)
        for size in (LIMIT + 4, 300_000)
        for name, filler in (("spaces", b" "), ("brackets", b"["), ("canaries", CANARY.encode()))
    ),
    *(
        (f"{count} chunks of {size:,} bytes", chunked(*[b" " * size] * count), 413)
        for count, size in ((1, LIMIT + 1), (2, LIMIT), (20, 16_384), (300, 1_000), (5, 60_000))
    ),
    ("just the limit of spaces", post(b" " * LIMIT), 400),
    ("just the limit of canaries", post(bodies.filled(b'"', CANARY.encode(), b'"', LIMIT)), 400),
    ("just the limit, in chunks", chunked(*[b" " * 1_024] * 256), 400),
]

FIRST = ASK[:9]
HEAD = post(ASK).removesuffix(ASK)
CHUNKED = chunked(ASK, end=b"")

# A body that never ends is answered 408, one that its sender gives up not at all.
SLOW: list[Case] = [
    *(
        Case(f"{name}, then nothing", sent, (408,))
        for name, sent in (
            ("a head", HEAD),
            ("a head and one byte", HEAD + ASK[:1]),
            ("half a body", HEAD + FIRST),
            ("all but one byte", HEAD + ASK[:-1]),
            ("a chunk", CHUNKED),
            ("a chunk and half a size", CHUNKED + b"1"),
            ("a head of chunks", chunked(end=b"")),
            ("a size", chunked(end=b"5\r\n")),
            ("half a chunk", chunked(end=b"5\r\n{")),
            ("a body that would be refused", HEAD + b"{}"),
        )
    ),
    *(
        Case(f"{name}, then byte by byte", sent, (408,), pauses)
        for name, sent, pauses in (
            ("a head", HEAD, tuple(ASK[n : n + 1] for n in range(8))),
            ("half a body", HEAD + FIRST, (b" ",) * 8),
            ("a chunk", CHUNKED, (b"1\r\n \r\n",) * 8),
            ("a head of chunks", chunked(end=b""), (b"1\r\n{\r\n",) * 8),
        )
    ),
    *(
        Case(f"{name}, then gone", sent, (CLOSED,), leaves=True)
        for name, sent in (
            ("nothing", b""),
            ("half a line", b"POST /api"),
            ("half a head", HEAD[:40]),
            ("a head", HEAD),
            ("one byte", HEAD + b"{"),
            ("half a body", HEAD + FIRST),
            ("all but one byte", HEAD + ASK[:-1]),
            ("a chunk", CHUNKED),
            ("half a chunk", chunked(end=b"5\r\n{")),
            ("a large body begun", post(b" " * LIMIT)[:100_000]),
        )
    ),
]

UTF8: list[Row] = [(name, post(data), 400) for name, data in bodies.ENCODINGS.items()]
JSON: list[Row] = [(name, post(data), 400) for name, data in bodies.BROKEN.items()]
DEPTH: list[Row] = [(name, post(data), 400) for name, data in bodies.DEEP.items()]
NUMBERS: list[Row] = [(name, post(data), 400) for name, data in bodies.NUMBERS.items()]
TWICE: list[Row] = [(name, post(data), 400) for name, data in bodies.TWICE.items()]
NAMES: list[Row] = [(name, post(data), 400) for name, data in bodies.NAMES.items()]
MESSAGES: list[Row] = [(name, post(data), 400) for name, data in bodies.MESSAGES.items()]
LIMITS: list[Row] = [(name, post(data), 400) for name, data in bodies.LIMITS.items()]
SMUGGLED: list[Row] = [(name, post(data), 400) for name, data in bodies.SMUGGLED.items()]
SPECIAL: list[Row] = [(text[:30], post(say(text)), 200) for text in bodies.SPECIAL]
BOMBS: list[Row] = [(name, post(data), 200, 413) for name, data in bodies.BOMBS.items()]

OTHERS: list[Row] = [
    *((name, request(name), 405) for name in ("HEAD", "OPTIONS", "GET")),
    ("OPTIONS of everything", request("OPTIONS", "*"), 404, 400),
    (
        "a preflight of another origin",
        get(
            PATH,
            f"Origin: https://{CANARY}",
            "Access-Control-Request-Method: POST",
            method="OPTIONS",
        ),
        405,
    ),
    ("GET with a body", request("GET", headers=[f"Content-Length: {SIZE}"], data=ASK), 405),
    ("HEAD with a body", request("HEAD", headers=[f"Content-Length: {SIZE}"], data=ASK), 405),
    ("GET as an event source", get(PATH, "Accept: text/event-stream"), 405),
    ("GET as a websocket", get(PATH, "Upgrade: websocket", "Connection: Upgrade"), 400, 405),
    (
        "a real websocket",
        get(
            PATH,
            *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ),
        403,
        404,  # of what stands behind the chat
        405,
    ),
    ("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, 404),
    ("POST what is left", request(path=f"{PATH}/limits", headers=["Content-Length: 0"]), 405),
    ("DELETE what is left", request("DELETE", f"{PATH}/limits"), 405),
    ("OPTIONS of what is left", request("OPTIONS", f"{PATH}/limits"), 405),
    ("HEAD of what is left", request("HEAD", f"{PATH}/limits"), 200),
    ("a profile of the client's", get(f"{PATH}/limits?profile={CANARY}"), 400),
    ("profiles by the thousand", get(f"{PATH}/limits?" + f"profile={CANARY}&" * 2_000), 431, 414),
    ("a profile that is no UTF-8", get(f"{PATH}/limits?profile=%ff%fe{CANARY}"), 400),
    ("a lone surrogate for a profile", get(f"{PATH}/limits?profile=%ed%a0%80"), 400),
    ("HEAD of a run", request("HEAD", f"{PATH}/runs/{'0' * 32}"), 405),
    ("POST to a run", request("POST", f"{PATH}/runs/{'0' * 32}", ["Content-Length: 0"]), 405),
    ("DELETE of a run that is not there", request("DELETE", f"{PATH}/runs/{'0' * 32}"), 404),
]


def with_field(field: str | bytes) -> bytes:
    return post(ASK, field)


FIELDS: list[Row] = [
    ("a field of 64 KiB", with_field(f"X-Long: {CANARY * 11_000}"), 200, 400, 431),
    ("fields of 64 KiB", post(ASK, *[f"X-{n}: {CANARY}" for n in range(3_000)]), 200, 400, 431),
    ("a name of 60,000 characters", with_field("X" * 60_000 + ": a"), 200, 400, 431),
    ("a CR in a value", with_field(f"X-A: a\r{CANARY}"), 400),
    ("an LF in a value", with_field(f"X-A: a\n{CANARY}: b"), 200, 400),
    ("a folded value", with_field(f"X-A: a\r\n {CANARY}"), 200, 400),
    ("a NUL in a value", with_field("X-A: a\0b"), 400),
    ("a NUL in a name", with_field("X\0A: a"), 400),
    ("a space in a name", with_field("X A: a"), 400),
    ("no colon", with_field(CANARY), 400),
    ("no name", with_field(f": {CANARY}"), 400),
    ("a name of bytes", with_field(b"X-\xff: a"), 400),
    ("two hosts", with_field(f"Host: {CANARY}"), 200, 400),
    *(
        (f"Idempotency-Key: {key[:24]}", with_field(f"Idempotency-Key: {key}"), 400)
        for key in (
            *('""', '"', f'"{CANARY}', f'{CANARY}"', f"{CANARY} {CANARY}", "a,b", "a;b=c"),
            *(f'"{CANARY * 43}"', CANARY * 43, '"é"', "é", '"a\tb"', '"a\\n"', '"a\\"', "\\"),
            *('"a" "b"', '"a"; b=1', "(a)( b)", ""),
        )
    ),
    ("two keys", post(ASK, "Idempotency-Key: a", "Idempotency-Key: b"), 400),
    *(
        (
            f"Last-Event-ID: {number[:24]}",
            get(f"{PATH}/runs/{'0' * 32}", f"Last-Event-ID: {number}"),
            400,
        )
        for number in (
            "-1",
            "1.5",
            "1e3",
            "0x1",
            "٣",
            "²",
            "9" * 16,
            "9" * 5_000,
            CANARY,
            "",
            "1 2",
        )
    ),
    *(
        (f"?after={number}", get(f"{PATH}/runs/{'0' * 32}?after={number}"), 400)
        for number in ("-1", "1.5", "%00", "%D9%A3", CANARY, "1" * 16)
    ),
    *(
        (f"Origin: {origin}", with_field(f"Origin: {origin}"), 200)
        for origin in ("null", f"https://{CANARY}", "*", "", "é", "file://", "a" * 5_000)
    ),
    *(
        (f"Accept: {kind}", with_field(f"Accept: {kind}"), 200)
        for kind in ("application/json", "image/png;q=0", "*;*", CANARY)
    ),
    ("Expect: something", with_field(f"Expect: {CANARY}"), 200, 417),
    *(
        (f"a key: {value[:24]}", request("GET", "/keys/limits", [f"Authorization: {value}"]), 401)
        for value in (
            *("", "Bearer", "Bearer ", f"Bearer {CANARY}", "Bearer é", "Bearer \xff\xfe"),
            *(f"Basic {CANARY}", "bearer\tletmein", "Bearer letmein,letmein", "Bearer letmein x"),
            *(f"Bearer {'a' * 30_000}", "Bearer Letmein", "Bearer  letmei", "letmein"),
        )
    ),
    (
        "two keys at once",
        get("/keys/limits", "Authorization: Bearer letmein", "Authorization: Bearer letmein"),
        401,
    ),
]

_STYLED = "".join(chr(0x1D5BA + ord(letter) - ord("a")) for letter in "balanced")
_WIDE = "".join(chr(0xFF41 + ord(letter) - ord("a")) for letter in "balanced")
PROFILES = (
    *("balanc\u0435d", "\uff42alanced", "balanced\u200b", "\u202ebalanced", "balanced\u0301"),
    *(
        "BALANCED\u0130",
        "\u212alanced",
        "balanced\0",
        "expan\u217eed",
        "\u2170",
        "con\u017ftrained",
    ),
    *("__proto__", "constructor", "toString", "balanced,expanded", ".", "*", ""),
    *("\u0431alanced", f"balanced{CANARY}", _STYLED, _WIDE),
)
LOOK_ALIKES: list[Row] = [
    *((f"profile {name!r}", post(say("Hi", profile=name)), 400) for name in PROFILES),
    *(
        (f"profile {name!r}", post(say("Hi", profile=name)), 200)
        for name in ("balanced", "Balanced", " BALANCED\n", "moderate")
    ),
    *(
        (f"user {name!r}", get("/header/limits", b"X-User: " + name.encode()), 200, 401)
        for name in (
            *("Ann", "ANN", "\u0430nn", "\uff41nn", "an\u0578", "ann\u0301", "a nn", "ann\u00ad"),
            *("addr:127.0.0.1", "key:ann", "header:ann", "user:ann", "../ann", "%61nn", "ann,bob"),
        )
    ),
    *(
        (f"user {name!r}", get("/header/limits", b"X-User: " + name), 401, 400)
        for name in (
            *(b"", b"\xa0", b"ann\xa0", b"\xa0ann", b"ann\x85", b"ann\x1c", b"ann\x7f", b"a" * 257),
            b"ann\xe2\x80\x8b",
        )
    ),
    ("two users", get("/header/limits", "X-User: ann", "X-User: eve"), 401),
]

FORWARDED: list[Row] = [
    (field, with_field(field), 200)
    for field in (
        "X-Forwarded-For: 198.51.100.7",
        "X-Forwarded-For: 198.51.100.7, 127.0.0.1",
        "X-Forwarded-For: 127.0.0.1, 198.51.100.7",
        "X-Forwarded-For: ::1",
        "X-Forwarded-For: [2001:db8::1]:443",
        "X-Forwarded-For: 2001:db8::1%eth0",
        f"X-Forwarded-For: {CANARY}",
        "X-Forwarded-For: 0",
        "X-Forwarded-For: 999.1.1.1",
        "X-Forwarded-For: " + "1.1.1.1, " * 2_000 + "2.2.2.2",
        "X-Forwarded-For: unknown",
        "X-Forwarded-For: ",
        "x-forwarded-for: 198.51.100.8",
        "Forwarded: for=198.51.100.9;proto=https",
        'Forwarded: for="[2001:db8::2]"',
        "X-Real-IP: 198.51.100.10",
        "X-Client-IP: 198.51.100.11",
        "True-Client-IP: 198.51.100.12",
        "CF-Connecting-IP: 198.51.100.13",
        "Fastly-Client-IP: 198.51.100.14",
        "X-Cluster-Client-IP: 198.51.100.15",
        "X-Forwarded-Host: example.org",
        "X-Forwarded-Proto: https",
        "X-Forwarded-User: root",
        "X-Remote-User: root",
        "X-User: root",
        "Remote-Addr: 198.51.100.16",
        "Client-IP: 198.51.100.17",
        "Via: 1.1 198.51.100.18",
    )
]


def _cases(rows: Iterable[Row]) -> list[Case]:
    return [Case(name, sent, tuple(status)) for name, sent, *status in rows]


KINDS: Final[dict[str, list[Case]]] = {
    "method, path, content type, charset": _cases(METHODS),
    "missing, empty, chunked, wrong length": _cases(LENGTHS),
    "too large, declared and not": _cases(TOO_LARGE),
    "trickled and abandoned": SLOW,
    "not UTF-8": _cases(UTF8),
    "not JSON": _cases(JSON),
    "depth": _cases(DEPTH),
    "no whole numbers": _cases(NUMBERS),
    "keys that stand twice": _cases(TWICE),
    "names": _cases(NAMES),
    "messages": _cases(MESSAGES),
    "limits": _cases(LIMITS),
    "smuggled fields": _cases(SMUGGLED),
    "special tokens": _cases(SPECIAL),
    "tokenizer bombs": _cases(BOMBS),
    "header fields": _cases(FIELDS),
    "look-alikes": _cases(LOOK_ALIKES),
    "HEAD, OPTIONS, GET": _cases(OTHERS),
    "spoofed forwarding": _cases(FORWARDED),
}
