"""Money: the units of prices and costs, and their bounds. No I/O.

Costs are whole nano-dollars, and prices are whole pico-dollars per token: $1 per million tokens is
1,000,000 pico-dollars per token. No step uses a float, which is inexact above 2**53.
"""

import re
from typing import Final

from chatnest.errors import ConfigurationError

__all__ = [
    "MAX_CHARGE",
    "MAX_COST",
    "MAX_PICOS",
    "MAX_TOKENS",
    "dollars_of",
    "nanos_of",
    "picos_of",
]

MAX_TOKENS: Final = 1_000_000_000
"""Maximum tokens of one request, for input and for output."""

MAX_PICOS: Final = 1_000_000_000
"""Maximum price of one token: $1,000 per million tokens, or 10**6 nano-dollars per token."""

MAX_COST: Final = 10**15
"""Maximum nano-dollars that one request may hold, so that no sum of a ledger passes 2**53."""

MAX_CHARGE: Final = 10**12
"""Maximum charge of a turn: $1,000, in nano-dollars. More is a fault in a price or a figure."""

_DECIMALS: Final = 6
"""Maximum decimals of a price: the sixth one is a pico-dollar per token."""

_PRICE: Final = re.compile(r"([0-9]{1,60})(?:\.([0-9]{1,60}))?")


def nanos_of(picos: int) -> int:
    """Pico-dollars in nano-dollars, rounded up."""
    return -(-picos // 1_000)


def picos_of(value: object, place: str) -> int:
    """A price such as "0.25", in dollars per million tokens, as pico-dollars per token.
    ``place`` is its key, for errors. Raises ConfigurationError.
    """
    if not isinstance(value, str):
        written = str(value) if _PRICE.fullmatch(str(value)) else "0.25"
        raise ConfigurationError(
            f"{place}: expected a price in quotes, since a number in TOML may lose digits, got "
            f'{value!r}. Write it as "{written}", in dollars per million tokens.'
        )
    found = _PRICE.fullmatch(value)
    if found is None:
        raise ConfigurationError(
            f'{place}: expected dollars per million tokens such as "0.25", in digits and a decimal '
            f"point alone, got {value!r}. Correct the price."
        )
    whole, decimals = found[1], found[2] or ""
    if len(decimals) > _DECIMALS:
        raise ConfigurationError(
            f"{place}: expected at most {_DECIMALS} decimals, since prices are kept in whole "
            f"pico-dollars per token, got {value!r}. Round it up."
        )
    picos = int(whole + decimals.ljust(_DECIMALS, "0"))
    if picos > MAX_PICOS:
        raise ConfigurationError(
            f"{place}: expected at most $1,000 per million tokens, got {value!r}. Check its unit."
        )
    return picos


def dollars_of(picos: int) -> str:
    """Pico-dollars per token as dollars per million tokens, with two decimals or more."""
    text = f"{picos:0{_DECIMALS + 1}d}"
    whole, decimals = text[:-_DECIMALS], text[-_DECIMALS:].rstrip("0")
    return f"{whole}.{decimals.ljust(2, '0')}"
