"""Fallback: what a worker may count by itself while the ledger is away."""

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
    """What becomes of requests while the ledger is away, by the limits that they are under.

    ``refuse``: 503. ``count``: each worker counts by itself, from nothing, until the ledger is
    back. ``budgets`` are those of tokens; ``rates`` are those of requests and of streams at a time.
    With ``budgets="count"`` an outage may cost what a day may cost, once more for each worker.
    """

    budgets: _Rule = "refuse"
    rates: _Rule = "count"

    def __post_init__(self) -> None:
        if not {self.budgets, self.rates} <= set(get_args(_Rule)):
            raise ConfigurationError(f"{self!r}: each is 'refuse' or 'count'")


class LocalBooks:
    """The books of one worker, for what it admits while the ledger is away. ``clock`` is that of
    the ledger, as it is known here.
    """

    def __init__(self, rules: WhenAway, clock: Callable[[], int]) -> None:
        self._rules = rules
        self._clock = clock
        self._books = DictBooks(_MOST_KEYS)
        self._held: set[str] = set()
        self._lock = threading.Lock()  # for threads; there is no await inside it

    def may_count(self, limits: tuple[Limit, ...]) -> bool:
        """Whether every one of these limits may be counted here."""
        return all(
            (self._rules.budgets if limit.kind == "budget" else self._rules.rates) == "count"
            for limit in limits
        )

    def reserve(self, wish: Reservation) -> Admitted | Refused:
        """As a ledger does."""
        with self._lock:
            answer = self._books.reserve(wish, self._clock())
            if isinstance(answer, Admitted):
                self._held.add(wish.id)
            return answer

    def renew(self, hold: Hold, lease: int) -> None:
        """As a ledger does, for what is held here."""
        with self._lock:
            if hold.id in self._held:
                self._books.renew(hold, lease, self._clock())

    def settle(self, hold: Hold, charge: Charge) -> None:
        """As a ledger does, for what is held here."""
        with self._lock:
            if hold.id in self._held:
                self._held.remove(hold.id)
                self._books.settle(hold, charge, self._clock())
