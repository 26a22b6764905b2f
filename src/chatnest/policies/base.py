"""Policy: a say in what happens to a turn. The seam. No I/O.

A policy is any object with one or more of the four hooks below; nobody has to inherit. They run
in the order of the list that ChatNestApp was given:

1. ``prepare`` may change the turn, or refuse it by raising a ChatNestError;
2. ``limits`` says what it must fit under: the limits of all policies are admitted in one step of
   the ledger, so that a refused turn counts nowhere;
3. ``classify`` says whether a failed call of the model is tried once more;
4. ``finished`` sees what came of it.

A policy with ``needs_headers = True`` finds the request's header fields in ``turn.headers``.
Without such a policy they are not kept, since an open stream would hold them in memory.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping
from typing import Final, Protocol, runtime_checkable

from chatnest.errors import ConfigurationError, UpstreamError
from chatnest.ledger.base import Limit
from chatnest.turn import Turn

__all__ = ["Classifies", "Finishes", "Limits", "Policy", "PolicyChain", "Prepares", "Zoned"]


_log = logging.getLogger("chatnest.policies")


@runtime_checkable
class Prepares(Protocol):
    """Has a say before anything is counted or held."""

    async def prepare(self, turn: Turn) -> None:
        """Change ``turn``, or raise a ChatNestError to refuse it."""


@runtime_checkable
class Limits(Protocol):
    """Names limits."""

    def limits(self, turn: Turn) -> Iterable[Limit]:
        """What ``turn`` must fit under."""


@runtime_checkable
class Classifies(Protocol):
    """Gives advice on trying again."""

    def classify(self, turn: Turn, failure: UpstreamError, attempt: int) -> float | None:
        """Seconds to wait before one more attempt, or None for none. ``attempt`` counts from 1."""


@runtime_checkable
class Finishes(Protocol):
    """Sees the end."""

    async def finished(self, turn: Turn) -> None:
        """``turn.outcome``, ``turn.answer`` and ``turn.charged`` are final. What this raises is
        logged and changes nothing.
        """


@runtime_checkable
class Zoned(Protocol):
    """Says in advance which time zones its budgets have, so that a conflict is found at start."""

    zones: Mapping[str, str]
    """Of the name of each."""


Policy = Prepares | Limits | Classifies | Finishes


_ASYNC: Final = {"prepare": True, "limits": False, "classify": False, "finished": True}
"""The hooks, and whether each is an async function."""


def _check_hooks(policy: Policy) -> None:
    for hook, is_async in _ASYNC.items():
        written = getattr(policy, hook, None)
        if written is not None and not callable(written):
            raise ConfigurationError(f"{policy!r}: {hook} must be a function, not {written!r}")
        if not inspect.isroutine(written):
            continue
        if is_async and not inspect.iscoroutinefunction(written):
            raise ConfigurationError(f"{policy!r}: {hook} must be an async function")
        if not is_async and (
            inspect.iscoroutinefunction(written) or inspect.isasyncgenfunction(written)
        ):
            raise ConfigurationError(f"{policy!r}: {hook} must not be an async function")


def _needs_headers(policy: Policy) -> bool:
    needs = getattr(policy, "needs_headers", False)
    if not isinstance(needs, bool):
        raise ConfigurationError(
            f"{policy!r}: needs_headers: expected True or False, got {needs!r}."
        )
    return needs


class PolicyChain:
    """Policies in their order, sorted by hook once, when the application is made."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        """Raises ConfigurationError for anything that is not a list of policies."""
        if not isinstance(policies, Iterable):
            raise ConfigurationError(f"policies must be a list of them, not {policies!r}")
        policies = tuple(policies)
        for number, policy in enumerate(policies):
            if isinstance(policy, list | tuple):
                raise ConfigurationError(
                    f"policies[{number}] is a {type(policy).__name__} of policies: unpack it, "
                    "as in [*standard_policies(), MyPolicy()]"
                )
            if isinstance(policy, type) or not isinstance(policy, Policy):
                raise ConfigurationError(
                    f"{policy!r} is no policy: that is an object with one of the hooks"
                )
            _check_hooks(policy)
        self.needs_headers: bool = any(map(_needs_headers, policies))
        """Whether turns have the header fields of their requests."""
        self._prepares = [p for p in policies if isinstance(p, Prepares)]
        self._limits = [p for p in policies if isinstance(p, Limits)]
        self._classifies = [p for p in policies if isinstance(p, Classifies)]
        self._finishes = [p for p in policies if isinstance(p, Finishes)]
        self.budgets: tuple[Limit, ...] = tuple(
            Limit(name=name, kind="budget", account="", limit=0, timezone=zone)
            for policy in policies
            if isinstance(policy, Zoned)
            for name, zone in policy.zones.items()
        )
        """A limit of nobody for each name of a budget that is known in advance."""

    async def prepare(self, turn: Turn) -> None:
        """Every ``prepare``, until one raises."""
        for policy in self._prepares:
            await policy.prepare(turn)

    def limits(self, turn: Turn) -> tuple[Limit, ...]:
        """The limits of all policies."""
        limits: list[Limit] = []
        for policy in self._limits:
            limits += policy.limits(turn)
        return tuple(limits)

    def shown_limits(self, turn: Turn) -> tuple[Limit, ...]:
        """Those of them that clients may see."""
        return tuple([limit for limit in self.limits(turn) if not limit.hidden])

    def classify(self, turn: Turn, failure: UpstreamError, attempt: int) -> float | None:
        """The first advice that is not None."""
        for policy in self._classifies:
            try:
                delay = policy.classify(turn, failure, attempt)
            except Exception:  # noqa: BLE001  # the failure of the call is what counts
                _log.exception("%s: classify() failed in request %s", policy, turn.id)
                continue
            if delay is not None:
                return delay
        return None

    async def finished(self, turn: Turn) -> None:
        """Every ``finished``; what one raises is logged, and keeps no other from its turn."""
        for policy in self._finishes:
            try:
                await policy.finished(turn)
            except Exception:  # noqa: BLE001  # the turn has ended already
                _log.exception("%s: finished() failed after request %s", policy, turn.id)
