"""LocalBooks: a worker's own counts while the ledger is unavailable."""

import threading
from collections.abc import Callable
from typing import Literal, get_args

import msgspec

from chatnest.errors import ConfigurationError
from chatnest.ledger.base import Admitted, Charge, Hold, Limit, Refused, Reservation
from chatnest.ledger.dictbooks import DictBooks

__all__ = ["LocalBooks", "WhenAway"]

_MOST_KEYS = 100_000

_Rule = Literal["refuse", "count"]


class WhenAway(msgspec.Struct, frozen=True, kw_only=True):
    """Whether requests are admitted while the ledger is unavailable, by the kinds of their limits.

    ``refuse``: they get a 503. ``count``: each worker counts by itself, starting from zero, until
    the ledger is available again. ``budgets`` applies to limits of money and to calendar windows,
    ``rates`` to requests or tokens over seconds, and to concurrent streams. With
    ``budgets="count"``, an outage may cost a whole budget, once for each worker.
    """

    budgets: _Rule = "refuse"
    rates: _Rule = "count"

    def __post_init__(self) -> None:
        if not {self.budgets, self.rates} <= set(get_args(_Rule)):
            raise ConfigurationError(
                f"when_away: expected 'refuse' or 'count' for budgets and rates, got {self!r}."
            )


def _is_budget(limit: Limit) -> bool:
    return limit.kind == "budget" or limit.unit == "money"


class LocalBooks:
    """The books of one worker, for turns that it admits while the ledger is unavailable. ``clock``
    returns the ledger's time in milliseconds, as far as this worker knows it.
    """

    def __init__(self, rules: WhenAway, clock: Callable[[], int]) -> None:
        self._rules = rules
        self._clock = clock
        self._books = DictBooks(_MOST_KEYS)
        self._held: set[str] = set()
        self._lock = threading.Lock()  # several threads may call; nothing awaits while it is held

    def may_count(self, limits: tuple[Limit, ...]) -> bool:
        """Whether every one of these limits may be counted here."""
        return all(
            (self._rules.budgets if _is_budget(limit) else self._rules.rates) == "count"
            for limit in limits
        )

    def reserve(self, wish: Reservation) -> Admitted | Refused:
        """Admit or refuse, as Ledger.reserve does."""
        with self._lock:
            answer = self._books.reserve(wish, self._clock())
            if isinstance(answer, Admitted):
                self._held.add(wish.id)
            return answer

    def renew(self, hold: Hold, lease: int) -> None:
        """Renew a hold that was admitted here. All others are ignored."""
        with self._lock:
            if hold.id in self._held:
                self._books.renew(hold, lease, self._clock())

    def settle(self, hold: Hold, charge: Charge) -> None:
        """Settle a hold that was admitted here. All others are ignored."""
        with self._lock:
            if hold.id in self._held:
                self._held.remove(hold.id)
                self._books.settle(hold, charge, self._clock())
