"""Keys: the names of a RedisLedger's keys, and the parts of an operation that share a step. No I/O.

All keys begin with the prefix and the account as hash tag, as in ``chatnest:{ann}:``. All of them
expire by themselves.

============== ============= =================================================== ================
``counters``   hash          ``NAME:DAY`` to ``settled held overrun expired``    end of the last
                             and, if it is not 0, ``adjusted``                   day + keep_days
``holds``      hash          hold to ``STATE TOKENS ADMITTED_AT LINES``, for     lease + keep_days
                             live and expired holds
``due``        sorted set    hold by the end of its lease                        lease + keep_days
``window:N:W`` sorted set    hold by its time of admission                       the window
``end:HOLD``   string        how a hold ended, and its charge, with the first    remember
                             account of the hold
``turns:DAY``  stream        records, at most ``max_turns`` of a day (UTC): each keep_days + 1
                             settlement, with the first account of the hold;
                             each expiry, and its release, with every account
                             that it charged; each adjustment. No content of
                             messages.
``adjust:ID``  string        an adjustment                                       keep_days + 35
============== ============= =================================================== ================
"""

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
"""Number of slots of a cluster of any size."""


class Part(msgspec.Struct):
    """The part of an operation that one script does: the tags of the accounts that it charges, and
    the limits that it checks, each with its index in the operation. The first account has the key
    that records the hold's end.
    """

    homes: list[str]
    limits: list[tuple[int, Limit]] = []
    lines: list[Line] = []

    @property
    def tag(self) -> str:
        """A hash tag in the slot of this part."""
        return self.homes[0] if self.homes else tag_of(self.limits[0][1].account)


class Keys:
    """Keys under ``prefix``, with the account as hash tag. ``slot_of`` returns the slot of a tag,
    and is None without a cluster.
    """

    def __init__(self, prefix: str, slot_of: Callable[[str], int] | None) -> None:
        if not prefix or set(prefix) & set("{} "):
            raise ConfigurationError(
                f"prefix: expected a word without braces or spaces, got {prefix!r}. Write a name "
                "such as chatnest."
            )
        self._prefix = prefix
        self._slot_of = slot_of
        self.home: str = "%books"
        """The tag of keys that belong to no account. No account's tag begins like this."""
        self.mark: str = self.of(self.home, "mark")

    @property
    def is_cluster(self) -> bool:
        return self._slot_of is not None

    def of_mark(self, tag: str) -> str:
        """The key of the mark that a script can read together with keys of this tag."""
        if self._slot_of is None or tag == self.home:
            return self.mark
        return self.of_slot(self._slot_of(tag))

    def of_slot(self, slot: int) -> str:
        """The key of the mark's copy in a slot."""
        return self.of(_tags_of_slots()[slot], "mark")

    def home_of(self, mark: str) -> str:
        """The tag of a mark's key."""
        return mark.removeprefix(f"{self._prefix}:{{").partition("}:")[0]

    def pattern(self, kind: str) -> str:
        """The pattern with which ``SCAN`` finds keys of this kind. It may match other keys, too."""
        return re.sub(r"([][*?\\^-])", r"\\\1", f"{self._prefix}:{{") + f"*}}:{kind}"

    def of_account(self, tag: str, day: str) -> list[str]:
        """The four keys that a script takes for an account."""
        return [self.of(tag, kind) for kind in ("counters", "holds", "due", f"turns:{day}")]

    def of_end(self, tag: str, hold_id: str) -> str:
        return self.of(tag, f"end:{hold_id}")

    def of_window(self, limit: Limit) -> str:
        return self.of(tag_of(limit.account), f"window:{limit.name}:{limit.window}")

    def of(self, tag: str, kind: str) -> str:
        return f"{self._prefix}:{{{tag}}}:{kind}"

    def parts_of_limits(self, limits: Sequence[Limit]) -> list[Part]:
        """The parts of a look-up, as few as possible, in the order of their slots."""
        parts: dict[int, Part] = {}
        for index, limit in enumerate(limits):
            tag = tag_of(limit.account)
            part = parts.setdefault(self.slot(tag), Part([]))
            part.limits.append((index, limit))
            if limit.kind != "rate" and tag not in part.homes:
                part.homes.append(tag)
        return [parts[slot] for slot in sorted(parts)]

    def parts_of_wish(self, wish: Reservation) -> list[Part]:
        """The parts of a reservation. Each has an account, which makes a repetition idempotent."""
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
        """The parts of a hold: the same as those in which it was admitted."""
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
        """The slot of a tag's keys; 0 without a cluster."""
        return self._slot_of(tag) if self._slot_of is not None else 0


def tag_of(account: str) -> str:
    """The hash tag of an account: not empty, and without braces."""
    return account.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"


@cache
def _tags_of_slots() -> tuple[str, ...]:
    """A tag for each slot: always the one with the lowest number."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < _SLOTS:
        tag = f"%slot:{number}"
        found.setdefault(crc_hqx(tag.encode(), 0) % _SLOTS, tag)  # the same CRC16 as the server's
        number += 1
    return tuple(found[slot] for slot in range(_SLOTS))


def _tag_of_id(hold_id: str) -> str:
    # A hold without counters belongs to no account. No account's tag begins like this.
    return f"%id:{tag_of(hold_id)}"


def _split(line: Line) -> list[str]:
    """The limit's name, the day and the account."""
    return line.key.split(":", 2)


def field_of(name: str, day: str) -> str:
    """The field of a counter in its account's hash."""
    return f"{name}:{day}"


def fields_of(lines: Iterable[Line], tag: str) -> str:
    """The lines of one account, in the form that the scripts use."""
    words = []
    for line in lines:
        name, day, account = _split(line)
        if tag_of(account) == tag:
            words.append(f"{'T' if line.unit == 'tokens' else 'S'}={field_of(name, day)}")
    return " ".join(words)


class Days:
    """The current day in a time zone, and its nearer neighbour: the start of the first of the two,
    the start and the end of the second, their names, and the oldest day that is kept.
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
        # Today ends with the first end that is ahead.
        today = next(index for index, end in enumerate(ends) if end > now)
        if ends[today] - now < now - ends[today - 1]:
            today += 1
        start, middle, stop = ends[today - 2 : today + 1]
        oldest = day_of(now - self._keep, zone)
        return start, middle, stop, day_of(start, zone), day_of(middle, zone), oldest
