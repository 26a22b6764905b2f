"""Names of keys, and what of an operation can be done in one step. No I/O."""

import re
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Final

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Limit, Line, Reservation
from chatnest.ledger.days import day_end, day_of

__all__ = ["Days", "Keys", "Part", "field_of", "fields_of", "tag_of"]

_DAY = 86_400_000
_HOUR = 3_600_000

_SLOTS: Final = 16_384
"""Slots of a cluster, whatever its size."""


class Part(msgspec.Struct):
    """What one script can do: the accounts that it charges, the first of which has the hold's end,
    and the limits that it checks, with their places in the whole.
    """

    homes: list[str]
    limits: list[tuple[int, Limit]] = []
    lines: list[Line] = []

    @property
    def tag(self) -> str:
        """A tag of its slot."""
        return self.homes[0] if self.homes else tag_of(self.limits[0][1].account)


class Keys:
    """Keys under ``prefix``, with the account as hash tag. ``slot_of`` gives a tag's slot in a
    cluster, and is None where there is none.
    """

    def __init__(self, prefix: str, slot_of: Callable[[str], int] | None) -> None:
        if not prefix or set(prefix) & set("{} "):
            raise ConfigurationError(
                f"prefix must be a word without braces or spaces, not {prefix!r}"
            )
        self._prefix = prefix
        self._slot_of = slot_of
        self.home: str = "%books"
        """The tag of what belongs to no account. No account's tag begins like this."""
        self.mark: str = self.of(self.home, "mark")

    @property
    def is_cluster(self) -> bool:
        return self._slot_of is not None

    def of_mark(self, tag: str) -> str:
        """The mark of the books that a script can read beside keys with this tag."""
        if self._slot_of is None or tag == self.home:
            return self.mark
        return self.of_slot(self._slot_of(tag))

    def of_slot(self, slot: int) -> str:
        """The copy of the mark in a slot."""
        return self.of(_tags_of_slots()[slot], "mark")

    def home_of(self, mark: str) -> str:
        """The tag of a mark."""
        return mark.removeprefix(f"{self._prefix}:{{").partition("}:")[0]

    def pattern(self, kind: str) -> str:
        """What `SCAN` matches with keys of that kind; they may be of other tags' kinds, too."""
        return re.sub(r"([][*?\\^-])", r"\\\1", f"{self._prefix}:{{") + f"*}}:{kind}"

    def of_account(self, tag: str, day: str) -> list[str]:
        """The four keys that every script takes for an account."""
        return [self.of(tag, kind) for kind in ("counters", "holds", "due", f"turns:{day}")]

    def of_end(self, tag: str, hold_id: str) -> str:
        return self.of(tag, f"end:{hold_id}")

    def of_window(self, limit: Limit) -> str:
        return self.of(tag_of(limit.account), f"window:{limit.name}:{limit.window}")

    def of(self, tag: str, kind: str) -> str:
        return f"{self._prefix}:{{{tag}}}:{kind}"

    def parts_of_limits(self, limits: Sequence[Limit]) -> list[Part]:
        """A question in as few steps as possible, in the order that all keep to."""
        parts: dict[int, Part] = {}
        for index, limit in enumerate(limits):
            tag = tag_of(limit.account)
            part = parts.setdefault(self.slot(tag), Part([]))
            part.limits.append((index, limit))
            if limit.kind != "rate" and tag not in part.homes:
                part.homes.append(tag)
        return [parts[slot] for slot in sorted(parts)]

    def parts_of_wish(self, wish: Reservation) -> list[Part]:
        """A wish, likewise; each part has a home, so that its repetition is known there."""
        parts = self.parts_of_limits(wish.limits)
        if not any(part.homes for part in parts):
            own = _tag_of_id(wish.id)
            if parts and self._slot_of is None:
                parts[0].homes.append(own)
            else:
                parts.append(Part([own]))
        for part in parts:
            if not part.homes:
                part.homes.append(tag_of(part.limits[0][1].account))
        return parts

    def parts_of_lines(self, lines: Iterable[Line], hold_id: str) -> list[Part]:
        """A hold, in the same steps and homes as those in which it was admitted."""
        parts: dict[int, Part] = {}
        for line in lines:
            tag = tag_of(_split(line)[2])
            part = parts.setdefault(self.slot(tag), Part([]))
            part.lines.append(line)
            if tag not in part.homes:
                part.homes.append(tag)
        if not parts:
            parts[0] = Part([_tag_of_id(hold_id)])
        return [parts[slot] for slot in sorted(parts)]

    def slot(self, tag: str) -> int:
        """Where a tag's keys are in a cluster; 0 where there is none."""
        return self._slot_of(tag) if self._slot_of is not None else 0


def tag_of(account: str) -> str:
    """An account as a hash tag: not empty, and without braces."""
    return account.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"


@cache
def _tags_of_slots() -> tuple[str, ...]:
    """A tag for each slot, the same ones always: what has the least number."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _SLOTS:
        tag = f"%slot:{number}"
        found.setdefault(crc_hqx(tag.encode(), 0) % _SLOTS, tag)  # as the server's own CRC16
        number += 1
    return tuple(found[slot] for slot in range(_SLOTS))


def _tag_of_id(hold_id: str) -> str:
    # A hold that weighs on nothing belongs to no account. No account's tag begins like this.
    return f"%id:{tag_of(hold_id)}"


def _split(line: Line) -> list[str]:
    """Name, day and account."""
    return line.key.split(":", 2)


def field_of(name: str, day: str) -> str:
    """Where a counter stands among those of its account. Names are words."""
    return f"{name}:{day}"


def fields_of(lines: Iterable[Line], tag: str) -> str:
    """The lines of one account, as the scripts write them."""
    words = []
    for line in lines:
        name, day, account = _split(line)
        if tag_of(account) == tag:
            words.append(f"{'T' if line.unit == 'tokens' else 'S'}={field_of(name, day)}")
    return " ".join(words)


class Days:
    """For a zone and a time, the day it is and the nearer of its neighbours: when the first
    begins, when the second does, when that ends, their names, and the oldest day that is kept.
    """

    def __init__(self, keep_days: int) -> None:
        self._keep = keep_days * _DAY
        self._known: dict[str, tuple[int, int, int, str, str, str]] = {}

    def around(self, zone: str, now: int) -> tuple[int, int, int, str, str, str]:
        known = self._known.get(zone)
        if known is None or not known[0] + _HOUR <= now < known[2] - _HOUR:
            known = self._known[zone] = self._find(zone, now)
        return known

    def _find(self, zone: str, now: int) -> tuple[int, int, int, str, str, str]:
        ends = [day_end(now - 74 * _HOUR, zone)]
        for _ in range(7):
            ends.append(day_end(ends[-1], zone))
        # The first that is still ahead ends today.
        today = next(index for index, end in enumerate(ends) if end > now)
        if ends[today] - now < now - ends[today - 1]:
            today += 1
        start, middle, stop = ends[today - 2 : today + 1]
        oldest = day_of(now - self._keep, zone)
        return start, middle, stop, day_of(start, zone), day_of(middle, zone), oldest
