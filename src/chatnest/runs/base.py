"""RunLog: the seam to the store of runs, for readers that come later or to another worker. No I/O.

The events of a run are numbered from 1. They are stored in batches of JSON, which entries.py
writes. A log does not read them.
"""

from collections.abc import Collection, Mapping, Sequence
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
    """The settings of runs.

    With ``resumable`` every request is a run; otherwise only requests with an Idempotency-Key are.
    ``linger`` is how many seconds a run with a key continues after its last reader disconnects, if
    the request does not set that; ``max_linger`` is the maximum that a request may set. ``keep`` is
    how many seconds after its end a run can be replayed. ``max_bytes`` bounds its stored events.

    ``deduplicate``: a request in a format that identifies its submissions (AI SDK, AG-UI) is a run,
    and a repetition joins it.
    """

    resumable: bool = False
    linger: float = 0.0
    max_linger: float = 60.0
    keep: float = 900.0
    max_bytes: int = 1_048_576
    deduplicate: bool = True

    def __post_init__(self) -> None:
        for field, least, most in (
            ("max_linger", 0, 3_600),
            ("linger", 0, self.max_linger),
            ("keep", 1, 86_400),
            ("max_bytes", 1_024, 1 << 30),
        ):
            value: object = getattr(self, field)
            if not isinstance(value, int | float) or not least <= value <= most:
                of = f"{most:,} (runs.max_linger)" if field == "linger" else f"{most:,}"
                raise ConfigurationError(
                    f"runs.{field}: expected a number from {least:,} to {of}, got {value!r}."
                )


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """The run that a key stands for. ``mine``: the key was free, and the caller has it now."""

    run_id: str
    fingerprint: str
    mine: bool


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run: its outcome, as in the books, and its charge in tokens."""

    outcome: str
    charged: int
    source: str


REFUSED: Final = RunEnd(outcome="refused", charged=0, source="none")
"""The end of a run that was dropped: it has no events, and its key is free."""

REFUSED_SECONDS: Final = 10.0
"""Seconds for which a dropped run is known as refused, for readers that had joined it."""


class Batch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """``count`` consecutive events, as JSON. ``first`` is the number of the first one."""

    first: int
    count: int
    data: bytes

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.first + self.count - 1


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a run, with the batches that were requested, in order.

    ``dropped`` is the number of the last event that was dropped, and ``last`` of the last event.
    ``lost``: the run has not ended, but the lease of its worker has.
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
    """The signals of readers at other workers: ``cancelled`` ends the run, and ``read``, if one of
    them has read since the last look, lets it continue.

    ``forgotten``: the log does not know the run, so there are no signals. Its worker claims it
    again.
    """

    cancelled: bool = False
    read: bool = False
    forgotten: bool = False


class RunLog(Protocol):
    """The store of runs. Operations are atomic for each run.

    Every operation raises LedgerUnavailable if the log cannot be reached. ``poll_seconds`` is the
    maximum number of seconds between two looks of a worker for signals.
    """

    poll_seconds: float

    async def claim(
        self, key: str | None, *, owner: str, fingerprint: str, run_id: str, lease: float
    ) -> Claim:
        """Begin a run under a free key, or return the run that has the key. Without a key, the run
        always begins. ``lease`` (TTL), in seconds, is how long the run lives without an append.

        A claim is idempotent: a run that has the key keeps it.
        """

    async def append(self, batches: Mapping[str, Batch | None], *, lease: float) -> Collection[str]:
        """Add events, if any, to each run of ``batches``, and renew its lease. Returns the ids of
        the runs that the log does not know.

        A batch whose first event is already stored adds nothing, so an append can be repeated. The
        oldest events beyond the bound are dropped, and so are all events before a gap: the stored
        events are always consecutive.
        """

    async def signals(self, run_ids: Collection[str]) -> Mapping[str, Signals]:
        """The signals of runs since the last look. Runs without a signal are left out.

        A run that the log does not know is ``forgotten``, never ``cancelled``.
        """

    async def finish(self, run_id: str, end: RunEnd, batch: Batch | None = None) -> bool:
        """Add the last events of a run, if any, as ``append`` does, and record its end, in one
        step: no reader gets the events without the end. Returns whether the log knows the run.
        """

    async def drop(self, run_id: str) -> None:
        """Remove a run that was refused, and free its key. For REFUSED_SECONDS, readers that had
        joined the run read the end REFUSED.
        """

    async def read(self, run_id: str, after: int, *, owner: str) -> Page | None:
        """The events after a number. Signals to the worker that the run is read.

        None for an unknown run and for another owner's run: both take the same work, and neither
        has an effect.
        """

    async def cancel(self, run_id: str) -> None:
        """Signal to the run's worker that it must end the run."""

    async def note(self, name: str, text: str, *, seconds: float) -> None:
        """Keep a short text under a name for some seconds, in place of an earlier one."""

    async def noted(self, name: str) -> str | None:
        """The text under a name, or None if there is none."""

    async def forget(self) -> None:
        """Remove expired runs: ``keep`` seconds after their end, or after the end of their lease. A
        worker calls this every second, with or without requests.
        """

    async def aclose(self) -> None:
        """Close files and connections."""


@runtime_checkable
class RunServer(Protocol):
    """A ledger that runs scripts on its server, such as RedisLedger."""

    prefix: str

    is_cluster: bool
    """Whether the keys of one script must have one hash slot."""

    async def script(
        self, text: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """Run a script. Returns its answer. Raises LedgerUnavailable."""
