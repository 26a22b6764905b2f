"""Delivery: how the bytes of a scripted answer reach the client, faults included. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Delivery", "Ending", "Fault", "Opening"]

Opening = Literal["answer", "silence", "close", "close_on_accept"]
Ending = Literal["finish", "stall", "reset", "cut", "unfinished", "bad_framing"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that has other bytes in each dialect.

    `code` is the code of an error in OpenAI's words. A `nested` error event has its fields in an
    object named ``error`` (Responses API).
    """

    name: Literal[
        "refusal", "bad_json", "bad_utf8", "null_event", "wrong_types", "error_event", "failed"
    ]
    code: str | int | None = None
    nested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How the bytes of an answer reach the client. The default is a 200, at once, to its end."""

    pace: float = 0.0
    """Seconds from one piece to the next."""
    first_delay: float = 0.0
    """Seconds before the headers."""
    end_delay: float = 0.0
    """Seconds from the last event to the end of the body, which is then a write of its own."""

    events: tuple[bytes, ...] | None = None
    """The raw events of another API, instead of those of an answer. Each counts as a piece;
    `repeat`, `after` and `ending` apply to them."""
    after: int = 0
    """Number of pieces sent before `inject`, `long_line` and `ending`."""
    inject: bytes = b""
    """Raw bytes to insert into the event stream."""
    fault: Fault | None = None
    """The fault to insert instead of `inject`, and the error instead of `body`, in the APIs whose
    bytes are not those of Chat Completions. The class methods of `Answer` set it."""
    long_line: float = 0
    """Size in bytes of an additional data line, a valid event; `math.inf` never ends."""
    ending: Ending = "finish"
    """The end of the answer. "finish": the complete rest. "stall": nothing until `release()`.
    "reset": RST. "cut": FIN. "unfinished": a valid end of the HTTP body without a finish reason
    and ``[DONE]``. "bad_framing": a chunk whose size is not a number, then FIN."""
    byte_limit: int | None = None
    """Number of bytes of the event stream to send before FIN, instead of `after` and `ending`."""
    opening: Opening = "answer"
    """The start of the answer. "silence": no headers until `release()`. "close": FIN instead of
    an answer. "close_on_accept": FIN before the request is read, so it is not recorded."""

    crlf: bool = False
    """End the lines of the event stream with CRLF."""
    comments: bool = False
    """Send a comment before each piece."""
    pings: bool = False
    """Send an event that means nothing before each piece: `ping` in the Messages API, `keepalive`
    in the Responses API, an empty delta in Chat Completions."""
    events_per_write: int = 1
    """Number of events in one write to the socket; each is still its own HTTP chunk."""
    split: int = 0
    """Bytes per HTTP chunk and write, which splits events and characters anywhere; 0 is off."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers to add to the response; they replace its own headers of the same name."""
    content_type: str | None = None
    """The content type, instead of ``text/event-stream`` or ``application/json``."""
    body: bytes | None = None
    """The complete body, instead of an answer."""
    content_length: int | None = None
    """The declared length, instead of the true length or chunks; FIN if it is not the true one."""
    raw: bytes | None = None
    """All bytes of the response, headers included, followed by FIN."""
