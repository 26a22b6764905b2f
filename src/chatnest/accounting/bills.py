"""Bills: the cost of a turn in nano-dollars, before its answer and after it. No I/O."""

import logging
from collections.abc import Callable
from typing import Final

import msgspec

from chatnest.events import Usage
from chatnest.ledger.base import Cost, Facts, Limit
from chatnest.policies.limits import no_price
from chatnest.turn import Turn

__all__ = ["bill", "dearest"]

_log = logging.getLogger("chatnest.accounting")

_NOTHING: Final = Cost(0, 0)


def dearest(turn: Turn, limits: tuple[Limit, ...], now: Callable[[], int]) -> Cost:
    """The most that ``turn`` may cost, at the price in force at ``now()`` (ms). The turn keeps this
    price. A turn of a model without a price costs nothing.

    Raises ConfigurationError if there is a limit of money but no price: the turn would be free.
    """
    if turn.prices is None:
        for limit in limits:
            if limit.unit == "money":
                raise no_price(turn.model, limit.name)
        return _NOTHING
    turn.price = turn.prices.at(now())
    bound = turn.price.bound(turn.input_tokens)
    turn.max_output_tokens = min(turn.max_output_tokens, bound.most_output)
    return Cost(bound.fixed, bound.per_output)


def bill(turn: Turn, usage: Usage | None) -> tuple[int, Facts]:
    """The charge of a turn in nano-dollars for its usage, and the facts for its record. ``usage``
    is None for a turn that is charged nothing.
    """
    facts = Facts(
        groups=dict(turn.groups),
        plan=turn.plan or "",
        wanted=turn.wanted_tokens,
        granted=turn.max_output_tokens,
        price="" if turn.price is None else turn.price.version,
    )
    if usage is None:
        return 0, facts
    charged, tier = 0, usage.service_tier
    if turn.price is not None:
        found = turn.price.bill(usage)
        charged, tier = found.nanos, found.tier or usage.service_tier
        for note in found.notes:
            _log.warning("cost of a turn: %s: turn=%s model=%s", note, turn.id, turn.model)
    return charged, msgspec.structs.replace(
        facts,
        served_model=usage.model,
        tier=tier,
        cached_tokens=usage.cached_tokens,
        cache_written_tokens=usage.cache_written_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        stated=usage.stated_cost or 0,
        response_id=usage.response_id,
    )
