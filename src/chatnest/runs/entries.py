"""Events of a run as JSON, for a log, and back. No I/O.

A batch is a list: an integer is the version of what follows it, a string is a Delta, and an object
is Done or Failed, by its ``type``. Batches of the first release have no version.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Final, Literal, assert_never

import msgspec

from chatnest.errors import ChatNestError, ReplayUnavailable
from chatnest.events import Delta, Done, Failed, Usage

__all__ = ["OVERHEAD", "VERSION", "Entry", "join_batches", "read_batch", "size_of", "write_batch"]

_log = logging.getLogger("chatnest.runs")

Entry = Delta | Done | Failed
"""An entry of a run in the log: a closed union. ``match`` it, and end with ``assert_never``. A new
kind of entry needs a new VERSION.
"""

VERSION: Final = 1
"""The version of what is written. A reader of an earlier version answers replay_unavailable."""

OVERHEAD: Final = 4
"""The approximate number of bytes of a Delta in JSON beside its text."""

_LAST: Final = 200
"""The approximate number of bytes of a last entry."""


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


_decoder: Final = msgspec.json.Decoder(list[int | str | _Done | _Failed])
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
    try:
        return _encoder.encode([VERSION, *plain])
    except UnicodeEncodeError:  # half of a surrogate pair, which UTF-8 has no bytes for
        return _encoder.encode([VERSION, *map(_plain, entries)])


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
                usage = Usage(entry.input_tokens, entry.output_tokens, entry.source)
                entries.append(Done(entry.finish_reason, usage))
            case _Failed():
                entries.append(Failed(_Recorded(entry), charged=entry.charged))
            case _:
                assert_never(entry)
    return entries


def _check_version(version: int) -> None:
    if version > VERSION:
        _log.warning("run log entries are unreadable: version=%d supported=%d", version, VERSION)
        raise ReplayUnavailable(readable=False)


def size_of(entry: Entry) -> int:
    """The approximate number of bytes of an entry in JSON."""
    match entry:
        case Delta():
            return OVERHEAD + len(entry.text)
        case Done() | Failed():
            return _LAST
        case _:
            assert_never(entry)


def _plain(entry: Entry) -> str | _Done | _Failed:
    match entry:
        case Delta():
            return entry.text.encode("utf-8", "replace").decode()
        case Done():
            usage = entry.usage
            return _Done(entry.finish_reason, usage.input_tokens, usage.output_tokens, usage.source)
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
