"""Parsing of a request for a chat completion: from bytes to a valid ChatRequest. No I/O."""

from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.requests import AUTO, ChatRequest, Submission
from chatnest.wire.bodies import decode, left_out
from chatnest.wire.caps import is_model
from chatnest.wire.openai_chat.body import Body
from chatnest.wire.openai_chat.messages import messages_of
from chatnest.wire.openai_chat.places import PLACES
from chatnest.wire.sampling import sampling_of
from chatnest.wire.tools import choice_of, format_of, tools_of

__all__ = ["parse_request"]

_decoder: Final = msgspec.json.Decoder(Body)

_COUNTS: Final = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_completion_tokens",
}
_SAME_NAMES: Final[Mapping[str, str]] = {}
_TOOL: Final = "tools[{}].function"

_STREAM: Final = Submission(may_be_empty=True)
_DOCUMENT: Final = Submission(may_be_empty=True, stream=False)


def parse_request(body: bytes, _: Mapping[bytes, bytes] | None = None) -> ChatRequest:
    """The request in ``body``. See WireFormat.parse; the head of the request has nothing for this
    format.

    Raises InvalidRequest, as in the native format. A field that must be absent is named; a field
    that OpenAI does not have is not.
    """
    parsed, urls = decode(_decoder, body, PLACES)
    sampling = sampling_of(parsed, _COUNTS, _SAME_NAMES, PLACES)
    messages, system = messages_of(parsed.messages, str if urls is None else urls.take)
    if urls:
        raise left_out("messages")
    if parsed.model is not None and not is_model(parsed.model):
        raise PLACES.wrong("model")
    if parsed.logprobs:
        raise PLACES.wrong("logprobs")
    sent, options = parsed.tools, parsed.stream_options
    tools = tools_of([each.function for each in sent], _TOOL, PLACES) if sent else ()
    return ChatRequest(
        messages=messages,
        model=parsed.model,
        max_output_tokens=_lower(parsed.max_tokens, parsed.max_completion_tokens),
        system_prompt=system,
        usage_event=options is not None and bool(options.include_usage),
        tools=tools,
        tool_choice=AUTO
        if parsed.tool_choice is None and parsed.parallel_tool_calls is None
        else choice_of(
            parsed.tool_choice,
            tools,
            "tool_choice",
            PLACES,
            parallel=parsed.parallel_tool_calls if tools else None,
        ),
        output=None
        if parsed.response_format is None
        else format_of(parsed.response_format, "response_format", PLACES),
        effort="xhigh" if parsed.reasoning_effort == "max" else parsed.reasoning_effort,
        sampling=sampling,
        submission=_STREAM if parsed.stream else _DOCUMENT,
    )


def _lower(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
