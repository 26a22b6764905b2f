"""The roll-up of usage in Redis: fields of hashes as rows, and rows as arguments. No I/O."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from typing import Final

import msgspec

from chatnest.ledger.base import Charge
from chatnest.ledger.usage import FIGURES, UsageRow, Use, Used, groups_text, use_of, values_of

__all__ = ["decode_hashes", "rows_of", "sums_of", "usage_of"]

_EPOCH: Final = date(1970, 1, 1).toordinal()
_WIDTH: Final = len(FIGURES)
_NOTHING: Final = Use()

_read_names = msgspec.json.Decoder(tuple[str, str, str, str, str]).decode
_read_figures = msgspec.json.Decoder(list[int]).decode
decode_hashes: Callable[[bytes], list[list[str]]] = msgspec.msgpack.Decoder(list[list[str]]).decode

Hash = Sequence[str]
"""A hash of the roll-up: fields and values in turn."""


def usage_of(charge: Charge) -> tuple[str | int, ...]:
    """A turn's row without its day, as a text, and its figures, as the scripts take them."""
    facts = charge.facts
    names = (charge.principal, charge.model, charge.profile, charge.outcome)
    text = msgspec.json.encode((*names, groups_text(facts.groups))).decode()
    return text, _WIDTH, *msgspec.structs.astuple(use_of(charge))


def sums_of(hashes: Iterable[Hash], since: str, by: tuple[str, ...]) -> list[Used]:
    """The sums of rows from a day on by these names, as ``gathered`` has them.

    The figures of many fields are read at once: one by one, a million turns would take seconds.
    """
    first = _number_of(since)
    days: dict[tuple[str, ...], defaultdict[str, list[str]]] = {}  # by the values without a day
    places: dict[str, defaultdict[str, list[str]]] = {}  # the same by the names of a field
    has_day = "day" in by
    for words in hashes:
        for field, figures in zip(words[::2], words[1::2], strict=True):
            day, _, names = field.partition(" ")
            if int(day) < first:
                continue
            found = places.get(names)
            if found is None:
                values = values_of(UsageRow("", *_read_names(names)), by)
                found = places[names] = days.setdefault(values, defaultdict(list))
            found[day if has_day else ""].append(figures)
    sums = [
        Used(_with_day(values, by, day), _sum(some))
        for values, of_days in days.items()
        for day, some in of_days.items()
    ]
    return sorted((each for each in sums if each.use != _NOTHING), key=lambda each: each.by)


def rows_of(hashes: Iterable[Hash], since: str) -> dict[UsageRow, Use]:
    """The rows of these hashes from a day on."""
    rows = UsageRow._fields
    return {UsageRow(*used.by): used.use for used in sums_of(hashes, since, rows)}


def _sum(texts: Iterable[str]) -> Use:
    each = _read_figures(f"[{','.join(texts)}]")
    return Use(*[sum(each[place::_WIDTH]) for place in range(_WIDTH)])


def _number_of(day: str) -> int:
    return date.fromisoformat(day).toordinal() - _EPOCH


def _with_day(values: tuple[str, ...], by: tuple[str, ...], day: str) -> tuple[str, ...]:
    if not day:
        return values
    name = date.fromordinal(int(day) + _EPOCH).isoformat()
    return tuple([name if each == "day" else value for each, value in zip(by, values, strict=True)])
