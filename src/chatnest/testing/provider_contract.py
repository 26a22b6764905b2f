"""ProviderContract: tests of every provider that speaks HTTP, to run over one of your own."""

import asyncio

import anyio

from chatnest.errors import (
    UpstreamBadResponse,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamUnavailable,
)
from chatnest.events import ProviderEvent, Usage
from chatnest.testing.answer_contract import (
    MAX_OUTPUT_TOKENS,
    SECONDS,
    answer_of,
    question,
    text_of,
)
from chatnest.testing.provider_script import PIECES, ProviderScript, failure
from chatnest.testing.upstream import CANARY, Answer

# ruff: noqa: S101  # these are tests

__all__ = ["ProviderContract"]


class ProviderContract(ProviderScript):
    """Tests of a provider that speaks HTTP, over an upstream with scripted answers.

    You define what ProviderScript needs: ``path``, ``provider``, ``text`` and ``ending``.
    """

    async def test_the_text_arrives_unchanged(self) -> None:
        async with self.asked() as (provider, _):
            assert text_of(await answer_of(provider, question())) == "".join(PIECES)

    async def test_bytes_that_are_split_anywhere_make_the_same_text(self) -> None:
        async with self.asked(self.whole(split=3)) as (provider, _):
            assert text_of(await answer_of(provider, question())) == "".join(PIECES)

    async def test_the_usage_is_the_upstreams(self) -> None:
        async with self.asked() as (provider, _):
            events = await answer_of(provider, question())

            *_, usage = (event for event in events if isinstance(event, Usage))
            assert (usage.input_tokens, usage.output_tokens) == (9, 4)

    async def test_the_request_has_the_message_and_the_limit_of_the_output(self) -> None:
        async with self.asked() as (provider, upstream):
            await answer_of(provider, question("Any bread?"))

            sent = self.sent_text(upstream.last.body)
            assert "Any bread?" in sent
            assert str(MAX_OUTPUT_TOKENS) in sent, "the reservation depends on it"

    async def test_a_piece_does_not_wait_for_the_next(self) -> None:
        async with self.asked(self.broken(Answer.stall())) as (provider, upstream):
            events: list[ProviderEvent] = []
            with anyio.fail_after(SECONDS):
                async with provider.open(question()) as stream:
                    async for batch in stream:
                        events += batch
                        if text_of(events) == "One two":
                            break
                await upstream.until(lambda upstream: upstream.aborted == 1, SECONDS)

    async def test_a_cancelled_answer_closes_its_connection(self) -> None:
        endless = Answer(events=(self.text("again"),), repeat=float("inf"), pace=0.001)
        async with self.asked(endless) as (provider, upstream):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer_of, provider, question())
                await upstream.until(lambda u: u.requests and u.last.pieces_sent, SECONDS)
                tasks.cancel_scope.cancel()
            await upstream.until(lambda u: (u.aborted, u.open_sockets) == (1, 0), SECONDS)

    async def test_what_arrived_before_a_cancellation_is_in_unread(self) -> None:
        if not self.reads_unread or not _is_asyncio():
            return
        for batches in (0, 1):
            call, events = question(), list[ProviderEvent]()
            async with self.asked(self.broken(Answer.stall())) as (provider, upstream):
                with anyio.fail_after(SECONDS):
                    async with provider.open(call) as stream:
                        await upstream.until(lambda upstream: upstream.last.pieces_sent == 2)  # noqa: PLR2004
                        for _ in range(batches):
                            events += await anext(stream)
            events += [event for batch in call.unread or () for event in batch]
            assert text_of(events) == "One two", "the events that arrived are not charged"

    async def test_aclose_closes_the_connections(self) -> None:
        async with self.asked() as (provider, upstream):
            await answer_of(provider, question())
            await provider.aclose()
            await upstream.until(lambda upstream: upstream.open_sockets == 0, SECONDS)

    async def test_a_request_counts_as_sent_before_its_answer_begins(self) -> None:
        call = question()
        async with self.asked(Answer.silence()) as (provider, upstream):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer_of, provider, call)
                await upstream.until(lambda upstream: upstream.requests, SECONDS)
                tasks.cancel_scope.cancel()
            await upstream.until(lambda upstream: upstream.aborted == 1, SECONDS)
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
            async with self.asked(Answer.error(status)) as (provider, upstream):
                error = await failure(provider)
                assert isinstance(error, expected), f"{status}: {error!r}"
                assert CANARY not in f"{error} {error.facts}", "it repeats the upstream's text"
                assert len(upstream.requests) == 1, "retries are a policy of chatnest"

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
        for data in (b"data: {\n\n", b'data: "\xff"\n\n', b"data: [[[[\n\n", b"data: 7\n\n"):
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
            assert texts == ["".join(PIECES)] * 8


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
