"""Bounds: how much memory and time one stream may take, whoever misbehaves. No I/O."""

from typing import Final

import msgspec

from chatnest._util.arguments import check_positive
from chatnest.errors import ConfigurationError

__all__ = ["Bounds"]


_LONGEST = 1e9
"""Seconds or bytes that no bound exceeds; beyond it clocks fail."""

FIRST_BYTE_SECONDS: Final = 30.0
STREAM_SECONDS: Final = 300.0

_OF_LOCAL_SERVER: Final = {"first_byte_seconds": 300.0, "stream_seconds": 600.0}
_OF_OTHERS: Final = {"first_byte_seconds": FIRST_BYTE_SECONDS, "stream_seconds": STREAM_SECONDS}
"""By default. A local server may have to load its model first."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of a stream; sizes in bytes, times in seconds. The reasons are in
    docs/reference/limits-and-timeouts.md.
    """

    body_bytes: int = 262_144
    """A request's body."""
    body_seconds: float = 10.0
    """From the first event to the whole body."""
    first_byte_seconds: float | None = None
    """From the call of the model to the first of its answer, over all attempts. None: 30, and 300
    for a local server, which may have to load its model first.
    """
    early_start_seconds: float = 5.0
    """After which a stream starts although the model has not answered yet."""
    idle_seconds: float = 30.0
    """Between two pieces of the model's answer."""
    stream_seconds: float | None = None
    """A whole stream. None: 300, and 600 with a local server."""
    send_seconds: float = 30.0
    """One write to a client that does not read."""
    answer_bytes: int = 1_048_576
    """A whole answer, in UTF-8."""
    ledger_seconds: float = 0.6
    """One operation of the ledger before it counts as away."""
    settle_seconds: float = 5.0
    """The settlement of a turn, when everything else has ended."""
    client_system_prompt_bytes: int = 8_192
    """A system prompt of the client's, where it is allowed at all."""
    look_ups_per_minute: int = 300
    """GET and DELETE requests of one principal in a minute, in each worker."""
    lag_seconds: float = 0.25
    """Maximum length of a turn of the event loop after which new chats are let in."""
    streams: int = 10_000
    """Maximum streams that are open in a worker."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if value is None and field in _OF_OTHERS:
                continue
            check_positive(**{f"bounds.{field}": value})
            if value > _LONGEST:
                raise ConfigurationError(f"bounds.{field} must be at most {_LONGEST:,.0f}")

    def resolved(self, *, local: bool) -> "Bounds":
        """The same with numbers for what is None."""
        missing = {
            name: seconds
            for name, seconds in (_OF_LOCAL_SERVER if local else _OF_OTHERS).items()
            if getattr(self, name) is None
        }
        return msgspec.structs.replace(self, **missing)
