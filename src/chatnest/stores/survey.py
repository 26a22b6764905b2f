"""Surveys: the state of a ledger's store, and the reason if it is unavailable. No I/O.

``chatnest doctor`` shows them. A value is None if the store did not report it.
"""

from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["Reason", "RedisNode", "RedisSurvey", "SQLiteSurvey", "StoreChanged", "Surveyed"]


class Reason(msgspec.Struct, frozen=True):
    """Why an operation fails, and what to do. Neither text contains a password."""

    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found}: {self.advice}"


class StoreChanged(Exception):
    """The store does not contain the books that this process counted in, so no request is admitted.
    The ledger raises LedgerUnavailable from it.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(str(reason))


class RedisNode(msgspec.Struct, frozen=True, kw_only=True):
    """A primary, with the relevant values of its ``INFO``, ``CONFIG`` and ``CLUSTER INFO``.

    ``skew`` is the minimum number of seconds by which its clock is ahead of this machine's.
    """

    name: str
    info: dict[str, str] | None = None
    config: dict[str, str] | None = None
    cluster: dict[str, str] | None = None
    skew: float | None = None


class RedisSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """A Redis or Valkey server. ``kind`` is the address's: ``plain``, ``sentinel`` or ``cluster``.

    ``unwritable`` and ``unscripted`` are the reasons why writes and scripts fail, or None.
    ``round_trip`` is the median, in seconds.
    """

    shown: str
    kind: str
    unwritable: Reason | None
    unscripted: Reason | None
    nodes: tuple[RedisNode, ...]
    round_trip: float | None


class SQLiteSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """A SQLite file. ``unusable`` is the reason why it cannot be used, or None.

    ``file_system`` is its type, if the system reports it; ``free`` is in bytes.
    """

    path: str
    library: str
    wal_is_safe: bool
    exists: bool
    unusable: Reason | None
    file_system: str | None
    free: int | None


@runtime_checkable
class Surveyed(Protocol):
    """A ledger that can examine its store."""

    async def survey(self) -> RedisSurvey | SQLiteSurvey:
        """Examine the store. Problems are part of the result and do not raise. Changes no books."""
