"""Output: the seam between a source of events and its readers. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from chatnest.events import ClientEvent, Delta, LastEvent, Numbered, Reasoning

__all__ = ["Output"]


class Output(Protocol):
    """A destination of events: a Response to one client, or a Run that keeps them for readers."""

    begun: bool
    """Whether a Start event was handed on."""

    puts_now: bool
    """Whether ``put_now`` can succeed."""

    def put_now(self, event: Delta | Reasoning | Numbered, /) -> bool:
        """Hand on one piece without waiting. Returns False, and changes nothing, if that would need
        a wait.
        """
        ...

    async def emit(self, events: Sequence[ClientEvent], /) -> None:
        """Hand on events. Waits while the client does not read. Raises ClientGone after a
        disconnect.
        """

    async def finish(self, event: LastEvent, /) -> None:
        """Hand on the last event."""

    def add_headers(self, fields: Mapping[str, str], /) -> None:
        """Add header fields to a response that has not begun."""

    def expect_start(self) -> None:
        """The model is called now. A client that waits too long for it gets an early start."""

    def is_gone(self) -> bool:
        """Whether the client is known to have disconnected."""
        ...
