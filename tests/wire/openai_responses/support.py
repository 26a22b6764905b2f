"""What these tests share: frames, and what OpenAI's own types read in them."""

import json
from collections.abc import Sequence
from typing import Any, get_args

from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel

from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from chatnest.testing import parse_events
from chatnest.wire import Frames, OpenAIResponsesFormat, StreamInfo

RUN = "0192f000000070008000000000000001"
USAGE = Usage(120, 40, "provider", 64, 8, 25)
STOP = Done("stop", USAGE)
SIGNATURE = ReasoningSignature("sealed", "openai-responses", "gpt-5", id="rs_up")
EVERYTHING: Sequence[ClientEvent] = (
    Start(),
    Reasoning("Is it"),
    Reasoning(" raining?"),
    SIGNATURE,
    Delta("I"),
    Delta(" look."),
    Source("https://example.org/", "Example", 0, 7),
    Refusal("No."),
    ToolCall(0, "call_1", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCall(1, "call_2", "weather"),
    ToolCallDelta(1, "{}"),
    ToolCallDelta(0, '"Oslo"}'),
    Done("tool_calls", USAGE),
)
_TYPES: dict[str, type[BaseModel]] = {
    get_args(each.model_fields["type"].annotation)[0]: each
    for each in get_args(get_args(ResponseStreamEvent)[0])
}


def check(event: dict[str, Any]) -> None:
    """Raise ValidationError for an event that is not as OpenAI's own types describe it."""
    _TYPES[event["type"]].model_validate(event)


def frames(**request: Any) -> Frames:
    """An encoder, for a request with these fields."""
    made = OpenAIResponsesFormat()
    body = json.dumps({"input": "Hi", "stream": True, **request}).encode()
    return made.frames(StreamInfo(request_id=RUN, model="chat", request=made.parse(body, {})))


def encoded(*events: ClientEvent, **request: Any) -> bytes:
    """A stream of these events, each in a write of its own."""
    encoder = frames(**request)
    return b"".join(encoder.encode([event]) for event in events)


def read(stream: bytes) -> list[dict[str, Any]]:
    """The events of a stream as their JSON."""
    return [json.loads(event.data) for event in parse_events(stream)]


def kinds(stream: bytes) -> list[str]:
    """The types of the events, without the first part of their names."""
    return [event["type"].removeprefix("response.") for event in read(stream)]
