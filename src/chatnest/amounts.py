"""Amounts of money: whole nano-dollars, billionths of a currency, from and as text. No I/O."""

import re
from typing import Final

__all__ = ["NANOS", "amount_text", "money_text", "nanos_of", "quantity_text"]

NANOS: Final = 10**9
"""Nano-dollars of one unit of a currency."""

_DIGITS: Final = 9
_AMOUNT: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?")


def nanos_of(text: object) -> int:
    """The nano-dollars of an amount such as "20.00".

    Raises ValueError, which says what was expected, for anything else: also for a float, which has
    lost digits.
    """
    found = _AMOUNT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(
            f'expected an amount of money in quotes, such as "20.00", with at most {_DIGITS} '
            f"digits after the point, got {text!r}."
        )
    whole, part = found.groups()
    return int(whole) * NANOS + int((part or "").ljust(_DIGITS, "0"))


def amount_text(nanos: int) -> str:
    """An amount as text, with at least two digits after the point: ``20.00``."""
    sign, nanos = ("-" if nanos < 0 else ""), abs(nanos)
    part = f"{nanos % NANOS:0{_DIGITS}d}".rstrip("0").ljust(2, "0")
    return f"{sign}{nanos // NANOS}.{part}"


def money_text(nanos: int, currency: str) -> str:
    """An amount for people: ``$20.00``, or ``20.00 EUR``."""
    text = amount_text(nanos)
    return f"${text}" if currency == "USD" else f"{text} {currency}"


def quantity_text(unit: str, amount: int, currency: str) -> str:
    """An amount of a unit for people: ``$20.00``, or ``1,000 tokens``."""
    return money_text(amount, currency) if unit == "money" else f"{amount:,} {unit}"
