"""Served: the names and the cost that a provider reports beside the tokens of a request. No I/O."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Annotated, Any, Final

import msgspec

from chatnest.events import Usage

__all__ = ["SERVED", "Served", "stated_cost"]

_LONGEST: Final = 128
"""Maximum characters of the name of a model, a tier or a response."""

_MOST_DOLLARS: Final = 1_000_000
"""Maximum dollars of a plausible cost: the most that a ledger holds for a request."""

_NANO_DIGITS: Final = 9
_TICK_DIGITS: Final = 10
"""A dollar is 10**10 ticks, the unit of xAI's costs."""


_Name = Annotated[str, msgspec.Meta(max_length=_LONGEST)] | None


class Served(msgspec.Struct, frozen=True, gc=False):
    """The provider's names of a response, and of the model and the service tier that gave it."""

    id: _Name = None
    model: _Name = None
    service_tier: _Name = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Served":
        """The names in a response or a chunk of it. A field of another type is ignored."""
        return cls(*map(_name, map(fields.get, cls.__struct_fields__)))

    @classmethod
    def loosely(cls, payload: bytes) -> "Served":
        """The names in JSON that SERVED does not decode, or none."""
        try:
            found = msgspec.json.decode(payload)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return cls()
        return cls.of(found) if isinstance(found, dict) else cls()

    def with_tier(self, tier: object) -> "Served":
        """These names with another service tier, if it is one."""
        found = _name(tier) or self.service_tier
        return msgspec.structs.replace(self, service_tier=found)

    def on(self, usage: Usage) -> Usage:
        """The usage with these names."""
        return msgspec.structs.replace(
            usage,
            response_id=self.id or "",
            model=self.model or "",
            service_tier=self.service_tier or "",
        )


SERVED: Final = msgspec.json.Decoder(Served)
"""Decodes the names in a response or a chunk, and raises for names of another type."""


def _name(value: object) -> str | None:
    if not isinstance(value, str):
        return None
    return value[:_LONGEST].encode("utf-8", "replace").decode()  # without halves of pairs


class _Costs(msgspec.Struct, gc=False):
    cost: msgspec.Raw = msgspec.Raw()
    estimated_cost: msgspec.Raw = msgspec.Raw()
    cost_in_usd_ticks: msgspec.Raw = msgspec.Raw()


_costs: Final = msgspec.json.Decoder(_Costs)


def stated_cost(usage: msgspec.Raw | bytes) -> int | None:
    """The cost in a usage object in nano-dollars, rounded up, or None without a plausible one.

    OpenRouter has it as ``cost``, DeepInfra as ``estimated_cost``, xAI as ``cost_in_usd_ticks``.
    The digits are read as they came, since a float would lose some.
    """
    try:
        found = _costs.decode(usage)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    for raw, digits in (
        (found.cost_in_usd_ticks, _TICK_DIGITS),
        (found.cost, 0),
        (found.estimated_cost, 0),
    ):
        try:
            number = Decimal(bytes(raw).decode())
        except (InvalidOperation, UnicodeDecodeError):
            continue
        if 0 <= number <= Decimal(_MOST_DOLLARS).scaleb(digits):
            return int(number.scaleb(_NANO_DIGITS - digits).to_integral_value(ROUND_CEILING))
    return None
