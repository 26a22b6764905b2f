"""Thresholds: parts of an amount at which a limit warns, as exact thousandths. No I/O."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from chatnest.errors import ConfigurationError

__all__ = ["WHOLE", "Part", "parts_text", "thousandths"]

Part = float
"""A part of an amount as people write it, such as 0.8. It is never multiplied with money."""

WHOLE: Final = 1_000
"""The thousandths of a whole amount."""


def thousandths(parts: object) -> tuple[int, ...]:
    """Parts of a whole, such as 0.8, as thousandths. Raises ConfigurationError."""
    found = []
    for part in parts if isinstance(parts, list | tuple) else (parts,):
        try:
            exact = Decimal(str(part)) * WHOLE
        except ArithmeticError:
            exact = Decimal("NaN")
        if isinstance(part, bool) or not exact.is_finite() or exact % 1:
            raise ConfigurationError(
                "warn_at: expected parts of the amount, such as [0.5, 0.8], with at most three "
                f"digits after the point, got {part!r}."
            )
        found.append(int(exact))
    return tuple(found)


def parts_text(thresholds: Iterable[int]) -> str:
    """Thousandths as people write parts: ``[0.5, 0.8]``."""
    return str([each / WHOLE for each in thresholds])
