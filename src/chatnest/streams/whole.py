"""WholeResponse: one client that waits for the whole answer, as one JSON document."""

from collections.abc import Sequence
from typing import Any

from chatnest.events import ClientEvent, Delta, Numbered, Reasoning
from chatnest.streams.response import Response

__all__ = ["WholeResponse"]


class WholeResponse(Response):
    """A response whose status waits for the end of the answer, so that a failure has its own
    status. Nothing is sent before the end: once a body has begun, it can fail only by a broken
    connection, after which clients retry.

        waiting ── finish() ──► over
    """

    __slots__ = ()

    def __init__(self, *args: Any, **facts: Any) -> None:
        super().__init__(*args, **facts)
        self.puts_now = True  # with any server

    def expect_start(self) -> None:
        """See Output. There is no early start, but the request gives back its place."""
        if self._place is not None:
            self._place(True)  # by position
            self._place = None

    def put_now(self, event: Delta | Reasoning | Numbered) -> bool:
        """See Output. Nothing is sent, so a piece never waits for the client."""
        self._frames.encode((event,))
        return True

    async def emit(self, events: Sequence[ClientEvent], *, more: bool = True) -> None:
        """Take events; the last ones are sent with the document."""
        if more:
            self.begun = True
            self._frames.encode(events)
        else:
            await super().emit(events, more=False)

    def _response_start(self) -> dict[str, Any]:
        start = super()._response_start()
        _, *headers = start["headers"]  # the first one is the content type of streams
        return {
            **start,
            "headers": [(b"content-type", b"application/json"), *headers],
        }
