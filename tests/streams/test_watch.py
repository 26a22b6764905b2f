"""A policy watches the answer before it is sent, and may end it."""

import json
from typing import Any

import pytest

from chatnest import ChatNestError, ConfigurationError, StopAnswer, Turn
from chatnest.events import Usage
from chatnest.policies.base import PolicyChain
from chatnest.testing import Answer
from tests.streams.support import (
    CLIENT,
    Books,
    answer_to,
    ask,
    delivered,
    error,
    input_tokens,
    kinds,
    policies,
    serving,
    text,
)

pytestmark = pytest.mark.anyio

KEYS = [{}, {"idempotency-key": '"1"'}]
plain_and_run = pytest.mark.parametrize("headers", KEYS, ids=["plain", "run"])


class Watching:
    """Keeps what it sees, and ends the answer at a word."""

    def __init__(self, word: str = "", failure: BaseException | None = None) -> None:
        self.seen: list[str] = []
        self.turns: list[Turn] = []
        self._word = word
        self._failure = failure or StopAnswer("content_filter")

    def watch(self, turn: Turn, text: str) -> None:
        self.seen.append(text)
        assert turn.answer.text.endswith(text)
        if self._word and self._word in text:
            raise self._failure

    async def finished(self, turn: Turn) -> None:
        self.turns.append(turn)


class Rude(ChatNestError):
    """What an answer may end with."""

    status, code, title = 502, "rude", "Rude"


@plain_and_run
async def test_all_of_an_answer_is_watched(upstream, headers):
    upstream.default = Answer.text("one two three four", pace=0.01)
    watching = Watching()
    async with serving(upstream, policies=[watching, *policies()]) as app:
        c = await answer_to(app, ask(), headers=headers)
    assert "".join(watching.seen) == text(c.received) == "one two three four"
    assert kinds(c.received)[-1] == "done"


@plain_and_run
async def test_a_policy_ends_an_answer_at_a_word(upstream, headers):
    upstream.default = Answer.text("one two three four", pace=0.05)
    watching, books = Watching("three"), Books()
    async with serving(upstream, ledger=books, policies=[watching, *policies()]) as app:
        c = await answer_to(app, ask(usageEvent=True), headers=headers)
        arrived = await app.provider.counter.count(watching.turns[0].answer.text)
        most = await input_tokens(app) + arrived + max(8, arrived // 20)
    assert (c.status, text(c.received)) == (200, "one two")
    assert kinds(c.received)[-1] == "done"
    assert (books.charge.outcome, books.charge.source) == ("done", "estimated")
    assert books.charge.tokens == most
    (turn,) = watching.turns
    assert (turn.outcome, turn.answer.finish_reason) == ("done", "content_filter")
    assert [attempt.outcome for attempt in turn.attempts] == [None]
    assert "three" in turn.answer.text


@plain_and_run
async def test_a_first_piece_that_is_rejected_leaves_an_empty_answer(upstream, headers):
    upstream.default = Answer.text("three", pace=0.01)
    books = Books()
    async with serving(upstream, ledger=books, policies=[Watching("three"), *policies()]) as app:
        c = await answer_to(app, ask(), headers=headers)
    assert (c.status, kinds(c.received)) == (200, ["start", "done"])
    assert books.charge.tokens > 0


@plain_and_run
async def test_an_error_of_a_policy_ends_the_answer(upstream, headers):
    upstream.default = Answer.text("one two three four", pace=0.05)
    books = Books()
    rude = Watching("three", Rude("The model was rude."))
    async with serving(upstream, ledger=books, policies=[rude, *policies()]) as app:
        c = await answer_to(app, ask(), headers=headers)
    failed = error(c.received)
    assert (failed["code"], failed["charged"]) == ("rude", True)
    assert text(c.received) == "one two"
    assert books.charge.outcome == "rude"
    assert books.charge.tokens > 0


async def test_an_error_at_the_first_piece_is_a_document(upstream):
    upstream.default = Answer.text("three", pace=0.01)
    rude = Watching("three", Rude("The model was rude."))
    async with serving(upstream, policies=[rude, *policies()]) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"], c.problem()["charged"]) == (502, "rude", True)


@plain_and_run
async def test_a_policy_that_fails_ends_the_answer(upstream, caplog, headers):
    upstream.default = Answer.text("one two three four", pace=0.05)
    broken = Watching("three", RuntimeError("a policy's own trouble"))
    async with serving(upstream, policies=[broken, *policies()]) as app:
        c = await answer_to(app, ask(), headers=headers)
    assert error(c.received)["code"] == "internal_error"
    assert text(c.received) == "one two"
    assert broken.turns[0].charged > 0
    assert sum("policy's own trouble" in (r.exc_text or "") for r in caplog.records) == 1


async def test_thinking_is_not_watched(upstream):
    events = [{"reasoning_content": "three"}, {"content": "one"}, {"reasoning_content": "three"}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in events]
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    data = [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in (*chunks, finish)]
    upstream.default = Answer(events=(*data, b"data: [DONE]\n\n"), pace=0.02)
    watching = Watching("three")
    async with serving(upstream, policies=[watching, *policies()]) as app:
        c = await answer_to(app, ask())
    assert (watching.seen, text(c.received), kinds(c.received)[-1]) == (["one"], "one", "done")


@pytest.mark.parametrize("reason", ["", "a b", "a\n", "é", "a" * 65, None, 7])
def test_a_reason_to_stop_is_a_word(reason):
    with pytest.raises(ValueError, match="finish_reason: expected letters"):
        StopAnswer(reason)


async def test_policies_watch_in_their_order(upstream):
    first, second = Watching("Hello"), Watching()
    async with serving(upstream, policies=[first, second]) as app:
        await answer_to(app, ask())
    assert first.seen
    assert second.seen == []


async def test_an_early_figure_is_not_the_bill_of_an_answer_that_is_ended(upstream):
    """A provider that counts as it goes has said little when the policy ends the answer."""
    early: Any = Watching("three")

    def forge(turn: Turn, text: str) -> None:
        turn.answer.usage = Usage(1, 1)
        Watching.watch(early, turn, text)

    early.watch = forge
    upstream.default = Answer.text("one two three four", pace=0.05)
    books = Books()
    async with serving(upstream, ledger=books, policies=[early, *policies()]) as app:
        c = await answer_to(app, ask(usageEvent=True))
        least = await delivered(app, c.received)
    assert books.charge.tokens >= least
    assert early.turns[0].answer.usage is None
    assert await books.used(CLIENT) == books.charge.tokens


def test_a_watch_is_a_plain_function():
    class Slow:
        async def watch(self, turn: Turn, text: str) -> None:
            """Too slow."""

    slow: Any = Slow()
    with pytest.raises(ConfigurationError, match="watch: expected a plain function"):
        PolicyChain([slow])
