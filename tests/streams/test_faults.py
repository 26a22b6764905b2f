"""Every fault an upstream can have: attempts, what the client is told, what is charged."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import sniffio
from openai import AsyncOpenAI

from chatnest import BALANCED, Bounds, DemoProvider, OpenAIProvider
from chatnest.events import Delta, Finish
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.providers.base import ProviderStream
from chatnest.providers.sse import EventSplitter
from chatnest.testing import CANARY, Answer, Conversation, faults
from chatnest.turn import ModelCall
from tests.streams.support import (
    CLIENT,
    KEY,
    PATIENCE,
    PING,
    Books,
    Pulse,
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
from tests.support.ports import free_port
from tests.support.soak import SOAKS

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio", "uvloop", "trio")]


# attempts, status, code, retryable, retry_after
BEFORE: dict[str, tuple[int, int, str, bool, int | None]] = {
    "close": (2, 502, "upstream_unavailable", True, None),
    "not_http": (2, 502, "upstream_unavailable", True, None),
    "silence": (1, 504, "upstream_timeout", True, None),
    "rate_limited": (2, 503, "upstream_overloaded", True, 1),
    "rate_limited_long": (1, 503, "upstream_overloaded", True, 60),
    "insufficient_quota": (1, 503, "upstream_account", False, None),
    "context_length": (1, 400, "context_length", False, None),
    "redirect_302": (1, 502, "upstream_rejected", False, None),
    "redirect_307": (1, 502, "upstream_rejected", False, None),
    "html": (1, 502, "upstream_bad_response", True, None),
    "html_502": (2, 502, "upstream_error", True, None),
    "empty_object": (1, 502, "upstream_bad_response", True, None),
    "busy_503": (1, 503, "upstream_overloaded", True, 60),
    **{
        f"error_{status}": (1, 502, "upstream_rejected", False, None)
        for status in (400, 404, 413, 422)
    },
    **{f"error_{status}": (1, 503, "upstream_account", False, None) for status in (401, 403)},
    **{f"error_{status}": (2, 502, "upstream_error", True, None) for status in (500, 502, 503)},
    "error_529": (2, 503, "upstream_overloaded", True, None),  # Anthropic's, and its gateways'
}

INTERRUPTED = dict.fromkeys(faults.INTERRUPTED, "upstream_interrupted") | {
    "stall": "upstream_timeout",
    "error_event": "upstream_error",
    "error_event_integer": "upstream_error",
}

FLOODS = {
    "huge_line": "upstream_bad_response",
    "endless_line": "upstream_bad_response",
    "endless": "answer_too_long",
    "million_tiny_chunks": "answer_too_long",
    "more_than_max_tokens": "answer_too_long",
}


AT_ONCE = {"asyncio": 2 * 32_768, "trio": 4 * 65_536}
"""Bytes of an answer that are decoded between two turns of others. trio reads 64 KiB at a time, to
which the rest of a chunk may come, and mixes up who is next, so that one may come twice in a row.
"""


@pytest.fixture(autouse=True)
def _nothing_of_the_upstreams_in_the_log(caplog):
    """Neither at DEBUG, nor in a traceback, by whatever logger."""
    caplog.set_level(logging.DEBUG)
    yield
    for record in caplog.get_records("call"):
        written = caplog.handler.format(record) + repr(record.args)
        assert CANARY not in written, record.name
        assert KEY not in written, record.name


def clean(body: bytes) -> bool:
    return CANARY.encode() not in body and KEY.encode() not in body


def test_every_fault_has_its_row():
    assert BEFORE.keys() | {"close_on_accept"} == faults.BEFORE_STREAM.keys()
    assert FLOODS.keys() == faults.FLOODS.keys()


@pytest.mark.parametrize("name", BEFORE)
async def test_a_fault_before_the_stream_is_a_problem_document(upstream, name, waits):
    attempts, status, code, retryable, retry_after = BEFORE[name]
    upstream.default = faults.BEFORE_STREAM[name]
    if name == "rate_limited":
        upstream.default = Answer.rate_limited(0.01)
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with Conversation(app, json=ask()) as c:
            if name == "silence":
                await upstream.until(lambda u: u.requests)
                waits.end()
            await c.read_all()
            await c.finished()
        unanswered = await input_tokens(app) + 8
    problem = c.problem()
    assert (c.status, problem["code"], problem["retryable"]) == (status, code, retryable)
    assert problem.get("retry_after") == retry_after
    assert c.headers.get("retry-after") == (None if retry_after is None else str(retry_after))
    assert c.headers["content-type"] == "application/problem+json"
    assert clean(c.received + repr(c.headers).encode())
    assert len(upstream.requests) == attempts
    assert {seen.path for seen in upstream.requests} == {"/v1/chat/completions"}
    assert books.charge.outcome == code
    assert await books.used() == (unanswered if name == "silence" else 0)
    assert await books.held() == (0, 0)


@pytest.mark.parametrize("status", [429, 500])
async def test_an_error_whose_body_never_ends_is_known_by_its_status(upstream, status, monkeypatch):
    """It is no silence, which the model may have been thinking in: it costs nothing."""
    monkeypatch.setattr("chatnest.providers.http.bodies._ERROR_SECONDS", 0.05)
    stalled = Answer(status=status, content_type="application/json", ending="stall")
    upstream.default = stalled
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
    code = {429: "upstream_overloaded", 500: "upstream_error"}[status]
    assert (c.problem()["code"], books.charge.outcome) == (code, code)
    assert (await books.used(), await books.held()) == (0, (0, 0))
    assert len(upstream.requests) == 2


async def test_an_unanswered_call_is_free_where_the_operator_says_so(upstream, waits):
    upstream.default = Answer.silence()
    books = Books()
    async with (
        serving(upstream, ledger=books, charge_unanswered=False) as app,
        Conversation(app, json=ask()) as c,
    ):
        await upstream.until(lambda u: u.requests)
        waits.end()
        await c.read_all()
    assert (c.status, books.charge.tokens) == (504, 0)


async def test_a_connection_that_is_closed_at_once_is_tried_twice(upstream):
    upstream.script(*[Answer.close_on_accept()] * 9)
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (502, "upstream_unavailable")
    assert upstream.connections == 2
    assert (books.charge.tokens, await books.held()) == (0, (0, 0))


@pytest.mark.parametrize("kind", ["refused", "no TLS", "no such name"])
async def test_an_upstream_that_is_not_there_costs_nothing(upstream, kind):
    base_url = {
        "refused": upstream.base_url,
        "no TLS": upstream.base_url.replace("http:", "https:"),
        "no such name": "http://no_such_name.invalid/v1",
    }[kind]
    if kind == "refused":
        upstream.stop()
    upstream.script(*[Answer.close_on_accept()] * 9)
    provider = OpenAIProvider(base_url=base_url, api_key=KEY)
    books = Books()
    async with serving(upstream, provider=provider, ledger=books) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (502, "upstream_unavailable")
    assert not upstream.requests
    assert (books.charge.tokens, books.charge.source) == (0, "none")
    assert await books.held() == (0, 0)


@pytest.mark.parametrize("fault", ["close", "not_http", "error_500", "error_529"])
async def test_a_fault_that_passes_is_seen_by_nobody(upstream, fault):
    upstream.script(faults.BEFORE_STREAM[fault])
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
    assert (text(c.received), kinds(c.received)[-1]) == ("Hello world!", "done")
    assert len(upstream.requests) == 2
    assert (len(books.reservations), books.charge.tokens) == (1, 12)


class Waiting(OpenAIProvider):
    """Notes until when each of its calls may wait."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.deadlines: list[float] = []

    @asynccontextmanager
    async def open(self, call: ModelCall) -> AsyncIterator[ProviderStream]:
        self.deadlines.append(anyio.current_effective_deadline())
        async with super().open(call) as events:
            yield events


async def test_the_time_until_the_first_byte_is_bounded_over_all_attempts(upstream, waits):
    upstream.script(Answer.error(500, first_delay=0.1), Answer.silence())
    provider = Waiting(base_url=upstream.base_url, api_key=KEY)
    bounds = Bounds(first_byte_seconds=60)
    async with serving(upstream, provider=provider, bounds=bounds) as app:
        began = anyio.current_time()
        async with Conversation(app, json=ask()) as c:
            await upstream.until(lambda u: len(u.requests) == 2)
            asked_twice = anyio.current_time()
            waits.end()
            await c.read_all()
    assert (c.status, c.problem()["code"]) == (504, "upstream_timeout")
    assert len(upstream.requests) == 2
    first, second = provider.deadlines
    assert began + 60 <= first == second <= asked_twice + 60


async def test_an_answer_that_begins_as_its_time_is_up_is_none(upstream):
    """Its head is not sent by halves: what has been begun would have to be ended as a stream."""

    class Late(OpenAIProvider):
        @asynccontextmanager
        async def open(self, call: ModelCall) -> AsyncIterator[ProviderStream]:
            until = anyio.current_effective_deadline()
            async with super().open(call) as events:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep_until(until + 0.01)
                yield events

    provider = Late(base_url=upstream.base_url, api_key=KEY)
    bounds = Bounds(first_byte_seconds=0.3)
    async with serving(upstream, provider=provider, bounds=bounds) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (504, "upstream_timeout")


def spoil(connection: Any) -> None:
    """Of the fake upstream's, in the middle of an answer."""
    connection._transport.write(b"xyz\r\nno chunk\r\n")
    connection._transport.close()


@pytest.mark.parametrize("name", INTERRUPTED)
async def test_an_answer_that_breaks_off_ends_in_an_error_event(upstream, name, clock):
    answer, code = faults.INTERRUPTED[name], INTERRUPTED[name]
    if name == "bad_framing":
        answer = Answer.stall(3)  # until the head is seen: with what breaks its framing it is not
    upstream.script(answer)
    books = Books()
    async with serving(upstream, ledger=books, ping_interval=0.05) as app:
        async with Conversation(app, json=ask()) as c:
            if answer.ending == "stall":
                await c.until(lambda: text(c.received) == "Hello world!" and PING in c.received)
                if name == "stall":
                    clock.advance(Bounds().idle_seconds)
                else:
                    upstream._in_loop(spoil)
            await c.read_all()
            await c.finished()
        expected = await delivered(app, c.received)
    last = error(c.received)
    assert (last["code"], last["retryable"], last["charged"]) == (code, True, True)
    assert clean(c.received)
    if name in {"reset", "bad_framing", "cut", "short_body"}:
        # what arrives together with the connection's end may go with it
        assert "Hello world!".startswith(text(c.received))
    else:
        assert text(c.received) == "Hello world!"
    assert len(upstream.requests) == 1
    if name == "done_without_finish_reason":
        assert (books.charge.tokens, books.charge.source) == (12, "provider")
    else:
        assert (books.charge.tokens, books.charge.source) == (expected, "estimated")
    assert books.charge.outcome == code
    assert await books.held() == (0, 0)


@pytest.mark.parametrize(
    ("sent", "status", "code", "calls"),
    [
        ("insufficient_quota", 503, "upstream_account", 1),
        ("context_length_exceeded", 400, "context_length", 1),
        ("rate_limit_exceeded", 503, "upstream_overloaded", 2),
        (429, 503, "upstream_overloaded", 2),
        (None, 502, "upstream_error", 2),
    ],
)
async def test_an_error_before_anything_else_is_what_its_status_would_be(
    upstream, sent, status, code, calls
):
    upstream.default = Answer.error_event(0, code=sent)
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (status, code)
    assert clean(c.received)
    assert len(upstream.requests) == calls
    assert (books.charge.tokens, books.charge.source) == (0, "none")


@pytest.mark.parametrize(
    ("sent", "code", "retryable"),
    [
        ("insufficient_quota", "upstream_account", False),
        ("context_length_exceeded", "context_length", False),
        ("rate_limit_exceeded", "upstream_overloaded", True),
        (429, "upstream_overloaded", True),
        (None, "upstream_error", True),
    ],
)
async def test_an_error_in_the_stream_is_known_by_its_code_alone(upstream, sent, code, retryable):
    upstream.script(Answer.error_event(1, code=sent))
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    assert kinds(c.received) == ["start", "token", "error"]
    last = error(c.received)
    assert (last["code"], last["retryable"], last["charged"]) == (code, retryable, True)
    assert clean(c.received)
    assert len(upstream.requests) == 1


async def test_an_error_after_an_early_start_is_not_charged_and_may_be_repeated(upstream):
    upstream.default = Answer.error_event(0, code=429, first_delay=0.2)
    books = Books()
    bounds = Bounds(early_start_seconds=0.01, ledger_seconds=PATIENCE)
    async with serving(upstream, ledger=books, bounds=bounds) as app:
        c = await answer_to(app, ask())
    last = error(c.received)
    assert kinds(c.received) == ["start", "error"]
    assert PING in c.received
    said = last["code"], last["retryable"], last["charged"]
    assert said == ("upstream_overloaded", True, False)
    assert len(upstream.requests) == 2
    assert books.charge.tokens == 0


@pytest.mark.parametrize("name", faults.BROKEN_EVENTS)
async def test_an_event_nobody_can_read_ends_the_stream(upstream, name):
    upstream.script(faults.BROKEN_EVENTS[name])
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
        expected = await delivered(app, c.received)
    assert error(c.received)["code"] == "upstream_bad_response"
    assert text(c.received) == "Hello world"
    assert (books.charge.tokens, await books.held()) == (expected, (0, 0))
    assert len(upstream.requests) == 1


@pytest.mark.soak
@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_is_stopped_without_holding_up_others(
    upstream, name, monkeypatch, record_property
):
    """Others have a turn after so many bytes at the latest. What that means in seconds is judged in
    a soak alone, on a machine that is calm (and more closely in tests/hostile/test_event_loop.py).
    """
    upstream.script(faults.FLOODS[name])
    books, pulse, gaps = Books(), Pulse(), []
    feed = EventSplitter.feed

    def count(self: EventSplitter, data: bytes) -> list[bytes]:
        pulse.work(len(data))
        return feed(self, data)

    async def tick():
        while True:
            began = time.monotonic()
            await anyio.sleep(0.005)
            gaps.append(time.monotonic() - began - 0.005)

    monkeypatch.setattr(EventSplitter, "feed", count)
    async with serving(upstream, ledger=books) as app, anyio.create_task_group() as group:
        group.start_soon(tick)
        group.start_soon(pulse.beat)
        c = await answer_to(app, ask(), timeout=PATIENCE)
        await upstream.until(lambda u: u.open_sockets == 0, timeout=PATIENCE)
        group.cancel_scope.cancel()
        if c.status == 200:
            counted = await app.provider.counter.count(text(c.received))
            spent = await input_tokens(app) + counted
            assert error(c.received)["code"] == FLOODS[name]
            assert spent > await input_tokens(app) + BALANCED.max_output_tokens
        else:  # nothing of it could be used
            spent = 0
            assert c.problem()["code"] == FLOODS[name]
    assert books.charge.tokens >= spent  # with what had arrived besides
    assert (books.charge.tokens > 0) == (spent > 0)
    assert await books.held() == (0, 0)
    assert upstream.last.bytes_written < 16_000_000
    assert 0 < pulse.most <= AT_ONCE[sniffio.current_async_library()]
    longest = max(gaps, default=0)
    record_property("soak", f"{name}: {longest:.3f} s without a turn, {pulse.most:,} bytes")
    if SOAKS:
        assert longest < 0.5  # about 10 ms where nothing else runs


async def test_an_answer_has_a_bound_in_bytes(upstream):
    upstream.script(Answer.endless("x" * 1_000))
    async with serving(upstream, bounds=Bounds(answer_bytes=10_000)) as app:
        c = await answer_to(app, ask())
    assert error(c.received)["code"] == "answer_too_long"


async def test_usage_on_every_chunk_is_the_bill_of_a_stream_that_broke_off(upstream):
    upstream.script(Answer.cut(2, usage_on_every_chunk=True))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
    assert error(c.received)["code"] == "upstream_interrupted"
    assert books.charge.source == "provider"
    assert books.charge.tokens >= 10


async def test_a_cut_after_the_finish_reason_is_done_and_estimated(upstream):
    finish = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    upstream.script(Answer.cut(3, inject=finish))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
        counted = await app.provider.counter.count("Hello world!")
        assert books.charge.tokens == await input_tokens(app) + counted
    assert kinds(c.received)[-1] == "done"
    assert books.charge.source == "estimated"


async def test_a_key_the_upstream_echoes_is_not_told(upstream, caplog):
    upstream.default = Answer.error(401, code=KEY, kind=KEY)
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    assert c.status == 503
    assert clean(c.received)
    assert not any(KEY in line for line in logged(caplog))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of failed calls."""
    return [r.getMessage() for r in caplog.records if r.name == "chatnest.calls"]


@pytest.mark.parametrize("own_client", [False, True])
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (404, "model_not_found", "error=upstream_rejected status=404 code=model_not_found"),
        (401, "invalid_api_key", "error=upstream_account status=401 code=invalid_api_key"),
        (500, None, "error=upstream_error status=500"),
    ],
)
async def test_the_log_says_what_the_operator_can_mend(  # noqa: PLR0917  # pytest gives them
    upstream, caplog, own_client, status, code, said
):
    caplog.set_level(logging.WARNING)  # below it, a client of one's own says what it likes
    upstream.default = Answer.error(status, code=code, kind=None)
    async with AsyncOpenAI(api_key="k", base_url=upstream.base_url) as client:
        own = client if own_client else None
        provider = OpenAIProvider(base_url=upstream.base_url, client=own)
        async with serving(upstream, provider=provider) as app:
            c = await answer_to(app, ask())
    request = c.problem()["request_id"]
    facts = f"request={request} address={upstream.base_url} model=gpt-4o-mini {said}"
    lines = logged(caplog)
    assert len(lines) == len(upstream.requests)
    for line in lines:
        assert line.startswith(f"model call failed: {facts} content_type=application/json. ")


async def test_a_provider_that_cannot_be_reached_is_named_in_the_log(upstream, caplog):
    place = f"http://127.0.0.1:{free_port()}/v1"
    provider = OpenAIProvider(base_url=place.replace("//", "//ann:secret@"))
    async with serving(upstream, provider=provider) as app:
        await answer_to(app, ask())
    lines = logged(caplog)
    assert len(lines) == 2
    assert all(f" address={place} " in line and " cause=" in line for line in lines)
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize("finish", [(), (Finish("stop"),)])
async def test_an_answer_of_ones_own_provider_that_just_ends_was_cut_off(upstream, finish):
    class Abrupt(DemoProvider):
        @asynccontextmanager
        async def open(self, call):
            call.sent = True

            async def answer():
                yield [Delta("Hello")]
                yield finish

            yield answer()

    books = Books()
    async with serving(upstream, provider=Abrupt(), ledger=books) as app:
        c = await answer_to(app, ask())
    outcome = "done" if finish else "upstream_interrupted"
    assert kinds(c.received) == ["start", "token", "done" if finish else "error"]
    assert books.charge.outcome == outcome
    if not finish:
        assert error(c.received)["code"] == outcome


async def test_a_reason_phrase_is_not_told(upstream):
    head = f"HTTP/1.1 500 {CANARY}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    upstream.default = Answer(raw=head.encode())
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (502, "upstream_error")
    assert clean(c.received)


async def test_a_policy_that_breaks_is_an_error_without_its_text(upstream, caplog):
    class Broken:
        async def prepare(self, turn):
            raise KeyError("a secret of the operator's")

    books = Books()
    async with serving(upstream, policies=[Broken(), *policies()], ledger=books) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (500, "internal_error")
    assert b"secret" not in c.received
    assert "a secret of the operator's" in caplog.text
    assert not books.reservations


async def test_a_provider_that_breaks_is_an_error_event_and_is_charged_for_what_it_said(upstream):
    class Broken(OpenAIProvider):
        async def _ask(self, *_):
            raise RuntimeError("not made")

    books = Books()
    provider = Broken(base_url=upstream.base_url)
    async with serving(upstream, provider=provider, ledger=books) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (500, "internal_error")
    assert (books.charge.tokens, books.charge.outcome) == (0, "internal_error")


async def test_nothing_is_sent_after_the_terminal_event(upstream):
    upstream.script(Answer.reset(1))
    async with (
        serving(upstream, ping_interval=0.001) as app,
        Conversation(app, json=ask()) as c,
    ):
        await c.finished()
    assert error(c.received)["code"] == "upstream_interrupted"
    assert c.messages[-1]["more_body"] is False


async def test_books_that_cannot_be_are_no_news_for_a_client(upstream, tmp_path, caplog):
    ledger = SQLiteLedger(tmp_path / "secret-place" / "books.db")
    async with serving(upstream, ledger=ledger) as app:
        c = await answer_to(app, ask())
        shown = await answer_to(app, {}, method="GET", path="/api/chat/limits")
    for answer in (c, shown):
        assert (answer.status, answer.problem()["code"]) == (500, "internal_error")
        assert b"secret-place" not in answer.received
    assert "secret-place" in caplog.text
    assert not upstream.connections


@pytest.mark.parametrize("operation", ["reserve", "settle"])
async def test_a_ledger_that_breaks_is_no_second_answer(upstream, operation):
    class Broken(Books):
        async def reserve(self, reservation):
            if operation == "reserve":
                raise KeyError(CLIENT)
            return await super().reserve(reservation)

        async def settle(self, hold, charge):
            raise KeyError(CLIENT)

    async with serving(upstream, ledger=Broken()) as app:
        c = await answer_to(app, ask())
    if operation == "reserve":
        assert (c.status, c.problem()["code"]) == (500, "internal_error")
        assert not upstream.requests
    else:  # what was said was said; the lease charges the hold
        assert kinds(c.received)[-1] == "done"
