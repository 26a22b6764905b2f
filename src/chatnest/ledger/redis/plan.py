"""Plan: the limits of a part as the scripts take them, made once a day and not at each request. No
I/O.

It is one argument, packed: a script reads it several times faster than a hundred words.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from chatnest.ledger.calendar import span_of_window
from chatnest.ledger.limit import Limit
from chatnest.ledger.redis.keys import (
    Days,
    Keys,
    Part,
    Plan,
    has_account,
    letter_of,
    tag_of,
    word_of,
)
from chatnest.ledger.watching import watch_of

__all__ = ["plan_of"]

_NEVER: Final = 2**52
"""The end of a lifetime, in milliseconds since the epoch."""


def plan_of(part: Part, keys: Keys, days: Days, now: int) -> Plan:
    """The plan of a part at ``now``."""
    plan = part.plan
    if plan is None or not plan.since <= now < plan.until:
        plan = part.plan = _Making(part, keys, days, now).plan()
    return plan


class _Making:
    def __init__(self, part: Part, keys: Keys, days: Days, now: int) -> None:
        self._part = part
        self._keys = keys
        self._days = days
        self._now = now
        self._since, self._until = 0, _NEVER
        self._windows: dict[str, int] = {}
        self._calendars: list[dict[str, Any]] = []
        self._fields: list[dict[str, None]] = [{} for _ in part.homes]

    def plan(self) -> Plan:
        limits = [self._limit(limit) for limit in self._part.under]
        packed = {
            "limits": limits,
            "calendars": self._calendars,
            "fields": [list(fields) for fields in self._fields],
            "watches": list(self._watches()),
            "begins": self._since,
            "ends": self._until,
        }
        return Plan(
            since=self._since,
            until=self._until,
            windows=tuple([key.encode() for key in self._windows]),
            packed=msgspec.msgpack.encode(packed),
        )

    def _limit(self, limit: Limit) -> dict[str, Any]:
        found: dict[str, Any] = {
            "kind": "streams",
            "unit": letter_of(limit.unit),
            "enforced": limit.mode == "enforce",
            "most": limit.amount,
        }
        if limit.kind == "rate":
            place = self._windows.setdefault(self._keys.of_window(limit), len(self._windows) + 1)
            found |= {"kind": "rate", "window": limit.length, "place": place}
            if has_account(limit):
                name = f"{limit.name}:{limit.window}"
                found |= {"kind": "buckets", "index": self._index(limit), "name": name}
            return found
        index, field = self._index(limit), f"{limit.name}:"
        if limit.kind == "budget":
            calendar = self._calendar(limit)
            field += calendar["today"]
            found |= {"kind": "budget", "calendar": self._place_of(calendar)}
            self._read(index, *self._fields_of(limit, calendar))
        self._read(index, field)
        return {
            **found,
            "index": index,
            "name": limit.name,
            "field": field,
            "place": f"{index} {field}",
        }

    def _index(self, limit: Limit) -> int:
        return self._part.homes.index(tag_of(limit.account)) + 1

    def _read(self, index: int, *fields: str) -> None:
        """Let the scripts read these counters of an account."""
        self._fields[index - 1] |= dict.fromkeys(fields)

    def _calendar(self, limit: Limit) -> dict[str, Any]:
        today = self._days.today(limit.timezone, self._now)
        self._since, self._until = max(self._since, today.start), min(self._until, today.end)
        window, first, last, start, resets = "lifetime", "0", "~", 0, _NEVER
        if limit.window != "lifetime":
            span = span_of_window(limit, self._now)
            window = "day" if limit.window == "day" else f"{limit.window}{limit.starts}"
            first, last, start, resets = span.first, span.last, span.start, span.end
        return {
            "today": today.name,
            "stop": today.end,
            "window": window,
            "first": first,
            "last": last,
            "start": start,
            "resets": resets,
            "oldest": today.oldest,
            "long_ago": today.long_ago,
        }

    def _place_of(self, calendar: dict[str, Any]) -> int:
        if calendar not in self._calendars:
            self._calendars.append(calendar)
        return self._calendars.index(calendar) + 1

    @staticmethod
    def _fields_of(limit: Limit, calendar: dict[str, Any]) -> Iterable[str]:
        """The counters beside today's that a limit needs."""
        words = ["late"]
        if limit.window == "day":
            words += [calendar["first"], calendar["last"]]
        else:
            words.append(f"~{calendar['window']}")
        if limit.window == "lifetime":
            words.append("granted")
        return [f"{limit.name}:{word}" for word in words]

    def _watches(self) -> Iterable[tuple[int, str]]:
        """The watches of a hold, each with the place of its account."""
        for limit in self._part.under:
            if limit.warn_at:
                yield self._index(limit), word_of(watch_of(limit, self._now))
