"""Seen: what a visit to a deployed chat has brought back. Values alone. No I/O."""

from typing import Any, Final, Literal

import msgspec

from chatnest._util.terminal import said

__all__ = ["MOST_BYTES", "PING_SECONDS", "Answer", "Flaw", "Reply", "Seen"]

PING_SECONDS: Final = 0.2
"""How often the server is asked for a ping: as often as it can be."""

MOST_BYTES: Final = 262_144
"""Of one body, uncompressed. An answer of 4,096 tokens has some 160 KB."""

Flaw = Literal["cut", "endless", "garbled", "layered", "slow"]
"""What keeps a body from being read: the connection ended before it, there is more than
`MOST_BYTES` of it, it is not compressed as it says, it is compressed more than once, or it has not
ended in time.
"""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A small reply. ``document`` is its JSON, None where it is none; ``seconds`` is its time, or
    how long was waited for it. ``status`` is 0 where not even a head came.
    """

    status: int = 0
    media_type: str = ""
    headers: dict[str, str] = {}
    document: Any = None
    seconds: float
    flaw: Flaw | None = None

    @property
    def code(self) -> str:
        """Of a problem document, else empty."""
        if self.media_type != "application/problem+json" or not isinstance(self.document, dict):
            return ""
        code = self.document.get("code")
        return said(code) if isinstance(code, str) else ""

    @property
    def held(self) -> int | None:
        """Answers (or tokens, where answers are not counted) that are being written for whoever
        asks for limits. None where this is not the document that says so.
        """
        try:
            found = {limit["name"]: int(limit["held"]) for limit in self.document["limits"]}
        except (KeyError, OverflowError, TypeError, ValueError):
            return None
        return found.get("streams", sum(found.values()))


class Answer(msgspec.Struct, kw_only=True):
    """The one answer that was asked for, as far as it was read. ``frames`` are names, and seconds
    since the request. Where it is no stream, ``refusal`` is what came instead; both are None and
    empty as long as nothing comes.

    ``was_held`` is whether the server meanwhile said, in answer to another request, that it was
    writing. ``ended`` is what told that it was over, unless the reader left it before: its last
    ``frame``, the server, without a frame (``unseen``), or a flaw. ``rest`` is how many bytes came
    after the last frame. ``error`` is the code of an event ``error``.
    """

    headers: dict[str, str] = {}
    frames: list[tuple[str, float]] = []
    refusal: Reply | None = None
    was_held: bool = False
    ended: Literal["", "frame", "unseen"] | Flaw = ""
    rest: int = 0
    error: str = ""

    def times(self, name: str) -> list[float]:
        """When the frames of a name came."""
        return [at for found, at in self.frames if found == name]

    @property
    def lasted(self) -> float:
        """Seconds from the first frame to the last."""
        return self.frames[-1][1] - self.frames[0][1] if self.frames else 0.0


class Seen(msgspec.Struct, kw_only=True):
    """Everything that was seen. What was not tried is None.

    The address is in parts, ``path`` without a slash at its end. ``gone`` is how many seconds after
    the reader had left the server first said that it was writing no more; None if it did not.
    ``receipt`` is what the server says came of the answer.
    """

    scheme: str
    host: str
    path: str
    has_secrets: bool
    limits: Reply
    run: Reply | None = None
    refusal: Reply | None = None
    answer: Answer | None = None
    gone: float | None = None
    receipt: dict[str, Any] | None = None
