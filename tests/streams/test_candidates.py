"""Several candidates: the next one is asked when a call fails before it has said anything."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chatnest import ChatNestApp, OpenAIProvider, Turn
from chatnest.errors import UpstreamError
from chatnest.models import Candidate
from chatnest.streams.generation import Generation
from chatnest.telemetry import Attempted, Ended, FirstPiece
from chatnest.testing import Answer, FakeUpstream
from tests.streams.support import (
    KEY,
    Books,
    answer_to,
    ask,
    delivered,
    error,
    kinds,
    serving,
    text,
)
from tests.streams.test_observers import Seen

pytestmark = pytest.mark.anyio

KEYS = [{}, {"idempotency-key": '"1"'}]
plain_and_run = pytest.mark.parametrize("headers", KEYS, ids=["plain", "run"])

FIRST, SECOND = "gpt-4o-mini", "gpt-4o"


@pytest.fixture
def other() -> Iterator[FakeUpstream]:
    """The upstream of the second candidate."""
    with FakeUpstream() as fake:
        fake.default = Answer.text("from the second", usage=(9, 3))
        yield fake


class Kept:
    """Keeps the turns, and decides on retries by a list of the attempts that it allows."""

    def __init__(self, *repeated: int) -> None:
        self.turns: list[Turn] = []
        self.asked: list[tuple[str, int]] = []
        self._repeated = repeated

    def classify(self, turn: Turn, failure: UpstreamError, attempt: int) -> float | None:
        self.asked.append((turn.attempts[-1].model, attempt))
        return 0.0 if attempt in self._repeated else None

    async def finished(self, turn: Turn) -> None:
        self.turns.append(turn)

    @property
    def attempts(self) -> list[tuple[str, str | None, int]]:
        """Of the only turn."""
        (turn,) = self.turns
        return [(each.model, each.outcome, each.status) for each in turn.attempts]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream, other: FakeUpstream) -> Any:
    """Serves a chat that has two candidates. The application has no argument for the second."""

    @asynccontextmanager
    async def serve(**options: Any) -> AsyncIterator[ChatNestApp]:
        second = OpenAIProvider(model=SECOND, base_url=other.base_url, api_key=KEY)

        also = Candidate(name=SECOND, provider=second, upstream=SECOND, counter=second.counter)
        init = Generation.__init__

        def begin(  # noqa: PLR0917  # as the class has them
            self: Generation, turn: Any, output: Any, work: Any, bounds: Any, found: Any
        ) -> None:
            init(self, turn, output, work, bounds, (*found, also))

        monkeypatch.setattr(Generation, "__init__", begin)
        async with serving(upstream, **options) as app:
            yield app
        await second.aclose()

    return serve


@plain_and_run
async def test_the_second_answers_when_the_first_fails_before_any_text(
    upstream, other, both, headers
):
    upstream.default = Answer.error(503)
    kept, seen, books = Kept(), Seen(), Books()
    async with both(ledger=books, policies=[kept], observers=[seen]) as app:
        c = await answer_to(app, ask(), headers=headers)
    assert (c.status, text(c.received)) == (200, "from the second")
    assert kinds(c.received)[-1] == "done"
    assert kept.attempts == [(FIRST, "upstream_error", 503), (SECOND, None, 200)]
    assert (books.charge.tokens, books.charge.source) == (12, "provider")
    assert (len(upstream.requests), len(other.requests)) == (1, 1)
    assert other.last.json["messages"] == upstream.last.json["messages"]
    assert seen.kinds == ["Asked", "Admitted", "Attempted", "FirstPiece", "Attempted", "Ended"]
    assert seen.the(FirstPiece)
    assert [e.number for e in seen.events if isinstance(e, Attempted)] == [1, 2]
    assert (seen.the(Ended).outcome, seen.the(Ended).attempts) == ("done", 2)


async def test_a_policy_may_repeat_each_candidate_and_counts_from_one(upstream, other, both):
    upstream.default = other.default = Answer.error(503)
    kept, books = Kept(1), Books()
    async with both(ledger=books, policies=[kept]) as app:
        c = await answer_to(app, ask())
    assert kept.asked == [(FIRST, 1), (FIRST, 2), (SECOND, 1), (SECOND, 2)]
    assert [model for model, _, _ in kept.attempts] == [FIRST, FIRST, SECOND, SECOND]
    assert (len(upstream.requests), len(other.requests)) == (2, 2)
    assert (c.status, c.problem()["code"]) == (502, "upstream_error")
    assert (books.charge.tokens, books.charge.source) == (0, "none")


async def test_the_error_of_the_last_candidate_is_the_answers(upstream, other, both):
    upstream.default, other.default = Answer.error(500), Answer.error(401)
    async with both(policies=[kept := Kept()]) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (503, "upstream_account")
    assert [outcome for _, outcome, _ in kept.attempts] == ["upstream_error", "upstream_account"]


@plain_and_run
async def test_after_text_no_other_candidate_is_asked(upstream, other, both, headers):
    upstream.default = Answer.cut(after=2)
    kept, books = Kept(1), Books()
    async with both(ledger=books, policies=[kept]) as app:
        c = await answer_to(app, ask(), headers=headers)
        cost = await delivered(app, c.received)
    assert text(c.received) == "Hello world"
    assert error(c.received)["code"] == "upstream_interrupted"
    assert kept.attempts == [(FIRST, "upstream_interrupted", 200)]
    assert (kept.asked, other.requests) == ([], [])
    assert (books.charge.tokens, books.charge.source) == (cost, "estimated")


@pytest.mark.parametrize(
    "broken", [Answer.unfinished(), Answer.bad_json()], ids=["accepted", "unreadable"]
)
async def test_a_call_that_may_be_billed_is_not_given_to_another(upstream, other, both, broken):
    upstream.default = broken
    async with both(policies=[kept := Kept(1)]) as app:
        c = await answer_to(app, ask())
    assert c.status == 502
    assert (kept.asked, other.requests) == ([], [])
    assert [model for model, _, _ in kept.attempts] == [FIRST]


async def test_no_candidate_is_asked_once_the_answer_has_begun(upstream, other, both):
    upstream.default = Answer.text("from the first", usage=(9, 3))
    async with both(policies=[kept := Kept()]) as app:
        c = await answer_to(app, ask())
    assert (text(c.received), other.requests) == ("from the first", [])
    assert kept.attempts == [(FIRST, None, 200)]
