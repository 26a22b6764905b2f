"""Limit: how much one account may use of a unit in a window. No I/O.

Amounts are whole requests, tokens, streams, or nano-dollars: billionths of the ledger's currency.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.thresholds import WHOLE, parts_text

__all__ = ["MOST", "CalendarWindow", "Limit", "Mode", "Unit", "Window"]

Unit = Literal["requests", "tokens", "money", "streams"]
CalendarWindow = Literal["day", "week", "month", "lifetime"]
Window = int | CalendarWindow | None
"""Seconds of a sliding window, a window of the calendar, or None for a concurrency limit."""
Mode = Literal["enforce", "shadow"]

MOST: Final = 9_000_000_000_000_000
"""Maximum amount of a limit: for money, 9,000,000 units of the currency. Sums of it, and of what
is held beside it, stay exact in every store: below 2^53.
"""

_LAST_START: Final[Mapping[object, int]] = {"week": 7, "month": 31}
_UTC: Final = "UTC"

_MOST_THRESHOLDS: Final = 10


class Limit(msgspec.Struct, frozen=True, kw_only=True, cache_hash=True):
    """One limit that a request must fit under.

    ``unit`` is what is counted, and ``amount`` how much of it ``account`` may use in a window:

    - a number of seconds: in any such time, counted at the instants of admission. A request that
      does not fit has to wait; its output is not lowered.
    - ``"day"``, ``"week"``, ``"month"`` or ``"lifetime"``: by the calendar of ``timezone``. A week
      begins on the day ``starts``, from 1 (Monday) to 7, and a month on the day ``starts`` from 1
      to 31, or on its last day if it is shorter.
    - None, for streams: how many there are at a time.

    Money is in nano-dollars, billionths of the currency. All limits of one ``name`` must have the
    same unit and timezone; they share counters, which belong to ``account`` and ``name`` and not to
    the amount or the window, so that a change of these never opens a second budget.

    A limit with the mode ``"shadow"`` is counted, and refuses nothing. The figures of a ``hidden``
    limit appear in no header field, refusal or ``/limits``.

    ``warn_at`` are thousandths of the amount, and of what was granted, in rising order, at most 10.
    The first time in a window that as much is used, the books keep a warning.

    Raises ConfigurationError for invalid values, and for a ``window``, ``starts``, ``timezone`` or
    ``warn_at`` that the limit does not use.
    """

    name: str
    unit: Unit
    account: str
    amount: int
    window: Window = None
    starts: int = 1
    timezone: str = _UTC
    mode: Mode = "enforce"
    hidden: bool = False
    warn_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or ":" in self.name or '"' in self.name or " " in self.name:
            raise ConfigurationError(
                f"{self!r}: name: expected a non-empty text without colons, spaces or double "
                f"quotes, got {self.name!r}."
            )
        if type(self.amount) is not int or not 0 <= self.amount <= MOST:
            raise ConfigurationError(
                f"{self!r}: amount: expected a whole number from 0 to {MOST:,}, got "
                f"{self.amount!r}."
            )
        if self.mode not in get_args(Mode) or self.unit not in get_args(Unit):
            raise ConfigurationError(
                f"{self!r}: expected a unit of {', '.join(get_args(Unit))}, and a mode of "
                f"{', '.join(get_args(Mode))}."
            )
        if wrong := _wrong_window(self) or (self.warn_at and _wrong_thresholds(self)):
            raise ConfigurationError(f"{self!r}: {wrong}")

    @property
    def kind(self) -> Literal["rate", "budget", "concurrency"]:
        """``rate`` with a sliding window, ``budget`` with one of the calendar, ``concurrency`` for
        what is in use now.
        """
        if self.window is None:
            return "concurrency"
        return "rate" if isinstance(self.window, int) else "budget"

    @property
    def length(self) -> int:
        """The length of a sliding window in milliseconds."""
        return self.window * 1000 if isinstance(self.window, int) else 0

    @property
    def is_shown(self) -> bool:
        """Whether clients may see the figures."""
        return not self.hidden and self.mode == "enforce"


def _wrong_window(limit: Limit) -> str:
    window: object = limit.window
    if (limit.unit == "streams") != (window is None):
        return (
            f"window: expected none for streams, and one for every other unit, got {window!r} for "
            f"{limit.unit}."
        )
    if isinstance(window, bool) or (isinstance(window, int) and window < 1):
        return f"window: expected seconds, at least 1, got {window!r}."
    if isinstance(window, int) or window is None:
        if limit.timezone != _UTC or limit.starts != 1:
            return (
                "timezone and starts: expected neither for a limit without a window of the "
                "calendar. Leave both out."
            )
        return ""
    if window not in get_args(CalendarWindow):
        return (
            f"window: expected seconds or one of {', '.join(get_args(CalendarWindow))}, got "
            f"{window!r}."
        )
    last = _LAST_START.get(window, 1)
    if type(limit.starts) is not int or not 1 <= limit.starts <= last:
        return f"starts: expected a day from 1 to {last} for a {window}, got {limit.starts!r}."
    return ""


def _wrong_thresholds(limit: Limit) -> str:
    given = limit.warn_at
    if not isinstance(limit.window, str):
        return (
            "warn_at: expected none for a limit without a window of the calendar, got one. Leave "
            "it out, or count by the day, the week, the month or the lifetime."
        )
    if (
        len(given) > _MOST_THRESHOLDS
        or any(type(each) is not int or not 1 <= each <= WHOLE for each in given)
        or list(given) != sorted(set(given))
    ):
        return (
            f"warn_at: expected at most {_MOST_THRESHOLDS} parts of the amount above 0 and at most "
            f"1, in rising order, got {parts_text(given)}."
        )
    return ""
