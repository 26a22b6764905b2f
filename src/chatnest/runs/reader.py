"""Reader: the events of a run on their way to one response."""

from collections.abc import Awaitable, Callable
from itertools import count

from chatnest.bounds import ResolvedBounds
from chatnest.errors import ReplayUnavailable
from chatnest.events import Done, Failed, LastEvent, Numbered
from chatnest.runs.entries import Entry
from chatnest.runs.run import Run
from chatnest.streams.output import Output
from chatnest.streams.source import Source

__all__ = ["Reader"]


class Reader(Source):
    """Reads a run from behind the event numbered ``position``, which a reader that resumes names.
    ``work`` follows the run, here or in its log.
    """

    __slots__ = ("position",)

    def __init__(
        self,
        output: Output,
        work: Callable[["Reader"], Awaitable[LastEvent]],
        bounds: ResolvedBounds,
        *,
        request_id: str,
        position: int = 0,
    ) -> None:
        super().__init__(output, work, request_id=request_id, seconds=bounds.stream_seconds)
        self.position: int = position

    def put_now(self, event: Numbered) -> bool:
        """Hand on the next event of the run without waiting; see Output.put_now."""
        if self.stopped is not None or not self.output.put_now(event):
            return False
        self.position = event.number
        return True

    async def hand_on(self, entries: list[Entry]) -> Numbered | None:
        """Hand on the next events of the run, and return the last one if the run ends with it."""
        numbered = list(map(Numbered, count(self.position + 1), entries))
        last = numbered.pop() if entries and isinstance(entries[-1], Done | Failed) else None
        if numbered or (last is not None and isinstance(last.event, Done)):
            await self.start()
        if numbered:
            await self.put(numbered)
        self.position += len(entries)
        return last

    async def follow(self, run: Run, *, first: bool = False) -> LastEvent:
        """Follow a run that is written on this event loop to its end. The ``first`` reader, who
        began the run, gets the header fields of its admission.

        Raises ReplayUnavailable for events that the run keeps no more.
        """
        with run.reading(self):
            if first:
                self.output.add_headers(await run.admission())
            if (refusal := await run.begun_or_refused()) is not None:
                return refusal
            if self.position < run.dropped:
                raise ReplayUnavailable  # before anything is sent
            if run.begun:
                await self.start()
            while True:
                entries = await run.after(self)
                if run.refusal is not None:
                    return run.refusal
                if not entries and run.end is not None:  # the client has seen all of it
                    self.position, entries = run.last - 1, [run.end]
                if (last := await self.hand_on(entries)) is not None:
                    return last
