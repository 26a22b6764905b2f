"""Places of a native body, and the values that they must have. No I/O."""

from typing import Final, get_args

from chatnest.requests import MAX_CONVERSATION, Effort, EventKind
from chatnest.wire.caps import (
    MAX_ID,
    MAX_MESSAGES,
    MAX_MODEL,
    MAX_PARTS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
)
from chatnest.wire.native import body as bodies
from chatnest.wire.places import Places, names_of, quoted

__all__ = ["PLACES"]

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
    "events": f"a list of {quoted(get_args(EventKind))}",
    "events[]": quoted(get_args(EventKind)),
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
    "reasoningEffort": quoted(get_args(Effort)),
    "stop": _STOP,
    "stop[]": f"a string of 1 to {MAX_STOP_CHARACTERS} characters",
    "seed": "a whole number of 64 bits",
    "temperature": "a number from 0 to 2",
    "topP": "a number from 0 to 1",
    "presencePenalty": _PENALTY,
    "frequencyPenalty": _PENALTY,
}
"""The value that each place must have. ``[]`` stands for a number in brackets."""

_FIELDS: Final = {
    "": names_of(bodies.Body),
    "messages[]": names_of(bodies.SentMessage),
    "messages[].content[]": "type, text, image_url",
    "messages[].content[].image_url": names_of(bodies.SentUrl),
    "messages[].tool_calls[]": names_of(bodies.SentCall),
    "messages[].tool_calls[].function": names_of(bodies.SentCalled),
    "messages[].reasoning[]": names_of(bodies.SentReasoning),
    "tools[]": names_of(bodies.SentTool),
    "tools[].function": names_of(bodies.SentFunction),
    "toolChoice": names_of(bodies.SentChoice),
    "toolChoice.function": names_of(bodies.SentName),
    "responseFormat": "type, json_schema",
    "responseFormat.json_schema": names_of(bodies.SentDefinition),
}
"""The fields of each object."""

PLACES: Final = Places(_EXPECTED, _FIELDS)
