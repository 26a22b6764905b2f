"""Places of a body of the Responses API, and the values that they must have. No I/O."""

from typing import Final, get_args

from chatnest.requests import Effort
from chatnest.wire.caps import MAX_ID, MAX_MESSAGES, MAX_MODEL, MAX_PARTS
from chatnest.wire.openai_responses import body as bodies
from chatnest.wire.places import Places, names_of, quoted

__all__ = ["PLACES"]

_TEXT: Final = "a string"
_SWITCH: Final = "true or false"
_IDENTIFIER: Final = f"a string of 1 to {MAX_ID} printable characters"
_TOOL_NAME: Final = "a name of 1 to 64 letters, digits, '_' and '-'"
_SCHEMA: Final = "a JSON schema, which is an object"
_PARTS: Final = f"a string, or a list of at most {MAX_PARTS} parts"
_NOT_KEPT: Final = "absent, since this server keeps nothing: send the whole conversation in input"

_PART: Final = {
    "": "an object with a type and its fields",
    ".type": "'input_text', 'output_text', 'refusal' or 'input_image'",
    ".text": _TEXT,
    ".refusal": _TEXT,
    ".image_url": "a data: URL of an image, in base64",
    ".detail": _TEXT,
    ".file_id": "absent: send the image itself, as a data: URL in image_url",
}

_EXPECTED: Final = {
    "": "a JSON object with `input`",
    "input": f"a string that is not blank, or a list of 1 to {MAX_MESSAGES:,} items",
    "input[]": "an object with a type, or with role and content",
    "input[].type": "'message', 'function_call', 'function_call_output' or 'reasoning'",
    **{
        f"input[].{name}": _TEXT
        for name in ("id", "status", "phase", "arguments", "encrypted_content")
    },
    "input[].role": "'user', 'assistant', 'system' or 'developer'",
    "input[].content": _PARTS,
    **{f"input[].content[]{name}": expected for name, expected in _PART.items()},
    "input[].call_id": _IDENTIFIER,
    "input[].name": _IDENTIFIER,
    "input[].output": _PARTS,
    **{f"input[].output[]{name}": expected for name, expected in _PART.items()},
    "input[].output[].type": "'input_text'",
    "input[].summary": "a list of texts",
    "input[].summary[]": "an object with type 'summary_text' and text",
    "input[].summary[].type": "'summary_text'",
    "input[].summary[].text": _TEXT,
    "model": f"the name of a model, of 1 to {MAX_MODEL} printable characters",
    "instructions": _TEXT,
    "stream": _SWITCH,
    "store": _SWITCH,
    "max_output_tokens": "a whole number of at least 1",
    "temperature": "a number from 0 to 2",
    "top_p": "a number from 0 to 1",
    "tools": "a list of tools",
    "tools[]": "an object with type, name and parameters",
    "tools[].type": "'function'. This server runs no tools of its own",
    "tools[].name": _TOOL_NAME,
    "tools[].description": _TEXT,
    "tools[].parameters": _SCHEMA,
    "tools[].strict": _SWITCH,
    "tool_choice": "'auto', 'none', 'required' or an object with type 'function' and name",
    "tool_choice.type": "'function'",
    "tool_choice.name": "the name of one of the tools",
    "parallel_tool_calls": _SWITCH,
    "reasoning": "an object with effort and summary",
    "reasoning.effort": quoted(get_args(Effort)),
    **{f"reasoning.{name}": _TEXT for name in ("summary", "generate_summary", "context")},
    "text": "an object with format and verbosity",
    "text.verbosity": _TEXT,
    "text.format": "an object with type, and name and schema if the type is 'json_schema'",
    "text.format.type": "'text', 'json_object' or 'json_schema'",
    "text.format.name": _TOOL_NAME,
    "text.format.schema": _SCHEMA,
    "text.format.description": _TEXT,
    "text.format.strict": _SWITCH,
    "include": "a list with 'reasoning.encrypted_content' or nothing",
    "include[]": "'reasoning.encrypted_content'",
    "truncation": "absent or 'disabled'",
    "background": "absent or false",
    "service_tier": "absent, 'auto' or 'default'",
    "top_logprobs": "absent or 0",
    "previous_response_id": _NOT_KEPT,
    "conversation": _NOT_KEPT,
    "prompt": "absent, since this server has no prompts of its own",
    "context_management": "absent",
    "moderation": "absent",
}
"""The value that each place must have. ``[]`` stands for a number in brackets."""

_PART_FIELDS: Final = names_of(
    bodies.SentInput, bodies.SentOutput, bodies.SentRefusal, bodies.SentImage
)

_FIELDS: Final = {
    "": names_of(bodies.Body),
    "input[]": names_of(bodies.SentItem),
    "input[].content[]": f"type, {_PART_FIELDS}",
    "input[].output[]": f"type, {_PART_FIELDS}",
    "input[].summary[]": "type, text",
    "tools[]": names_of(bodies.SentTool),
    "tool_choice": names_of(bodies.SentChoice),
    "reasoning": names_of(bodies.SentReasoning),
    "text": names_of(bodies.SentText),
    "text.format": "type, " + names_of(bodies.SentSchema),
}
"""The fields of each object."""

PLACES: Final = Places(_EXPECTED, _FIELDS)
