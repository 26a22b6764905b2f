"""PriceLibrary: the prices of the package ``genai-prices`` as tables of a configuration.

Only ``chatnest prices`` imports it. If a configuration cannot express a price of the library, the
table has a note, or there is no table but a reason.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version
from typing import Any, Final

import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import (
    ModelInfo,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

__all__ = ["Found", "NoPrice", "PriceLibrary", "found_of"]

_CLASSES: Final = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "output": "output_mtok",
    "reasoning": "output_reasoning_mtok",
}
"""The name of each class of tokens in a configuration, and in the library."""

_TIERS: Final = ("service_tier", "speed")
"""The facts of a request whose prices in the library are service tiers in a configuration."""

_EXACT: Final = Decimal("0.000001")
_MOST: Final = Decimal(1_000)
_EARLIEST: Final = date(1970, 1, 1)


class NoPrice(Exception):
    """The library has no price for a model, or none that is in dollars for tokens of text."""


class Found(msgspec.Struct, frozen=True):
    """The prices of a model as ``Prices.of`` takes them. ``name`` is the library's name of the
    model. ``notes`` are sentences about prices that differ from the tables.
    """

    provider: str
    name: str
    tables: list[dict[str, Any]]
    notes: tuple[str, ...] = ()


class PriceLibrary:
    """The prices that the installed version of the package has."""

    name: Final = f"genai-prices {version('genai-prices')}"

    def find(self, model: str, *, provider: str | None = None, url: str | None = None) -> Found:
        """The prices of a model at a provider, by the provider's name or address, or at the first
        provider that has it. Raises NoPrice.
        """
        snapshot = get_snapshot()
        try:
            its_provider, info = snapshot.find_provider_model(model, None, provider, url)
        except LookupError:
            where = provider or url or "any provider"
            raise NoPrice(f"the library does not know {model} at {where}") from None
        return found_of(its_provider, info, model)


def found_of(provider: Provider, info: ModelInfo, asked: str) -> Found:
    """The prices of a model of the library. ``asked`` is the name by which it was found. Raises
    NoPrice.
    """
    notes: list[str] = []
    if info.id != asked:
        notes.append(f"A loose match: these are the prices that the library has of {info.id}.")
    variants = info.price_variants or []
    if not any(info is model for model in provider.models):
        notes.append("They are the prices of another provider.")
        variants = []
    tables: list[dict[str, Any]] = []
    for day in _days(info, variants):
        table = _table(_at(info, day, None, notes), notes)
        tiers = {
            tier: _table(_at(info, day, context, notes), notes, above=True)
            for tier, context in _contexts(variants, day)
        }
        if tiers:
            table["tiers"] = tiers
        if tables and table == {key: each for key, each in tables[-1].items() if key != "from"}:
            continue
        tables.append(({"from": day.isoformat()} if tables else {}) | table)
    return Found(provider.id, info.id, tables, tuple(dict.fromkeys(notes)))


def _days(info: ModelInfo, variants: list[PriceVariant]) -> list[date]:
    """The days on which a price begins, and a day before all of them."""
    conditional = info.prices if isinstance(info.prices, list) else []
    constraints = [each.constraint for each in conditional]
    constraints += [each.constraint for each in variants]
    starts = {each.start_date for each in constraints if isinstance(each, StartDateConstraint)}
    return [_EARLIEST, *sorted(starts)]


def _contexts(variants: list[PriceVariant], day: date) -> Iterator[tuple[str, dict[str, str]]]:
    """The service tiers that have a price on a day, with the facts by which the library knows them.
    Batches are not among them: no turn is one.
    """
    for variant in variants:
        (key, tier), *more = variant.when.items()
        constraint = variant.constraint
        starts_later = isinstance(constraint, StartDateConstraint) and day < constraint.start_date
        if key in _TIERS and not more and not starts_later and tier not in {"default", "standard"}:
            yield tier, variant.when


def _at(
    info: ModelInfo, day: date, context: dict[str, str] | None, notes: list[str]
) -> dict[str, Decimal | TieredPrices]:
    """The prices of a day: the dearest ones, where they change by the time of the day."""
    moments = {time(0)}
    for each in info.prices if isinstance(info.prices, list) else ():
        if isinstance(each.constraint, TimeOfDateConstraint):
            moments |= {each.constraint.start_time, each.constraint.end_time}
            notes.append("The prices change with the time of the day. These are the dearest.")
    found: dict[str, Decimal | TieredPrices] = {}
    for moment in moments:
        price = info.get_prices(datetime.combine(day, moment, UTC), context)
        for key, value in vars(price).items():
            if value is not None and (key not in found or _base(value) > _base(found[key])):
                found[key] = value
    return found


def _base(price: Decimal | TieredPrices) -> Decimal:
    return price.base if isinstance(price, TieredPrices) else price


def _table(
    price: dict[str, Decimal | TieredPrices], notes: list[str], *, above: bool = False
) -> dict[str, Any]:
    """The prices of one tier. With ``above``, also if they are the same for all lengths."""
    if not price:
        raise NoPrice("the library has an empty price, which counts as 0 there")
    classes = {ours: price[theirs] for ours, theirs in _CLASSES.items() if theirs in price}
    for name in ("input", "output"):
        if name not in classes:
            units = ", ".join(sorted(price))
            raise NoPrice(f"the library has no price for tokens of {name}, only {units}")
    if not _base(classes["input"]) and not _base(classes["output"]):
        raise NoPrice('the library has a price of 0: set price = "free" if the model costs nothing')
    others = sorted(
        key
        for key, value in price.items()
        if key.startswith("input_image") and _base(value) > _base(classes["input"])
    )
    if others:
        notes.append(f"Not counted apart, although dearer: {', '.join(others)}.")
    starts = sorted(
        {
            tier.start
            for each in classes.values()
            if isinstance(each, TieredPrices)
            for tier in each.tiers
        }
    )
    table: dict[str, Any] = {name: _text(_of(each, 0), notes) for name, each in classes.items()}
    if starts or above:
        table["above"] = [
            {"tokens": start}
            | {name: _text(_of(each, start + 1), notes) for name, each in classes.items()}
            for start in starts
        ]
    return table


def _of(price: Decimal | TieredPrices, tokens: int) -> Decimal:
    """The price of a request with an input of this length."""
    if not isinstance(price, TieredPrices):
        return price
    found = price.base
    for tier in price.tiers:
        if tokens > tier.start:
            found = tier.price
    return found


def _text(price: Decimal, notes: list[str]) -> str:
    """A price as a configuration has it. Raises NoPrice for one above the maximum."""
    if price > _MOST:
        raise NoPrice(f"${price} per million tokens is above the maximum of $1,000")
    exact = price.quantize(_EXACT, ROUND_CEILING)
    if exact != price:
        notes.append(f"{price} is rounded up to {exact.normalize():f}.")
    digits = f"{exact:f}".rstrip("0")
    whole, _, decimals = digits.partition(".")
    return f"{whole}.{decimals.ljust(2, '0')}"
