"""Hostile requests by the thousand: those of the table, mutated, and bodies of random JSON."""

import json
import random
from collections.abc import Callable

from tests.hostile import bodies
from tests.hostile.bodies import CANARY
from tests.hostile.cases import KINDS, chunked, post

WORDS: tuple[bytes, ...] = (
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b"\\u", b"\\ud800", b"\0", b"\r", b"\n"),
    *(b"\r\n", b"\r\n\r\n", b"null", b"true", b"-1", b"0", b"1e400", b"NaN", b"9" * 400, b" " * 99),
    *(b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"<|endoftext|>"),
    *(b"messages", b"role", b"content", b"user", b"assistant", b"system", b"id", b"profile"),
    *(b"dailyTokenLimit", b"maxTokensPerRequest", b"systemPrompt", b"usageEvent", b"linger"),
    *(b"__proto__", b"model", b"Content-Length: 7", b"Transfer-Encoding: chunked", b"Expect: a"),
    *(b"Idempotency-Key: a", b"Last-Event-ID: 1", b"POST ", b"GET ", b"HTTP/1.0", CANARY.encode()),
)
TABLES = (
    *(bodies.ENCODINGS, bodies.BROKEN, bodies.NUMBERS, bodies.TWICE, bodies.NAMES, bodies.MESSAGES),
    *(bodies.LIMITS, bodies.SMUGGLED),
)
BODIES = [
    body
    for table in TABLES
    for body in table.values()
    if len(body) < 5_000  # the long ones are long to no further end
]
REQUESTS = [
    case.sent
    for kind, cases in KINDS.items()
    if kind != "trickled and abandoned"
    for case in cases
    if len(case.sent) < 5_000
]


class Fuzz:
    """A source of requests, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def body(self) -> bytes:
        """A request that ends as HTTP wants it, with a body that is one of ours, or about to be."""
        if self._random.random() < 0.5:
            return self._sent(self._mutated(self._random.choice(BODIES)))
        value = json.dumps(self._body(), ensure_ascii=self._random.random() < 0.5)
        return self._sent(value.encode("utf-8", "surrogatepass"))

    def request(self) -> bytes:
        """Whatever may come on a connection: it may have no end, or be two."""
        return self._mutated(self._random.choice(REQUESTS))

    def _sent(self, body: bytes) -> bytes:
        if self._random.random() < 0.7:
            return post(body)
        cuts = sorted(self._random.randrange(len(body) + 1) for _ in range(3))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        return chunked(*filter(None, pieces))

    def _mutated(self, data: bytes) -> bytes:
        for _ in range(self._random.randint(1, 4)):
            data = self._random.choice(self._mutations)(self, data)
        return data

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._random.randrange(len(data))
        return data[:at] + bytes([self._random.randrange(256)]) + data[at + 1 :]

    def _delete(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:end] + data[start:end] * self._random.choice((1, 1, 2, 30)) + data[end:]

    def _insert(self, data: bytes) -> bytes:
        at = self._random.randrange(len(data) + 1)
        return data[:at] + self._random.choice(WORDS) + data[at:]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._random.randrange(len(data) + 1)]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(BODIES)
        return self._cut(data) + other[self._random.randrange(len(other) + 1) :]

    _mutations: tuple[Callable[["Fuzz", bytes], bytes], ...] = (
        *(_flip, _delete, _repeat, _insert, _cut, _splice),
    )

    def _span(self, data: bytes) -> tuple[int, int]:
        start = self._random.randrange(len(data) + 1)
        return start, min(len(data), start + self._random.choice((1, 1, 2, 5, 20, 100)))

    def _body(self) -> object:
        """Something like a request, whose parts may be anything."""
        pick = self._random.random
        body: dict[str, object] = {
            name: self._value(3)
            for name in (
                *("profile", "aiUsageProfile", "dailyTokenLimit", "maxTokensPerRequest"),
                *("systemPrompt", "usageEvent", "linger", "model"),
            )
            if pick() < 0.15
        }
        messages = [self._message() for _ in range(self._random.choice((0, 1, 1, 1, 2, 5, 30)))]
        body["messages"] = self._value(3) if pick() < 0.2 else messages
        return body if pick() < 0.97 else self._value(5)

    def _message(self) -> object:
        pick = self._random.random
        message = {
            "role": self._value(2) if pick() < 0.1 else self._random.choice(("user", "assistant")),
            "content": self._value(2) if pick() < 0.1 else self._text(),
        }
        if pick() < 0.1:
            message[self._text()] = self._value(2)
        return message if pick() < 0.95 else self._value(3)

    def _value(self, depth: int) -> object:
        kind = self._random.randrange(9 if depth else 7)
        if kind < 7:
            whole = self._random.choice((0, 1, -1, 5, 2**31, 2**63, 2**64, -(2**70), 10**300))
            floats = self._random.choice((0.5, -0.0, 1e300, float("nan"), float("inf")))
            plain = (None, True, False, whole, floats, self._text(), self._text())
            return plain[kind]
        inner = [self._value(depth - 1) for _ in range(self._random.randrange(4))]
        return inner if kind == 7 else {self._text(): value for value in inner}

    def _text(self) -> str:
        letters = ("a", "1", " ", "\0", "\n", "é", "中", "😀", "\ud800", "\u2028", "<|endoftext|>")
        kept = [self._random.choice(letters) for _ in range(self._random.randrange(6))]
        return "".join((*kept, CANARY if self._random.random() < 0.2 else ""))
