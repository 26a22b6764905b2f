"""Identifiers of requests. The turn, hold and run of a request share its identifier."""

import os
import time

__all__ = ["new_request_id", "seconds_of"]

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM = ~(0xF << 76 | 0b11 << 62)


def new_request_id() -> str:
    """32 hexadecimal digits: a UUID of version 7 (RFC 9562, section 5.7).

    It begins with the time and has 74 random bits. Rows written together are therefore neighbours
    in every index. With random identifiers, each row would change a separate page.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big") & _RANDOM
    return f"{milliseconds << 80 | _VERSION | _VARIANT | random:032x}"


def seconds_of(request_id: str) -> int:
    """The time of a request, in seconds since 1970, as its identifier has it. 0 for another text
    than an identifier.
    """
    try:
        return int(request_id[:12], 16) // 1000
    except ValueError:
        return 0
