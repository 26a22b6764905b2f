"""Moments: a date or a time of a setting. No I/O."""

from datetime import date, datetime

from chatnest.errors import ConfigurationError
from chatnest.identity.keys import end_of

__all__ = ["moment"]


def moment(value: object, place: str, *, as_text: bool) -> datetime:
    """A time, or the end of a date in UTC.

    A text is accepted only with ``as_text``, for values of the environment. Raises
    ConfigurationError.
    """
    parsed = _parsed(value) if isinstance(value, str) else value
    if isinstance(parsed, date) and (as_text or parsed is value):
        return end_of(parsed)
    if isinstance(parsed, date):
        got = "a string. Write it without quotes."
    else:
        got = "another text." if isinstance(value, str) else f"{value}."
    raise ConfigurationError(
        f"{place}: expected a date or a time, such as 2027-01-31 or 2027-01-31T18:00:00Z, got {got}"
    )


def _parsed(text: str) -> date | None:
    for parse in (date.fromisoformat, datetime.fromisoformat):
        try:
            return parse(text)
        except ValueError:
            continue
    return None
