"""An answer as timed steps: bytes, delays, and the end of the connection. No I/O."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.dialects.base import Dialect
from chatnest.testing.upstream.http1 import END_OF_CHUNKS, Request, chunk, response_head
from chatnest.testing.upstream.parts import repeated

__all__ = ["Step", "plan"]

_SLICE = 65_536


class Step(NamedTuple):
    """The bytes of one write, the seconds to wait before it, and the number of pieces in it.

    `act` is the action after the write: go on, hold until released, FIN, or RST.
    """

    data: bytes = b""
    delay: float = 0.0
    pieces: int = 0
    act: Literal["go_on", "hold", "close", "reset"] = "go_on"


class _Framing(NamedTuple):
    headers: dict[str, str]
    frame: Callable[[bytes], bytes]
    end: Step


def plan(
    answer: Answer, request: Request, fields: dict[str, Any], dialect: type[Dialect]
) -> Iterator[Step]:
    """Yield the steps of `answer` to `request`, whose JSON is `fields`; endless with `math.inf`."""
    answer = dialect.refusal(answer)
    if answer.opening == "silence":
        yield Step(act="hold")
    if answer.opening in {"close", "close_on_accept"}:
        yield Step(act="close")
    elif answer.raw is not None:
        yield Step(answer.raw, answer.first_delay, act="close")
    elif answer.events is not None:
        yield from _streamed(answer, request, _Raw(answer))
    elif answer.body is not None:
        yield _whole(answer, request, answer.body)
    elif fields.get("stream") is True:
        yield from _streamed(answer, request, dialect(answer, fields))
    else:
        yield _whole(answer, request, dialect(answer, fields).whole())


def _whole(answer: Answer, request: Request, body: bytes) -> Step:
    declared = len(body) if answer.content_length is None else answer.content_length
    headers = {"content-length": str(declared)}
    data = _head(answer, headers, "application/json") + body
    closes = declared != len(body) or not request.keep_alive
    return Step(data, answer.first_delay, act="close" if closes else "go_on")


class _Raw:
    """The raw events of an answer. Nothing comes before or after them."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def first(self) -> Iterable[bytes]:
        return ()

    def pieces(self) -> Iterator[tuple[bytes, int]]:
        return ((event, 1) for event in repeated(self._answer.events or (), self._answer.repeat))

    def inserted(self) -> bytes:
        return self._answer.inject

    def finish(self) -> Iterable[bytes]:
        return ()


def _events(stream: Dialect | _Raw) -> Iterator[tuple[bytes, int]]:
    yield from ((event, 0) for event in stream.first())
    yield from stream.pieces()
    yield from ((event, 0) for event in stream.finish())


def _until(events: Iterator[tuple[bytes, int]], pieces: int) -> Iterator[tuple[bytes, int]]:
    """Yield events up to the last of that number of pieces. The others stay in the iterator."""
    sent = 0
    while sent < pieces and (event := next(events, None)) is not None:
        sent += event[1]
        yield event


def _limited(events: Iterator[tuple[bytes, int]], size: int) -> Iterator[tuple[bytes, int]]:
    """Yield the first `size` bytes of the events."""
    for data, pieces in events:
        if len(data) >= size:
            if size:
                yield data[:size], 0
            return
        yield data, pieces
        size -= len(data)


def _streamed(answer: Answer, request: Request, stream: Dialect | _Raw) -> Iterator[Step]:
    framing = _framing(answer, request)
    writer = _Writer(answer, framing.frame)
    yield Step(_head(answer, framing.headers, "text/event-stream"), answer.first_delay)
    if answer.byte_limit is not None:
        yield from writer.events(_limited(_events(stream), answer.byte_limit))
        yield Step(act="close")
        return
    yield from writer.events((event, 0) for event in stream.first())
    encoded = stream.pieces()
    yield from writer.events(_until(encoded, answer.after))
    inserted = stream.inserted()
    yield from writer.events([(inserted, 0)] if inserted else [])
    if answer.long_line and not isinstance(stream, _Raw):
        yield from _long_line(answer.long_line, *stream.endless_line(), framing.frame)
    match answer.ending:
        case "reset":
            yield Step(act="reset")
        case "cut":
            yield Step(act="close")
        case "bad_framing":
            yield Step(b"xyz\r\nno chunk\r\n", act="close")
        case "unfinished":
            yield framing.end
        case _:  # "finish", "stall"
            yield Step(act="hold" if answer.ending == "stall" else "go_on")
            yield from writer.events(encoded)
            yield from writer.events((event, 0) for event in stream.finish())
            yield framing.end._replace(delay=answer.end_delay)


def _framing(answer: Answer, request: Request) -> _Framing:
    if answer.content_length is not None:
        return _Framing({"content-length": str(answer.content_length)}, bytes, Step(act="close"))
    if request.head.version == "HTTP/1.0":
        return _Framing({"connection": "close"}, bytes, Step(act="close"))
    end = Step(END_OF_CHUNKS, act="go_on" if request.keep_alive else "close")
    return _Framing({"transfer-encoding": "chunked"}, chunk, end)


def _head(answer: Answer, framing: dict[str, str], content_type: str) -> bytes:
    own = {"content-type": answer.content_type or content_type, **framing}
    given = {name.lower(): value for name, value in answer.headers.items()}
    return response_head(answer.status, own | given)


class _Writer:
    """Turns events into writes, paced, joined or split according to the answer."""

    def __init__(self, answer: Answer, frame: Callable[[bytes], bytes]) -> None:
        self._answer = answer
        self._frame = frame
        self._paced = False

    def events(self, events: Iterable[tuple[bytes, int]]) -> Iterator[Step]:
        """Yield the steps that write `events`: pairs of bytes and number of pieces."""
        iterator = iter(events)
        while batch := tuple(itertools.islice(iterator, self._answer.events_per_write)):
            pieces = sum(count for _, count in batch)
            delay = self._answer.pace if pieces and self._paced else 0.0
            self._paced = self._paced or pieces > 0
            if self._answer.split:
                yield from self._split(b"".join(data for data, _ in batch), delay, pieces)
            else:
                yield Step(b"".join([self._frame(data) for data, _ in batch]), delay, pieces)

    def _split(self, data: bytes, delay: float, pieces: int) -> Iterator[Step]:
        size = self._answer.split
        *parts, last = (data[at : at + size] for at in range(0, len(data), size))
        for part in parts:
            yield Step(self._frame(part), delay)
            delay = 0.0
        yield Step(self._frame(last), delay, pieces)


def _long_line(
    size: float, begin: bytes, end: bytes, frame: Callable[[bytes], bytes]
) -> Iterator[Step]:
    yield Step(frame(begin))
    left = size - len(begin.rpartition(b"\n")[2]) - len(end.rstrip())
    filler = Step(frame(b"a" * _SLICE))
    while left >= _SLICE:
        yield filler
        left -= _SLICE
    if left > 0:
        yield Step(frame(b"a" * int(left)))
    yield Step(frame(end))
