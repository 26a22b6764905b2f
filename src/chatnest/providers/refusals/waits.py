"""The seconds that an upstream asks to wait, from header fields and texts. No I/O.

``Retry-After`` is RFC 9110's, in seconds or as a date; ``retry-after-ms`` is OpenAI's. The
``x-ratelimit-reset`` fields have no standard: seconds, a time with units, or a point in time.
"""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import Final

__all__ = ["LONGEST", "duration", "reset_in", "retry_after", "words_wait"]

LONGEST: Final = 60.0
"""Maximum seconds that a client is asked to wait. Longer waits are reduced to this."""

_DEFAULT: Final = 5.0
"""Seconds for an unreadable Retry-After."""

_EPOCH: Final = 1_000_000_000
"""The least number that is a point in time instead of a duration."""

_RESET: Final = re.compile(
    r"(?:x-|anthropic-)?rate-?limit-(?:[a-z-]+-)?reset(?:-[a-z]+)?|x-ratelimit-reset(?:-[a-z-]+)?"
)
_UNIT: Final = re.compile(
    r"([0-9]+(?:\.[0-9]+)?)\s*(ns|us|µs|milliseconds?|ms|"
    r"minutes?|mins?|m|seconds?|secs?|s|hours?|hrs?|h|days?|d)(?![a-z])"
)
_SECONDS: Final = {"n": 1e-9, "u": 1e-6, "µ": 1e-6, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_IN_WORDS: Final = re.compile(
    r"(?:try again|retry|wait)(?:ing)?\s(?:\w+\s){0,4}?"
    r"((?:[0-9]+(?:\.[0-9]+)?\s*[a-z]{1,12}\s*){1,4})"
)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds by ``retry-after-ms`` or ``retry-after``, capped. An unreadable field is 5 s."""
    for field, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[field]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < inf:
            return min(seconds, LONGEST)
    if "retry-after" not in headers:
        return None
    until = _date(headers["retry-after"])
    if until is None:
        said = _with_units(headers["retry-after"].strip().lower())
        return _DEFAULT if said is None else min(said, LONGEST)
    now = _date(headers.get("date", "")) or datetime.now(UTC)  # theirs, since clocks differ
    return min(max(0.0, (until - now).total_seconds()), LONGEST)


def reset_in(headers: Mapping[str, str]) -> float | None:
    """Seconds until the limits that are used up are reset, capped. If none is known to be used up,
    the longest of all: an earlier attempt would count as well.
    """
    waits, used_up = [], []
    for field, value in headers.items():
        if _RESET.fullmatch(field) and (seconds := duration(value)) is not None:
            waits.append(seconds)
            if headers.get(field.replace("reset", "remaining"), "").strip() in {"0", "0.0"}:
                used_up.append(seconds)
    return max(used_up or waits, default=None)


def duration(value: object) -> float | None:
    """Seconds from now: a number, a time with units (``1m26.5s``), or a point in time; capped.
    None for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value)[:64].strip().lower()
    try:
        seconds = float(text)
    except ValueError:
        found = _date(text.upper())
        if found is not None:
            seconds = found.timestamp() - time.time()
        elif (with_units := _with_units(text)) is not None:
            seconds = with_units
        else:
            return None
    else:
        if seconds >= _EPOCH * 100:
            seconds /= 1000
        if seconds >= _EPOCH:
            seconds -= time.time()
    return min(max(0.0, seconds), LONGEST) if -inf < seconds < inf else None


def words_wait(words: str) -> float | None:
    """Seconds out of a sentence such as "please try again in 7.66s"."""
    found = _IN_WORDS.search(words)
    return duration(found[1]) if found else None


def _with_units(text: str) -> float | None:
    if _UNIT.sub("", text).strip(" ,"):
        return None
    parts = _UNIT.findall(text)
    if not parts:
        return None
    return sum(
        float(number) * (1e-3 if unit.startswith(("ms", "milli")) else _SECONDS[unit[0]])
        for number, unit in parts
    )


def _date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110, section 5.6.7) or one of RFC 3339."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = read(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return None
