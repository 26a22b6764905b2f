"""``chatnest prices``: write the prices of models from a library, and compare them with it."""

import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from chatnest.cli.price_library import Found, NoPrice, PriceLibrary
from chatnest.config.catalogue import address_of
from chatnest.config.mixtures import provider_section
from chatnest.config.prices import prices_of
from chatnest.config.sections import Api, Config, load_config
from chatnest.config.sources import naming_sources
from chatnest.prices import Prices
from chatnest.prices.money import dollars_of
from chatnest.prices.rates import Rates, Schedule

__all__ = ["run"]

_DRIFT: Final = 1
_NOTHING_COMPARED: Final = 3
"""Exit codes. A ConfigurationError gives 2."""

_ADDRESSES: Final[Mapping[Api, str]] = {
    "openai-chat": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic-messages": "https://api.anthropic.com",
}
"""Addresses of the owners of the APIs."""

_BARE: Final = re.compile("[A-Za-z0-9_-]+")


class _Asked(msgspec.Struct, frozen=True):
    """A model to look up. ``place`` is the section of its settings, ``url`` the address of its
    provider, ``prices`` are those of the configuration.
    """

    place: tuple[str, ...]
    model: str
    url: str | None = None
    prices: Prices | None = None


def run(options: Namespace) -> None:
    """Run one of the actions, and exit. Raises ConfigurationError."""
    library = PriceLibrary()
    names: list[str] = getattr(options, "models", [])
    if names:
        asked = [_Asked(("models", name), name) for name in names]
    else:
        config = load_config(options.config, os.environ, {})
        with naming_sources(config.sources):
            asked = list(_configured(config))
    today = datetime.now(UTC)
    if options.action == "check":
        sys.exit(_check(library, asked, today))
    sys.exit(_suggest(library, asked, today, options))


def _configured(config: Config) -> Iterator[_Asked]:
    """The models of a configuration."""
    if not config.models:
        section = config.provider
        url = address_of(section) or _ADDRESSES[section.api]
        yield _Asked(("provider",), section.model, url, prices_of("provider", section))
    for name, model in config.models.items():
        server = provider_section(config, model.provider)
        url = address_of(server) or _ADDRESSES[server.api]
        prices = prices_of(f"models.{name}", model)
        yield _Asked(("models", name), model.model or name, url, prices)


# ---------------------------------------------------------------- suggest


def _suggest(library: PriceLibrary, asked: list[_Asked], now: datetime, options: Namespace) -> int:
    lines = [
        f"# From {library.name}, on {now.date()}. They may be out of date or wrong: compare them",
        "# with the page of your provider.",
    ]
    missing = 0
    for each in asked:
        lines.append("")
        try:
            found = library.find(each.model, provider=options.provider, url=each.url)
            tables = found.tables if options.history else _from_now_on(found, now)
        except NoPrice as exc:
            missing += 1
            lines.append(f"# {_key(each.place)} ({_shown(each.model)}): no price, since {exc}.")
            continue
        lines.append(f"# {_shown(each.model)} at {found.provider}")
        lines += [f"# {note}" for note in found.notes]
        dearer = {} if options.tiers else _take_dearer(tables)
        lines += _blocks(each.place, tables)
        if dearer:
            lines += [
                f"# Without the dearer service tiers ({', '.join(dearer)}), at whose prices each",
                "# request would be held. If your account is served by one, add --tiers.",
            ]
    sys.stdout.write("\n".join(lines) + "\n")
    return _DRIFT if missing else 0


def _from_now_on(found: Found, now: datetime) -> list[dict[str, Any]]:
    """The price that is in force, and those that come."""
    past = [n for n, each in enumerate(found.tables) if each.get("from", "") <= str(now.date())]
    first, *later = found.tables[past[-1] :]
    return [first if later else {key: each for key, each in first.items() if key != "from"}, *later]


def _take_dearer(tables: list[dict[str, Any]]) -> dict[str, None]:
    """Remove the service tiers that are dearer than the standard one, and return their names."""
    dearer: dict[str, None] = {}
    for table in tables:
        price = Prices.of(table).at(0)
        for name, tier in price.tiers.items():
            if any(_is_dearer(*pair) for pair in _pairs(tier, price.standard)):
                dearer[name] = None
    for table in tables:
        table["tiers"] = {
            name: tier for name, tier in table.get("tiers", {}).items() if name not in dearer
        }
    return dearer


def _pairs(one: Schedule, other: Schedule) -> Iterator[tuple[Rates, Rates]]:
    """The rates of two schedules for each length of the input."""
    for above in sorted({length for each in (one, other) for length, _ in each.steps}):
        yield one.rates(above + 1), other.rates(above + 1)


def _is_dearer(one: Rates, other: Rates) -> bool:
    return any(getattr(one, name) > getattr(other, name) for name in one.__struct_fields__)


def _blocks(place: tuple[str, ...], tables: list[dict[str, Any]]) -> Iterator[str]:
    if len(tables) == 1:
        yield f"[{_key((*place, 'price'))}]"
        yield from _settings(tables[0])
        return
    for number, table in enumerate(tables):
        if number:
            yield ""
        yield f"[[{_key((*place, 'prices'))}]]"
        yield from _settings(table)


def _settings(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        match name, value:
            case "above", list():
                yield "above = ["
                yield from (f"    {_inline(each)}," for each in value)
                yield "]"
            case "tiers", dict():
                yield from (
                    f"tiers.{_key((tier,))} = {_inline(each)}" for tier, each in value.items()
                )
            case _:
                yield f"{name} = {_inline(value)}"


def _inline(value: object) -> str:
    """A value in TOML, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_inline(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value)


def _key(parts: tuple[str, ...]) -> str:
    """A dotted key in TOML."""
    return ".".join(each if _BARE.fullmatch(each) else json.dumps(each) for each in parts)


def _shown(text: str) -> str:
    """A name in printable form, on one line."""
    return text if text.isprintable() else repr(text)


# ---------------------------------------------------------------- check


def _check(library: PriceLibrary, asked: list[_Asked], now: datetime) -> int:
    moment = int(now.timestamp()) * 1_000
    compared, drifts = 0, []
    for each in asked:
        place = _key(each.place)
        try:
            found = library.find(each.model, url=each.url)
            theirs = Prices.of(found.tables).at(moment)
        except NoPrice as exc:
            sys.stdout.write(f"{place}: not compared, since {exc}\n")
            continue
        for note in found.notes:
            sys.stdout.write(f"{place}: {note}\n")
        if each.prices is None:
            drifts.append(f"{place}: expected a price, since {library.name} has one, got none")
            continue
        compared += 1
        ours = each.prices.at(moment)
        drifts += _differences(place, ours.standard, theirs.standard)
        for tier in ours.tiers:
            if tier in theirs.tiers:
                here = f"{place}: tier {tier}"
                drifts += _differences(here, ours.tiers[tier], theirs.tiers[tier])
        if more := sorted(theirs.tiers.keys() - ours.tiers.keys()):
            sys.stdout.write(f"{place}: the library has more service tiers: {', '.join(more)}\n")
    sys.stdout.writelines(f"{each}\n" for each in drifts)
    sys.stdout.write(f"{compared} of {len(asked)} prices compared, {len(drifts)} differences\n")
    if drifts:
        return _DRIFT
    return 0 if compared else _NOTHING_COMPARED


def _differences(place: str, ours: Schedule, theirs: Schedule) -> Iterator[str]:
    """A line for each price that differs, below and above each length of the input."""
    for above in sorted({length for each in (ours, theirs) for length, _ in each.steps}):
        mine, others = ours.rates(above + 1), theirs.rates(above + 1)
        length = f" above {above:,} tokens" if above else ""
        for name in mine.__struct_fields__:
            here, there = getattr(mine, name), getattr(others, name)
            if here != there:
                yield f"{place}: {name}{length} is {dollars_of(here)}, there {dollars_of(there)}"
