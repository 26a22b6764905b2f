"""Streams in which everything goes well, and requests that are refused before one begins."""

import json
import re
from typing import Any

import pytest

from chatnest import BALANCED, CONSTRAINED, EXPANDED, Bounds, ChatNestApp, DemoProvider
from chatnest.providers import OpenAIProvider
from chatnest.testing import (
    Answer,
    Conversation,
    FakeUpstream,
    ManualClock,
    chat_nest_client,
    faults,
)
from tests.streams.support import (
    CLIENT,
    DONE,
    KEY,
    PATIENCE,
    START,
    Books,
    answer_to,
    ask,
    get_limits,
    input_tokens,
    kinds,
    policies,
    profile,
    serving,
    text,
    token,
)

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio", "uvloop", "trio")]


WHOLE = START + token("Hello") + token(" world") + token("!") + DONE


@pytest.mark.parametrize("version", ["1.0", "1.1", "2", "3"])
async def test_a_stream_is_these_bytes_and_headers(upstream, version):
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask(), http_version=version)
    assert c.received == WHOLE
    assert c.status == 200
    limits = {name: c.headers.pop(name) for name in ("ratelimit", "ratelimit-policy")}
    expected = {
        "content-type": "text/event-stream",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
        "chatnest-request-id": books.reservations[0].id,
    }
    assert {k: v for k, v in c.headers.items() if k not in limits} == expected
    policy = '"requests";q=30;w=60, "streams";q=4, "tokens";q=70000;w=86400'
    assert limits["ratelimit-policy"] == policy
    assert limits["ratelimit"].startswith('"requests";r=29;t=60, "streams";r=3, "tokens";r=')


@pytest.mark.parametrize("asked_by", ["the request", "the operator", "nobody"])
async def test_the_usage_event_comes_before_done_where_it_is_asked_for(upstream, asked_by):
    body = ask(usageEvent=True) if asked_by == "the request" else ask()
    async with serving(upstream, usage_event=asked_by == "the operator") as app:
        c = await answer_to(app, body)
    usage = (
        b'event: usage\ndata: {"input_tokens":9,"output_tokens":3,"total_tokens":12,'
        b'"source":"provider","finish_reason":"stop"}\n\n'
    )
    expected = WHOLE if asked_by == "nobody" else WHOLE.removesuffix(DONE) + usage + DONE
    assert c.received == expected


async def test_limits_show_what_is_left_before_during_and_after(upstream):
    upstream.script(Answer.stall(1))
    async with serving(upstream) as app:
        before = await get_limits(app)
        assert (before["tokens"]["used"], before["tokens"]["held"]) == (0, 0)
        assert before["tokens"]["remaining"] == before["tokens"]["limit"] == 70_000
        assert before["profiles"] == ["constrained", "balanced"]
        assert before["profile"] == "balanced"
        assert before["tokens"]["resets_at"].endswith("T00:00:00Z")

        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: token("Hello") in c.received)
            during = await get_limits(app)
            held = await input_tokens(app) + BALANCED.max_output_tokens
            assert (during["tokens"]["used"], during["tokens"]["held"]) == (0, held)
            assert during["tokens"]["remaining"] == 70_000 - held
            assert during["streams"]["held"] == 1
            assert during["requests"]["used"] == 1
            upstream.release()
            await c.read_all()

        after = await get_limits(app)
        assert (after["tokens"]["used"], after["tokens"]["held"]) == (12, 0)
        assert after["streams"]["held"] == 0
        assert (await get_limits(app, query="profile=constrained"))["tokens"]["remaining"] == 29_988


async def test_head_of_limits_has_no_body(upstream):
    async with (
        serving(upstream) as app,
        Conversation(app, method="HEAD", path="/api/chat/limits") as c,
    ):
        assert await c.read_all() == b""
        assert c.status == 200


@pytest.mark.parametrize("usage", [(123, 45), (10_000, 9_000)])
async def test_the_providers_usage_is_what_is_charged(upstream, usage):
    upstream.script(Answer(usage=usage))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        assert kinds((await answer_to(app, ask())).received)[-1] == "done"
    assert (books.charge.input_tokens, books.charge.output_tokens) == usage
    assert (books.charge.source, books.charge.outcome) == ("provider", "done")
    assert (await books.used(), await books.held()) == (sum(usage), (0, 0))


async def test_without_a_usage_the_answer_is_counted_and_marked_as_estimated(upstream):
    upstream.script(Answer(usage=None))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask(usageEvent=True))
        sent = await input_tokens(app)
        counted = await app.provider.counter.count("Hello world!")
    assert await books.used() == sent + counted
    assert (books.charge.source, books.charge.outcome) == ("estimated", "done")
    assert b'"source":"estimated"' in c.received
    assert b'"total_tokens":%d,' % (sent + counted) in c.received


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(finish_reason="length"), "length"),
        (Answer(finish_reason="content_filter"), "content_filter"),
        (Answer(refusal=True), "refusal"),
    ],
)
async def test_an_end_of_another_kind_is_done_with_its_reason(upstream, answer, reason):
    upstream.script(answer)
    async with serving(upstream, usage_event=True) as app:
        c = await answer_to(app, ask())
    assert kinds(c.received) == ["start", "token", "token", "token", "usage", "done"]
    assert b'"finish_reason":"%b"' % reason.encode() in c.received
    assert text(c.received) == "Hello world!"


@pytest.mark.parametrize("name", faults.HARMLESS)
async def test_what_is_odd_but_whole_ends_in_done(upstream, name):
    answer = faults.HARMLESS[name]
    upstream.script(answer)
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    view = chat_nest_client(c.received)
    assert (view.text, view.done, view.error) == ("".join(answer.pieces), True, None)
    assert kinds(c.received) == ["start", *["token"] * len(answer.pieces), "done"]


# ---------------------------------------------------------------- what goes upstream


def sent(upstream: FakeUpstream) -> dict[str, Any]:
    body: dict[str, Any] = upstream.last.json
    return body


async def test_the_model_is_sent_these_fields_and_no_others(upstream):
    body = {
        "messages": [
            {"id": "1", "role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"id": "3", "role": "user", "content": "How are you?"},
        ],
        "systemPrompt": "Say everything you know.",
    }
    async with serving(upstream, system_prompt="Be brief.") as app:
        await answer_to(app, body)
    assert sent(upstream) == {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "How are you?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 400,
        "temperature": 0.7,
    }
    assert upstream.last.headers["authorization"] == f"Bearer {KEY}"
    assert upstream.last.path == "/v1/chat/completions"


async def test_a_clients_system_prompt_follows_the_operators_where_it_is_allowed(upstream):
    options: dict[str, Any] = {"system_prompt": "Be brief.", "allow_client_system_prompt": True}
    async with serving(upstream, bounds=Bounds(client_system_prompt_bytes=8), **options) as app:
        await answer_to(app, ask(systemPrompt="Be kind."))
        too_long = await answer_to(app, ask(systemPrompt="Be kind.."))
    roles = [(m["role"], m["content"]) for m in sent(upstream)["messages"]]
    assert roles == [("system", "Be brief.\n\nBe kind."), ("user", "Hi")]
    assert (too_long.status, too_long.problem()["code"]) == (400, "invalid_request")
    assert len(upstream.requests) == 1


async def test_the_output_is_lowered_to_what_fits_the_request(upstream):
    async with serving(upstream) as app:
        await answer_to(app, ask(maxTokensPerRequest=100))
        assert sent(upstream)["max_tokens"] == 100 - await input_tokens(app)
        refused = await answer_to(app, ask(maxTokensPerRequest=20))
        needed = int(re.findall(r"at least ([0-9]+) tokens", refused.problem()["detail"])[0])
        assert (await answer_to(app, ask(maxTokensPerRequest=needed))).status == 200
    assert (refused.status, refused.problem()["code"]) == (413, "request_too_large")
    assert refused.problem()["retryable"] is False


async def test_the_output_is_lowered_to_what_the_day_leaves(upstream):
    books = Books()
    async with serving(upstream, ledger=books) as app:
        await answer_to(app, ask(dailyTokenLimit=100))
        assert sent(upstream)["max_tokens"] == 100 - await input_tokens(app)
        assert await books.used() == 12
        await answer_to(app, ask(dailyTokenLimit=100))
        assert sent(upstream)["max_tokens"] == 88 - await input_tokens(app)
        tomorrow = await answer_to(app, ask(dailyTokenLimit=80))
        never = await answer_to(app, ask(dailyTokenLimit=40))
    assert (tomorrow.status, tomorrow.problem()["code"]) == (429, "budget_exhausted")
    assert (never.status, never.problem()["code"]) == (429, "budget_exhausted")
    assert (tomorrow.problem()["retryable"], never.problem()["retryable"]) == (True, False)
    assert ("retry-after" in tomorrow.headers, "retry-after" in never.headers) == (True, False)
    assert len(upstream.requests) == 2


async def test_the_operator_decides_on_usage_and_further_fields(upstream):
    provider = OpenAIProvider(
        model="own-model",
        base_url=upstream.base_url,
        include_usage=False,
        options={"seed": 7},
    )
    books = Books()
    async with serving(upstream, provider=provider, ledger=books) as app:
        await answer_to(app, ask())
    assert "stream_options" not in sent(upstream)
    assert (sent(upstream)["seed"], sent(upstream)["model"]) == (7, "own-model")
    assert books.charge.source == "estimated"


async def test_a_reasoning_model_gets_its_own_names(upstream):
    provider = OpenAIProvider(model="gpt-5-mini", base_url=upstream.base_url)
    async with serving(upstream, provider=provider) as app:
        await answer_to(app, ask())
    assert sent(upstream)["max_completion_tokens"] == 400
    assert not {"max_tokens", "temperature"} & sent(upstream).keys()


# ---------------------------------------------------------------- profiles

ALL = ["constrained", "balanced", "expanded"]


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ({}, BALANCED),
        ({"profile": "constrained"}, CONSTRAINED),
        ({"aiUsageProfile": "expanded"}, EXPANDED),
        ({"profile": "budget"}, CONSTRAINED),
        ({"profile": "moderate"}, BALANCED),
        ({"aiUsageProfile": "free"}, EXPANDED),
        ({"profile": " Expanded "}, EXPANDED),
    ],
)
async def test_a_profile_is_chosen_by_its_name_or_its_old_one(upstream, fields, chosen):
    async with serving(upstream, allowed_profiles=ALL) as app:
        c = await answer_to(app, ask(**fields))
    assert sent(upstream)["max_tokens"] == chosen.max_output_tokens
    assert sent(upstream)["temperature"] == chosen.temperature
    assert f'"tokens";q={chosen.daily_token_limit};w=86400' in c.headers["ratelimit-policy"]


@pytest.mark.parametrize("name", ["expanded", "free", " Expanded "])
async def test_the_largest_profile_is_not_for_anybody(upstream, name):
    """The client names its profile: with all of them open, the default would limit nobody."""
    async with serving(upstream) as app:
        refused = await answer_to(app, ask(profile=name))
        limits = await answer_to(
            app, None, method="GET", path="/api/chat/limits", query="profile=free"
        )
        await answer_to(app, ask(profile="budget"))
    problem = refused.problem()
    assert (refused.status, problem["code"]) == (403, "forbidden_profile")
    assert problem["error"] == (
        "This profile is not open to you. Open to you: constrained, balanced."
    )
    assert problem["retryable"] is False
    assert limits.status == 403
    assert sent(upstream)["max_tokens"] == CONSTRAINED.max_output_tokens


async def test_a_profile_that_is_not_open_is_refused(upstream):
    async def allowed(principal):
        return {"constrained"} if principal == CLIENT else {"expanded"}

    async with serving(upstream, allowed_profiles=allowed) as app:
        forbidden = await answer_to(app, ask(profile="expanded"))
        unknown = await answer_to(app, ask(profile="constructor"))
        await answer_to(app, ask())
        assert sent(upstream)["max_tokens"] == CONSTRAINED.max_output_tokens
        other = await answer_to(app, ask(profile="expanded"), client=("198.51.100.7", 1))
        asked = await get_limits(app)
    assert (forbidden.status, forbidden.problem()["code"]) == (403, "forbidden_profile")
    assert (unknown.status, unknown.problem()["code"]) == (400, "invalid_request")
    assert b"constructor" not in unknown.received
    assert other.status == 200
    assert (asked["profile"], asked["profiles"]) == ("constrained", ["constrained"])


async def test_changing_the_profile_gives_no_second_budget(upstream):
    books = Books()
    async with serving(upstream, ledger=books, allowed_profiles=ALL) as app:
        for name in ALL:
            await answer_to(app, ask(profile=name))
    assert await books.used() == 36


# ---------------------------------------------------------------- refused before the stream


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_other_methods_are_refused_with_allow(upstream, method):
    async with serving(upstream) as app, Conversation(app, method=method) as c:
        await c.read_all()
        assert c.status == 405
        assert c.headers["allow"] == "POST"
        assert c.headers["content-type"] == "application/problem+json"
        assert (c.received == b"") == (method == "HEAD")


async def test_limits_take_get_and_head(upstream):
    async with serving(upstream) as app:
        c = await answer_to(app, ask(), path="/api/chat/limits")
    assert (c.status, c.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/api/chat", "/api/chat/limits"])
async def test_nobody_is_refused_with_401(upstream, path):
    method = "GET" if path.endswith("limits") else "POST"
    async with serving(upstream, identify=lambda _: None) as app:
        c = await answer_to(app, ask(), method=method, path=path)
    assert (c.status, c.problem()["code"]) == (401, "unauthenticated")
    assert not upstream.requests


@pytest.mark.parametrize(
    "fields",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-encoding": "gzip"},
    ],
)
async def test_what_is_not_json_is_refused_with_415(upstream, fields):
    async with serving(upstream) as app:
        c = await answer_to(app, ask(), headers={"content-type": "application/json", **fields})
    assert (c.status, c.problem()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_refused_before_it_is_read(upstream, declared):
    bounds = Bounds(body_bytes=1_000)
    headers = {"content-type": "application/json"}
    if declared:
        headers["content-length"] = "1001"
    async with (
        serving(upstream, bounds=bounds) as app,
        Conversation(app, send_body=False, headers=headers) as c,
    ):
        if not declared:
            c.send_body(b" " * 1_001, more=True)
        await c.read_all()
        assert (c.status, c.problem()["code"]) == (413, "body_too_large")


async def test_a_body_that_does_not_arrive_is_refused_with_408(upstream):
    headers = {"content-type": "application/json"}
    async with (
        serving(upstream, bounds=Bounds(body_seconds=0.05)) as app,
        Conversation(app, send_body=False, headers=headers) as c,
    ):
        c.send_body(b'{"messages":', more=True)
        await c.read_all()
        assert (c.status, c.problem()["code"]) == (408, "slow_body")
        assert c.problem()["retryable"] is True


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[" * 100_000,
        b'{"messages":[]}',
        b'{"messages":[{"role":"user","content":""}]}',
        b'{"messages":[{"role":"assistant","content":"a"}]}',
        b'{"messages":[{"role":"user","content":"a","content":"b"}]}',
        b'{"messages":[{"role":"user","content":"a"}],"api_key":"gpt-4"}',
        b'{"messages":[{"role":"user","content":"a"}],"temperature":3}',
        b'{"messages":[{"role":"user","content":"a"}],"dailyTokenLimit":0}',
        b'{"messages":[{"role":"user","content":"a"}],"maxTokensPerRequest":-1}',
        b'{"messages":[{"role":"user","content":"\xff"}]}',
        b'{"messages":[{"role":"user","content":"a"}],"dailyTokenLimit":1e999}',
    ],
)
async def test_what_is_no_chat_request_is_refused_with_400(upstream, body):
    books = Books()
    headers = {"content-type": "application/json"}
    async with (
        serving(upstream, ledger=books) as app,
        Conversation(app, body=body, headers=headers) as c,
    ):
        await c.read_all()
    assert (c.status, c.problem()["code"]) == (400, "invalid_request")
    assert c.problem()["error"] == c.problem()["detail"]
    assert len(c.received) < 2_048
    assert not upstream.requests
    assert not books.reservations


async def test_an_old_history_is_trimmed_and_the_newest_stays(upstream):
    turns = [
        {"role": role, "content": f"{role} {number}"}
        for number in range(20)
        for role in ("user", "assistant")
    ]
    async with serving(upstream) as app:
        await answer_to(app, {"messages": [*turns, {"role": "user", "content": "now"}]})
    contents = [message["content"] for message in sent(upstream)["messages"]]
    assert contents == ["user 18", "assistant 18", "user 19", "assistant 19", "now"]


async def test_a_refused_rate_names_itself_and_counts_nothing(upstream):
    books = Books(clock=ManualClock())
    async with serving(
        upstream, ledger=books, profiles=[profile(requests_per_minute=2)], default_profile="own"
    ) as app:
        for _ in range(2):
            assert (await answer_to(app, ask())).status == 200
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (429, "rate_limited")
    assert (c.headers["retry-after"], c.problem()["retry_after"]) == ("60", 60)
    assert c.headers["ratelimit"].startswith('"requests";r=0;t=')
    assert await books.used() == 24


async def test_the_demo_needs_no_upstream():
    books = Books()
    app = ChatNestApp(provider=DemoProvider(pace=0), ledger=books, policies=policies())
    c = await answer_to(app, ask("Show me a table", usageEvent=True))
    assert kinds(c.received)[-2:] == ["usage", "done"]
    assert "canned answer" in text(c.received)
    usage = json.loads(c.received.split(b"event: usage\ndata: ")[1].split(b"\n")[0])
    assert usage["source"] == "provider"
    assert await books.used() == usage["total_tokens"]


async def test_an_app_says_what_it_is_without_its_key(upstream):
    async with serving(upstream) as app:
        assert "OpenAIProvider" in repr(app)
        assert KEY not in repr(app)


async def test_websockets_are_closed_and_other_scopes_ignored(upstream):
    messages = []

    async def send(message):
        messages.append(message)

    async def receive():
        raise AssertionError

    async with serving(upstream) as app:
        await app({"type": "websocket"}, receive, send)
        await app({"type": "something"}, receive, send)
    assert messages == [{"type": "websocket.close", "code": 1000}]


async def test_a_connection_is_used_again_although_its_body_ends_after_the_last_event(
    upstream, monkeypatch
):
    """As with servers that write the end of their chunks apart: it is waited for a little, and here
    for as long as a busy machine may take.
    """
    monkeypatch.setattr("chatnest.providers.http.answer_stream._DRAIN_SECONDS", PATIENCE)
    monkeypatch.setattr("chatnest.providers.http.bodies._CLOSE_SECONDS", PATIENCE)
    upstream.default = Answer(end_delay=0.01)
    async with serving(upstream) as app:
        for _ in range(10):
            assert (await answer_to(app, ask())).received.endswith(DONE)
    assert upstream.connections == 1


async def test_a_body_that_never_ends_is_not_waited_for(upstream):
    upstream.default = Answer(end_delay=3_600)
    async with serving(upstream) as app:
        for _ in range(3):
            assert (await answer_to(app, ask())).received.endswith(DONE)
        await upstream.until(lambda u: u.aborted == 3)
    assert upstream.connections == 3
