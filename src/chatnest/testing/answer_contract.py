"""AnswerContract: tests of every provider, also of one without a network."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio

from chatnest.conversation import Message
from chatnest.events import Delta, Finish, ProviderEvent, Usage
from chatnest.providers.base import Provider
from chatnest.requests import ModelRequest
from chatnest.turn import ModelCall

# ruff: noqa: S101  # these are tests

__all__ = ["MAX_OUTPUT_TOKENS", "SECONDS", "AnswerContract", "answer_of", "question", "text_of"]

MAX_OUTPUT_TOKENS = 1_043
"""The limit of `question`: a number that nothing else in a request has."""

SECONDS = 20.0
"""Maximum seconds of one answer."""


def question(text: str = "Hello") -> ModelCall:
    """A call with one message."""
    request = ModelRequest(
        messages=(Message.of("user", text),),
        max_output_tokens=MAX_OUTPUT_TOKENS,
        temperature=0.5,
    )
    return ModelCall(request=request, request_id="a-request")


async def answer_of(provider: Provider, call: ModelCall) -> list[ProviderEvent]:
    """All events of one answer. Raises what the provider raises."""
    events: list[ProviderEvent] = []
    with anyio.fail_after(SECONDS):
        async with provider.open(call) as stream:
            async for batch in stream:
                events += batch
    return events


def text_of(events: Sequence[ProviderEvent]) -> str:
    """The text that a client sees."""
    return "".join(event.text for event in events if isinstance(event, Delta))


class AnswerContract:
    """Tests of any provider, also of one without a network. You define ``make``.

    Subclass it in a test module, with a name that begins with ``Test``, and mark the module with
    ``pytest.mark.anyio``: each test then runs on asyncio and trio.
    """

    def make(self) -> Provider:
        """A provider that answers ``question()`` with some text."""
        raise NotImplementedError

    @asynccontextmanager
    async def provider_made(self) -> AsyncIterator[Provider]:
        """The provider, closed at the end."""
        provider = self.make()
        try:
            yield provider
        finally:
            await provider.aclose()

    async def test_it_has_a_name_and_counts_tokens(self) -> None:
        async with self.provider_made() as provider:
            assert provider.model
            assert await provider.counter.count("Some words") > 0

    async def test_an_answer_is_text_then_one_finish_and_its_usage(self) -> None:
        async with self.provider_made() as provider:
            events = await answer_of(provider, question())

            assert all(event.text for event in events if isinstance(event, Delta))
            assert text_of(events)
            (finish,) = [event for event in events if isinstance(event, Finish)]
            assert finish.reason
            last_text = max(n for n, event in enumerate(events) if isinstance(event, Delta))
            assert last_text < events.index(finish)
            assert any(isinstance(event, Usage) and event.output_tokens for event in events)

    async def test_a_call_that_was_answered_was_sent(self) -> None:
        async with self.provider_made() as provider:
            call = question()
            assert not call.sent
            async with provider.open(call):
                assert call.sent

    async def test_an_answer_may_be_left_at_its_first_piece(self) -> None:
        async with self.provider_made() as provider:
            with anyio.fail_after(SECONDS):
                async with provider.open(question()) as stream:
                    async for batch in stream:
                        if batch:
                            break
            assert text_of(await answer_of(provider, question()))

    async def test_it_can_be_asked_again_after_aclose(self) -> None:
        async with self.provider_made() as provider:
            first = text_of(await answer_of(provider, question()))
            await provider.aclose()
            await provider.aclose()

            assert text_of(await answer_of(provider, question())) == first
