"""Run: an answer that is being written here, for any number of readers on this event loop."""

from collections import deque
from collections.abc import Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, assert_never

import anyio
from starlette.types import Message

from chatnest.errors import ChatNestError, ReplayUnavailable
from chatnest.events import ClientEvent, Delta, Done, Failed, Ping, Start
from chatnest.runs.entries import Entry, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatnest.streams.stream import Stream

__all__ = ["Run"]

_READ_AT_ONCE: Final = 1_000
"""Events that a reader is given without a break: many are quickly read, and slowly written."""

_ELSEWHERE: Final = 0.5
"""Seconds for which somebody who reads at another worker, and looks now and then, is there."""

_SIGN_OF_LIFE: Final = 5.0
"""Seconds after which a reader is told that there is nothing new."""


class Run:
    """The events of a run while it is written, at most ``max_bytes`` of the latest.

    It is the client of the stream that writes it: ``encode``, ``send`` and ``receive`` are what a
    wire format and a server are elsewhere. That stream is told that its client has left when
    nobody has read for ``linger`` seconds.
    """

    content_type: str = ""
    next_id: int | None = None

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
        self.stream: Stream | None = None
        self.started: bool = False
        self.said: bool = False
        self.failure: ChatNestError | None = None
        """Why it was refused: nothing of it is told or kept."""
        self.end: Done | Failed | None = None
        self.last: int = 0
        self._entries: deque[Entry] = deque()
        self._size = 0
        self._linger = linger
        self._max_bytes = max_bytes
        self._readers = 0
        self._deserted_at = anyio.current_time()
        self._read_until = self._deserted_at
        self._changed = anyio.Event()

    @property
    def dropped(self) -> int:
        """The number of the last event that is not kept any more."""
        return self.last - len(self._entries)

    # ------------------------------------------------ for the stream that writes it

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        """Take note of events. Nothing leaves here."""
        for event in events:
            match event:
                case Start():
                    self.started = True
                case Ping():
                    pass
                case Delta() | Done() | Failed():
                    self._add(event)
                case _:
                    assert_never(event)
        self._tell()
        return b""

    async def send(self, message: Message) -> None:
        """What there is to send has been noted by ``encode``; a problem is kept as ``failure``."""

    async def receive(self) -> Message:
        """Wait until the last reader has been gone for too long."""
        while True:
            if self._readers:
                await self._changed.wait()
                continue
            deserted = max(self._deserted_at, self._read_until)
            left = deserted + self._linger - anyio.current_time()
            if left <= 0:
                return {"type": "http.disconnect"}
            with anyio.move_on_after(left):
                await self._changed.wait()

    # ------------------------------------------------ for readers

    @contextmanager
    def reading(self) -> "Iterator[None]":
        """Somebody reads meanwhile."""
        self._readers += 1
        self._tell()
        try:
            yield
        finally:
            self._readers -= 1
            self._deserted_at = anyio.current_time()
            self._tell()

    def read_elsewhere(self) -> None:
        """Somebody has read it just now at another worker."""
        self._read_until = anyio.current_time() + _ELSEWHERE
        self._tell()

    async def begun(self) -> None:
        """Wait until it has started or ended. Raises what refused it."""
        while not self.started and self.end is None:
            if self.failure is not None:
                raise self.failure
            await self._changed.wait()

    async def after(self, number: int) -> list[Entry]:
        """The events after a number, as soon as there are any; none now and then as a sign of
        life. Raises what refused the run, and ReplayUnavailable for events that were dropped.
        """
        with anyio.move_on_after(_SIGN_OF_LIFE):
            while self.last <= number and self.failure is None and self.end is None:
                await self._changed.wait()
        if self.failure is not None:
            raise self.failure
        if number < self.dropped:
            raise ReplayUnavailable
        return self._since(number, _READ_AT_ONCE)

    # ------------------------------------------------ for its host

    async def news(self, number: int, seconds: float) -> list[Entry]:
        """The next events after a number that are still kept. Waits so long if there are none."""
        if self.last <= number and self.end is None:
            with anyio.move_on_after(seconds):
                await self._changed.wait()
        return self._since(max(number, self.dropped), _READ_AT_ONCE)

    def refuse(self, failure: ChatNestError) -> None:
        """It has not begun, and will not."""
        self.failure = failure
        self._tell()

    def ensure_end(self, error: ChatNestError) -> None:
        """Whoever ended it had nobody to tell: those who ask later are told ``error``."""
        if self.end is None:
            self._add(Failed(error))
            self._tell()

    def _add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._size += size_of([entry])
        self.last += 1
        match entry:
            case Delta():
                self.said = True
            case Done() | Failed():
                self.end = entry
            case _:
                assert_never(entry)
        while self._size > self._max_bytes and len(self._entries) > 1:
            self._size -= size_of([self._entries.popleft()])

    def _since(self, number: int, most: int | None = None) -> list[Entry]:
        start = number - self.dropped
        return list(islice(self._entries, start, None if most is None else start + most))

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
