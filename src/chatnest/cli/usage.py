"""``chatnest usage``: show usage by day, group, principal, model, profile and outcome."""

import csv
import re
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from chatnest.amounts import amount_text
from chatnest.cli import focus
from chatnest.cli.books import on_books, run_on_ledger
from chatnest.cli.output import harmless, shown, write_documents, write_error, write_table
from chatnest.config.sections import Config
from chatnest.errors import ConfigurationError
from chatnest.ledger.audit import Audit
from chatnest.ledger.days import day_of
from chatnest.ledger.usage import FIGURES, KEPT_DAYS, Refusals, UsageRow, Use, Used, first_day

__all__ = ["run"]

_SHOWN: Final = ("turns", "input", "cached", "output", "reasoning", "tokens", "estimated")
"""Columns of the table. JSON and CSV have all figures, under their full names."""

_DAYS: Final = re.compile(r"([0-9]{1,4})d")
_NAMES: Final = tuple(name for name in UsageRow._fields if name != "groups")


def run(options: Namespace) -> None:
    """Show the roll-up in one of the formats, and exit. Raises ConfigurationError."""
    run_on_ledger(options, on_books(_usage, options))


async def _usage(audit: Audit, options: Namespace, config: Config) -> int:
    since = _since(options.since, await audit.now())
    if options.refusals:
        _write_refusals(await audit.refusals(since), options, since)
        return 0
    is_focus = options.format == "focus"
    if is_focus and options.by is not None:
        raise ConfigurationError(
            f"--by: expected none with --format focus, whose rows are by {', '.join(focus.BY)}, "
            f"got {options.by!r}. Leave it out."
        )
    by = focus.BY if is_focus else _names("principal" if options.by is None else options.by)
    used = await audit.usage(since, by)
    currency = await audit.currency() or config.ledger.currency
    if is_focus:
        focus.write_focus(used, currency)
        return 0
    _check_groups(by, used)
    if options.json:
        write_documents(_document(by, each, currency) for each in used)
    elif options.csv:
        _write_csv(by, used, currency)
    elif not used:
        write_error(f"the ledger has no usage since {since}")
    else:
        _write_table(by, used, currency)
    return 0


def _names(text: str) -> tuple[str, ...]:
    """The names of ``--by``."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name in {*FIGURES, "groups", "currency"}:
            raise _not_a_name(name)
    return names


def _check_groups(by: Sequence[str], used: Sequence[Used]) -> None:
    """Raise ConfigurationError for a group that no turn had, which is probably a typing error."""
    for number, name in enumerate(by):
        if name not in _NAMES and used and not any(each.by[number] for each in used):
            raise _not_a_name(name)


def _not_a_name(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"--by: expected {', '.join(_NAMES)} or a group that a turn had, such as team, got "
        f"{name!r}. Correct the name."
    )


def _since(text: str, now: int) -> str:
    """The day of ``--since``: a date, or a number of days such as 30d, including today."""
    if found := _DAYS.fullmatch(text):
        days = int(found[1])
        if 1 <= days <= KEPT_DAYS:
            return first_day(now, days)
    else:
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = None
        if day is not None and day.isoformat() == text:
            return text
    raise ConfigurationError(
        f"--since: expected a number of days from 1d to {KEPT_DAYS}d, or a date such as "
        f"{day_of(now, 'UTC')}, got {text!r}."
    )


# ---------------------------------------------------------------- formats


def _write_refusals(found: Sequence[Refusals], options: Namespace, since: str) -> None:
    """Write refusals by limit and hour."""
    if options.json:
        write_documents(msgspec.structs.asdict(each) for each in found)
    elif options.csv:
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(["hour", "limit", "count"])
        out.writerows([each.hour, harmless(each.limit), each.count] for each in found)
    elif not found:
        write_error(f"no limit has refused since {since}")
    else:
        write_table(
            ["hour", "limit", "refusals"],
            [[each.hour, each.limit, f"{each.count:,}"] for each in found],
        )


def _document(by: Sequence[str], used: Used, currency: str) -> dict[str, Any]:
    figures: dict[str, Any] = msgspec.structs.asdict(used.use)
    named = dict(zip(by, used.by, strict=True))
    return named | figures | {"money": amount_text(used.use.money), "currency": currency}


def _write_csv(by: Sequence[str], used: Iterable[Used], currency: str) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*by, *FIGURES, "currency"])
    for each in used:
        document = _document(by, each, currency)
        names = [harmless(value) for value in each.by]
        out.writerow([*names, *(document[figure] for figure in FIGURES), currency])


def _write_table(by: Sequence[str], used: Sequence[Used], currency: str) -> None:
    total = Use()
    for each in used:
        total.add(each.use)
    lines = [*used]
    if len(used) > 1 and by:
        lines.append(Used(("total", *[""] * (len(by) - 1)), total))
    money = _same_decimals([amount_text(each.use.money) for each in lines])
    rows = [
        [*(value or "-" for value in each.by), *_figures(each.use), cost]
        for each, cost in zip(lines, money, strict=True)
    ]
    if by and len(used) > 1:
        rows[-1][1 : len(by)] = [""] * (len(by) - 1)
    write_table([*map(shown, by), *_SHOWN, currency], rows)


def _figures(use: Use) -> list[str]:
    figures = (
        *(use.turns, use.input_tokens, use.cached_tokens, use.output_tokens),
        *(use.reasoning_tokens, use.tokens, use.estimated),
    )
    return [f"{figure:,}" for figure in figures]


def _same_decimals(amounts: Sequence[str]) -> list[str]:
    """The amounts, padded to the same number of decimals, so that their points are aligned."""
    most = max(len(amount.partition(".")[2]) for amount in amounts)
    return [amount + "0" * (most - len(amount.partition(".")[2])) for amount in amounts]
