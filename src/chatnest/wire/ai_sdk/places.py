"""Places of a body of ``useChat``, and the values that they must have. No I/O."""

from typing import Final

from chatnest.requests import MAX_CONVERSATION
from chatnest.wire.caps import MAX_ID, MAX_MESSAGES, MAX_MODEL
from chatnest.wire.places import Places

__all__ = ["MAX_UI_PARTS", "PLACES"]

MAX_UI_PARTS: Final = 1_024
"""Maximum parts of a message. A message of the assistant has the parts of several answers."""

_TEXT: Final = "a string"
_IDENTIFIER: Final = f"a string of 1 to {MAX_ID} printable characters"
_SCHEMA: Final = "a JSON schema, which is an object"
_FUNCTION: Final = {
    "": "an object with description and parameters",
    ".name": "a name of 1 to 64 letters, digits, '_' and '-'",
    ".description": _TEXT,
    ".parameters": _SCHEMA,
    ".inputSchema": _SCHEMA,
}
_PART: Final = {
    "": "an object with a type",
    **{f".{name}": _TEXT for name in ("type", "text", "url", "mediaType", "state", "errorText")},
    ".toolCallId": _IDENTIFIER,
    ".toolName": _IDENTIFIER,
    ".providerMetadata": "an object",
    ".providerMetadata.chatnest": "an object with signature, provider, model, redacted or id",
    ".providerMetadata.chatnest.redacted": "true or false",
    **{
        f".providerMetadata.chatnest.{name}": _TEXT
        for name in ("signature", "provider", "model", "id")
    },
}

_EXPECTED: Final = {
    "": "a JSON object with a list `messages`, as useChat sends it",
    "messages": f"a list of 1 to {MAX_MESSAGES:,} messages",
    "messages[]": "an object with role and parts",
    "messages[].role": "'system', 'user' or 'assistant'",
    "messages[].id": _IDENTIFIER,
    "messages[].parts": (
        f"a list of 1 to {MAX_UI_PARTS:,} parts, as useChat sends it, with a text that is not blank"
    ),
    **{f"messages[].parts[]{name}": expected for name, expected in _PART.items()},
    "id": f"a string of 1 to {MAX_CONVERSATION} printable characters, not only spaces",
    "trigger": _TEXT,
    "messageId": _IDENTIFIER,
    "model": f"the name of a model, of 1 to {MAX_MODEL} printable characters",
    "profile": "the name of a profile",
    "maxOutputTokens": "a whole number of at least 1",
    "systemPrompt": _TEXT,
    "system": _TEXT,
    "tools": "an object with a tool for each name, or a list of tools",
    **{f"tools[...]{name}": expected for name, expected in _FUNCTION.items()},
    "tools[]": "an object with type and function",
    "tools[].type": "'function'",
    **{f"tools[].function{name}": expected for name, expected in _FUNCTION.items()},
}
"""The value that each place must have. ``[]`` stands for a number in brackets, and ``[...]`` for a
name, which an error does not repeat.
"""

PLACES: Final = Places(_EXPECTED, {"": "messages"})
