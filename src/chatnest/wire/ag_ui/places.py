"""Places of an AG-UI body, and the values that they must have. No I/O."""

from typing import Final

from chatnest.requests import MAX_CONVERSATION
from chatnest.wire.ag_ui import body as bodies
from chatnest.wire.caps import MAX_ID, MAX_MESSAGES, MAX_MODEL, MAX_PARTS
from chatnest.wire.places import Places, names_of

__all__ = ["PLACES"]

_TEXT: Final = "a string"
_ID: Final = f"a string of 1 to {MAX_CONVERSATION} printable characters, not only spaces"
_IDENTIFIER: Final = f"a string of 1 to {MAX_ID} printable characters"
_CONTENT: Final = "messages[].content"
_SOURCE: Final = f"{_CONTENT}[].source"
_CALL: Final = "messages[].toolCalls[]"

_EXPECTED: Final = {
    "": "a JSON object with threadId, runId and a list `messages`",
    "threadId": _ID,
    "runId": _ID,
    "protocolVersion": "a string such as '1.0'",
    "parentRunId": _TEXT,
    "messages": f"a list of 1 to {MAX_MESSAGES:,} messages",
    "messages[]": "an object with a role",
    "messages[].role": (
        "'user', 'assistant', 'tool', 'reasoning', 'system', 'developer' or 'activity'"
    ),
    _CONTENT: "a string that is not blank or, in messages of the user, a list of parts",
    f"{_CONTENT}[]": "an object with type 'text' and text, or 'image' and source",
    f"{_CONTENT}[].type": "'text' or 'image'",
    f"{_CONTENT}[].text": _TEXT,
    _SOURCE: "an object with the type 'data', value and mimeType",
    f"{_SOURCE}.type": "'data'",
    f"{_SOURCE}.value": "the bytes of an image, in base64",
    f"{_SOURCE}.mimeType": "image/png, image/jpeg, image/gif or image/webp",
    f"{_CONTENT}[].mimeType": "image/png, image/jpeg, image/gif or image/webp",
    f"{_CONTENT}[].data": "the bytes of an image, in base64",
    f"{_CONTENT}[].url": "left out: an image is in data",
    "messages[].encryptedValue": _TEXT,
    "messages[].toolCalls": f"a list of at most {MAX_PARTS} calls",
    _CALL: "an object with id, type and function",
    f"{_CALL}.id": _IDENTIFIER,
    f"{_CALL}.type": "'function'",
    f"{_CALL}.function": "an object with name and arguments",
    f"{_CALL}.function.name": _IDENTIFIER,
    f"{_CALL}.function.arguments": "a string, which is usually JSON",
    f"{_CALL}.encryptedValue": _TEXT,
    "messages[].toolCallId": _IDENTIFIER,
    "messages[].error": _TEXT,
    "tools": "a list of tools",
    "tools[]": "an object with name, description and parameters",
    "tools[].name": "a name of 1 to 64 letters, digits, '_' and '-'",
    "tools[].description": _TEXT,
    "tools[].parameters": "a JSON schema, which is an object",
    "context": "a list of objects with description and value",
    "context[]": "an object with description and value",
    "context[].description": _TEXT,
    "context[].value": _TEXT,
    "forwardedProps": "an object",
    "forwardedProps.model": f"the name of a model, of 1 to {MAX_MODEL} printable characters",
    "forwardedProps.profile": "the name of a profile",
    "forwardedProps.maxOutputTokens": "a whole number of at least 1",
    "resume": "an empty list: no run of this server is interrupted",
}
"""The value that each place must have. ``[]`` stands for a number in brackets."""

PLACES: Final = Places(_EXPECTED, {"": names_of(bodies.Body)})
