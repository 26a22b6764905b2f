"""ProviderContract: tests that every provider must pass, to run over a provider of your own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from http import HTTPStatus
from typing import ClassVar

import anyio

from chatnest.errors import (
    UpstreamAccount,
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamServerError,
    UpstreamUnavailable,
)
from chatnest.events import Delta, Finish, ProviderEvent, Usage
from chatnest.providers.base import Provider
from chatnest.request import ChatMessage
from chatnest.testing.upstream import CANARY, Answer, FakeUpstream
from chatnest.turn import ModelCall

# ruff: noqa: S101  # these are tests

__all__ = ["AnswerContract", "ProviderContract", "answer_of", "question"]

_PIECES = ("Good", " mörning", ", \n\n", "friend")
_SECONDS = 20.0


def question(text: str = "Hello") -> ModelCall:
    """A call with one message."""
    return ModelCall(
        messages=(ChatMessage(role="user", content=text),),
        max_output_tokens=1_000,
        temperature=0.5,
        request_id="a-request",
    )


async def answer_of(provider: Provider, call: ModelCall) -> list[ProviderEvent]:
    """All events of one answer. Raises what the provider raises."""
    events: list[ProviderEvent] = []
    with anyio.fail_after(_SECONDS):
        async with provider.open(call) as stream:
            async for batch in stream:
                events += batch
    return events


def text_of(events: Sequence[ProviderEvent]) -> str:
    """The text that a client sees."""
    return "".join(event.text for event in events if isinstance(event, Delta))


class AnswerContract:
    """Tests of any provider, also of one without a network. ``make`` is yours.

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
            with anyio.fail_after(_SECONDS):
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


class ProviderContract(AnswerContract):
    """Tests of a provider that speaks HTTP, over an upstream with scripted answers.

    ``path``, ``provider``, ``text`` and ``ending`` are yours; ``refusals`` may be.
    """

    path: ClassVar[str] = "/v1/chat/completions"
    """The path that the provider requests."""

    refusals: ClassVar[Mapping[int, type[UpstreamError]]] = {
        HTTPStatus.UNAUTHORIZED: UpstreamAccount,
        HTTPStatus.TOO_MANY_REQUESTS: UpstreamOverloaded,
        HTTPStatus.INTERNAL_SERVER_ERROR: UpstreamServerError,
        HTTPStatus.SERVICE_UNAVAILABLE: UpstreamError,
        HTTPStatus.TEMPORARY_REDIRECT: UpstreamError,
        HTTPStatus.NOT_FOUND: UpstreamError,
    }
    """Statuses, and the error that each must become. Subclasses of the error pass."""

    def provider(self, url: str) -> Provider:
        """A provider that requests ``url``, which ends with ``path``."""
        raise NotImplementedError

    def text(self, piece: str) -> bytes:
        """The bytes of the event with a piece of text, up to its blank line."""
        raise NotImplementedError

    def ending(self) -> Sequence[bytes]:
        """The events after the text: a reason to stop, and a usage of 9 tokens in and 4 out."""
        raise NotImplementedError

    def upstream(self, *answers: Answer) -> AbstractContextManager[FakeUpstream]:
        """The server, already with an ordinary answer as its default."""
        upstream = FakeUpstream(*answers, path=self.path)
        upstream.default = self.whole()
        return upstream

    def whole(self, **fields: float) -> Answer:
        """A complete answer, at once."""
        events = (*map(self.text, _PIECES), *self.ending())
        return Answer(events=events, **fields)  # type: ignore[arg-type]

    def broken(self, answer: Answer) -> Answer:
        """An answer of two pieces that ends as ``answer`` does."""
        events = (self.text("One"), self.text(" two"), *self.ending())
        return Answer(events=events, after=2, ending=answer.ending)

    @asynccontextmanager
    async def asked(self, *answers: Answer) -> AsyncIterator[tuple[Provider, FakeUpstream]]:
        """A provider and its upstream."""
        with self.upstream(*answers) as upstream:
            provider = self.provider(upstream.url)
            try:
                yield provider, upstream
            finally:
                await provider.aclose()

    @asynccontextmanager
    async def provider_made(self) -> AsyncIterator[Provider]:
        """See AnswerContract."""
        async with self.asked() as (provider, _):
            yield provider

    async def failure_of(self, answer: Answer) -> tuple[UpstreamError, ModelCall]:
        """The error that ``answer`` becomes."""
        async with self.asked(answer) as (provider, _):
            call = question()
            try:
                events = await answer_of(provider, call)
            except UpstreamError as error:
                return error, call
            assert not any(isinstance(event, Finish) for event in events), "it must not be complete"
            return UpstreamInterrupted(), call  # ChatNestApp reports an answer without Finish so

    async def test_the_text_arrives_unchanged(self) -> None:
        async with self.asked() as (provider, _):
            assert text_of(await answer_of(provider, question())) == "".join(_PIECES)

    async def test_bytes_that_are_split_anywhere_make_the_same_text(self) -> None:
        async with self.asked(self.whole(split=3)) as (provider, _):
            assert text_of(await answer_of(provider, question())) == "".join(_PIECES)

    async def test_the_usage_is_the_upstreams(self) -> None:
        async with self.asked() as (provider, _):
            events = await answer_of(provider, question())

            *_, usage = (event for event in events if isinstance(event, Usage))
            assert (usage.input_tokens, usage.output_tokens) == (9, 4)

    async def test_a_piece_does_not_wait_for_the_next(self) -> None:
        async with self.asked(self.broken(Answer.stall())) as (provider, upstream):
            events: list[ProviderEvent] = []
            with anyio.fail_after(_SECONDS):
                async with provider.open(question()) as stream:
                    async for batch in stream:
                        events += batch
                        if text_of(events) == "One two":
                            break
                await upstream.until(lambda upstream: upstream.aborted == 1)

    async def test_a_cancelled_answer_closes_its_connection(self) -> None:
        endless = Answer(events=(self.text("again"),), repeat=float("inf"), pace=0.001)
        async with self.asked(endless) as (provider, upstream), anyio.create_task_group() as tasks:
            tasks.start_soon(answer_of, provider, question())
            await upstream.until(lambda u: u.requests and u.last.pieces_sent)
            tasks.cancel_scope.cancel()
        assert (upstream.aborted, upstream.open_sockets) == (1, 0)

    async def test_a_request_counts_as_sent_before_its_answer_begins(self) -> None:
        call = question()
        async with self.asked(Answer.silence()) as (provider, upstream):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer_of, provider, call)
                await upstream.until(lambda upstream: upstream.requests)
                tasks.cancel_scope.cancel()
            await upstream.until(lambda upstream: upstream.aborted == 1)
        assert call.sent

    async def test_a_request_that_reached_nobody_was_not_sent(self) -> None:
        with self.upstream() as upstream:
            provider = self.provider(upstream.url)
        call = question()
        try:
            await answer_of(provider, call)
        except UpstreamUnavailable:
            assert not call.sent
        else:
            raise AssertionError("expected UpstreamUnavailable")
        finally:
            await provider.aclose()

    async def test_each_refusal_is_its_error(self) -> None:
        for status, expected in self.refusals.items():
            error, _ = await self.failure_of(Answer.error(status))
            assert isinstance(error, expected), f"{status}: {error!r}"
            assert CANARY not in str(error), "it must not repeat the upstream's text"

    async def test_a_redirect_is_not_followed(self) -> None:
        async with self.asked(Answer.redirect(location=self.path)) as (provider, upstream):
            try:
                await answer_of(provider, question())
            except UpstreamError:
                assert len(upstream.requests) == 1
            else:
                raise AssertionError("expected an UpstreamError")

    async def test_an_answer_that_breaks_off_is_interrupted(self) -> None:
        for answer in (Answer.cut(), Answer.reset(), Answer.unfinished(), Answer.bad_framing()):
            error, call = await self.failure_of(self.broken(answer))
            assert isinstance(error, UpstreamInterrupted), f"{answer.ending}: {error!r}"
            assert call.sent

    async def test_no_answer_and_no_http_are_errors(self) -> None:
        for answer in (Answer.close(), Answer.not_http()):
            error, _ = await self.failure_of(answer)
            assert isinstance(error, UpstreamUnavailable), repr(error)

    async def test_an_unreadable_answer_is_a_bad_response(self) -> None:
        for data in (b"data: {\n\n", b'data: "\xff"\n\n', b"data: [[[[\n\n"):
            error, _ = await self.failure_of(Answer(events=(data, *self.ending())))
            assert isinstance(error, UpstreamBadResponse), f"{data!r}: {error!r}"

    async def test_one_event_without_an_end_is_a_bad_response(self) -> None:
        piece = b"data: " + b"a" * 65_536
        answer = Answer(events=(piece, b"a" * 65_536), repeat=float("inf"))
        error, _ = await self.failure_of(answer)
        assert isinstance(error, UpstreamBadResponse)

    async def test_answers_at_the_same_time_do_not_mix(self) -> None:
        async with self.asked() as (provider, _):
            texts: list[str] = []

            async def ask() -> None:
                texts.append(text_of(await answer_of(provider, question())))

            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(ask)
            assert texts == ["".join(_PIECES)] * 8
