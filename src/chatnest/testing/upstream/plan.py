"""An answer as timed steps: bytes, delays, and the end of the connection. No I/O."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.chunks import Chunks
from chatnest.testing.upstream.http1 import END_OF_CHUNKS, Request, chunk, response_head

__all__ = ["Step", "plan"]

_SLICE = 65_536

_T = TypeVar("_T")


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


def plan(answer: Answer, request: Request, fields: dict[str, Any]) -> Iterator[Step]:
    """Yield the steps of `answer` to `request`, whose JSON is `fields`; endless with `math.inf`."""
    if answer.opening == "silence":
        yield Step(act="hold")
    if answer.opening in {"close", "close_on_accept"}:
        yield Step(act="close")
    elif answer.raw is not None:
        yield Step(answer.raw, answer.first_delay, act="close")
    elif answer.events is not None:
        yield from _streamed(answer, request, None)
    elif answer.body is None and fields.get("stream") is True:
        yield from _streamed(answer, request, Chunks(answer, fields))
    else:
        yield from _whole(answer, request, fields)


def _whole(answer: Answer, request: Request, fields: dict[str, Any]) -> Iterator[Step]:
    body = answer.body if answer.body is not None else Chunks(answer, fields).whole()
    declared = len(body) if answer.content_length is None else answer.content_length
    headers = {"content-length": str(declared)}
    data = _head(answer, headers, "application/json") + body
    closes = declared != len(body) or not request.keep_alive
    yield Step(data, answer.first_delay, act="close" if closes else "go_on")


def _streamed(answer: Answer, request: Request, chunks: Chunks | None) -> Iterator[Step]:
    framing = _framing(answer, request)
    writer = _Writer(answer, framing.frame)
    yield Step(_head(answer, framing.headers, "text/event-stream"), answer.first_delay)
    if chunks is not None:
        yield from writer.events([(chunks.first(), 0)])
    encoded = ((event, 1) for event in _events(answer, chunks))
    yield from writer.events(itertools.islice(encoded, answer.after))
    yield from writer.events([(answer.inject, 0)] if answer.inject else [])
    if answer.long_line and chunks is not None:
        yield from _long_line(answer.long_line, chunks, framing.frame)
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
            yield from writer.events((event, 0) for event in (chunks.finish() if chunks else ()))
            yield framing.end._replace(delay=answer.end_delay)


def _events(answer: Answer, chunks: Chunks | None) -> Iterator[bytes]:
    if chunks is not None:
        return map(chunks.piece, _repeated(answer.pieces, answer.repeat))
    return _repeated(answer.events or (), answer.repeat)


def _repeated(items: tuple[_T, ...], times: float) -> Iterator[_T]:
    if math.isinf(times):
        return itertools.cycle(items)
    return itertools.chain.from_iterable(itertools.repeat(items, int(times)))


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


def _long_line(size: float, chunks: Chunks, frame: Callable[[bytes], bytes]) -> Iterator[Step]:
    begin, end = chunks.endless_line()
    yield Step(frame(begin))
    left = size - len(begin) - len(end.rstrip())
    filler = Step(frame(b"a" * _SLICE))
    while left >= _SLICE:
        yield filler
        left -= _SLICE
    if left > 0:
        yield Step(frame(b"a" * int(left)))
    yield Step(frame(end))
