"""Observers see each step of a request, refusals included, and break none."""

from typing import Any

import anyio
import msgspec
import pytest

from chatnest import (
    ChatNestApp,
    ConfigurationError,
    DemoProvider,
    Identity,
    MemoryRunLog,
    Profile,
    Turn,
)
from chatnest.errors import UpstreamServerError
from chatnest.runs.base import REFUSED, Claim, Page
from chatnest.telemetry import (
    Admitted,
    Asked,
    Attempted,
    Ended,
    FirstPiece,
    Observation,
    Refused,
)
from chatnest.telemetry.call_log import CallLog
from chatnest.testing import Answer, Conversation
from tests.streams.support import (
    CLIENT,
    Books,
    answer_to,
    ask,
    input_tokens,
    kinds,
    policies,
    serving,
)

pytestmark = pytest.mark.anyio

KEYS = [{}, {"idempotency-key": '"1"'}]


class Seen:
    """Keeps what it observes."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def observe(self, event: Observation) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def the(self, kind: type) -> Any:
        (event,) = [event for event in self.events if type(event) is kind]
        return event


class Broken(Seen):
    """Fails at everything."""

    def observe(self, event: Observation) -> None:
        super().observe(event)
        raise RuntimeError("an observer's own trouble")


@pytest.mark.parametrize("headers", KEYS, ids=["plain", "run"])
async def test_an_answer_is_seen_from_its_beginning_to_its_end(upstream, headers):
    upstream.default = Answer(usage=(9, 3))
    seen = Seen()
    async with serving(upstream, observers=[seen]) as app:
        await answer_to(app, ask(conversation="c"), headers=headers)
    assert seen.kinds == ["Asked", "Admitted", "FirstPiece", "Attempted", "Ended"]
    asked, admitted, first, attempted, ended = seen.events
    assert len({(e.id, e.principal, e.profile, e.model) for e in seen.events}) == 1
    assert (asked.principal, asked.profile, asked.conversation) == (CLIENT, "balanced", "c")
    assert admitted.held == admitted.input_tokens + admitted.max_output_tokens
    assert (attempted.number, attempted.error, attempted.attempt.status) == (1, None, 200)
    assert attempted.attempt.outcome is None
    assert (ended.outcome, ended.finish_reason, ended.source) == ("done", "stop", "provider")
    assert (ended.input_tokens, ended.output_tokens, ended.attempts) == (9, 3, 1)
    assert 0 < admitted.seconds <= first.seconds <= ended.seconds
    assert [e.time for e in seen.events] == sorted(e.time for e in seen.events)
    with pytest.raises(AttributeError):
        ended.outcome = "another"


@pytest.mark.parametrize("headers", KEYS, ids=["plain", "run"])
async def test_each_attempt_is_seen_and_recorded(upstream, headers):
    upstream.script(Answer.error(500), Answer())
    seen, turns = Seen(), []

    class Keeping:
        async def finished(self, turn: Turn) -> None:
            turns.append(turn)

    async with serving(upstream, observers=[seen], policies=[Keeping(), *policies()]) as app:
        await answer_to(app, ask(), headers=headers)
    assert seen.kinds == ["Asked", "Admitted", "Attempted", "FirstPiece", "Attempted", "Ended"]
    failed, worked = (event for event in seen.events if isinstance(event, Attempted))
    assert isinstance(failed.error, UpstreamServerError)
    assert (failed.number, worked.number, seen.the(Ended).attempts) == (1, 2, 2)
    (turn,) = turns
    assert turn.attempts == (failed.attempt, worked.attempt)
    assert [(a.model, a.outcome, a.status) for a in turn.attempts] == [
        (turn.model, "upstream_error", 500),
        (turn.model, None, 200),
    ]
    first, second = turn.attempts
    assert first.started <= second.started
    assert first.seconds > 0


async def test_the_seconds_of_each_event_count_from_the_first(upstream, monkeypatch):
    seen, now = Seen(), iter(range(100, 200))
    for module in ("answering", "telemetry.observers"):
        monkeypatch.setattr(f"chatnest.{module}.monotonic", lambda: next(now))
    async with serving(upstream, observers=[seen]) as app:
        await answer_to(app, ask())
    seconds = [seen.the(kind).seconds for kind in (Admitted, FirstPiece, Ended)]
    assert seconds == [1, 2, 3]


async def test_an_answer_without_text_has_no_first_piece(upstream):
    upstream.default = Answer(pieces=(), finish_reason="content_filter")
    seen = Seen()
    async with serving(upstream, observers=[seen]) as app:
        await answer_to(app, ask())
    assert seen.kinds == ["Asked", "Admitted", "Attempted", "Ended"]
    assert (seen.the(Ended).outcome, seen.the(Ended).finish_reason) == ("done", "content_filter")


async def test_the_charge_of_an_early_figure_that_did_not_count_is_split_by_our_own(upstream):
    """The provider had counted fewer tokens than had arrived when the answer broke off."""
    words = " one two three four five six"
    upstream.default = Answer.cut(after=3, pieces=(words,) * 3, usage_on_every_chunk=True)
    seen, books = Seen(), Books()
    async with serving(upstream, ledger=books, observers=[seen]) as app:
        await answer_to(app, ask())
        own = await input_tokens(app)
    ended, charge = seen.the(Ended), books.charge
    assert (ended.source, charge.source) == ("estimated", "estimated")
    assert (ended.input_tokens, charge.input_tokens) == (own, own)
    assert ended.output_tokens == charge.output_tokens


async def test_an_answer_that_breaks_off_is_an_attempt_that_failed(upstream):
    upstream.default = Answer.cut(after=2)
    seen = Seen()
    async with serving(upstream, observers=[seen]) as app:
        await answer_to(app, ask())
    assert seen.kinds == ["Asked", "Admitted", "FirstPiece", "Attempted", "Ended"]
    assert seen.the(Attempted).attempt.outcome == "upstream_interrupted"
    ended = seen.the(Ended)
    assert (ended.outcome, ended.finish_reason) == ("upstream_interrupted", None)
    assert ended.source == "estimated"
    assert ended.output_tokens > 2


async def test_a_client_that_leaves_is_an_end(upstream):
    upstream.default = Answer.stall(after=1)
    seen = Seen()
    async with serving(upstream, observers=[seen]) as app, Conversation(app, json=ask()) as c:
        await c.until(lambda: b"token" in c.received)
        c.disconnect()
        await c.finished()
    assert seen.kinds == ["Asked", "Admitted", "FirstPiece", "Attempted", "Ended"]
    assert seen.the(Attempted).attempt.outcome == seen.the(Ended).outcome == "client_gone"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("headers", KEYS, ids=["plain", "run"])
async def test_a_refused_turn_says_which_limit(upstream, headers):
    seen = Seen()
    small = msgspec.structs.replace(_balanced(), requests_per_minute=1)
    async with serving(upstream, observers=[seen], profiles=[small]) as app:
        await answer_to(app, ask())
        seen.events.clear()
        assert (await answer_to(app, ask(), headers=headers)).status == 429
    assert seen.kinds == ["Asked", "Refused"]
    refused = seen.the(Refused)
    assert (refused.status, refused.code, refused.limit) == (429, "rate_limited", "requests")
    assert (refused.principal, refused.profile) == (CLIENT, "balanced")
    assert refused.retry_after > 0
    assert refused.id == seen.the(Asked).id


async def test_a_refused_turn_has_the_groups_of_its_principal(upstream):
    seen = Seen()
    groups = {"team": "bakery"}
    options: dict[str, Any] = {"identify": lambda scope: Identity("ann", groups=groups)}
    async with serving(upstream, observers=[seen], **options) as app:
        await answer_to(app, ask(maxTokensPerRequest=1))
    assert seen.kinds == ["Asked", "Refused"]
    assert dict(seen.the(Refused).groups) == dict(seen.the(Asked).groups) == groups


def _balanced() -> Profile:
    return ChatNestApp(provider=DemoProvider()).profiles["balanced"]


@pytest.mark.parametrize(
    ("body", "options", "status", "code"),
    [
        ({"messages": []}, {}, 400, "invalid_request"),
        (ask(), {"identify": lambda scope: None}, 401, "unauthenticated"),
        (ask(profile="expanded"), {}, 403, "forbidden_profile"),
        (ask(), {"identify": lambda scope: 1 / 0}, 500, "internal_error"),
    ],
)
async def test_a_request_may_be_refused_before_its_turn(upstream, body, options, status, code):
    seen = Seen()
    async with serving(upstream, observers=[seen], **options) as app:
        c = await answer_to(app, body)
    assert c.status == status
    (refused,) = seen.events
    assert (refused.status, refused.code) == (status, code)
    assert refused.id == c.problem()["request_id"]
    assert refused.principal is refused.profile is refused.model is None


async def test_a_worker_that_is_behind_refuses_observably(upstream, monkeypatch):
    seen = Seen()
    async with serving(upstream, observers=[seen]) as app:
        monkeypatch.setattr(app.intake, "take", lambda: False)
        assert (await answer_to(app, ask())).status == 503
    assert (seen.the(Refused).code, seen.kinds) == ("overloaded", ["Refused"])


async def test_a_client_that_leaves_while_its_body_arrives_is_not_refused(upstream):
    seen = Seen()
    async with (
        serving(upstream, observers=[seen]) as app,
        Conversation(app, json=ask(), send_body=False) as c,
    ):
        c.send_body(b'{"messages"', more=True)
        c.disconnect()
        await c.finished()
    assert seen.events == []


async def test_a_key_that_others_keep_refusing_is_refused_observably(upstream, monkeypatch):
    """Each time that it is claimed, another worker's run has it, and is refused."""

    class Refusing(MemoryRunLog):
        async def claim(self, key, *, owner, fingerprint, run_id, lease):
            return Claim(run_id="a" * 32, fingerprint=fingerprint, mine=False)

        async def read(self, run_id, after, *, owner):
            return Page(end=REFUSED)

    monkeypatch.setattr("chatnest.runs.service._CLAIMS", 2)
    seen = Seen()
    async with serving(upstream, observers=[seen], run_log=Refusing()) as app:
        c = await answer_to(app, ask(), headers=KEYS[1])
    refused = seen.the(Refused)
    assert (c.status, seen.kinds) == (503, ["Refused"])
    assert (refused.code, refused.principal) == ("ledger_unavailable", CLIENT)


async def test_a_key_of_another_request_is_refused_observably(upstream):
    seen = Seen()
    key = {"idempotency-key": '"1"'}
    async with serving(upstream, observers=[seen]) as app:
        await answer_to(app, ask(), headers=key)
        seen.events.clear()
        assert (await answer_to(app, ask(), headers=key)).status == 200  # it joins
        assert seen.events == []
        assert (await answer_to(app, ask("other"), headers=key)).status == 422
    refused = seen.the(Refused)
    assert (refused.code, refused.principal) == ("idempotency_key_reused", CLIENT)
    assert seen.kinds == ["Refused"]


async def test_a_policy_that_refuses_or_fails_is_seen(upstream):
    class Failing:
        async def prepare(self, turn: Turn) -> None:
            raise RuntimeError("a policy's own trouble")

    seen = Seen()
    async with serving(upstream, observers=[seen], policies=[Failing()]) as app:
        assert (await answer_to(app, ask())).status == 500
    assert (seen.kinds, seen.the(Refused).code) == (["Asked", "Refused"], "internal_error")


async def test_a_client_that_leaves_before_the_admission_is_not_refused(upstream):
    seen = Seen()

    class Leaving:
        async def prepare(self, turn: Turn) -> None:
            c.disconnect()
            await anyio.sleep_forever()

    async with (
        serving(upstream, observers=[seen], policies=[Leaving()]) as app,
        Conversation(app, json=ask()) as c,
    ):
        await c.finished()
    assert seen.kinds == ["Asked", "Ended"]
    assert (seen.the(Ended).outcome, seen.the(Ended).output_tokens) == ("client_gone", 0)


# ---------------------------------------------------------------- observers


async def test_an_observer_that_fails_is_logged_once_and_breaks_nothing(upstream, caplog):
    broken, seen, books = Broken(), Seen(), Books()
    async with serving(upstream, ledger=books, observers=[broken, seen]) as app:
        for _ in range(2):
            assert kinds((await answer_to(app, ask())).received)[-1] == "done"
    assert len(books.charges) == 2
    assert len(broken.events) == len(seen.events) == 10
    assert sum("observer failed" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("headers", KEYS, ids=["plain", "run"])
async def test_the_line_of_a_failed_call_comes_without_observers_too(upstream, caplog, headers):
    upstream.default = Answer.error(500)
    async with serving(upstream) as app:
        await answer_to(app, ask(), headers=headers)
    lines = [r.getMessage() for r in caplog.records if r.name == "chatnest.calls"]
    assert len(lines) == 2  # of the first call and of the retry


async def test_without_observers_only_calls_that_failed_are_reported(upstream, monkeypatch):
    """The log needs no others, and each would cost time."""
    seen = Seen()
    monkeypatch.setattr(CallLog, "observe", lambda _, event: seen.observe(event))
    upstream.script(Answer.error(500), Answer())
    async with serving(upstream) as app:
        assert (await answer_to(app, ask())).status == 200
    assert seen.kinds == ["Attempted"]
    assert isinstance(seen.the(Attempted).error, UpstreamServerError)


async def _observe(event: object) -> None:
    """Too slow to observe."""


class Asynchronous:
    observe = staticmethod(_observe)


@pytest.mark.parametrize(
    ("observers", "what"),
    [
        (3, "a list of observers"),
        ([object()], r"observers\[0\]: expected an object with observe"),
        ([Seen], r"observers\[0\]: expected an object with observe"),
        ([Seen(), Asynchronous()], r"observers\[1\]: observe: expected a plain function"),
    ],
)
def test_what_does_not_observe_is_refused_at_the_start(observers, what):
    with pytest.raises(ConfigurationError, match=what):
        ChatNestApp(provider=DemoProvider(), observers=observers)


def test_events_say_nothing_of_texts():
    fields = {name for kind in _EVENTS for name in kind.__struct_fields__}
    assert fields.isdisjoint({"messages", "text", "answer", "turn", "request", "headers"})


_EVENTS = (Asked, Refused, Admitted, Attempted, FirstPiece, Ended)
