"""One answer is the same answer in every format, however it ends."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from chatnest import ASSISTANT
from chatnest.errors import UpstreamInterrupted
from chatnest.events import (
    Delta,
    ProviderEvent,
    Reasoning,
    ReasoningSignature,
    Refusal,
    ToolCall,
    ToolCallDelta,
)
from chatnest.testing import Conversation
from chatnest.wire import FORMAT_NAMES, formats_of
from chatnest.wire.proofs import NO_PROOF, Proof
from tests.streams.support import answer_to, serving
from tests.support.scripted import Scripted
from tests.wire.readers import WAYS, Answer, Way

pytestmark = pytest.mark.anyio

THINKING: Sequence[ProviderEvent] = (
    Reasoning("Is it"),
    Reasoning(" raining?\n\n"),
    ReasoningSignature("sealed", "anthropic-messages", "claude", id="rs_1"),
)
TEXT: Sequence[ProviderEvent] = (Delta('I "look"'), Delta("\n\nit up: é😀"))
CALL: Sequence[ProviderEvent] = (
    ToolCall(0, "call_1", "weather"),
    ToolCallDelta(0, '{"city":'),
    ToolCallDelta(0, ' "Oslo"}'),
)
CUT: Sequence[ProviderEvent] = (ToolCall(1, "call_2", "weather"), ToolCallDelta(1, '{"city"'))

PROOF = Proof("sealed", "anthropic-messages", "claude", id="rs_1")
WHOLE = Answer(
    text='I "look"\n\nit up: é😀',
    thinking="Is it raining?\n\n",
    proof=PROOF,
    calls=(),
    end="stop",
    usage=(50, 10),
)
CALLED = ("call_1", "weather", {"city": "Oslo"})


class Script(NamedTuple):
    """The events of a model, the reason or the failure with which they end, and the answer."""

    events: Sequence[ProviderEvent]
    answer: Answer
    reason: str = ""
    failure: Exception | None = None


SCRIPTS = {
    "stop": Script((*THINKING, *TEXT), WHOLE),
    "length": Script((*THINKING, *TEXT), WHOLE._replace(end="length"), "length"),
    "content_filter": Script(
        (*THINKING, *TEXT), WHOLE._replace(end="content_filter"), "content_filter"
    ),
    "tool_calls": Script(
        (*THINKING, *TEXT, *CALL), WHOLE._replace(end="tool_calls", calls=(CALLED,))
    ),
    "a call alone": Script(
        (*THINKING, *CALL), WHOLE._replace(text="", end="tool_calls", calls=(CALLED,))
    ),
    "refusal": Script(
        (*THINKING, Refusal("I can"), Refusal("not.")),
        WHOLE._replace(text="I cannot.", end="refusal"),
        "refusal",
    ),
    "cut": Script((*THINKING, *TEXT, *CUT), WHOLE._replace(end="cut"), "length"),
    "failure": Script(
        (*THINKING, *TEXT),
        WHOLE._replace(end="failure", usage=None),
        failure=UpstreamInterrupted(),
    ),
}


def test_every_registered_format_is_read():
    assert {way.format for way in WAYS.values()} == set(FORMAT_NAMES)


def expected(script: Script, way: Way, c: Conversation) -> Answer:
    """The answer of a script, without what a format has no place for."""
    answer = script.answer
    if c.status != 200:
        assert script.failure is not None
        return Answer("", "", NO_PROOF, (), "failure", None)
    if not way.has_proofs:
        answer = answer._replace(proof=NO_PROOF)
    if answer.end == "cut" and not way.shows_cuts:
        answer = answer._replace(end="length")
    return answer


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
async def test_an_answer_is_read_as_it_was_written(script, way):
    provider = Scripted(script.events, reason=script.reason, failure=script.failure)
    (format_,) = formats_of([way.format])
    options = {"profiles": [ASSISTANT], "default_profile": "assistant", "formats": [format_]}
    async with serving(None, provider=provider, **options) as app:
        c = await answer_to(app, way.body, path=f"/api/chat{format_.path}")

    assert way.read(c) == expected(script, way, c)
