"""Prices: the dated prices of a model, from tables of a configuration. No I/O."""

import difflib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from itertools import pairwise
from typing import Final, Literal

import msgspec

from chatnest._util.arguments import check_integer
from chatnest.errors import ConfigurationError
from chatnest.prices.money import picos_of
from chatnest.prices.price import FREE, STANDARD_TIERS, Price
from chatnest.prices.rates import Rates, Schedule

__all__ = ["PriceTable", "Prices", "PricesGiven"]

PriceTable = Mapping[str, object]
"""A price as a configuration has it, such as ``{"input": "0.25", "output": "2.00"}``."""

_CLASSES: Final = ("input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning")
_KEYS: Final = (*_CLASSES, "above", "tiers", "from", "price")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY: Final = 86_400_000
"""Milliseconds of a day."""


class Prices(msgspec.Struct, frozen=True):
    """The prices of a model, in the order of their dates. The first one also prices all that came
    before its date. ``of`` makes them from a configuration.
    """

    entries: tuple[Price, ...]

    @classmethod
    def of(
        cls,
        value: "PricesGiven",
        place: str = "prices",
    ) -> "Prices":
        """Prices from ``"free"``, a table, or a list of tables with dates in ``from``. ``place`` is
        the key of the value, for errors. Raises ConfigurationError.
        """
        found: object = value
        match found:
            case Prices():
                return found
            case "free":
                return cls((FREE,))
            case Mapping():
                return cls((_price(found, place),))
            case list() | tuple() if found:
                return cls(_dated(found, place))
        raise ConfigurationError(
            f'{place}: expected "free", or a table such as {{input = "0.25", output = "2.00"}}, '
            f"got {found!r}. Without a price, leave it out."
        )

    def at(self, moment: int) -> Price:
        """The price in force at a moment, in milliseconds since 1970 by the ledger's clock. It
        prices a turn that was admitted then, even if the turn ends after the next date.
        """
        found = self.entries[0]
        for entry in self.entries[1:]:
            if entry.since is not None and moment >= _milliseconds(entry.since):
                found = entry
        return found


PricesGiven = Prices | PriceTable | Sequence[PriceTable] | Literal["free"]
"""Prices in each form that ``Prices.of`` takes."""


def _milliseconds(day: date) -> int:
    return (day - date(1970, 1, 1)).days * _DAY


def _dated(tables: Sequence[object], place: str) -> tuple[Price, ...]:
    entries = [_price(table, f"{place}[{n}]") for n, table in enumerate(tables)]
    for n, (before, entry) in enumerate(pairwise(entries), 1):
        if entry.since is None or (before.since is not None and entry.since <= before.since):
            raise ConfigurationError(
                f"{place}[{n}].from: expected a later date than that of the price before it, got "
                f"{entry.since or 'none'}. Sort the prices by their dates."
            )
    return tuple(entries)


def _price(table: object, place: str) -> Price:
    fields = _fields(table, place, _KEYS)
    since = _date(fields.get("from"), f"{place}.from")
    if fields.get("price") == "free" and fields.keys() <= {"price", "from"}:
        return msgspec.structs.replace(FREE, since=since)
    if "price" in fields:
        raise ConfigurationError(
            f'{place}.price: expected "free" without other prices, got {fields["price"]!r}. Remove '
            "it, or the other prices."
        )
    standard = _schedule(fields, place)
    tiers: dict[str, Schedule] = {}
    for name, tier in _fields(fields.get("tiers", {}), f"{place}.tiers").items():
        tiers[name] = _tier(name, tier, f"{place}.tiers.{name}", standard)
    return Price(standard=standard, tiers=tiers, since=since)


def _tier(name: str, table: object, place: str, standard: Schedule) -> Schedule:
    if name in STANDARD_TIERS or name != name.strip().lower():
        raise ConfigurationError(
            f"{place}: expected the name of a service tier in lower case, other than the standard "
            f"one, got {name!r}. The standard price needs no name."
        )
    fields = _fields(table, place, (*_CLASSES, "above"))
    if "above" not in fields and len(standard.steps) > 1:
        tokens = standard.steps[1][0]
        raise ConfigurationError(
            f"{place}.above: expected the prices above {tokens:,} tokens, since the standard price "
            "has them, got none. Add them, or set above = [] if all lengths cost the same."
        )
    return _schedule(fields, place)


def _schedule(fields: Mapping[str, object], place: str) -> Schedule:
    steps = [(0, _rates(fields, place))]
    above = fields.get("above", [])
    if not isinstance(above, list | tuple):
        raise ConfigurationError(
            f"{place}.above: expected a list of tables such as [{{tokens = 200_000, input = "
            f'"2.50", output = "15.00"}}], got {above!r}.'
        )
    for n, table in enumerate(above):
        here = f"{place}.above[{n}]"
        longer = _fields(table, here, ("tokens", *_CLASSES))
        tokens = longer.get("tokens")
        check_integer(f"{here}.tokens", tokens, steps[-1][0] + 1)
        if isinstance(tokens, int):  # always
            steps.append((tokens, _rates(longer, here)))
    return Schedule(tuple(steps))


def _rates(fields: Mapping[str, object], place: str) -> Rates:
    for name in ("input", "output"):
        if name not in fields:
            raise ConfigurationError(
                f"{place}: expected prices of input and output, got none for {name}. Add it, or "
                'set price = "free" for a model that costs nothing.'
            )
    found = {name: picos_of(fields[name], f"{place}.{name}") for name in _CLASSES if name in fields}
    if not found["input"] and not found["output"]:
        raise ConfigurationError(
            f"{place}: expected a price above 0 for input or output, got 0 for both. Correct it, "
            'or set price = "free" for a model that costs nothing.'
        )
    found.setdefault("cached_input", found["input"])
    found.setdefault("cache_write", found["input"])
    found.setdefault("cache_write_1h", found["cache_write"])
    found.setdefault("reasoning", found["output"])
    return Rates(**found)


def _fields(value: object, place: str, known: Sequence[str] = ()) -> Mapping[str, object]:
    """The fields of a table. Any names are known if ``known`` is empty."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{place}: expected a table, got {value!r}.")
    for name in value:
        if known and name not in known:
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0)[0]
            raise ConfigurationError(
                f"{place}.{name}: expected a known key, got an unknown one. Did you mean {nearest}?"
            )
    return value


def _date(value: object, place: str) -> date | None:
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    if isinstance(value, str) and _DATE.fullmatch(value):
        with suppress(ValueError):
            return date.fromisoformat(value)
    raise ConfigurationError(
        f'{place}: expected a date such as "2026-08-21", from whose start in UTC the price counts, '
        f"got {value!r}."
    )
