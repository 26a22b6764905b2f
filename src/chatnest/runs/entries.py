"""Events of a run as JSON, for a log, and back. No I/O.

A batch is a list: an integer is the version of what follows it, a string is a Delta, and an object
is another event, by its ``type``. Batches of the first release have no version. A batch has the
lowest version that knows all its entries, so that workers of two releases can share a log.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Final, Literal, assert_never

import msgspec

from chatnest.errors import ChatNestError, ReplayUnavailable
from chatnest.events import (
    Delta,
    Done,
    Failed,
    Piece,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
    Usage,
)

__all__ = ["OVERHEAD", "VERSION", "Entry", "join_batches", "read_batch", "size_of", "write_batch"]

_log = logging.getLogger("chatnest.runs")

Entry = Piece | Done | Failed
"""An entry of a run in the log: a closed union. ``match`` it, and end with ``assert_never``. A new
kind of entry needs a new VERSION.
"""

VERSION: Final = 2
"""The latest version. A reader of an earlier version answers replay_unavailable."""

_TEXT_ONLY: Final = 1
"""The version of a batch with only Delta, Done and Failed."""

OVERHEAD: Final = 4
"""The approximate number of bytes of a Delta in JSON beside its text."""

_OBJECT: Final = 40
"""The approximate number of bytes of another piece beside its texts."""

_LAST: Final = 200
"""The approximate number of bytes of a last entry."""


class _Done(msgspec.Struct, tag="done"):
    finish_reason: str
    input_tokens: int
    output_tokens: int
    source: Literal["provider", "estimated"]
    cached_tokens: int = 0
    cache_written_tokens: int = 0
    reasoning_tokens: int = 0
    incomplete: bool = False


class _Failed(msgspec.Struct, tag="failed"):
    detail: str
    title: str
    status: int
    code: str
    retryable: bool
    retry_after: float | None
    charged: bool


_Unseen = Reasoning | ReasoningSignature | Refusal | ToolCall | ToolCallDelta | Source
"""Pieces other than text, which are their own form in JSON."""

_decoder: Final = msgspec.json.Decoder(list[int | str | _Done | _Failed | _Unseen])
_encoder: Final = msgspec.json.Encoder()


class _Recorded(ChatNestError):
    """An error as a run's first reader got it."""

    def __init__(self, entry: _Failed) -> None:
        super().__init__(entry.detail)
        self.title: str = entry.title
        self.status: int = entry.status
        self.code: str = entry.code
        self.retryable: bool = entry.retryable
        self.retry_after: float | None = entry.retry_after


def write_batch(entries: Sequence[Entry]) -> bytes:
    """Entries as JSON."""
    plain = [entry.text if type(entry) is Delta else _plain(entry) for entry in entries]
    version = _TEXT_ONLY if {str, _Done, _Failed}.issuperset(map(type, plain)) else VERSION
    try:
        return _encoder.encode([version, *plain])
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 has no bytes for
        return _encoder.encode([version, *map(_plain, entries)])


def join_batches(batches: Iterable[bytes]) -> bytes:
    """Batches that follow each other as one."""
    return b"[%b]" % b",".join(data[1:-1] for data in batches)


def read_batch(data: bytes) -> list[Entry]:
    """Entries from JSON. Raises ReplayUnavailable for entries of a later version."""
    try:
        found = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError) as exc:
        _log.warning("run log entries are unreadable: error=%s", type(exc).__name__)
        raise ReplayUnavailable(readable=False) from exc
    entries: list[Entry] = []
    for entry in found:
        match entry:
            case int():
                _check_version(entry)
            case str():
                entries.append(Delta(entry))
            case _Done():
                entries.append(_done_of(entry))
            case _Failed():
                entries.append(Failed(_Recorded(entry), charged=entry.charged))
            case (
                Reasoning()
                | ReasoningSignature()
                | Refusal()
                | ToolCall()
                | ToolCallDelta()
                | Source()
            ):
                entries.append(entry)
            case _:
                assert_never(entry)
    return entries


def _done_of(entry: _Done) -> Done:
    usage = Usage(
        entry.input_tokens,
        entry.output_tokens,
        entry.source,
        entry.cached_tokens,
        entry.cache_written_tokens,
        entry.reasoning_tokens,
    )
    return Done(entry.finish_reason, usage, entry.incomplete)


def _check_version(version: int) -> None:
    if version > VERSION:
        _log.warning("run log entries are unreadable: version=%d supported=%d", version, VERSION)
        raise ReplayUnavailable(readable=False)


def size_of(entry: Entry) -> int:
    """The approximate number of bytes of an entry in JSON."""
    match entry:
        case Delta():
            return OVERHEAD + len(entry.text)
        case Reasoning() | Refusal() | ToolCallDelta():
            return _OBJECT + len(entry.text)
        case ReasoningSignature():
            return _OBJECT + len(entry.signature) + len(entry.provider) + len(entry.model)
        case ToolCall():
            return _OBJECT + len(entry.id) + len(entry.name)
        case Source():
            return _OBJECT + len(entry.url) + len(entry.title)
        case Done() | Failed():
            return _LAST
        case _:
            assert_never(entry)


def _plain(entry: Entry) -> str | _Done | _Failed | _Unseen:
    match entry:
        case Delta():
            return _mended(entry.text)
        case Reasoning() | Refusal() | ToolCallDelta():
            return msgspec.structs.replace(entry, text=_mended(entry.text))
        case ReasoningSignature():
            return entry
        case ToolCall():
            return ToolCall(entry.index, _mended(entry.id), _mended(entry.name))
        case Source():
            return Source(_mended(entry.url), _mended(entry.title), entry.start, entry.end)
        case Done():
            usage = entry.usage
            return _Done(
                entry.finish_reason,
                usage.input_tokens,
                usage.output_tokens,
                usage.source,
                usage.cached_tokens,
                usage.cache_written_tokens,
                usage.reasoning_tokens,
                entry.incomplete,
            )
        case Failed():
            error = entry.error
            return _Failed(
                detail=error.detail,
                title=error.title,
                status=error.status,
                code=error.code,
                retryable=error.retryable,
                retry_after=error.retry_after,
                charged=entry.charged,
            )
        case _:
            assert_never(entry)


def _mended(text: str) -> str:
    """Text with "?" for each half of a surrogate pair, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode()
