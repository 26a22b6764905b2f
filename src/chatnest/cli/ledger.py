"""``chatnest ledger``: show the books, correct them and verify them."""

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from chatnest.alerts.warning import warning_of
from chatnest.amounts import amount_text, nanos_of
from chatnest.cli.books import Command, on_books, run_on_ledger
from chatnest.cli.output import shown, time_text, write_documents, write_error, write_table
from chatnest.config.sections import Config
from chatnest.errors import ConfigurationError
from chatnest.ledger.audit import (
    Adjusted,
    Adjustment,
    Audit,
    Balance,
    TurnRecord,
    Verdict,
)
from chatnest.ledger.books import GRANTED
from chatnest.ledger.days import day_of
from chatnest.ledger.limit import Unit
from chatnest.ledger.usage import UsageRow
from chatnest.ledger.watch import Crossing
from chatnest.policies.limits import LimitRule

__all__ = ["run"]

_DRIFT: Final = 1
_UNAVAILABLE: Final = 1
_UNSURE: Final = 3
"""Exit codes. A ConfigurationError gives 2."""

_TIMES: Final = ("admitted_at", "settled_at", "expires_at", "at")

_EFFECTS: Final = {
    "adopt": "; nothing was adopted",
    "adjust": "; the adjustment may have been made: it is safe to repeat the command",
    "grant": "; the grant may have been made: it is safe to repeat the command",
    "verify": "; nothing was verified",
}


def run(options: Namespace) -> None:
    """Run one of the actions, and exit. Raises ConfigurationError."""
    action = options.action
    run_on_ledger(
        options,
        on_books(_COMMANDS[action], options),
        may_be_missing=action == "adopt",
        effect=_EFFECTS.get(action, ""),
        # Without the ledger it is unknown whether the books have a drift.
        unavailable=_UNSURE if action == "verify" else _UNAVAILABLE,
    )


# ---------------------------------------------------------------- actions


async def _show(audit: Audit, options: Namespace, _: Config) -> int:
    balances = await audit.balances(options.principal)
    if options.json:
        write_documents(
            msgspec.to_builtins(balance) | {"used": balance.used} for balance in balances
        )
        return 0
    if not balances:
        of_principal = "" if options.principal is None else f" of {options.principal!r}"
        write_error(f"the ledger has no records{of_principal}")
        return 0
    figures = ("used", "held", "settled", "adjusted", "expired", "overrun")
    rows = [
        [
            b.account,
            b.name,
            b.day or "streams",
            *(_quantity(b.unit, getattr(b, f)) for f in figures),
        ]
        for b in balances
    ]
    write_table(["principal", "limit", "day", *figures], rows)
    return 0


async def _holds(audit: Audit, options: Namespace, _: Config) -> int:
    holds, now = await audit.holds(), await audit.now()
    if options.json:
        write_documents(_document(hold) for hold in holds)
        return 0
    rows = [
        [
            hold.id,
            f"{hold.tokens:,}",
            time_text(hold.admitted_at),
            f"{(hold.expires_at - now) / 1000:,.0f} s" if hold.expires_at > now else "ended",
            ", ".join(dict.fromkeys(line.key.split(":", 2)[2] for line in hold.lines)),
        ]
        for hold in holds
    ]
    write_table(["hold", "tokens", "since", "lease", "accounts"], rows)
    return 0


async def _warnings(audit: Audit, options: Namespace, config: Config) -> int:
    found = await audit.warnings()
    if options.json:
        write_documents(_warning(crossing, config.ledger.currency) for crossing in found)
        return 0
    rows = [
        [
            crossing.account,
            crossing.limit,
            crossing.window,
            f"{crossing.threshold / 10:g} %",
            _quantity(crossing.unit, crossing.used),
            _quantity(crossing.unit, crossing.amount),
            time_text(crossing.at),
            crossing.state,
        ]
        for crossing in found
    ]
    write_table(["account", "limit", "window", "threshold", "used", "of", "since", "state"], rows)
    return 0


def _warning(crossing: Crossing, currency: str) -> dict[str, Any]:
    return _document(warning_of(crossing, currency)) | {"state": crossing.state}


async def _export(audit: Audit, options: Namespace, _: Config) -> int:
    async with aclosing(audit.records(_since(options.since))) as records:
        async for record in records:
            kind = "turn" if isinstance(record, TurnRecord) else "adjustment"
            write_documents([{"type": kind} | _document(record)])
    return 0


async def _adjust(audit: Audit, options: Namespace, config: Config) -> int:
    now, account = await audit.now(), options.principal
    balances = await audit.balances(account)
    if not balances and not options.new:
        raise ConfigurationError(
            f"PRINCIPAL: expected a principal with records, got {account!r}. Nothing was changed. "
            "Choose a name that `chatnest ledger show` lists, or pass --new to create an account."
        )
    name = options.name or _only_name(account, balances)
    unit = next((b.unit for b in balances if b.name == name and b.day), "tokens")
    wanted = Adjustment(
        id=options.id,
        account=account,
        name=name,
        day=options.day or day_of(now, config.budget.timezone),
        amount=_amount_of(options.amount, unit),
        reason=options.reason,
    )
    return await _make(audit, wanted, has_day=bool(options.day))


async def _grant(audit: Audit, options: Namespace, config: Config) -> int:
    rule = _lifetime(config, options.name)
    amount = _amount_of(options.amount, rule.unit)
    wanted = Adjustment(
        id=options.id,
        account=options.principal,
        name=rule.name,
        day=GRANTED,
        amount=amount,
        reason=options.reason,
    )
    return await _make(audit, wanted, has_day=True, unit=rule.unit)


def _lifetime(config: Config, name: str | None) -> LimitRule:
    """The limit of the configuration that grants add to."""
    rules = {rule.name: rule for rule in config.limits if rule.window == "lifetime"}
    if name in rules:
        return rules[name]
    if name is None and len(rules) == 1:
        return next(iter(rules.values()))
    known = ", ".join(rules) or "there is none"
    raise ConfigurationError(
        f'--name: expected one of the limits with window = "lifetime" ({known}), got {name!r}. '
        "Pass --config, and one of them."
    )


async def _make(
    audit: Audit, wanted: Adjustment, *, has_day: bool, unit: Unit | None = None
) -> int:
    """Make an adjustment, unless its id is known, and write what was made. ``unit`` is for a limit
    that the books may not know yet.
    """
    adjusted = await audit.adjust(wanted)
    if unit is not None:
        balance = msgspec.structs.replace(adjusted.balance, unit=unit)
        adjusted = msgspec.structs.replace(adjusted, balance=balance)
    made = adjusted.adjustment
    if msgspec.structs.replace(made, at=0) != msgspec.structs.replace(
        wanted, day=wanted.day if has_day else made.day
    ):
        raise ConfigurationError(
            f"--id: expected a new id, got {made.id!r}, the id of another adjustment of "
            f"{made.account!r}: {_change(adjusted)}, {made.name} of {made.day}, "
            f"{made.reason!r}. Nothing was changed. Choose another id."
        )
    sys.stdout.write(_sentence(adjusted))
    return 0


async def _verify(audit: Audit, _: Namespace, __: Config) -> int:
    verdict = await audit.verdict()
    for drift in verdict.drifts:
        place = f"{drift.name} of {drift.day}" if drift.day else drift.name
        sys.stdout.write(
            f"drift: {shown(drift.account)}, {place}: {drift.figure} is {drift.recorded:,}, "
            f"but the records add up to {drift.recomputed:,}\n"
        )
    for found in verdict.usage:
        sys.stdout.write(
            f"drift: usage of {_row(found.row)}: {found.figure} is {found.recorded:,}, but the "
            f"records add up to {found.recomputed:,}\n"
        )
    for sentence in verdict.unsure:
        sys.stdout.write(f"cannot be verified: {shown(sentence)}\n")
    sys.stdout.write(_summary(verdict))
    if verdict.drifts or verdict.usage:
        return _DRIFT
    return _UNSURE if verdict.unsure else 0


async def _timezone(audit: Audit, options: Namespace, _: Config) -> int:
    change = await audit.change_zone(options.name, options.zone)
    sys.stdout.write(
        f"{shown(change.name)}: days of {change.after} instead of {change.before}; use "
        "on a day that reaches into both still counts\n"
    )
    return 0


async def _adopt(audit: Audit, _: Namespace, __: Config) -> int:
    sys.stdout.write(f"{await audit.adopt()}\n")
    return 0


_COMMANDS: Final[Mapping[str, Command]] = {
    "adopt": _adopt,
    "show": _show,
    "holds": _holds,
    "warnings": _warnings,
    "export": _export,
    "adjust": _adjust,
    "grant": _grant,
    "timezone": _timezone,
    "verify": _verify,
}


# ---------------------------------------------------------------- shared


def _only_name(account: str, balances: Iterable[Balance]) -> str:
    names = sorted({b.name for b in balances if b.day is not None})
    if len(names) > 1:
        raise ConfigurationError(
            f"--name: expected one of the limits of {account!r}, got none. Pass one of "
            f"{', '.join(names)}, as in --name {names[0]}."
        )
    return names[0] if names else "tokens"


def _sentence(adjusted: Adjusted) -> str:
    made, balance = adjusted.adjustment, adjusted.balance
    place = made.name if made.day == GRANTED else f"{made.name} of {made.day}"
    what = f"{shown(made.account)}, {place}: {_change(adjusted)}"
    earlier = (
        "" if adjusted.first else f", already made at {time_text(made.at)}; nothing was changed"
    )
    if made.day == GRANTED:
        return f"{what}{earlier}; granted {_quantity(balance.unit, balance.adjusted)}\n"
    used, held = _quantity(balance.unit, balance.used), _quantity(balance.unit, balance.held)
    return f"{what}{earlier}; used {used}, held {held}\n"


def _amount_of(text: str, unit: str) -> int:
    """The amount of a command, in the smallest unit. It may be negative."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if unit == "money":
        try:
            return sign * nanos_of(digits)
        except ValueError as exc:
            raise ConfigurationError(f"AMOUNT: {exc}") from None
    if not (digits.isascii() and digits.isdecimal()):
        raise ConfigurationError(
            f"AMOUNT: expected a whole number of {unit}, such as 500 or -500, got {text!r}."
        )
    return sign * int(digits)


def _change(adjusted: Adjusted) -> str:
    """The amount of an adjustment, with its sign and unit."""
    amount, unit = adjusted.adjustment.amount, adjusted.balance.unit
    if unit == "money":
        return f"{'+' if amount > 0 else ''}{amount_text(amount)}"
    return f"{amount:+,} {unit}"


def _quantity(unit: str, amount: int) -> str:
    return amount_text(amount) if unit == "money" else f"{amount:,}"


def _row(row: UsageRow) -> str:
    named = zip(row._fields, row, strict=True)
    return ", ".join(f"{name} {shown(value)}" for name, value in named if value not in {"", "{}"})


def _summary(verdict: Verdict) -> str:
    drifts = len(verdict.drifts) + len(verdict.usage)
    summary = f"{verdict.checked:,} counters, {drifts:,} drifts"
    if verdict.old:
        summary += f"; not checked: {verdict.old:,} of days whose records are being deleted"
    return summary + "\n"


def _since(text: str) -> int:
    """Milliseconds of an ISO 8601 date or time, in UTC if it has no offset."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--since: expected a date or time such as 2026-11-22 or 2026-11-22T18:30:00Z, "
            f"got {text!r}."
        ) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)


def _document(value: msgspec.Struct) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(value)
    times = {key: time_text(document[key]) for key in _TIMES if document.get(key) is not None}
    return document | times
