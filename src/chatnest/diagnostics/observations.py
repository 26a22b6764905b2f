"""Observations: the results of a probe of a deployed chat, as plain values. No I/O."""

from typing import Any, Final, Literal

import msgspec

from chatnest._util.terminal import excerpt

__all__ = ["MAX_BYTES", "PING_SECONDS", "Answer", "Flaw", "Observations", "Reply"]

PING_SECONDS: Final = 0.2
"""Seconds between pings in the probe's request: the shortest interval a client may ask for."""

MAX_BYTES: Final = 262_144
"""Maximum bytes of one body, uncompressed. An answer of 4,096 tokens has about 160 KB."""

Flaw = Literal["cut", "endless", "garbled", "layered", "slow"]
"""The reason why a body could not be read. "cut": the connection ended early. "endless": it is
longer than `MAX_BYTES`. "garbled": it does not match its Content-Encoding. "layered": it is
compressed more than once. "slow": it did not end in time.
"""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A small response. ``document`` is its JSON, or None if it has none. ``seconds`` is the time
    from the request to its end, or to the timeout. ``status`` is 0 if no head arrived.
    """

    status: int = 0
    media_type: str = ""
    headers: dict[str, str] = {}
    document: Any = None
    seconds: float
    flaw: Flaw | None = None

    @property
    def code(self) -> str:
        """The code of a problem document, else empty."""
        if self.media_type != "application/problem+json" or not isinstance(self.document, dict):
            return ""
        code = self.document.get("code")
        return excerpt(code) if isinstance(code, str) else ""

    @property
    def held(self) -> int | None:
        """The number of the user's running answers (or their tokens, if streams are not limited).

        None if the document is not the one of ``/limits``.
        """
        try:
            found = {limit["name"]: int(limit["held"]) for limit in self.document["limits"]}
        except (KeyError, OverflowError, TypeError, ValueError):
            return None
        return found.get("streams", sum(found.values()))


class Answer(msgspec.Struct, kw_only=True):
    """The probe's one answer, as far as the probe read it.

    ``frames`` has the name of each frame and the seconds since the request. If the response is not
    a stream, ``refusal`` is that response. ``was_held`` is whether the server reported, on another
    connection, that it was writing this answer. ``ended`` is the way the answer ended before the
    probe disconnected: with its last ``frame``, according to the server but without a frame
    (``unseen``), or with a flaw. ``rest`` is the number of bytes after the last frame. ``error`` is
    the code of an event ``error``.
    """

    headers: dict[str, str] = {}
    frames: list[tuple[str, float]] = []
    refusal: Reply | None = None
    was_held: bool = False
    ended: Literal["", "frame", "unseen"] | Flaw = ""
    rest: int = 0
    error: str = ""

    def times(self, name: str) -> list[float]:
        """Return the arrival times of the frames with this name."""
        return [at for found, at in self.frames if found == name]

    @property
    def lasted(self) -> float:
        """Seconds from the first frame to the last."""
        return self.frames[-1][1] - self.frames[0][1] if self.frames else 0.0


class Observations(msgspec.Struct, kw_only=True):
    """All results of a probe. A field is None if the probe did not try it.

    ``path`` has no slash at its end. ``gone`` is the seconds from the probe's disconnect until the
    server first reported that it had stopped writing; None if it did not. ``receipt`` is the
    server's account of the answer.
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
