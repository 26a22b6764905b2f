"""ProviderScript: the facts of a provider that its tests need, and an upstream for them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from http import HTTPStatus
from typing import ClassVar

from chatnest.errors import (
    UpstreamAccount,
    UpstreamError,
    UpstreamInterrupted,
    UpstreamOverloaded,
    UpstreamRejected,
    UpstreamServerError,
)
from chatnest.events import Finish
from chatnest.providers.base import Provider
from chatnest.testing.answer_contract import AnswerContract, answer_of, question
from chatnest.testing.upstream import Answer, FakeUpstream
from chatnest.turn import ModelCall

# ruff: noqa: S101  # these are tests

__all__ = ["PIECES", "ProviderScript", "failure"]

PIECES = ("Good", " mörning", ", \n\n", "friend")
"""The text of a complete answer."""


class ProviderScript(AnswerContract):
    """A provider that speaks HTTP, and an upstream that answers it by a script.

    You define ``path``, ``provider``, ``text`` and ``ending``, and may change the other attributes.
    """

    path: ClassVar[str] = "/v1/chat/completions"
    """The path that the provider requests."""

    refusals: ClassVar[Mapping[int, type[UpstreamError]]] = {
        HTTPStatus.BAD_REQUEST: UpstreamRejected,
        HTTPStatus.UNAUTHORIZED: UpstreamAccount,
        HTTPStatus.FORBIDDEN: UpstreamAccount,
        HTTPStatus.TOO_MANY_REQUESTS: UpstreamOverloaded,
        HTTPStatus.INTERNAL_SERVER_ERROR: UpstreamServerError,
        HTTPStatus.SERVICE_UNAVAILABLE: UpstreamError,
        HTTPStatus.TEMPORARY_REDIRECT: UpstreamError,
        HTTPStatus.NOT_FOUND: UpstreamError,
    }
    """Statuses, and the error that each must become. Subclasses of the error pass."""

    reads_unread: ClassVar[bool] = True
    """Whether what arrived before a cancellation is in ``call.unread`` on asyncio. False for an
    HTTP client that does not know; chatnest then charges a margin.
    """

    def provider(self, url: str) -> Provider:
        """A provider that requests ``url``, which ends with ``path``."""
        raise NotImplementedError

    def text(self, piece: str) -> bytes:
        """The bytes of the event with a piece of text, up to its blank line."""
        raise NotImplementedError

    def ending(self) -> Sequence[bytes]:
        """The events after the text: a reason to stop, and a usage of 9 tokens in and 4 out."""
        raise NotImplementedError

    def sent_text(self, body: bytes) -> str:
        """The request's body as text, in which the tests look for a message and for a limit."""
        return body.decode()

    def upstream(self, *answers: Answer) -> AbstractContextManager[FakeUpstream]:
        """The upstream, with a complete answer as its default."""
        upstream = FakeUpstream(*answers, path=self.path)
        upstream.default = self.whole()
        return upstream

    def whole(self, **fields: float) -> Answer:
        """A complete answer."""
        events = (*map(self.text, PIECES), *self.ending())
        return Answer(events=events, **fields)  # type: ignore[arg-type]

    def broken(self, answer: Answer) -> Answer:
        """An answer of two pieces that ends as ``answer`` does."""
        events = (self.text("One"), self.text(" two"), *self.ending())
        return Answer(events=events, after=2, ending=answer.ending)

    @asynccontextmanager
    async def asked(self, *answers: Answer) -> AsyncIterator[tuple[Provider, FakeUpstream]]:
        """A provider and its upstream, both closed at the end."""
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
            return await failure(provider, call), call


async def failure(provider: Provider, call: ModelCall | None = None) -> UpstreamError:
    """The error of an answer, as chatnest reports it."""
    try:
        events = await answer_of(provider, call or question())
    except UpstreamError as error:
        return error
    assert not any(isinstance(event, Finish) for event in events), "it must not be complete"
    return UpstreamInterrupted()
