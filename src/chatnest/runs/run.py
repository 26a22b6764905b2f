"""Run: an answer that is generated on this event loop, for any number of readers."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final, Protocol, assert_never

import anyio

from chatnest.errors import ReplayUnavailable
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    LastEvent,
    Numbered,
    Ping,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
)
from chatnest.runs.entries import OVERHEAD, Entry, size_of

__all__ = ["Run", "RunReader"]

_READ_AT_ONCE: Final = 1_000
"""Maximum events that a reader gets at once: reading them is fast, and sending them is slow."""

_ELSEWHERE: Final = 0.5
"""Seconds for which a reader at another worker, who polls the log, counts as present."""

_FEW: Final = 64
"""Maximum events that are taken from the end of a deque by index."""

_NUMBERED: Final = "a run numbers its events itself"


class RunReader(Protocol):
    """A reader on the run's own event loop."""

    position: int
    """The number of the last event that it has handed on."""

    def put_now(self, event: Numbered, /) -> bool:
        """Hand on the next event without waiting, or return False."""
        ...


class _Signal:
    """Wakes all waiting tasks at each ``send``. An event exists only while a task waits."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def event(self) -> anyio.Event:
        """The event of the next ``send``."""
        if self._event is None:
            self._event = anyio.Event()
        return self._event

    def send(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None


class Run:
    """The events of a run while it is generated: the latest ``max_bytes`` of them.

    A run is the Output of its generation, and keeps what it gets for its readers. A piece that
    arrives while the only reader has read everything goes to that reader at once. A run is deserted
    after ``linger`` seconds without a reader.

        admitted ──► started ── events ──► ended
           └── refused: the run has no events, and its key becomes free
    """

    def __init__(
        self,
        run_id: str,
        *,
        owner: str,
        key: str | None = None,
        fingerprint: str = "",
        linger: float,
        max_bytes: int,
    ) -> None:
        self.run_id: str = run_id
        self.owner: str = owner
        self.key: str | None = key
        self.fingerprint: str = fingerprint
        self.begun: bool = False
        self.said: bool = False
        self.end: Done | Failed | None = None
        self.refusal: Failed | None = None
        """Why the run was refused, once its key is free."""
        self.last: int = 0
        """The number of the latest event."""
        self.unstarted: Failed | None = None
        """Why the generation failed before its start. RunWriter.close decides what readers get."""
        self._headers: Mapping[str, str] | None = None
        self._entries: deque[Entry] = deque()
        self._size = 0
        self._linger = linger
        self._max_bytes = max_bytes
        self._readers: list[RunReader] = []
        self._deserted_at = anyio.current_time()
        self._read_until = self._deserted_at
        self._watch: Callable[[], None] | None = None
        self._changed = _Signal()
        self._audience_changed = _Signal()

    @property
    def dropped(self) -> int:
        """The number of the last event that is not kept any more."""
        return self.last - len(self._entries)

    # ------------------------------------------------ the output of the generation

    puts_now: bool = True

    def is_gone(self) -> bool:
        return False

    def add_headers(self, fields: Mapping[str, str]) -> None:
        self._headers = fields
        self._changed.send()

    def expect_start(self) -> None:
        """See Output: each reader expects the start for itself."""

    def put_now(self, event: Delta | Reasoning | Numbered) -> bool:
        if isinstance(event, Numbered) or len(self._readers) != 1:
            return False
        (reader,) = self._readers
        if reader.position != self.last or not reader.put_now(Numbered(self.last + 1, event)):
            return False
        self.said = True
        self._entries.append(event)  # as _keep does, in one call less for each token
        self._size += OVERHEAD + len(event.text) if type(event) is Delta else size_of(event)
        self.last += 1
        if self._size > self._max_bytes:
            self._drop()
        return True

    async def emit(self, events: Sequence[ClientEvent]) -> None:
        for event in events:
            match event:
                case (
                    Delta()
                    | Reasoning()
                    | ReasoningSignature()
                    | Refusal()
                    | ToolCall()
                    | ToolCallDelta()
                    | Source()
                ):
                    self.said = True
                    self._keep(event)
                case Start():
                    self.begun = True
                case Ping():
                    pass
                case Done() | Failed():
                    self.conclude(event)
                case Numbered():
                    raise TypeError(_NUMBERED)
                case _:
                    assert_never(event)
        self._changed.send()

    async def finish(self, event: LastEvent) -> None:
        match event:
            case Failed() if not self.begun:
                self.unstarted = event
            case Done() | Failed():
                self.conclude(event)
            case Numbered():
                raise TypeError(_NUMBERED)
            case _:
                assert_never(event)

    # ------------------------------------------------ for readers

    def attend(self, watch: Callable[[], None]) -> None:
        """See Audience: most runs have a reader from their start to their end, and no such task."""
        self._watch = watch
        if not self._readers:
            watch()

    async def watch(self, gone: Callable[[], None]) -> None:
        """See Audience: call ``gone`` if the run stays deserted."""
        while not self._readers:
            deserted = max(self._deserted_at, self._read_until)
            left = deserted + self._linger - anyio.current_time()
            if left <= 0:
                gone()
                return
            with anyio.move_on_after(left):
                await self._audience_changed.event().wait()

    async def tend(self, _: float) -> float:
        """See Audience: each reader has a clock of its own."""
        return math.inf

    @contextmanager
    def reading(self, reader: RunReader) -> Iterator[None]:
        """``reader`` reads within this block."""
        self._readers.append(reader)
        self._audience_changed.send()
        try:
            yield
        finally:
            self._readers.remove(reader)
            if not self._readers:
                self._deserted_at = anyio.current_time()
                if self._watch is not None:
                    self._watch()

    def read_elsewhere(self) -> None:
        """A reader at another worker has just read."""
        self._read_until = anyio.current_time() + _ELSEWHERE
        self._audience_changed.send()

    def read_at(self, now: float) -> bool:
        """Whether a reader at another worker counts as present."""
        return now < self._read_until

    async def admission(self) -> Mapping[str, str]:
        """The header fields of the admission, or none if the run was not admitted."""
        while self._headers is None and not self._is_decided:
            await self._changed.event().wait()
        return self._headers or {}

    async def begun_or_refused(self) -> Failed | None:
        """Wait for the start, the end or the refusal of the run. Returns the refusal, if any."""
        while not self._is_decided:
            await self._changed.event().wait()
        return self.refusal

    @property
    def _is_decided(self) -> bool:
        return self.begun or self.end is not None or self.refusal is not None

    async def after(self, reader: RunReader) -> list[Entry]:
        """Wait for the next events for ``reader``. Returns none if the run was refused or
        has ended. Raises ReplayUnavailable for dropped events.
        """
        while self.last <= reader.position and self.refusal is None and self.end is None:
            await self._changed.event().wait()
        if reader.position < self.dropped:
            raise ReplayUnavailable
        return self.since(reader.position, _READ_AT_ONCE)

    # ------------------------------------------------ for its host

    def since(self, number: int, most: int) -> list[Entry]:
        """The next events after a number that are still kept, ``most`` at once."""
        kept = self._entries
        start = max(0, number - self.dropped)
        if len(kept) - start <= min(_FEW, most):  # islice would pass all events before them
            return [kept[index] for index in range(start, len(kept))]
        return list(islice(kept, start, start + most))

    def refuse(self, failure: Failed) -> None:
        """The run has no events and never will."""
        self.refusal = failure
        self._changed.send()

    def conclude(self, event: Done | Failed) -> None:
        """Add the last event, unless there is one."""
        if self.end is not None:
            return
        self.end = event
        self._keep(event)
        self._changed.send()

    def _keep(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._size += OVERHEAD + len(entry.text) if type(entry) is Delta else size_of(entry)
        self.last += 1
        if self._size > self._max_bytes:
            self._drop()

    def _drop(self) -> None:
        while self._size > self._max_bytes and len(self._entries) > 1:
            self._size -= size_of(self._entries.popleft())
