"""Bounds: the memory and time that one stream may take. No I/O."""

from typing import Final

import msgspec

from chatnest._util.arguments import check_positive
from chatnest.errors import ConfigurationError

__all__ = ["Bounds", "ResolvedBounds"]


_MAXIMUM: Final = 1e9
"""Maximum of every bound, in seconds or bytes. Clocks fail on larger numbers."""

FIRST_BYTE_SECONDS: Final = 30.0
STREAM_SECONDS: Final = 300.0

_LOCAL_DEFAULTS: Final = {"first_byte_seconds": 300.0, "stream_seconds": 600.0}
"""Defaults for a model on a local server, which may have to load it first."""
_DEFAULTS: Final = {"first_byte_seconds": FIRST_BYTE_SECONDS, "stream_seconds": STREAM_SECONDS}
"""Defaults for all other models."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of a stream; sizes in bytes, times in seconds. The reasons are in
    docs/reference/limits-and-timeouts.md.
    """

    body_bytes: int = 262_144
    """Maximum bytes of a request body, without its images if it is larger."""
    image_body_bytes: int = 8_388_608
    """Maximum bytes of a request body with images, where a profile allows images."""
    bodies_in_flight_bytes: int = 67_108_864
    """Maximum bytes of all request bodies that a worker is reading, and of those with images until
    their answers have ended.
    """
    body_seconds: float = 10.0
    """Maximum time from the first event of a request to the end of its body."""
    first_byte_seconds: float | None = None
    """Maximum time from the call to the model to the first byte of its answer, over all attempts.
    None means 30, or 300 for a local server, which may have to load its model first.
    """
    early_start_seconds: float = 5.0
    """Time after which a stream starts even if the model has not answered yet."""
    idle_seconds: float = 30.0
    """Maximum time between two pieces of the model's answer."""
    stream_seconds: float | None = None
    """Maximum time of a whole stream. None means 300, or 600 with a local server."""
    send_seconds: float = 30.0
    """Maximum time of one write to a client that does not read."""
    answer_bytes: int = 1_048_576
    """Maximum bytes of a whole answer, in UTF-8."""
    ledger_seconds: float = 0.6
    """Maximum time of one ledger operation. After it, the ledger counts as unavailable."""
    plan_lookup_seconds: float = 2.0
    """Maximum time of one call of ``plan_of``. After it, the last known plan counts."""
    settle_seconds: float = 5.0
    """Maximum time of a turn's settlement, after everything else has ended."""
    client_system_prompt_bytes: int = 8_192
    """Maximum bytes of a client's system prompt, if clients may send one."""
    look_ups_per_minute: int = 300
    """Maximum GET and DELETE requests of one principal per minute, in each worker."""
    lag_seconds: float = 0.25
    """Maximum length of an event loop turn. After a longer one, the worker refuses new chats."""
    streams: int = 10_000
    """Maximum open streams in a worker."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if value is None and field in _DEFAULTS:
                continue
            check_positive(**{f"bounds.{field}": value})
            if value > _MAXIMUM:
                raise ConfigurationError(
                    f"bounds.{field}: expected at most {_MAXIMUM:,.0f}, got {value!r}."
                )

    def resolved(self, *, local: bool) -> "ResolvedBounds":
        """These bounds with the defaults in place of None."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        given = {name: value for name, value in values.items() if value is not None}
        return ResolvedBounds(**{**(_LOCAL_DEFAULTS if local else _DEFAULTS), **given})


class ResolvedBounds(Bounds, frozen=True, kw_only=True):
    """The bounds of an application, without None."""

    first_byte_seconds: float = FIRST_BYTE_SECONDS
    stream_seconds: float = STREAM_SECONDS
