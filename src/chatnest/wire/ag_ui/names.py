"""Names of AG-UI for fields that an error of another module may name. No I/O."""

from collections.abc import Mapping
from typing import Final

__all__ = ["NAMES"]

NAMES: Final[Mapping[str, str]] = {
    "Idempotency-Key": "runId",
    "profile": "forwardedProps.profile",
    "systemPrompt": "messages",
}
"""By the names of the native format. See ChatNestError.detail_in."""
