"""Served: the names and the cost that a provider reports beside the tokens of a request. No I/O."""

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec

from chatnest.events import Usage

__all__ = ["Served", "stated_cost"]

_LONGEST: Final = 128
"""Maximum characters of the name of a model, a tier or a response."""

_MOST_DOLLARS: Final = 1_000_000
"""Maximum dollars of a plausible cost: the most that a ledger holds for a request."""

_NANO_DIGITS: Final = 9
_TICK_DIGITS: Final = 10
"""A dollar is 10**10 ticks, the unit of xAI's costs."""


class Served(NamedTuple):
    """The provider's names of a response, and of the model and the service tier that gave it."""

    response_id: str = ""
    model: str = ""
    service_tier: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Served":
        """The names in a response or a chunk of it. A field of another type is ignored."""
        names: list[Any] = [fields.get("id"), fields.get("model"), fields.get("service_tier") or ""]
        try:  # for each request: without a call for each name
            together = "".join(names)
        except TypeError:
            together = ""
        if together.isascii() and 0 < len(together) <= _LONGEST:
            return cls(*names)
        return cls(*map(_name, names))

    def with_tier(self, tier: object) -> "Served":
        """These names with another service tier, if it is one."""
        return self._replace(service_tier=_name(tier) or self.service_tier)

    @classmethod
    def in_payload(cls, payload: bytes) -> "Served":
        """The same from JSON. Other bytes have no names."""
        try:
            found = _head.decode(payload)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return cls()
        return cls.of({"id": found.id, "model": found.model, "service_tier": found.service_tier})

    def on(self, usage: Usage) -> Usage:
        """The usage with these names."""
        return msgspec.structs.replace(usage, **self._asdict()) if any(self) else usage


def _name(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value[:_LONGEST].encode("utf-8", "replace").decode()  # without halves of pairs


class _Head(msgspec.Struct, gc=False):
    id: Any = None
    model: Any = None
    service_tier: Any = None


_head: Final = msgspec.json.Decoder(_Head)


class _Costs(msgspec.Struct, gc=False):
    cost: msgspec.Raw = msgspec.Raw()
    estimated_cost: msgspec.Raw = msgspec.Raw()
    cost_in_usd_ticks: msgspec.Raw = msgspec.Raw()


_costs: Final = msgspec.json.Decoder(_Costs)


def stated_cost(usage: bytes) -> int | None:
    """The cost in a usage object in nano-dollars, rounded up, or None without a plausible one.

    OpenRouter has it as ``cost``, DeepInfra as ``estimated_cost``, xAI as ``cost_in_usd_ticks``.
    The digits are read as they came, since a float would lose some.
    """
    if b"cost" not in usage:
        return None
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
