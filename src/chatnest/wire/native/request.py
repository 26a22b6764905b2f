"""Parsing of a native request: from the bytes of a body to a valid ChatRequest. No I/O.

The body is that of chat-nest-server, with the messages and tools of Chat Completions. Everything
about it is checked here, once.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.profiles import profile_name
from chatnest.requests import AUTO, ChatRequest, is_conversation
from chatnest.wire.bodies import decode, left_out
from chatnest.wire.caps import is_model
from chatnest.wire.native.body import Body
from chatnest.wire.native.messages import messages_of
from chatnest.wire.native.places import PLACES
from chatnest.wire.sampling import sampling_of
from chatnest.wire.tools import choice_of, format_of, tools_of

__all__ = ["parse_request"]

_decoder: Final = msgspec.json.Decoder(Body)

_COUNTS: Final = {
    "daily_token_limit": "dailyTokenLimit",
    "max_tokens_per_request": "maxTokensPerRequest",
    "max_output_tokens": "maxOutputTokens",
}
_NAMES: Final = {
    "top_p": "topP",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_TOOL: Final = "tools[{}].function"


def parse_request(body: bytes, _: Mapping[bytes, bytes] | None = None) -> ChatRequest:
    """The request in ``body``, which is JSON in UTF-8 (RFC 8259). See WireFormat.parse; the head of
    the request has nothing for this format.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent. Duplicate keys are refused: a proxy in front may have read the other one.
    """
    parsed, urls = decode(_decoder, body, PLACES)
    sampling = sampling_of(parsed, _COUNTS, _NAMES, PLACES)
    messages = messages_of(parsed.messages, str if urls is None else urls.take)
    if urls:
        raise left_out("messages")
    if parsed.linger is not None and parsed.linger < 0:
        raise PLACES.wrong("linger")
    if parsed.conversation is not None and not is_conversation(parsed.conversation):
        raise PLACES.wrong("conversation")
    model = parsed.model
    if model is not None and not is_model(model):
        raise PLACES.wrong("model")
    profile = parsed.profile if parsed.profile is not None else parsed.ai_usage_profile
    sent = parsed.tools
    tools = tools_of([each.function for each in sent], _TOOL, PLACES) if sent else ()
    return ChatRequest(
        messages=messages,
        profile=None if profile is None else profile_name(profile),
        model=model,
        daily_token_limit=parsed.daily_token_limit,
        max_tokens_per_request=parsed.max_tokens_per_request,
        max_output_tokens=parsed.max_output_tokens,
        system_prompt=parsed.system_prompt,
        usage_event=bool(parsed.usage_event),
        events=frozenset(parsed.events or ()),
        linger=parsed.linger,
        conversation=parsed.conversation,
        tools=tools,
        tool_choice=AUTO
        if parsed.tool_choice is None and parsed.parallel_tool_calls is None
        else choice_of(
            parsed.tool_choice,
            tools,
            "toolChoice",
            PLACES,
            parallel=parsed.parallel_tool_calls,
        ),
        output=None
        if parsed.response_format is None
        else format_of(parsed.response_format, "responseFormat", PLACES),
        effort=parsed.reasoning_effort,
        sampling=sampling,
    )
