"""The usage of a principal, as the JSON of ``GET <path>/usage``. No I/O."""

from collections.abc import Iterable
from typing import Any

import msgspec

from chatnest.amounts import amount_text
from chatnest.ledger.usage import OWN, Used

__all__ = ["usage_document"]


def usage_document(used: Iterable[Used], since: str, currency: str) -> dict[str, Any]:
    """The usage of a principal from the day ``since`` on, by day and model."""
    return {
        "since": since,
        "currency": currency,
        "usage": [
            dict(zip(OWN, each.by, strict=True))
            | msgspec.structs.asdict(each.use)
            | {"money": amount_text(each.use.money)}
            for each in used
        ],
    }
