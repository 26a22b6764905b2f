"""Places of the body of a chat completion, and the values that they must have. No I/O."""

from typing import Final

from chatnest.wire import shapes
from chatnest.wire.caps import MAX_MESSAGES, MAX_MODEL
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
from chatnest.wire.openai_chat import body as bodies
from chatnest.wire.places import Places, names_of

__all__ = ["PLACES"]

_OBJECT: Final = "an object"
_ABSENT: Final = "absent. This server does not support it"
_NO_HANDLES: Final = "absent. It is the id of an object that this server does not have"

_REFUSED: Final = {
    "audio": _ABSENT,
    "function_call": "absent. Send tool_choice",
    "functions": "absent. Send tools",
    "logit_bias": _ABSENT,
    "moderation": _ABSENT,
    "prediction": _ABSENT,
    "top_logprobs": _ABSENT,
    "web_search_options": _ABSENT,
}

_EXPECTED: Final = {
    "": "a JSON object with a list `messages`",
    "messages": f"a list of 1 to {MAX_MESSAGES:,} messages",
    "messages[]": "an object with role and content",
    "messages[].role": "'developer', 'system', 'user', 'assistant' or 'tool'",
    "messages[].content": CONTENT,
    "messages[].content[]": "an object with type 'text' and text, or 'image_url' and image_url",
    "messages[].content[].type": (
        "'text'. Messages of the user may also have 'image_url', and those of the assistant "
        "'refusal'"
    ),
    "messages[].content[].text": TEXT,
    "messages[].content[].refusal": TEXT,
    "messages[].content[].prompt_cache_breakpoint": _OBJECT,
    **image_at("messages[].content[].image_url"),
    "messages[].name": TEXT,
    "messages[].refusal": TEXT,
    "messages[].reasoning_content": TEXT,
    "messages[].annotations": "a list of objects",
    "messages[].annotations[]": _OBJECT,
    "messages[].audio": _NO_HANDLES,
    "messages[].function_call": "absent. Send tool_calls",
    **calls_at("messages[].tool_calls"),
    "messages[].tool_calls[].index": "a whole number",
    "messages[].tool_call_id": IDENTIFIER,
    "model": f"the name of a model, of 1 to {MAX_MODEL} printable characters",
    "stream": SWITCH,
    "stream_options": "an object with include_usage",
    "stream_options.include_usage": SWITCH,
    "stream_options.include_obfuscation": SWITCH,
    "max_completion_tokens": COUNT,
    "max_tokens": COUNT,
    **sampling_at("top_p", "presence_penalty", "frequency_penalty"),
    **format_at("response_format"),
    **tools_at("tools"),
    **choice_at("tool_choice"),
    "parallel_tool_calls": SWITCH,
    "reasoning_effort": "'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'",
    "n": "1. This server gives one answer",
    "logprobs": "absent or false. This server does not support them",
    "modalities": "['text']. This server has no other output",
    "modalities[]": "'text'. This server has no other output",
    "service_tier": "'auto' or 'default'. The operator chooses the tier",
    "metadata": _OBJECT,
    "prompt_cache_key": TEXT,
    "prompt_cache_options": _OBJECT,
    "prompt_cache_retention": TEXT,
    "safety_identifier": TEXT,
    "store": SWITCH,
    "user": TEXT,
    "verbosity": "'low', 'medium' or 'high'",
    **_REFUSED,
}
"""The value that each place must have. ``[]`` stands for a number in brackets."""

_FIELDS: Final = {
    "": ", ".join(name for name in names_of(bodies.Body).split(", ") if name not in _REFUSED),
    "messages[]": names_of(
        bodies.SentUser, bodies.SentToolResult, bodies.SentAssistant
    ).removesuffix(", audio, function_call"),
    "messages[].content[]": "type, text, image_url, refusal",
    "messages[].content[].image_url": names_of(shapes.SentUrl),
    "messages[].tool_calls[]": names_of(bodies.SentToolCall),
    "messages[].tool_calls[].function": names_of(shapes.SentCalled),
    "stream_options": names_of(bodies.SentStreamOptions),
    "tools[]": names_of(shapes.SentTool),
    "tools[].function": names_of(shapes.SentFunction),
    "tool_choice": names_of(shapes.SentChoice),
    "tool_choice.function": names_of(shapes.SentName),
    "response_format": "type, json_schema",
    "response_format.json_schema": names_of(shapes.SentDefinition),
}
"""The fields of each object."""

PLACES: Final = Places(_EXPECTED, _FIELDS)
