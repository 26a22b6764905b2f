"""Thinking that a provider does not show costs what it may have taken, if nothing says how much."""

from typing import Any, NamedTuple

import pytest

from chatnest import ModelParameters
from chatnest.providers import ResponsesParameters
from chatnest.testing import (
    Answer,
    Conversation,
    FakeUpstream,
    Part,
    RedactedThinking,
    Text,
    Thinking,
    TokenUsage,
)
from tests.dialects.conftest import CallClock
from tests.dialects.support import (
    CHAT,
    DIALECTS,
    MESSAGES,
    RESPONSES,
    Chat,
    Dialect,
    asking,
    chatting,
)
from tests.dialects.test_end_to_end import arrived
from tests.streams.support import answer_to

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

EFFORT = "medium"
"""With it, Claude thinks up to 4,000 tokens. The hold has 8,000 of output."""
SEALED = "x" * 4_128
"""The encrypted form of 1,500 tokens at most: half of its 3,000 bytes, without the envelope."""
MARGIN = 8


@pytest.fixture(params=DIALECTS, ids=[dialect.name for dialect in DIALECTS])
def dialect(request) -> Dialect:
    found: Dialect = request.param
    return found


class Left(NamedTuple):
    """What a client that left has paid beside its input, what it has seen of that, and what was
    held for it.
    """

    output: int
    shown: int
    held: int


async def left(
    dialect: Dialect,
    upstream: FakeUpstream,
    clock: CallClock,
    *parts: Part,
    pieces: int = 0,
    before: float = 0.0,
    after: float = 0.0,
    provider: Any = None,
    **asked: Any,
) -> Left:
    """A client leaves ``after`` seconds behind the last of ``pieces``, the first of which came
    ``before`` seconds behind the call.
    """
    requests, aborted = len(upstream.requests), upstream.aborted
    upstream.script(
        dialect.answer(*parts, after=pieces, opening="silence", ending="stall", usage=None)
    )
    async with chatting(dialect, upstream, provider=provider) as chat:
        async with Conversation(chat.app, json=asking(**{"reasoningEffort": EFFORT} | asked)) as c:
            await upstream.until(lambda up: len(up.requests) > requests)
            clock.advance(before)
            if parts:
                upstream.release()
                await c.until(lambda: len(arrived(c.received)) == pieces)
                await upstream.until(lambda up: up.last.pieces_sent == pieces)
            clock.advance(after)
            c.disconnect()
            await c.finished()
        await upstream.until(lambda up: up.aborted > aborted)
        shown = await chat.delivered(c.received)
    return await paid(chat, shown)


async def paid(chat: Chat, shown: int = 0) -> Left:
    charge = chat.books.charges[-1]
    assert charge.source == "estimated"
    assert await chat.books.held() == (0, 0)
    held = chat.books.reservations[-1].tokens - charge.input_tokens
    assert charge.output_tokens <= held
    return Left(charge.output_tokens, shown, held)


# ------------------------------------------------ nothing has come


async def test_silence_may_be_thinking(dialect, upstream, call_clock):
    """At most 1,000 tokens for each second."""
    found = await left(dialect, upstream, call_clock, before=1.5)
    assert found == (1_500 + MARGIN, 0, 8_000)


async def test_a_client_that_leaves_at_once_pays_for_no_thinking(dialect, upstream, call_clock):
    assert (await left(dialect, upstream, call_clock)).output == MARGIN


async def test_long_silence_costs_what_thinking_may_take(dialect, upstream, call_clock):
    """Claude gets a limit for its thinking, and others one for the whole output."""
    found = await left(dialect, upstream, call_clock, before=60)
    assert found.output == (4_000 + MARGIN if dialect is MESSAGES else found.held)


@pytest.mark.parametrize("asked", [{"reasoningEffort": "none"}])
async def test_a_model_that_does_not_think_has_nothing_to_hide(
    dialect, upstream, call_clock, asked
):
    found = await left(dialect, upstream, call_clock, before=60, **asked)
    assert found.output == MARGIN


async def test_other_models_show_their_thinking(upstream, call_clock):
    for dialect, model in ((CHAT, "deepseek-r1"), (RESPONSES, "qwen3"), (MESSAGES, "glm-5")):
        provider = dialect.provider(upstream, model)
        found = await left(dialect, upstream, call_clock, before=60, provider=provider)
        assert found.output == MARGIN, dialect.name


@pytest.mark.parametrize(("model", "reasons"), [("gpt-5", False), ("deployment", True)])
async def test_an_operator_knows_better_than_a_name(upstream, call_clock, model, reasons):
    for dialect, kind in ((CHAT, ModelParameters), (RESPONSES, ResponsesParameters)):
        parameters = kind(reasons=reasons)
        provider = dialect.kind(
            base_url=upstream.base_url, api_key="k", model=model, parameters=parameters
        )
        found = await left(dialect, upstream, call_clock, before=2, provider=provider)
        assert found.output == MARGIN + 2_000 * reasons, dialect.name


async def test_a_failure_of_the_model_costs_the_same(dialect, upstream, call_clock):
    answer = dialect.answer(Text("Hm"), opening="silence", ending="cut", after=1, usage=None)
    upstream.script(answer)
    async with chatting(dialect, upstream) as chat:
        async with Conversation(chat.app, json=asking(reasoningEffort=EFFORT)) as c:
            await upstream.until(lambda up: up.requests)
            call_clock.advance(1)
            upstream.release()
            await c.read_all()
            await c.finished()
        assert chat.books.charge.outcome == "upstream_interrupted"
        shown = await chat.delivered(c.received)
    assert (await paid(chat)).output == shown + MARGIN + 1_000


# ------------------------------------------------ thinking


async def test_a_summary_is_part_of_the_thinking(upstream, call_clock):
    """Claude and the Responses API show summaries. What is seen of them counts once."""
    for dialect in (RESPONSES, MESSAGES):
        summary = Thinking(["I should", " look"], signature=SEALED)
        found = await left(dialect, upstream, call_clock, summary, pieces=1, before=0.5, after=1.5)
        assert found.shown
        assert found.output == 2_000 + MARGIN


async def test_encrypted_thinking_has_a_size(dialect, upstream, call_clock):
    """It is over when text comes, so no time counts any more."""
    thinking = Thinking(["I should", " look"], signature=SEALED)
    found = await left(
        dialect, upstream, call_clock, thinking, Text(["Yes", "."]), pieces=3, after=60
    )
    assert 1_500 <= found.output - MARGIN - (found.shown - 4) <= 1_550


async def test_redacted_thinking_has_a_size(dialect, upstream, call_clock):
    found = await left(
        dialect,
        upstream,
        call_clock,
        RedactedThinking(SEALED),
        Text(["Yes", "."]),
        pieces=1,
        after=60,
    )
    assert 1_500 <= found.output - MARGIN - found.shown <= 1_550


async def test_without_an_encrypted_form_the_time_until_the_text_counts(upstream, call_clock):
    found = await left(
        CHAT, upstream, call_clock, Text(["Yes", "."]), pieces=1, before=1.25, after=60
    )
    assert found.output == found.shown + MARGIN + 1_250


async def test_a_signature_of_thinking_that_is_shown_costs_nothing_more(
    dialect, upstream, call_clock
):
    thinking = Thinking("word " * 400, signature="x" * 1_100)
    found = await left(
        dialect,
        upstream,
        call_clock,
        thinking,
        Text(["Yes", "."]),
        pieces=401,
        reasoningEffort="none",
    )
    assert found.output == found.shown + found.shown // 20


# ------------------------------------------------ the provider's figure


async def test_the_figure_of_the_provider_is_the_charge(dialect, upstream, call_clock):
    usage = TokenUsage(120, 900, reasoning=890)
    upstream.script(
        dialect.answer(RedactedThinking(SEALED), Text("Yes."), usage=usage, opening="silence")
    )
    async with (
        chatting(dialect, upstream) as chat,
        Conversation(chat.app, json=asking(reasoningEffort=EFFORT)) as c,
    ):
        await upstream.until(lambda up: up.requests)
        call_clock.advance(60)
        upstream.release()
        await c.read_all()
        await c.finished()
    assert chat.books.charge.source == "provider"
    assert (chat.books.charge.input_tokens, chat.books.charge.output_tokens) == (120, 900)


async def test_a_whole_answer_without_a_figure_has_its_hidden_thinking(upstream, call_clock):
    upstream.script(CHAT.answer(Text("Yes."), usage=None, opening="silence"))
    async with chatting(CHAT, upstream) as chat:
        async with Conversation(chat.app, json=asking()) as c:
            await upstream.until(lambda up: up.requests)
            call_clock.advance(1)
            upstream.release()
            await c.read_all()
            await c.finished()
        shown = await chat.delivered(c.received)
    assert (await paid(chat)).output == shown + 1_000


@pytest.mark.parametrize(("reasoning", "hidden"), [(0, 0), (100, 2_000)])
async def test_a_model_of_another_name_is_known_by_its_first_figure(
    upstream, call_clock, reasoning, hidden
):
    provider = CHAT.provider(upstream, "deployment")
    usage = TokenUsage(120, 140, reasoning=reasoning)
    upstream.script(CHAT.answer(Text("Yes."), usage=usage), Answer.silence())
    async with chatting(CHAT, upstream, provider=provider) as chat:
        await answer_to(chat.app, asking())
        async with Conversation(chat.app, json=asking()) as c:
            await upstream.until(lambda up: len(up.requests) == 2)
            call_clock.advance(2)
            c.disconnect()
            await c.finished()
    assert (await paid(chat)).output == MARGIN + hidden


async def test_a_figure_with_thinking_changes_nothing_where_the_provider_knows(
    dialect, upstream, call_clock
):
    usage = TokenUsage(120, 140, reasoning=100)
    upstream.script(dialect.answer(Text("Yes."), usage=usage), Answer.silence())
    async with chatting(dialect, upstream) as chat:
        await answer_to(chat.app, asking(reasoningEffort=EFFORT))
        async with Conversation(chat.app, json=asking(reasoningEffort="none")) as c:
            await upstream.until(lambda up: len(up.requests) == 2)
            call_clock.advance(2)
            c.disconnect()
            await c.finished()
    assert (await paid(chat)).output == MARGIN


async def test_a_model_that_shows_its_thinking_is_not_taken_for_another(upstream, call_clock):
    provider = CHAT.provider(upstream, "deployment")
    answer = Answer(
        parts=[Thinking("word " * 400), Text("Yes.")], usage=TokenUsage(9, 402, reasoning=400)
    )
    upstream.script(answer, Answer.silence())
    async with chatting(CHAT, upstream, provider=provider) as chat:
        await answer_to(chat.app, asking())
        async with Conversation(chat.app, json=asking()) as c:
            await upstream.until(lambda up: len(up.requests) == 2)
            call_clock.advance(2)
            c.disconnect()
            await c.finished()
    assert (await paid(chat)).output == MARGIN
