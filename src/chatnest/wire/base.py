"""Wire: the format of a stream to the client. The seam. No I/O."""

from collections.abc import Sequence
from typing import Protocol

from chatnest.events import ClientEvent

__all__ = ["Wire"]


class Wire(Protocol):
    """Events in, bytes out. One object serves one stream."""

    content_type: str

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        """The frames of these events, in their order, ready to be sent in one write."""
        ...
