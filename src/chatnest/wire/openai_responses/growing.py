"""Growing: a text that arrives in pieces, and the frame of each piece. No I/O."""

from typing import Any, Final

import msgspec

from chatnest.wire.sse import json_of

__all__ = ["FOLD", "Growing"]

FOLD: Final = 128
"""Pieces after which they are joined: each alone would take 60 bytes and more."""


class Growing:
    """A text as far as it has arrived. ``template`` makes the frame of a piece from its number and
    its JSON, and ``late`` has the pieces that are not yet joined. The encoder appends to it without
    a call for each piece.
    """

    __slots__ = ("_early", "_json", "late", "template")

    def __init__(self, event: str, place: dict[str, Any], *, after: bytes = b"") -> None:
        fields = json_of(place)[1:-1].replace(b"%", b"%%")
        name = event.encode()
        self.template: bytes = (
            b'event: %b\ndata: {"type":"%b","sequence_number":%%d,%b,"delta":%%b%b}\n\n'
            % (name, name, fields, after)
        )
        self.late: list[str] = []
        self._early: list[str] = []
        self._json: msgspec.Raw | None = None

    def fold(self) -> None:
        """Join the pieces that are not yet joined."""
        self._early.append("".join(self.late))
        self.late.clear()

    def json(self) -> msgspec.Raw:
        """The whole text as JSON. No piece follows."""
        if self._json is None:
            self._json = msgspec.Raw(json_of("".join([*self._early, *self.late])))
            self._early.clear()
            self.late.clear()
        return self._json
