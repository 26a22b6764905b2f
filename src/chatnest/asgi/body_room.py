"""BodyRoom: the bytes of request bodies that a worker holds at a time. No I/O."""

from chatnest.errors import Overloaded

__all__ = ["BodyRoom", "BodyShare"]


class BodyRoom:
    """Room for the bodies of all requests of a worker together."""

    def __init__(self, most: float) -> None:
        self.left: float = most
        """Bytes that are free."""


class BodyShare:
    """The part of a BodyRoom that one body takes: ``size`` bytes, none at first."""

    __slots__ = ("_room", "size")

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self.size: int = 0

    def take(self, size: int) -> None:
        """Take room for ``size`` more bytes. Raises Overloaded if there is not enough."""
        if size > self._room.left:
            raise Overloaded
        self._room.left -= size
        self.size += size

    def give_back(self) -> None:
        """Give all of it back. A second call does nothing."""
        self._room.left += self.size
        self.size = 0
