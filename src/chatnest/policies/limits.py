"""LimitRules: declared limits of principals, of their groups and of all requests. No I/O."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from chatnest.amounts import nanos_of, quantity_text
from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Limit
from chatnest.ledger.books import scale_of
from chatnest.ledger.limit import MOST, CalendarWindow, Mode, Unit
from chatnest.ledger.thresholds import Part, thousandths
from chatnest.models import Candidate
from chatnest.policies.zone import check_zone
from chatnest.turn import Turn

__all__ = ["EVERYBODY", "LimitRule", "LimitRules", "no_price"]

_log = logging.getLogger("chatnest.policies")

EVERYBODY: Final = "everybody"
"""The account of the limits ``per = "global"``. A principal has a colon in its name."""

_PRINCIPAL: Final = "principal"
_GLOBAL: Final = "global"

RuleWindow = int | CalendarWindow | str | None
Amount = int | str | Mapping[str, int | str]


class LimitRule(msgspec.Struct, frozen=True, kw_only=True):
    """A limit for each account of a kind.

    ``per`` is ``"principal"``, ``"global"``, or the name of a group such as team: a request whose
    principal has no such group is not limited by the rule. ``models`` restricts it to requests for
    these models of the catalogue; None is all of them.

    ``warn_at`` are parts of the amount, such as 0.8, with at most three digits after the point.

    ``unit``, ``window``, ``starts``, ``timezone`` and ``mode`` are those of a Limit; seconds may
    also be written as ``"60s"``. ``amount`` is a whole number or, for money, a text such as
    ``"200.00"``, in the ledger's currency. It may be a table by plan, for principals alone, since
    the members of a group may have several plans; a principal without one of these plans has the
    smallest amount of them.

    Raises ConfigurationError.
    """

    name: str
    per: str = _PRINCIPAL
    unit: Unit
    amount: Amount
    window: RuleWindow = None
    starts: int = 1
    timezone: str = "UTC"
    models: tuple[str, ...] | None = None
    mode: Mode = "enforce"
    hidden: bool = False
    warn_at: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.amount, Mapping) and self.per != _PRINCIPAL:
            raise ConfigurationError(
                f"limits.{self.name}.amount: expected one amount, got one for each plan. Amounts "
                'by plan need per = "principal": the members of a group may have several plans.'
            )
        models: object = self.models
        if models is not None and (isinstance(models, str) or not models):
            raise ConfigurationError(
                f"limits.{self.name}.models: expected a list of at least one name, got "
                f"{self.models!r}. Leave it out for all models."
            )
        check_zone(self.timezone)
        self.limit_of("")  # raises at the start, not at a request

    def limit_of(self, account: str, plan: str = "") -> Limit:
        """The limit of an account."""
        try:
            return Limit(
                name=self.name,
                unit=self.unit,
                account=account,
                amount=self.amount_of(plan),
                window=self._window(),
                starts=self.starts,
                timezone=self.timezone,
                mode=self.mode,
                hidden=self.hidden,
                warn_at=thousandths(self.warn_at),
            )
        except ConfigurationError as exc:
            wrong = exc.detail.rpartition("): ")[2]
            raise ConfigurationError(f"limits.{self.name}: {wrong}") from None

    def describe(self, currency: str) -> str:
        """The rule in words for its operator, such as ``$5.00 a month for each principal``."""
        amounts = self.amount if isinstance(self.amount, Mapping) else {"": self.amount}
        shown = ", ".join(
            f"{quantity_text(self.unit, self.amount_of(plan), currency)}{plan and f' for {plan}'}"
            for plan in amounts
        )
        window = self._window()
        per = {None: " at a time", "lifetime": " in a lifetime"}.get(window, f" a {window}")
        if isinstance(window, int):
            per = f" in {window} s"
        whose = "all requests" if self.per == _GLOBAL else f"each {self.per}"
        models = "" if self.models is None else f", of {', '.join(self.models)}"
        shadow = ", which refuses nothing" if self.mode == "shadow" else ""
        return f"{shown}{per} for {whose}{models}{shadow}"

    def amount_of(self, plan: str) -> int:
        """The amount for a plan, in the unit."""
        if not isinstance(self.amount, Mapping):
            return self._amount(self.amount, "amount")
        amounts = {name: self._amount(each, f"amount.{name}") for name, each in self.amount.items()}
        if not amounts:
            raise ConfigurationError("amount: expected an amount for at least one plan, got none.")
        return amounts[plan] if plan in amounts else min(amounts.values())

    def _amount(self, amount: object, place: str) -> int:
        if self.unit != "money":
            if type(amount) is not int:
                raise ConfigurationError(
                    f"{place}: expected a whole number of {self.unit}, got {amount!r}."
                )
            return amount
        try:
            nanos = nanos_of(amount)
        except ValueError as exc:
            raise ConfigurationError(f"{place}: {exc}") from None
        if nanos > MOST:
            raise ConfigurationError(f'{place}: expected at most "9000000", got {amount!r}.')
        return nanos

    def _window(self) -> Any:
        window = self.window
        if isinstance(window, str) and window.endswith("s") and window[:-1].isdecimal():
            return int(window[:-1])
        return window


class LimitRules:
    """Limits by rules. All that match a request apply, in one admission; the order does not matter.

    Raises ConfigurationError for rules of one name with different units or time zones.
    """

    def __init__(self, rules: Sequence[LimitRule]) -> None:
        self.rules: tuple[LimitRule, ...] = tuple(rules)
        self.limit_names: tuple[str, ...] = tuple(dict.fromkeys(rule.name for rule in self.rules))
        self.zones: dict[str, str] = {}
        units: dict[str, Unit] = {}
        for rule in self.rules:
            if units.setdefault(rule.name, rule.unit) != rule.unit:
                raise ConfigurationError(
                    f"limits.{rule.name}.unit: expected one unit for all limits of a name, got "
                    f"{units[rule.name]} and {rule.unit}. Give one of them another name."
                )
            limit = rule.limit_of("")
            if limit.kind != "budget":
                continue
            if self.zones.setdefault(rule.name, scale_of(limit)) != scale_of(limit):
                raise ConfigurationError(
                    f"limits.{rule.name}.timezone: expected one time zone for all limits of a "
                    "name, got two. Give one of them another name."
                )
        self._limit = lru_cache(4_096)(self._limit_of)
        self._without: set[str] = set()

    def check(self, models: Iterable[Candidate]) -> None:
        """Raise ConfigurationError for a name of a model that is unknown, and for a limit of money
        over a model without a price.
        """
        names = {model.name: model.prices for model in models}
        for rule in self.rules:
            for name in rule.models or ():
                if name not in names:
                    raise ConfigurationError(
                        f"limits.{rule.name}.models: expected names of models "
                        f"({', '.join(names)}), got {name!r}. Correct it, or add the model."
                    )
            free = [name for name in rule.models or names if names[name] is None]
            if rule.unit == "money" and free:
                raise no_price(free[0], rule.name)

    def limits(self, turn: Turn) -> Iterable[Limit]:
        plan = turn.plan or ""
        limits = []
        for number, rule in enumerate(self.rules):
            if rule.models is not None and turn.model not in rule.models:
                continue
            per = rule.per
            if per == _PRINCIPAL:
                account = turn.principal
            elif per == _GLOBAL:
                account = EVERYBODY
            elif per in turn.groups:
                account = f"group:{per}:{turn.groups[per]}"
            else:
                if rule.name not in self._without:
                    self._warn_of(rule)
                continue
            limits.append(self._limit(number, account, plan))
        return limits

    def _warn_of(self, rule: LimitRule) -> None:
        """Say once that a request has no group of a rule: the group may be misspelled."""
        self._without.add(rule.name)
        _log.warning(
            "limit without a group: limit=%s per=%s. A principal without this group made a "
            "request, and the limit does not apply to it. Check the name if all of them should "
            "have one. This is logged once.",
            rule.name,
            rule.per,
        )

    def _limit_of(self, number: int, account: str, plan: str) -> Limit:
        return self.rules[number].limit_of(account, plan)


def no_price(model: str, limit: str) -> ConfigurationError:
    """The error for a model without a price under a limit of money."""
    return ConfigurationError(
        f"models.{model}.price: expected a price, since the limit {limit!r} is of money, got none. "
        'Add one, or price = "free".'
    )
