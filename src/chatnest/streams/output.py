"""Output: the seam between a source of events and whoever reads them. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from chatnest.events import ClientEvent, Delta, LastEvent, Numbered

__all__ = ["Output"]


class Output(Protocol):
    """Where events go: a Response to one client, or a Run that keeps them for its readers."""

    begun: bool
    """Whether a Start event was handed on."""

    puts_now: bool
    """Whether ``put_now`` can succeed."""

    def put_now(self, event: Delta | Numbered, /) -> bool:
        """Hand on one piece without waiting. Returns False, and changes nothing, if somebody would
        have to wait for it.
        """
        ...

    async def emit(self, events: Sequence[ClientEvent], /) -> None:
        """Hand on events. Waits while the client does not read. Raises ClientGone."""

    async def finish(self, event: LastEvent, /) -> None:
        """Hand on the last event."""

    def add_headers(self, fields: Mapping[str, str], /) -> None:
        """Add header fields to a response that has not begun."""

    def expect_start(self) -> None:
        """The model is being called: a client that it keeps waiting gets an early start."""

    def is_gone(self) -> bool:
        """Whether the client is known to have disconnected."""
        ...
