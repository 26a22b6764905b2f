"""Surveys: what a ledger finds when it looks at its own store, and why it is away. No I/O.

For ``chatnest doctor``, beside Ledger, as ``audit`` is for the books. What is None was not told.
"""

from typing import Protocol, runtime_checkable

import msgspec

__all__ = ["Reason", "RedisNode", "RedisSurvey", "SQLiteSurvey", "StoreChanged", "Surveyed"]


class Reason(msgspec.Struct, frozen=True):
    """Why something cannot be done, and what to do about it. Neither has a password in it."""

    found: str
    advice: str

    def __str__(self) -> str:
        return f"{self.found}: {self.advice}"


class StoreChanged(Exception):
    """What a store has is not the books that this process counted in, so nothing is admitted. The
    ledger raises LedgerUnavailable from it.
    """

    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(str(reason))


class RedisNode(msgspec.Struct, frozen=True, kw_only=True):
    """A primary: its ``INFO``, ``CONFIG`` and ``CLUSTER INFO``, as far as they matter here.

    ``skew`` is how many seconds its clock is ahead of this machine's, at least.
    """

    name: str
    info: dict[str, str] | None = None
    config: dict[str, str] | None = None
    cluster: dict[str, str] | None = None
    skew: float | None = None


class RedisSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """``kind`` is how the address is meant: ``plain``, ``sentinel`` or ``cluster``.

    ``unwritable`` and ``unscripted`` are why nothing can be written, and no script can be run.
    ``round_trip`` is the median, in seconds.
    """

    shown: str
    kind: str
    unwritable: Reason | None
    unscripted: Reason | None
    nodes: tuple[RedisNode, ...]
    round_trip: float | None


class SQLiteSurvey(msgspec.Struct, frozen=True, kw_only=True):
    """``unusable`` is why the file cannot be used; ``exists`` is whether it is there already.

    ``file_system`` is the type of what it is on, where the system tells; ``free`` is in bytes.
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
    """A ledger that can look at its store."""

    async def survey(self) -> RedisSurvey | SQLiteSurvey:
        """Look. Nothing that is found raises, and the books are not changed."""
