"""BodyRoom: limits the total size of the request bodies in a worker. No I/O."""

import msgspec

from chatnest.errors import Overloaded

__all__ = ["BodyRoom", "BodyShare"]


class BodyRoom:
    """The memory for the bodies of all requests in a worker, in bytes."""

    def __init__(self, most: float) -> None:
        self.left: float = most
        """Bytes that are free."""


class BodyShare(msgspec.Struct, gc=False):
    """The part of a BodyRoom that one body takes: ``size`` bytes, none at first."""

    room: BodyRoom
    size: int = 0

    def take(self, size: int) -> None:
        """Take room for ``size`` more bytes. Raises Overloaded if there is not enough."""
        if size > self.room.left:
            raise Overloaded
        self.room.left -= size
        self.size += size

    def give_back(self) -> None:
        """Give all taken bytes back. A second call does nothing."""
        self.room.left += self.size
        self.size = 0
