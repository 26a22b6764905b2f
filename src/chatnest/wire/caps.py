"""Caps of a request, in every format. Policies and profiles bound far less. No I/O."""

import re
from typing import Final

__all__ = [
    "MAX_ID",
    "MAX_MESSAGES",
    "MAX_MODEL",
    "MAX_PARTS",
    "MAX_SEED",
    "MAX_STOPS",
    "MAX_STOP_CHARACTERS",
    "is_identifier",
    "is_model",
    "is_tool_name",
]

MAX_MESSAGES: Final = 1_000
"""Maximum messages of a body. Policies keep far fewer: this bounds the work of reading them."""

MAX_PARTS: Final = 256
"""Maximum parts of a message, and maximum calls or blocks of thinking."""

MAX_ID: Final = 256
"""Maximum characters of the id and of the name of a call."""

MAX_MODEL: Final = 128
"""Maximum characters of a model's name."""

MAX_STOPS: Final = 4
"""Maximum words at which the answer stops. OpenAI accepts no more."""

MAX_STOP_CHARACTERS: Final = 256
"""Maximum characters of such a word."""

MAX_SEED: Final = 2**63 - 1
"""Maximum of a seed, which servers keep in 64 bits."""

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_identifier(text: str) -> bool:
    """Whether a text can be the id or the name of a call."""
    return 0 < len(text) <= MAX_ID and text.isprintable() and not text.isspace()


def is_model(name: str) -> bool:
    """Whether a text can be the name of a model or of a profile."""
    return 0 < len(name) <= MAX_MODEL and name.isprintable()


def is_tool_name(name: str) -> bool:
    """Whether a text can be the name of a tool or of a JSON schema. OpenAI accepts no others."""
    return _TOOL_NAME.fullmatch(name) is not None
