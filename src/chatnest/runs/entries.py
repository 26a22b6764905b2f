"""Events of a run as JSON, for a log, and back. No I/O.

A batch is a list: a string is a Delta, an object with ``usage`` is Done, any other is Failed.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from chatnest.errors import ChatNestError
from chatnest.events import Delta, Done, Failed, Usage

__all__ = ["Entry", "join_batches", "read_batch", "size_of", "write_batch"]

Entry = Delta | Done | Failed

_OVERHEAD: Final = 4
_LAST: Final = 200
"""Bytes that an entry takes beside its text, and those of the last one, about."""


class _Done(msgspec.Struct, tag="done"):
    finish_reason: str
    input_tokens: int
    output_tokens: int
    source: Literal["provider", "estimated"]


class _Failed(msgspec.Struct, tag="failed"):
    detail: str
    title: str
    status: int
    code: str
    retryable: bool
    retry_after: float | None
    charged: bool


_decoder: Final = msgspec.json.Decoder(list[str | _Done | _Failed])
_encoder: Final = msgspec.json.Encoder()


class _Recorded(ChatNestError):
    """An error as a run's first reader was told it."""

    def __init__(self, entry: _Failed) -> None:
        super().__init__(entry.detail)
        self.title: str = entry.title
        self.status: int = entry.status
        self.code: str = entry.code
        self.retryable: bool = entry.retryable
        self.retry_after: float | None = entry.retry_after
        self.charged: bool = entry.charged


def write_batch(entries: Sequence[Entry]) -> bytes:
    """Entries as JSON."""
    return _encoder.encode([_plain(entry) for entry in entries])


def join_batches(batches: Iterable[bytes]) -> bytes:
    """Batches that follow each other as one."""
    return b"[%b]" % b",".join(data[1:-1] for data in batches)


def read_batch(data: bytes) -> list[Entry]:
    """Entries from JSON."""
    return [_event(entry) for entry in _decoder.decode(data)]


def size_of(entries: Iterable[Entry]) -> int:
    """Bytes that they take as JSON, about."""
    return sum(
        _OVERHEAD + len(entry.text) if isinstance(entry, Delta) else _LAST for entry in entries
    )


def _plain(entry: Entry) -> str | _Done | _Failed:
    if isinstance(entry, Delta):
        return entry.text.encode("utf-8", "replace").decode()
    if isinstance(entry, Done):
        usage = entry.usage
        return _Done(entry.finish_reason, usage.input_tokens, usage.output_tokens, usage.source)
    error = entry.error
    return _Failed(
        detail=error.detail,
        title=error.title,
        status=error.status,
        code=error.code,
        retryable=error.retryable,
        retry_after=error.retry_after,
        charged=error.charged,
    )


def _event(entry: str | _Done | _Failed) -> Entry:
    if isinstance(entry, str):
        return Delta(entry)
    if isinstance(entry, _Done):
        usage = Usage(entry.input_tokens, entry.output_tokens, entry.source)
        return Done(entry.finish_reason, usage)
    return Failed(_Recorded(entry))
