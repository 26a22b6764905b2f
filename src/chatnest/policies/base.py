"""Policy: changes, limits, retries or watches a turn. The seam. No I/O.

A policy is any object with at least one of the five hooks below. It does not have to inherit. Hooks
run in the order of the policies of ChatNestApp:

1. ``prepare`` may change the turn, or refuse it by raising a ChatNestError;
2. ``limits`` returns the turn's limits: the ledger admits those of all policies in one step, so
   that a refused turn counts for none of them;
3. ``classify`` decides whether a failed call to the model is repeated;
4. ``watch`` sees the text of the answer before the client does, and may end the answer;
5. ``finished`` receives the outcome.

A policy with ``needs_headers = True`` finds the request's header fields in ``turn.headers``.
Without such a policy they are not kept, since an open stream would hold them in memory.
"""

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from chatnest._util.arguments import check_plain
from chatnest.errors import ConfigurationError, UpstreamError
from chatnest.events import Delta, Piece, Refusal
from chatnest.ledger.base import Limit
from chatnest.ledger.books import unit_of_scale, zone_of_scale
from chatnest.turn import Turn

__all__ = [
    "Classifies",
    "Finishes",
    "Limits",
    "Named",
    "Policy",
    "PolicyChain",
    "Prepares",
    "Watches",
    "Zoned",
]


_log = logging.getLogger("chatnest.policies")


@runtime_checkable
class Prepares(Protocol):
    """Runs before anything is counted or reserved."""

    async def prepare(self, turn: Turn) -> None:
        """Change ``turn``, or raise a ChatNestError to refuse it."""


@runtime_checkable
class Limits(Protocol):
    """Limits turns."""

    def limits(self, turn: Turn) -> Iterable[Limit]:
        """Return the limits that apply to ``turn``."""


@runtime_checkable
class Classifies(Protocol):
    """Decides on retries."""

    def classify(self, turn: Turn, failure: UpstreamError, attempt: int) -> float | None:
        """Return the seconds to wait before one more attempt, or None for no attempt. ``attempt``
        counts from 1.
        """


@runtime_checkable
class Watches(Protocol):
    """Sees the answer on its way. A piece of it then costs more: see OfferingStream."""

    def watch(self, turn: Turn, text: str) -> None:
        """See the text that has just arrived, before it is sent. ``turn.answer.text`` is all of the
        answer, with it. It runs for every batch of pieces, so it must return at once.

        Raise StopAnswer to end the answer without fault, and a ChatNestError to end it with an
        error. Either way this text is not sent, and the tokens that arrived are charged.
        """


@runtime_checkable
class Finishes(Protocol):
    """Runs after the settlement."""

    async def finished(self, turn: Turn) -> None:
        """Receive the turn, with ``turn.outcome``, ``turn.answer`` and ``turn.charged`` final. An
        exception is logged and changes nothing.
        """


@runtime_checkable
class Zoned(Protocol):
    """Has the time zones of its budgets, so that a conflict is found at startup."""

    zones: Mapping[str, str]
    """Name of a budget → time zone; for another unit than tokens, with the unit and a space before
    it.
    """


@runtime_checkable
class Named(Protocol):
    """Has the names of its limits, so that metrics show them. Others are counted together."""

    limit_names: tuple[str, ...]


Policy = Prepares | Limits | Classifies | Watches | Finishes


_ASYNC: Final = {
    "prepare": True,
    "limits": False,
    "classify": False,
    "watch": False,
    "finished": True,
}
"""The hooks, and whether each is an async function."""


def _check_hooks(policy: Policy) -> None:
    for hook, is_async in _ASYNC.items():
        written = getattr(policy, hook, None)
        if written is not None and not callable(written):
            raise ConfigurationError(
                f"{policy!r}: {hook}: expected a function, got {written!r}. Define a method."
            )
        if not inspect.isroutine(written):
            continue
        if is_async and not inspect.iscoroutinefunction(written):
            raise ConfigurationError(
                f"{policy!r}: {hook}: expected an async function, got a plain one. Use async def."
            )
        if not is_async:
            check_plain(f"{policy!r}: {hook}", written)


def _needs_headers(policy: Policy) -> bool:
    needs = getattr(policy, "needs_headers", False)
    if not isinstance(needs, bool):
        raise ConfigurationError(
            f"{policy!r}: needs_headers: expected True or False, got {needs!r}."
        )
    return needs


class PolicyChain:
    """The policies of an application in their order, sorted by hook once."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        """Raises ConfigurationError for anything that is not a list of policies."""
        if not isinstance(policies, Iterable):
            raise ConfigurationError(
                f"policies: expected a list of policies, got {policies!r}. Put it in a list."
            )
        policies = tuple(policies)
        for number, policy in enumerate(policies):
            if isinstance(policy, list | tuple):
                raise ConfigurationError(
                    f"policies[{number}]: expected a policy, got a {type(policy).__name__}. "
                    "Unpack it, as in [*standard_policies(), MyPolicy()]."
                )
            if isinstance(policy, type) or not isinstance(policy, Policy):
                raise ConfigurationError(
                    f"policies[{number}]: expected an object with a hook of a policy, got "
                    f"{policy!r}. Pass an instance that defines {', '.join(_ASYNC)}."
                )
            _check_hooks(policy)
        self.needs_headers: bool = any(map(_needs_headers, policies))
        """Whether turns have the header fields of their requests."""
        self.limit_names: tuple[str, ...] = tuple(
            dict.fromkeys(
                name for each in policies if isinstance(each, Named) for name in each.limit_names
            )
        )
        """The names of the limits that are known in advance, for metrics."""
        self._prepares = [p for p in policies if isinstance(p, Prepares)]
        self._limits = [p for p in policies if isinstance(p, Limits)]
        self._classifies = [p for p in policies if isinstance(p, Classifies)]
        self._watches = [p for p in policies if isinstance(p, Watches)]
        self.watches: bool = bool(self._watches)
        """Whether a policy watches answers."""
        self._finishes = [p for p in policies if isinstance(p, Finishes)]
        self.finishes: bool = bool(self._finishes)
        """Whether a policy receives outcomes."""
        self.budgets: tuple[Limit, ...] = tuple(
            Limit(
                name=name,
                unit=unit_of_scale(scale),
                window="day",
                account="",
                amount=0,
                timezone=zone_of_scale(scale),
            )
            for policy in policies
            if isinstance(policy, Zoned)
            for name, scale in policy.zones.items()
        )
        """A limit without an account for each budget whose name is known in advance."""

    async def prepare(self, turn: Turn) -> None:
        """Call every ``prepare`` until one raises."""
        for policy in self._prepares:
            await policy.prepare(turn)

    def limits(self, turn: Turn) -> tuple[Limit, ...]:
        """The limits of all policies."""
        limits: list[Limit] = []
        for policy in self._limits:
            limits += policy.limits(turn)
        return tuple(limits)

    def shown_limits(self, turn: Turn) -> tuple[Limit, ...]:
        """The limits that clients may see."""
        return tuple([limit for limit in self.limits(turn) if limit.is_shown])

    def classify(self, turn: Turn, failure: UpstreamError, attempt: int) -> float | None:
        """The first decision that is not None."""
        for policy in self._classifies:
            try:
                delay = policy.classify(turn, failure, attempt)
            except Exception:  # noqa: BLE001  # the failure of the call is what counts
                _log.exception("%s: classify() failed in request %s", policy, turn.id)
                continue
            if delay is not None:
                return delay
        return None

    def watch(self, turn: Turn, pieces: Sequence[Piece]) -> None:
        """Call every ``watch`` until one raises, if there is text."""
        texts = [piece.text for piece in pieces if isinstance(piece, Delta | Refusal)]
        if text := "".join(texts):
            for policy in self._watches:
                policy.watch(turn, text)

    async def finished(self, turn: Turn) -> None:
        """Call every ``finished``. An exception is logged, and the other policies still run."""
        for policy in self._finishes:
            try:
                await policy.finished(turn)
            except Exception:  # noqa: BLE001  # the turn has ended already
                _log.exception("%s: finished() failed after request %s", policy, turn.id)
