"""Bytes of an OpenAI chat completion stream to provider events, within bounds. No I/O.

The event stream format is WHATWG HTML's, section 9.2; the payload is OpenAI's
``chat.completion.chunk``. One typed msgspec decoding per chunk: the SDK's own decoder has no
bounds and costs ten times as much.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from chatnest.errors import (
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamServerError,
)
from chatnest.events import Delta, Finish, ProviderEvent, Usage
from chatnest.providers.base import Taker
from chatnest.providers.faults import error_for_code

__all__ = ["ChunkDecoder", "EventSplitter"]

_BOM: Final = b"\xef\xbb\xbf"
_CR: Final = ord("\r")
_BEGUN_BOM: Final = (b"", _BOM[:1], _BOM[:2])


class EventSplitter:
    """Data of Server-Sent Events out of bytes that arrive in any pieces.

    Raises UpstreamBadResponse beyond ``max_event`` bytes of one event or ``max_total`` of all, of
    which ``left`` are left.
    """

    __slots__ = ("_begun", "_between", "_data", "_max_event", "_size", "_tail", "left")

    def __init__(self, *, max_event: int = 262_144, max_total: int = 67_108_864) -> None:
        self._max_event = max_event
        self.left: int = max_total
        self._tail = b""
        self._begun = False  # before it, a BOM may stand there
        self._between = False  # two events: nothing of the next one is known
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of every event that ``data`` completes."""
        self.left -= len(data)
        if self.left < 0:
            raise UpstreamBadResponse
        if (payload := self.alone(data)) is not None:
            return [payload]
        if self._tail:
            data = self._tail + data
        if not self._begun:
            self._begun = data not in _BEGUN_BOM
            data = data.removeprefix(_BOM)
        # With a CR anywhere, events may end behind the last LF LF as well.
        end = 1 if self._data or _CR in data else data.rfind(b"\n\n") + 2
        whole = [] if end == 1 else self._whole(data[:end])
        if not whole:
            # A CR at the end may be half of a CRLF, so it waits as well.
            end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
            whole = list(self._events(data[:end])) if end else []
        self._tail = data[end:]
        self._between = self._begun and not self._tail and not self._data
        if len(self._tail) > self._max_event:
            raise UpstreamBadResponse
        return whole

    def alone(self, data: bytes) -> bytes | None:
        """The data of the one event that ``data`` is, as most servers send it, if it is nothing
        else: then nothing is changed by feeding it, beside ``left``.
        """
        if self._between:
            line, _, rest = data.partition(b"\n")
            alone = rest == b"\n" and line[:6] == b"data: " and _CR not in line
            if alone and len(line) <= self._max_event:
                return line[6:]
        return None

    def _whole(self, data: bytes) -> list[bytes]:
        """As most servers send it: events of one line of data each, without a CR. Nothing where it
        is not so.
        """
        if data[:6] != b"data: " or len(data) > self._max_event:
            return []
        events = data[6:-2].split(b"\n\ndata: ")
        return events if data.count(b"\n") == 2 * len(events) else []

    def _events(self, lines: bytes) -> Iterator[bytes]:
        for line in lines.splitlines():
            if line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._size += len(value)
                if self._size + len(self._data) > self._max_event:  # with the LF between lines
                    raise UpstreamBadResponse
                self._data.append(value)
            elif not line and self._data:
                yield self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                self._data, self._size = [], 0


_DONE: Final = b"[DONE]"
_NOTHING: Final = msgspec.Raw(b"null")

_LONGEST_REASON: Final = 32

_MOST_TOKENS: Final = 1_000_000_000
"""More than any model takes, and little enough for every ledger's columns."""


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


class _DeltaOfPiece(msgspec.Struct, gc=False):
    content: Annotated[str, msgspec.Meta(min_length=1)]
    refusal: str | None = None


class _ChoiceOfPiece(msgspec.Struct, gc=False):
    delta: _DeltaOfPiece
    finish_reason: None = None


class _Piece(msgspec.Struct, gc=False):
    """A chunk that is a piece of the answer and nothing else: every other is no such chunk."""

    choices: tuple[_ChoiceOfPiece]
    usage: None = None
    error: None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None


_chunk: Final = msgspec.json.Decoder(_Chunk)
_piece: Final = msgspec.json.Decoder(_Piece)
_figures: Final = msgspec.json.Decoder(_Usage)
_named: Final = msgspec.json.Decoder(_Error)


class ChunkDecoder:
    """Provider events out of the bytes of one answer.

    ``finished`` is True once the model has said why it stopped; ``closed`` once it has said that
    nothing more comes. ``taker`` is for ``take``.
    """

    __slots__ = (
        *("_chunks_left", "_refused", "_splitter", "closed", "failure", "finished", "taker"),
    )

    taker: Taker[str]

    def __init__(self, splitter: EventSplitter, *, max_chunks: int) -> None:
        self._splitter = splitter
        self._chunks_left = max_chunks
        self._refused = False
        self.failure: UpstreamError | None = None
        self.finished: bool = False
        self.closed: bool = False

    def feed(self, data: bytes) -> list[ProviderEvent]:
        """What ``data`` completes; raises UpstreamError where it is not a chat completion.

        What came before the fault is given first: then it is the ``failure``, and raised again.
        """
        if self.failure is not None:
            raise self.failure
        events: list[ProviderEvent] = []
        try:
            payloads = self._splitter.feed(data)
            if not self.closed:
                last = _DONE in payloads
                if last:
                    payloads = payloads[: payloads.index(_DONE)]
                self._note(_decoded(payloads), events)
                self.closed = last
        except UpstreamError as exc:
            self.failure = exc
            if not events:
                raise
        return events

    def take(self, data: bytes, /) -> bool:
        """See Taker: takes a piece of the answer that comes alone, if ``taker`` does."""
        size = len(data)
        splitter = self._splitter
        payload = splitter.alone(data)
        if payload is None or self.closed or splitter.left < size or self._chunks_left <= 0:
            return False
        try:
            text = _piece.decode(payload).choices[0].delta.content
        except (msgspec.DecodeError, ValueError, RecursionError):
            return False
        if not self.taker.take(text):
            return False
        splitter.left -= size
        self._chunks_left -= 1
        return True

    def end(self) -> None:
        """The connection has ended: raises UpstreamInterrupted unless the model had finished."""
        if not self.finished:
            raise UpstreamInterrupted

    def _note(self, chunks: Iterable[_Chunk], events: list[ProviderEvent]) -> None:
        for chunk in chunks:
            self._chunks_left -= 1
            if self._chunks_left < 0:
                raise UpstreamBadResponse
            if chunk.error != _NOTHING:
                raise _error_in_band(chunk.error)
            if chunk.choices:
                choice = chunk.choices[0]
                delta = choice.delta
                if delta is not None and (text := delta.content or self._refusal(delta)):
                    events.append(Delta(text))
                if choice.finish_reason:
                    self.finished = True
                    reason = "refusal" if self._refused else choice.finish_reason
                    events.append(Finish(reason[:_LONGEST_REASON]))
            usage = chunk.usage  # with every chunk, and null but for the last
            if usage != _NOTHING and (figure := _usage(usage)):
                events.append(figure)

    def _refusal(self, delta: _Delta) -> str | None:
        if delta.refusal:
            self._refused = True
        return delta.refusal


def _decoded(payloads: list[bytes]) -> Iterable[_Chunk]:
    """All at once where that can be done, else one by one, up to the one that is wrong."""
    try:
        chunks = _chunk.decode_lines(b"\n".join(payloads))
        if len(chunks) == len(payloads) and all(map(bytes.strip, payloads)):
            return chunks  # or one has lines of its own, or two chunks beside one that has none
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    return map(_decode, payloads)


def _decode(payload: bytes) -> _Chunk:
    try:
        return _chunk.decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise UpstreamBadResponse from exc


def _usage(raw: msgspec.Raw) -> Usage | None:
    """A usage figure, or None where there is none or it makes no sense: then ours is used."""
    try:
        usage = _figures.decode(raw)
    except (msgspec.DecodeError, ValueError):
        return None
    figures = usage.prompt_tokens, usage.completion_tokens
    return Usage(*figures) if all(0 <= n <= _MOST_TOKENS for n in figures) else None


def _error_in_band(raw: msgspec.Raw) -> UpstreamError:
    try:
        error = _named.decode(raw)
    except (msgspec.DecodeError, ValueError):
        return UpstreamServerError()
    return error_for_code(str(error.code or ""), error.type or "") or UpstreamServerError()
