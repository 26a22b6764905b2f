"""The official SDK agrees: it takes our requests, and reads answers as we do."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from chatnest import AnthropicProvider
from chatnest.answer import Answer as Answered
from chatnest.events import (
    Delta,
    Finish,
    Reasoning,
    ReasoningSignature,
    Source,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from chatnest.requests import OutputFormat
from chatnest.testing import FakeUpstream
from chatnest.testing.answer_contract import answer_of, question
from chatnest.testing.upstream import Answer
from tests.providers.anthropic_messages.events import DIALECT
from tests.providers.anthropic_messages.shapes import SHAPES, Shape
from tests.providers.anthropic_messages.test_bodies import (
    ASKED,
    CALL,
    CHOICES,
    RESULT,
    USER,
    WEATHER,
    assistant,
    body,
    results,
    thought,
)
from tests.testing_kit.answers import EVERYTHING

if TYPE_CHECKING:
    import anthropic
else:
    anthropic = pytest.importorskip("anthropic")

OPEN_TURN = (USER, assistant(thought(), thought("", redacted=True), CALL), results(RESULT))
BODIES = [
    *(body(model=model, **fields) for model, fields, _ in ASKED.values()),
    *(body(tools=(WEATHER,), tool_choice=choice) for choice, _ in CHOICES.values()),
    body(*OPEN_TURN),
    body(output=OutputFormat(schema='{"type": "object"}'), effort="low", model="claude-opus-5"),
]

OFFICIAL = {
    name: shape
    for name, shape in SHAPES.items()
    if "platform.claude.com" in shape.source and "unknown" not in name  # the SDK fails on those
}


@pytest.mark.parametrize("sent", BODIES)
def test_a_request_is_valid_by_the_types_of_the_sdk(sent: Any):
    from anthropic.types.message_create_params import (  # see importorskip
        MessageCreateParamsStreaming,
    )

    TypeAdapter(MessageCreateParamsStreaming).validate_python(sent)


@pytest.mark.parametrize("shape", OFFICIAL.values(), ids=OFFICIAL)
def test_the_helper_of_the_sdk_reads_an_answer_as_we_do(shape: Shape):
    ours = Answered()
    ours.add(shape.events)
    with FakeUpstream(Answer(body=shape.body, content_type="text/event-stream")) as upstream:
        client = anthropic.Anthropic(base_url=upstream.origin, api_key="x", max_retries=0)
        with (
            client,
            client.messages.stream(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
            ) as stream,
        ):
            read = stream.get_final_message()
    texts = "".join(block.text for block in read.content if block.type == "text")
    assert texts == ours.text.removesuffix("No.")  # the SDK leaves the explanation where it is
    thinking = [block for block in read.content if block.type == "thinking"]
    assert "".join(block.thinking for block in thinking) == ours.thinking
    signatures = [e.signature for e in shape.events if isinstance(e, ReasoningSignature)]
    redacted = [block.data for block in read.content if block.type == "redacted_thinking"]
    assert [block.signature for block in thinking] + redacted == signatures
    calls = [(b.id, b.name, b.input) for b in read.content if b.type == "tool_use"]
    assert calls == [(call.id, call.name, json.loads(call.arguments)) for call in ours.tool_calls]
    usage = read.usage
    taken = usage.input_tokens + (usage.cache_read_input_tokens or 0)
    taken += usage.cache_creation_input_tokens or 0
    assert ours.usage is not None
    assert (ours.usage.input_tokens, ours.usage.output_tokens) == (taken, usage.output_tokens)


@pytest.mark.anyio
async def test_the_fake_upstream_speaks_the_dialect():
    with FakeUpstream(EVERYTHING) as upstream:
        provider = AnthropicProvider(base_url=upstream.origin, model="m")
        events = await answer_of(provider, question())
        await provider.aclose()
    assert events == [
        *(Reasoning(""), Reasoning("Is it"), Reasoning(" raining?")),
        ReasoningSignature("c2lnbmF0dXJl", DIALECT, "m"),
        ReasoningSignature("cmVkYWN0ZWQ=", DIALECT, "m", redacted=True),
        *(Delta("I will"), Delta(" look. ")),
        Source("https://example.org/a", "A page", 0, 13),
        Source("https://example.org/b", "", 0, 13),
        ToolCall(0, "call_1", "weather"),
        *(ToolCallDelta(0, piece) for piece in ('{"city":', ' "Köln"', "}")),
        ToolCall(1, "call_2", "now"),
        ToolCallDelta(1, "{}"),
        Finish("tool_calls"),
        Usage(
            *(120, 40, "provider", 64, 16, 25, 0, "standard", "m"),
            response_id=events[-1].response_id,  # type: ignore[union-attr]  # a Usage
        ),
    ]
