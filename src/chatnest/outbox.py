"""Outbox: what waits between the one who writes a stream and the one who sends it. No I/O."""

from collections.abc import Sequence
from time import monotonic

from anyio import Event

from chatnest.events import ClientEvent, Delta

__all__ = ["Outbox"]


class Outbox:
    """Events in their order, bounded by their bytes: ``put`` waits while more than ``max_bytes``
    are waiting, which is what stops a model from being read faster than a client reads.

    One task puts, one takes. ``touched`` is when something was put for the last time, by
    ``time.monotonic()``; ``blocked`` says whether the one who puts is waiting.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._events: list[ClientEvent] = []
        self._size = 0
        self._something: Event | None = None
        self._space: Event | None = None
        self.touched: float = monotonic()

    @property
    def blocked(self) -> bool:
        return self._space is not None

    async def put(self, events: Sequence[ClientEvent]) -> None:
        """Add events; an empty sequence is a sign of life."""
        self.touched = monotonic()
        if events:
            self.offer(events)
            if self._size > self._max_bytes:
                self._space = Event()
                try:
                    await self._space.wait()
                finally:
                    self._space = None
                    self.touched = monotonic()

    def offer(self, events: Sequence[ClientEvent]) -> None:
        """Add events without waiting: for the few that do not come from the model."""
        self._events.extend(events)
        for event in events:
            if type(event) is Delta:
                self._size += len(event.text)
        if self._something is not None:
            self._something.set()

    async def take(self) -> list[ClientEvent]:
        """All that is waiting, at least one event."""
        while not self._events:
            self._something = Event()
            try:
                await self._something.wait()
            finally:
                self._something = None
        events, self._events, self._size = self._events, [], 0
        if self._space is not None:
            self._space.set()
        return events
