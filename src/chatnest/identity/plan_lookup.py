"""PlanLookup: the plan of a principal by an async function, with a cache in each worker."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

import anyio
import msgspec
from anyio.lowlevel import RunVar

from chatnest.identity.base import Identity

__all__ = ["PlanLookup", "PlanOf"]

_log = logging.getLogger("chatnest.identity")

_MOST: Final = 10_000
"""Maximum principals in the cache."""

_RETRY_SECONDS: Final = 5.0
"""Minimum seconds between a failed look-up of a principal and the next, if the cache keeps plans
for longer.
"""

_LOG_SECONDS: Final = 60.0
"""Minimum seconds between two log lines about failed look-ups."""

PlanOf = Callable[[Identity], str | Awaitable[str | None] | None]
"""The name of a principal's plan, or None. It may be async."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


class _Entry(msgspec.Struct, frozen=True):
    """A plan as it was last known, and the time until which it is not looked up again."""

    plan: str | None
    until: float


class PlanLookup:
    """Asks ``plan_of`` at most once in ``seconds`` for each principal, and once at a time.

    A look-up fails if it raises, if its result is not a name, or if it takes longer than
    ``deadline`` seconds. The last known plan then counts, or none. The cache has 10,000 principals.
    If it is full, it drops the principal whose look-up is the oldest.
    """

    def __init__(
        self,
        plan_of: PlanOf,
        *,
        seconds: float,
        deadline: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._plan_of = plan_of
        self._seconds = seconds
        self._deadline = deadline
        self._clock = clock
        self._entries: dict[_Key, _Entry] = {}
        self._flights: RunVar[dict[_Key, anyio.Event]] = RunVar(f"chatnest_plans_{id(self)}")
        self._log_at = -_LOG_SECONDS
        self._unlogged = 0

    def __len__(self) -> int:
        return len(self._entries)

    def is_fresh(self, identity: Identity) -> bool:
        """Whether ``find`` returns at once."""
        entry = self._entries.get(_key(identity))
        return entry is not None and self._clock() < entry.until

    def cached(self, identity: Identity) -> str | None:
        """The plan as it was last known."""
        entry = self._entries.get(_key(identity))
        return None if entry is None else entry.plan

    async def find(self, identity: Identity) -> str | None:
        """The plan of a principal. Requests that arrive during a look-up wait for its result.
        If the request that began the look-up is cancelled, a waiting request begins a new one.
        """
        key = _key(identity)
        flights = self._flights_here()
        while not self.is_fresh(identity):
            if (flight := flights.get(key)) is not None:
                await flight.wait()
                continue
            flights[key] = anyio.Event()
            try:
                await self._ask(key, identity)
            finally:
                flights.pop(key).set()
            break
        return self.cached(identity)

    async def _ask(self, key: _Key, identity: Identity) -> None:
        try:
            with anyio.fail_after(self._deadline):
                found: object = self._plan_of(identity)
                if inspect.isawaitable(found):
                    found = await found
            plan = _name(found)
        except Exception as exc:  # noqa: BLE001  # any failure of the hook; logged
            self._report(exc)
            self._keep(key, self.cached(identity), min(self._seconds, _RETRY_SECONDS))
        else:
            self._keep(key, plan, self._seconds)

    def _keep(self, key: _Key, plan: str | None, seconds: float) -> None:
        self._entries.pop(key, None)
        self._entries[key] = _Entry(plan, self._clock() + seconds)
        if len(self._entries) > _MOST:
            del self._entries[next(iter(self._entries))]

    def _report(self, failure: Exception) -> None:
        """Log the first failure of a minute in full, and the number of the others."""
        self._unlogged += 1
        if (now := self._clock()) - self._log_at < _LOG_SECONDS:
            return
        _log.error(
            "plan_of failed: error=%s failures=%d. The last known plan counts, or none. Further "
            "failures are not logged for %d seconds.",
            type(failure).__name__,
            self._unlogged,
            _LOG_SECONDS,
            exc_info=failure,
        )
        self._log_at, self._unlogged = now, 0

    def _flights_here(self) -> dict[_Key, anyio.Event]:
        """The look-ups that run in this event loop."""
        try:
            return self._flights.get()
        except LookupError:
            flights: dict[_Key, anyio.Event] = {}
            self._flights.set(flights)
            return flights


def _key(identity: Identity) -> _Key:
    """The principal with its groups, on which its plan may depend."""
    return identity.principal, tuple(sorted(identity.groups.items())) if identity.groups else ()


def _name(found: object) -> str | None:
    """A name as a plain str, also from a subclass such as a StrEnum. Raises TypeError."""
    if found is None:
        return None
    if not issubclass(type(found), str) or not isinstance(found, str):  # not a lazy object
        raise TypeError(f"plan_of(): expected a str or None, got {type(found).__name__}.")
    return str.__str__(found)
