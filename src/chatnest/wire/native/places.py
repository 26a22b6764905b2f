"""Places of a body, the values that they must have, and the errors that name them. No I/O.

An error never repeats what was sent. The messages of msgspec do, so only known places are taken
from them.
"""

import re
from typing import Final, get_args

import msgspec

from chatnest.errors import InvalidRequest
from chatnest.requests import MAX_CONVERSATION, Effort, EventKind
from chatnest.wire.native import body as bodies

__all__ = [
    "MAX_ID",
    "MAX_MESSAGES",
    "MAX_MODEL",
    "MAX_PARTS",
    "MAX_SEED",
    "MAX_STOPS",
    "MAX_STOP_CHARACTERS",
    "explain",
    "wrong",
]

MAX_MESSAGES: Final = 1_000
"""Messages in one body. Policies keep far fewer; this only bounds the work of reading them."""

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


def _quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in names[:-1]) + f" or '{names[-1]}'"


_TEXT: Final = "a string"
_COUNT: Final = "a whole number of at least 1"
_SWITCH: Final = "true or false"
_FUNCTION: Final = "'function'"
_PENALTY: Final = "a number from -2 to 2"
_IDENTIFIER: Final = f"a string of 1 to {MAX_ID} printable characters"
_CALLS: Final = f"a list of at most {MAX_PARTS} calls"
_CALL: Final = "an object with id, type and function"
_TOOL: Final = "an object with type and function"
_TOOL_NAME: Final = "a name of 1 to 64 letters, digits, '_' and '-'"
_SCHEMA: Final = "a JSON schema, which is an object"
_BLOCK: Final = "an object with text, signature, provider, model, redacted or id"
_STOP: Final = (
    f"a string of 1 to {MAX_STOP_CHARACTERS} characters, or a list of at most {MAX_STOPS} of them"
)

_EXPECTED: Final = {
    "": "a JSON object with a list `messages`",
    "messages": f"a list of 1 to {MAX_MESSAGES:,} messages",
    "messages[]": "an object with role and content",
    "messages[].role": "'user', 'assistant' or 'tool'",
    "messages[].content": "a string that is not blank, or a list of parts",
    "messages[].content[]": "an object with type 'text' and text, or 'image_url' and image_url",
    "messages[].content[].type": "'text' or 'image_url'",
    "messages[].content[].text": _TEXT,
    "messages[].content[].image_url": "an object with a url",
    "messages[].content[].image_url.url": "a data: URL of an image, in base64",
    "messages[].content[].image_url.detail": _TEXT,
    "messages[].id": _TEXT,
    "messages[].tool_calls": _CALLS,
    "messages[].tool_calls[]": _CALL,
    "messages[].tool_calls[].id": _IDENTIFIER,
    "messages[].tool_calls[].type": _FUNCTION,
    "messages[].tool_calls[].function": "an object with name and arguments",
    "messages[].tool_calls[].function.name": _IDENTIFIER,
    "messages[].tool_calls[].function.arguments": "a string, which is usually JSON",
    "messages[].tool_call_id": _IDENTIFIER,
    "messages[].is_error": _SWITCH,
    "messages[].reasoning": f"a list of at most {MAX_PARTS} blocks of thinking",
    "messages[].reasoning[]": _BLOCK,
    **{
        f"messages[].reasoning[].{name}": _TEXT
        for name in ("text", "signature", "provider", "model", "id")
    },
    "messages[].reasoning[].redacted": _SWITCH,
    "profile": "the name of a profile",
    "aiUsageProfile": "the name of a profile",
    "model": f"the name of a model, of 1 to {MAX_MODEL} printable characters",
    "dailyTokenLimit": _COUNT,
    "maxTokensPerRequest": _COUNT,
    "maxOutputTokens": _COUNT,
    "systemPrompt": _TEXT,
    "usageEvent": _SWITCH,
    "events": f"a list of {_quoted(get_args(EventKind))}",
    "events[]": _quoted(get_args(EventKind)),
    "linger": "a number of seconds, at least 0",
    "conversation": f"a string of 1 to {MAX_CONVERSATION} printable characters, not only spaces",
    "tools": "a list of tools",
    "tools[]": _TOOL,
    "tools[].type": _FUNCTION,
    "tools[].function": "an object with name, description and parameters",
    "tools[].function.name": _TOOL_NAME,
    "tools[].function.description": _TEXT,
    "tools[].function.parameters": _SCHEMA,
    "tools[].function.strict": _SWITCH,
    "toolChoice": "'auto', 'none', 'required' or an object with type and function",
    "toolChoice.type": _FUNCTION,
    "toolChoice.function": "an object with a name",
    "toolChoice.function.name": "the name of one of the tools",
    "parallelToolCalls": _SWITCH,
    "responseFormat": "an object with type, and json_schema if the type is 'json_schema'",
    "responseFormat.type": "'text', 'json_object' or 'json_schema'",
    "responseFormat.json_schema": "an object with name and schema",
    "responseFormat.json_schema.name": _TOOL_NAME,
    "responseFormat.json_schema.schema": _SCHEMA,
    "responseFormat.json_schema.description": _TEXT,
    "responseFormat.json_schema.strict": _SWITCH,
    "reasoningEffort": _quoted(get_args(Effort)),
    "stop": _STOP,
    "stop[]": f"a string of 1 to {MAX_STOP_CHARACTERS} characters",
    "seed": "a whole number of 64 bits",
    "temperature": "a number from 0 to 2",
    "topP": "a number from 0 to 1",
    "presencePenalty": _PENALTY,
    "frequencyPenalty": _PENALTY,
}
"""The value that each place must have. ``[]`` stands for a number in brackets."""


def _names(*kinds: type[msgspec.Struct]) -> str:
    return ", ".join(
        dict.fromkeys(name for kind in kinds for name in kind.__struct_encode_fields__)
    )


_FIELDS: Final = {
    "": _names(bodies.Body),
    "messages[]": _names(bodies.SentMessage),
    "messages[].content[]": "type, text, image_url",
    "messages[].content[].image_url": _names(bodies.SentUrl),
    "messages[].tool_calls[]": _names(bodies.SentCall),
    "messages[].tool_calls[].function": _names(bodies.SentCalled),
    "messages[].reasoning[]": _names(bodies.SentReasoning),
    "tools[]": _names(bodies.SentTool),
    "tools[].function": _names(bodies.SentFunction),
    "toolChoice": _names(bodies.SentChoice),
    "toolChoice.function": _names(bodies.SentName),
    "responseFormat": "type, json_schema",
    "responseFormat.json_schema": _names(bodies.SentDefinition),
}
"""The fields of each object."""

_INDEX: Final = re.compile(r"\[\d{1,6}\]")
_PLACE: Final = re.compile(r"- at `\$\.?([\w.\[\]]{0,120})`$", re.ASCII)


def explain(exc: msgspec.ValidationError) -> InvalidRequest:
    """The error of a body that has not the right types."""
    text = str(exc)
    match = _PLACE.search(text)
    place = match[1] if match else ""
    if _INDEX.sub("[]", place) not in _EXPECTED:  # it may be the client's text
        place = ""
    if text.startswith("Object contains unknown field"):
        where = f"{place}: " if place else ""
        fields = _FIELDS.get(_INDEX.sub("[]", place), _FIELDS[""])
        return InvalidRequest(f"{where}there is a field that is not one of {fields}.")
    if text.startswith("Object missing required field"):
        # this is the name of a known field, never the client's text
        field = text.split("`")[1]
        place = f"{place}.{field}" if place else field
    return wrong(place)


def wrong(place: str) -> InvalidRequest:
    """The error of a place that has not what belongs there."""
    expected = _EXPECTED.get(_INDEX.sub("[]", place), _EXPECTED[""])
    return InvalidRequest(f"{place or 'The body'}: must be {expected}.")
