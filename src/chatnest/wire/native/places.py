"""Places of a native body, and the values that they must have. No I/O."""

from typing import Final, get_args

from chatnest.requests import MAX_CONVERSATION, Effort, EventKind
from chatnest.wire import shapes
from chatnest.wire.caps import MAX_MESSAGES, MAX_MODEL, MAX_PARTS
from chatnest.wire.expected import (
    CONTENT,
    COUNT,
    IDENTIFIER,
    SWITCH,
    TEXT,
    calls_at,
    choice_at,
    format_at,
    image_at,
    sampling_at,
    tools_at,
)
from chatnest.wire.native import body as bodies
from chatnest.wire.places import Places, names_of, quoted

__all__ = ["PLACES"]

_BLOCK: Final = "an object with text, signature, provider, model, redacted or id"

_EXPECTED: Final = {
    "": "a JSON object with a list `messages`",
    "messages": f"a list of 1 to {MAX_MESSAGES:,} messages",
    "messages[]": "an object with role and content",
    "messages[].role": "'user', 'assistant' or 'tool'",
    "messages[].content": CONTENT,
    "messages[].content[]": "an object with type 'text' and text, or 'image_url' and image_url",
    "messages[].content[].type": "'text' or 'image_url'",
    "messages[].content[].text": TEXT,
    **image_at("messages[].content[].image_url"),
    "messages[].id": TEXT,
    **calls_at("messages[].tool_calls"),
    "messages[].tool_call_id": IDENTIFIER,
    "messages[].is_error": SWITCH,
    "messages[].reasoning": f"a list of at most {MAX_PARTS} blocks of thinking",
    "messages[].reasoning[]": _BLOCK,
    **{
        f"messages[].reasoning[].{name}": TEXT
        for name in ("text", "signature", "provider", "model", "id")
    },
    "messages[].reasoning[].redacted": SWITCH,
    "profile": "the name of a profile",
    "aiUsageProfile": "the name of a profile",
    "model": f"the name of a model, of 1 to {MAX_MODEL} printable characters",
    "dailyTokenLimit": COUNT,
    "maxTokensPerRequest": COUNT,
    "maxOutputTokens": COUNT,
    "systemPrompt": TEXT,
    "usageEvent": SWITCH,
    "events": f"a list of {quoted(get_args(EventKind))}",
    "events[]": quoted(get_args(EventKind)),
    "linger": "a number of seconds, at least 0",
    "conversation": f"a string of 1 to {MAX_CONVERSATION} printable characters, not only spaces",
    **tools_at("tools"),
    **choice_at("toolChoice"),
    "parallelToolCalls": SWITCH,
    **format_at("responseFormat"),
    "reasoningEffort": quoted(get_args(Effort)),
    **sampling_at("topP", "presencePenalty", "frequencyPenalty"),
}
"""The value that each place must have. ``[]`` stands for a number in brackets."""

_FIELDS: Final = {
    "": names_of(bodies.Body),
    "messages[]": names_of(bodies.SentMessage),
    "messages[].content[]": "type, text, image_url",
    "messages[].content[].image_url": names_of(shapes.SentUrl),
    "messages[].tool_calls[]": names_of(shapes.SentCall),
    "messages[].tool_calls[].function": names_of(shapes.SentCalled),
    "messages[].reasoning[]": names_of(bodies.SentReasoning),
    "tools[]": names_of(shapes.SentTool),
    "tools[].function": names_of(shapes.SentFunction),
    "toolChoice": names_of(shapes.SentChoice),
    "toolChoice.function": names_of(shapes.SentName),
    "responseFormat": "type, json_schema",
    "responseFormat.json_schema": names_of(shapes.SentDefinition),
}
"""The fields of each object."""

PLACES: Final = Places(_EXPECTED, _FIELDS)
