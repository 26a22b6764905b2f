"""Growing: a text that arrives in pieces, and the frames of its pieces. No I/O."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from chatnest.wire.sse import json_of, lines_of

__all__ = ["FOLD", "Growing"]

FOLD: Final = 128
"""Pieces after which they are joined: each alone would take 60 bytes and more."""

_json: Final = msgspec.json.Encoder()


class Growing:
    """A text as far as it has arrived. ``template`` makes the frame of a piece from its number and
    its JSON, and ``late`` has the pieces that are not yet joined. The encoder appends to it without
    a call for each piece.
    """

    __slots__ = ("_between", "_early", "_end", "_json", "_start", "late", "template")

    def __init__(self, event: str, place: dict[str, Any], *, after: bytes = b"") -> None:
        fields, name = json_of(place)[1:-1], event.encode()
        self._start = b'event: %b\ndata: {"type":"%b","sequence_number":' % (name, name)
        self._between = b',%b,"delta":' % fields
        self._end = after + b"}\n\n"
        between = self._between.replace(b"%", b"%%")
        self.template: bytes = b"%b%%d%b%%b%b" % (self._start, between, self._end)
        self.late: list[str] = []
        self._early: list[str] = []
        self._json: msgspec.Raw | None = None

    def frames(self, first: int, texts: Sequence[str]) -> bytes:
        """Take pieces that came together. Returns their frames, numbered from ``first``.

        Slices are far faster here than a step for each piece, of which a burst has very many.
        """
        self.late += texts
        if len(self.late) > FOLD:
            self.fold()
        numbers = _json.encode_lines(list(range(first, first + len(texts))))
        parts = [self._end + self._start, b"", self._between, b""] * len(texts)
        parts[0] = self._start
        parts[1::4] = numbers.splitlines()
        parts[3::4] = lines_of(texts, b"", b"\n").splitlines()  # JSON has no line breaks of its own
        parts.append(self._end)
        return b"".join(parts)

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
