"""RunLog: where the events of runs are kept, for readers who come later or to another worker.
The seam, and the values that cross it. No I/O.

A run's events are numbered from 1. They are kept in batches of JSON, as entries.py writes them; a
log does not look into them.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from chatnest.errors import ConfigurationError

__all__ = [
    "REFUSED",
    "REFUSED_SECONDS",
    "Batch",
    "Claim",
    "Page",
    "RunEnd",
    "RunLog",
    "RunServer",
    "RunSettings",
    "Signals",
]


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``resumable`` makes a run of every request; otherwise only those with an Idempotency-Key
    are. ``linger`` is for how many seconds a run with a key goes on when its last reader has left,
    where the request does not say; ``max_linger`` is the most that a request may ask for. ``keep``
    is for how many seconds after its end a run is known, ``max_bytes`` of its events are kept.
    """

    resumable: bool = False
    linger: float = 0.0
    max_linger: float = 60.0
    keep: float = 900.0
    max_bytes: int = 1_048_576

    def __post_init__(self) -> None:
        for field, least, most in (
            ("max_linger", 0, 3_600),
            ("linger", 0, self.max_linger),
            ("keep", 1, 86_400),
            ("max_bytes", 1_024, 1 << 30),
        ):
            value: object = getattr(self, field)
            if not isinstance(value, int | float) or not least <= value <= most:
                of = " (runs.max_linger)" if field == "linger" else ""
                raise ConfigurationError(
                    f"runs.{field} must be from {least:,} to {most:,}{of}, not {value!r}"
                )


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """Whose run a key stands for. ``mine``: it was free, and is the caller's now."""

    run_id: str
    fingerprint: str
    mine: bool


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: an outcome as in the books, and what it was charged."""

    outcome: str
    charged: int
    source: str


REFUSED: Final = RunEnd(outcome="refused", charged=0, source="none")
"""The end of a run that was dropped: it has said nothing, and its key is free."""

REFUSED_SECONDS: Final = 10.0
"""Seconds for which a dropped run is known as refused, for those who had joined it."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events from the number ``first`` on, ``count`` of them."""

    first: int
    count: int
    data: bytes


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run, with the batches that were asked for, in their order.

    ``lost``: it has not ended, and its worker is not heard of any more.
    """

    batches: tuple[Batch, ...] = ()
    dropped: int = 0
    last: int = 0
    end: RunEnd | None = None
    lost: bool = False

    @property
    def refused(self) -> bool:
        """Whether the run was dropped: its key may be claimed again."""
        return self.end == REFUSED


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What readers at other workers want: that it ends, or (if they asked lately) goes on.

    ``forgotten``: the log does not know the run, so that nobody can have said anything about it.
    Its worker claims it again.
    """

    cancelled: bool = False
    read: bool = False
    forgotten: bool = False


class RunLog(Protocol):
    """Where runs are kept. Operations are atomic.

    Any of them raises LedgerUnavailable when the log cannot be reached. ``poll_seconds`` is how
    often a worker looks for signals at least.
    """

    poll_seconds: float

    async def claim(
        self, key: str | None, *, owner: str, fingerprint: str, run_id: str, lease: float
    ) -> Claim:
        """Begin a run under a key that nobody has; or say which run has it. Without a key it is
        always begun. ``lease``, in seconds, is until when its worker will be heard of again.

        A claim may be repeated: the run that has the key still has it.
        """

    async def append(self, run_id: str, batch: Batch | None, *, lease: float) -> Signals:
        """Add events, if any, and say that the worker lives. The oldest events are dropped beyond
        the bound, and all before a gap: whatever is kept is without one.

        A run that the log does not know is ``forgotten``, never ``cancelled``.
        """

    async def finish(self, run_id: str, end: RunEnd) -> bool:
        """All events are there. Returns whether the log knows the run."""

    async def drop(self, run_id: str) -> None:
        """Forget a run that was refused: its key is free again. Those who had joined it read that
        it ended as REFUSED, for REFUSED_SECONDS.
        """

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        """Events after a number, and that its owner reads. None for a run that is not known, or
        that is somebody else's, with no effect and after no more work.
        """

    async def cancel(self, run_id: str) -> None:
        """Have its worker end it."""

    async def forget(self) -> None:
        """Remove runs whose time has come: ``keep`` seconds after their end, or after the last
        sign of life of their worker. A worker calls it every second, whether requests come or not.
        """

    async def aclose(self) -> None:
        """Let go of files and connections."""


@runtime_checkable
class RunServer(Protocol):
    """Runs scripts on a server, as RedisLedger does."""

    prefix: str

    async def script(
        self, text: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """What the script returns. Raises LedgerUnavailable."""
