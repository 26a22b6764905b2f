"""Keys, prompts and answers stay where they belong: in no log, repr, problem and exception."""

import dataclasses
import traceback
from typing import Any

import pytest
from prometheus_client import generate_latest

from chatnest import (
    BALANCED,
    BearerKeys,
    Bounds,
    ChatNestApp,
    ChatNestMiddleware,
    ChatRequest,
    MemoryRunLog,
    Message,
    ModelCall,
    ModelRequest,
    OpenAIProvider,
    TrustedHeader,
    Turn,
)
from chatnest.client import ChatNestClient
from chatnest.errors import ChatNestError, LedgerUnavailable
from chatnest.events import Delta
from chatnest.telemetry import AccessLog
from chatnest.testing import CANARY, Answer, Conversation, faults, parse_events
from chatnest.wire.native import parse_request
from tests.hostile.canaries import ANN, BEARER, PROMPT, SAID, SYSTEM
from tests.hostile.floods import event, streamed
from tests.hostile.logs import everything_logged
from tests.streams.support import KEY, Books, answer_to, ask, serving

pytestmark = pytest.mark.anyio

COOKIE = "cookie-canary-4f4f"
SECRETS = (KEY, BEARER, PROMPT, SYSTEM, SAID, COOKIE, CANARY)
UPSTREAMS = (KEY, CANARY)
HEADERS = {
    "authorization": f"Bearer {BEARER}",
    "cookie": f"session={COOKIE}",
    "content-type": "application/json",
}
QUICK = Bounds(idle_seconds=0.2, first_byte_seconds=0.2)


ANSWERS: dict[str, Answer] = {
    "success": Answer(),
    "usage": Answer(usage_on_every_chunk=True),
    **faults.BEFORE_STREAM,
    **faults.INTERRUPTED,
    **faults.BROKEN_EVENTS,
    "more_than_max_tokens": faults.FLOODS["more_than_max_tokens"],
    "huge_line": faults.FLOODS["huge_line"],
    "not_even_http": Answer(raw=f"{CANARY} {SAID}\r\n\r\n".encode()),
    "a_reason": Answer(raw=f"HTTP/1.1 500 {CANARY}\r\n{CANARY}: {CANARY}\r\n\r\n".encode()),
    "a_field": Answer(headers={"x-request-id": CANARY, "set-cookie": f"a={CANARY}"}),
    "a_location": Answer.redirect(location=f"https://{CANARY}/"),
    "a_key_echoed": Answer.error(401, code=KEY, kind=KEY),
    "a_code_in_band": Answer.error_event(1, code=CANARY),
    "a_model": streamed(b'data: {"model":"%b","id":"%b"}\n\n' % (CANARY.encode(), KEY.encode())),
    "broken_json": streamed(event("a"), b'data: {"x": %b\n\n' % CANARY.encode()),
    "broken_utf8": streamed(event("a"), b'data: {"%b": "\xff"}\n\n' % CANARY.encode()),
    "broken_types": streamed(event("a"), b'data: {"choices":"%b"}\n\n' % CANARY.encode()),
    "a_finish_reason": streamed(
        b'data: {"choices":[{"finish_reason":{"a":"%b"}}]}\n\n' % CANARY.encode()
    ),
}


def found(secrets: tuple[str, ...], *where: object) -> list[str]:
    text = "\n".join(
        each.decode("latin-1") if isinstance(each, bytes) else str(each) for each in where
    )
    return [secret for secret in secrets if secret in text]


def untold(c: Conversation) -> None:
    """Nothing of the upstream's anywhere, and what was said only in tokens."""
    assert not found(UPSTREAMS, c.received, repr(c.headers))
    assert not found((BEARER, PROMPT, SYSTEM, COOKIE), c.received, repr(c.headers))
    if c.status != 200:
        assert not found((SAID,), c.received)
    for each in parse_events(c.received) if c.status == 200 else ():
        assert each.event == "token" or not found((SAID,), each.data)


async def exchange(app: ChatNestApp, **options: Any) -> Conversation:
    options.setdefault("json", ask(PROMPT, systemPrompt=SYSTEM))
    options["headers"] = {**HEADERS, **options.pop("more", {})}
    return await answer_to(app, None, timeout=30, **options)


@pytest.mark.parametrize(
    ("name", "key"),
    [*((name, None) for name in ANSWERS), *((name, "k1") for name in ("success", "reset", "html"))],
)
async def test_nothing_is_told_whatever_the_upstream_does(upstream, name, key):
    answer = ANSWERS[name]
    if answer.pieces == Answer().pieces:
        answer = dataclasses.replace(answer, pieces=(SAID, " b", " c"))
    upstream.default = answer
    if name == "close_on_accept":
        upstream.script(*[answer] * 9)
    books = Books()
    more = {} if key is None else {"idempotency-key": key}
    with everything_logged() as lines:
        async with serving(
            upstream,
            ledger=books,
            bounds=QUICK,
            identify=BearerKeys(ANN),
            system_prompt=SYSTEM,
            allow_client_system_prompt=True,
            ping_interval=0.05,
            observers=[AccessLog("json"), AccessLog("text")],
        ) as app:
            metrics = app.metrics
            c = await exchange(app, more=more)
            objects = [app, app.provider, app.ledger, books.charges, books.reservations]
            shown = generate_latest(metrics)
    untold(c)
    assert c.status == 200 or c.problem()["code"]
    assert [name for name, _ in lines].count("chatnest.access") == 2
    assert not found(SECRETS, *(text for _, text in lines)), name
    assert not found(SECRETS, *map(repr, objects))
    assert b"chatnest_turns_total" in shown
    assert not found((*SECRETS, "127.0.0.1", "ann"), shown)


REFUSED: dict[str, dict[str, Any]] = {
    "a stranger": {"more": {"authorization": f"Bearer {BEARER}x"}},
    "no key": {"more": {"authorization": ""}},
    "another role": {"json": {"messages": [{"role": PROMPT, "content": SAID}]}},
    "an unknown field": {"json": ask(PROMPT, **{SAID: SYSTEM})},
    "a profile": {"json": ask(PROMPT, profile=SAID)},
    "a limit": {"json": ask(PROMPT, dailyTokenLimit=SAID)},
    "too much": {"json": ask(f"{PROMPT} " * 9_000)},
    "a key of another kind": {"more": {"idempotency-key": f'"{PROMPT}'}},
    "another type": {"more": {"content-type": f"text/{PROMPT}"}},
    "another method": {"method": "PUT"},
    "a path": {"path": f"/api/chat/{PROMPT}", "method": "GET"},
}


@pytest.mark.parametrize("name", REFUSED)
async def test_nothing_is_told_of_what_is_refused(upstream, name):
    with everything_logged() as lines:
        async with serving(upstream, identify=BearerKeys(ANN)) as app:
            c = await exchange(app, **REFUSED[name])
    assert 400 <= c.status < 500
    assert not found(SECRETS, c.received, repr(c.headers), *(text for _, text in lines))
    assert not upstream.requests


@pytest.mark.parametrize("operation", ["reserve", "settle", "renew"])
async def test_nothing_is_told_where_the_books_are_away(upstream, operation):
    class Away(Books):
        async def reserve(self, reservation):
            if operation == "reserve":
                raise LedgerUnavailable
            return await super().reserve(reservation)

        async def settle(self, hold, charge):
            if operation == "settle":
                raise LedgerUnavailable
            return await super().settle(hold, charge)

        async def renew(self, hold, lease):
            raise LedgerUnavailable

    upstream.default = Answer(pieces=(SAID,))
    with everything_logged() as lines:
        async with serving(upstream, ledger=Away(), identify=BearerKeys(ANN)) as app:
            untold(await exchange(app))
    assert not found(SECRETS, *(text for _, text in lines))


@pytest.mark.parametrize("where", ["headers", "first token", "between tokens"])
async def test_nothing_is_told_of_who_leaves(upstream, where):
    upstream.default = {
        "headers": Answer.silence(),
        "first token": Answer.stall(0, pieces=(SAID,)),
        "between tokens": Answer.stall(1, pieces=(SAID, "b")),
    }[where]
    with everything_logged() as lines:
        async with (
            serving(
                upstream, identify=BearerKeys(ANN), bounds=Bounds(early_start_seconds=0.1)
            ) as app,
            Conversation(app, json=ask(PROMPT), headers=HEADERS) as c,
        ):
            await upstream.until(lambda u: u.requests)
            if where != "headers":
                mark = SAID.encode() if where == "between tokens" else b"start"
                await c.until(lambda: mark in c.received)
            c.disconnect()
            await c.finished()
    untold_so_far = c.received.replace(SAID.encode(), b"")
    assert not found(SECRETS, untold_so_far, *(text for _, text in lines))


async def test_no_object_shows_what_it_has_been_told(upstream):
    message = Message.of("user", PROMPT)
    request = ChatRequest(messages=(message,), system_prompt=SYSTEM)
    provider = OpenAIProvider(
        base_url=f"http://{BEARER}:{COOKIE}@127.0.0.1/v1", api_key=KEY, options={"user": SAID}
    )
    turn = Turn(
        turn_id="1",
        principal="user:ann",
        request=request,
        profile=BALANCED,
        model="m",
        counter=provider.counter,
        system=(Message.of("system", SYSTEM),),
    )
    turn.answer.add([Delta(SAID)])
    app = ChatNestApp(provider=provider, identify=BearerKeys(ANN), system_prompt=SYSTEM)
    asked = ModelRequest(messages=(message,), max_output_tokens=1, temperature=0.5)
    call = ModelCall(request=asked, request_id="1")
    async with ChatNestClient("http://127.0.0.1/api/chat", headers=HEADERS) as client:
        objects = [
            *(message, request, asked, provider, turn, turn.answer, app, call, Delta(SAID), client),
            *(ChatNestMiddleware(app, chat=app), BearerKeys(ANN), TrustedHeader("x-user")),
            *(
                MemoryRunLog(),
                client.ask([{"role": "user", "content": PROMPT}]),
                parse_request(b'{"messages":[{"role":"user","content":"%b"}]}' % PROMPT.encode()),
            ),
        ]
        for each in objects:
            assert not found(SECRETS, repr(each), f"{each}"), type(each)
    await app.aclose()
    assert "user" in repr(message)
    assert str(len(PROMPT)) in repr(message)


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"role":"user","content":"%b\xff"}]}',
        b'{"messages":[{"role":"%b","content":"a"}]}',
        b'{"messages":[{"role":"user","content":"a"}],"%b":1}',
        b'{"messages":[{"role":"user","content":"a"}],"profile":"%b"} x',
    ],
)
async def test_no_exception_shows_what_was_sent(body):
    with pytest.raises(ChatNestError) as caught:
        parse_request(body % PROMPT.encode())
    shown = "".join(traceback.format_exception(caught.value))
    assert not found((PROMPT,), shown, repr(caught.value), repr(caught.value.args))
