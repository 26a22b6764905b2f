"""The worst that an upstream can do to the time of those who read it, by name."""

import json
from typing import Final

from chatnest.testing import Answer, faults

HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
INTERIM: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\n"
END: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    delta = b'data: {"choices":[{"index":0,"delta":{"content":%b}}]}\n\n'
    return delta % json.dumps(text).encode()


LAST: Final = (
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
FIELDS: Final = b"".join(b"x-%d: y\r\n" % number for number in range(200_000))


def streamed(*pieces: bytes) -> Answer:
    """These bytes as chunks, and an honest end."""
    return Answer(raw=HEAD + b"".join(map(chunk, (*pieces, event("a"), LAST))) + END)


FLOODS: Final[dict[str, Answer]] = {
    **faults.FLOODS,
    "a thousand characters at a time, without end": Answer.endless("x" * 1_000),
    "256 KiB of newlines": streamed(b"\n" * 262_144),
    "8 MiB of newlines": streamed(*[b"\n" * 262_144] * 32),
    "200,000 chunks of a newline": streamed(*[b"\n"] * 200_000),
    "a million chunks of a newline": streamed(*[b"\n"] * 1_000_000),
    "2 MiB of carriage returns": streamed(*[b"\r" * 262_144] * 8),
    "2 MiB of comments": streamed(*[b":\n" * 131_072] * 8),
    "lines of one event": streamed(b"data:\n" * 40_000),
    "events of nothing": streamed(*[b"data:{}\n\n" * 20_000] * 4),
    "events of no choice": streamed(*[b'data:{"choices":[]}\n\n' * 10_000] * 4),
    "events of usage": streamed(
        *[b'data:{"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n' * 4_000] * 4
    ),
    "a delta for each character": Answer(
        pieces=tuple("Wort für Wort. " * 200), events_per_write=64
    ),
    "a chunk for each byte": Answer.tokens(1_000, "a", split=1),
    "one delta of 200,000 characters": Answer(pieces=("x" * 200_000,)),
    "one delta of escapes": streamed(event("\1" * 40_000)),
    "one delta of lone surrogates": streamed(event("\ud800" * 40_000)),
    "a delta 100,000 deep": streamed(b"data: " + b"[" * 100_000 + b"\n\n"),
    "an error 60,000 deep": streamed(b'data: {"error":%b%b}\n\n' % (b"[" * 60_000, b"]" * 60_000)),
    "fields 900 deep": streamed(*[b'data: {"x":%b%b}\n\n' % (b"[" * 900, b"]" * 900)] * 200),
    "chunk extensions": Answer(
        raw=HEAD + (b"1;" + b"x" * 4_000 + b"\r\n\n\r\n") * 5_000 + chunk(LAST) + END
    ),
    "400,000 interim responses": Answer(raw=INTERIM * 400_000 + HEAD + chunk(LAST) + END),
    "interim responses after the end": Answer(
        raw=HEAD + chunk(event("a")) + chunk(LAST) + END + INTERIM * 400_000
    ),
    "200,000 fields": Answer(raw=OK + FIELDS + b"\r\n"),
    "a field of 20 MB": Answer(raw=OK + b"x: " + b"y" * 20_000_000 + b"\r\n\r\n"),
    "200,000 trailers": Answer(
        raw=HEAD
        + chunk(event("a"))
        + b"0\r\n"
        + b"".join(b"x-%d: y\r\n" % n for n in range(200_000))
    ),
    "bad framing": Answer.bad_framing(3, pace=0.05),
    "an error of 50 MB": Answer(
        status=500, body=b'{"error":{"message":"%b"}}' % (b"x" * 50_000_000)
    ),
    "an error 50,000 deep": Answer(status=500, body=b"[" * 50_000),
}
