"""Ways round a limit, a bound or a bill that were found by trying, each closed."""

import gzip
import signal
import socket

import anyio
import openai
import pytest

from chatnest import ChatNestApp, ConfigurationError, DemoProvider, Limit, OpenAIProvider, Profile
from chatnest.policies import RequestRate
from chatnest.profiles import BALANCED, HARD_CAPS, check_profiles
from chatnest.testing import Answer, Conversation, ManualClock
from tests.servers.support import PATIENCE, Process
from tests.streams.support import Books, answer_to, ask, error, input_tokens, serving
from tests.support.waiting import wait_for

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "wrong", [{"unit": "daily"}, {"amount": -5}, {"amount": "5"}, {"window": 0}, {"name": "a:b"}]
)
async def test_what_cannot_be_counted_is_no_limit(wrong):
    right = {"name": "mine", "unit": "requests", "window": 60, "account": "x", "amount": 1}
    with pytest.raises(ConfigurationError):
        Limit(**{**right, **wrong})


@pytest.mark.parametrize("principal", [7, True, object()])
async def test_a_principal_that_is_no_string_gets_no_budget(upstream, principal):
    books = Books()
    async with serving(upstream, ledger=books, identify=lambda _: principal) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (500, "internal_error")
    assert not upstream.requests


async def test_a_long_window_remembers_what_a_short_one_forgets(upstream):
    upstream.default = Answer.text("Hi")
    clock = ManualClock()
    books = Books(clock=clock)
    policies = [RequestRate(window=1), RequestRate(window=3600)]
    async with serving(upstream, ledger=books, policies=policies) as app:
        rate = BALANCED.requests_per_minute
        for _ in range(rate):
            assert (await answer_to(app, ask())).status == 200
            clock.advance(seconds=2)
        assert (await answer_to(app, ask())).status == 429


async def test_an_early_figure_does_not_hide_what_was_delivered(upstream):
    words = tuple(f"{n} " for n in range(60))
    upstream.script(Answer.cut(60, pieces=words, usage=(9, 0), usage_on_every_chunk=True))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        c = await answer_to(app, ask())
        least = await input_tokens(app) + 60
    assert error(c.received)["code"] == "upstream_interrupted"
    assert books.charge.tokens >= least


async def test_a_settlement_does_not_wait_for_the_counting(upstream, monkeypatch):
    upstream.script(Answer.stall(1, usage=None))
    books = Books()
    async with serving(upstream, ledger=books) as app:

        async def never(_):
            await anyio.sleep_forever()

        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: b"token" in c.received)
            monkeypatch.setattr(type(app.provider.counter), "count", lambda _, text: never(text))
            c.disconnect()
            await c.finished()
        assert books.charge.outcome == "client_gone"
    assert await books.held() == (0, 0)


async def test_an_error_body_is_not_inflated(upstream):
    bomb = gzip.compress(b"a" * 50_000_000)
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/plain; charset=base64"}
    upstream.default = Answer(status=400, body=bomb, headers=headers)
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (502, "upstream_rejected")


async def test_an_error_of_the_oddest_shape_is_the_upstreams(upstream):
    body = b'{"error": {"message": "m", "type": ["x"], "code": {"a": 1}}}'
    upstream.default = Answer(status=429, body=body)
    async with serving(upstream) as app:
        c = await answer_to(app, ask())
    assert (c.status, c.problem()["code"]) == (503, "upstream_overloaded")


async def test_options_cannot_change_what_is_held():
    with pytest.raises(ConfigurationError, match="max_tokens"):
        OpenAIProvider(api_key="x", options={"max_tokens": 4_000})


@pytest.mark.parametrize("name", ["free", "Balanced", "", " a"])
async def test_a_profile_that_nobody_could_choose_is_refused(name):
    fields = {f: getattr(BALANCED, f) for f in Profile.__struct_fields__ if f != "name"}
    with pytest.raises(ConfigurationError, match=r"lower-case ASCII|not an alias"):
        check_profiles([Profile(name=name, **fields)], HARD_CAPS)


async def test_an_sdk_client_of_ones_own_retries_nothing_by_itself(upstream):
    upstream.default = Answer.error(500)
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key="x") as client:
        app = ChatNestApp(provider=OpenAIProvider(client=client), policies=[])
        c = await answer_to(app, ask())
    assert c.status == 502
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "part", [{"ledger": "sqlite:x.db"}, {"provider": "openai"}, {"identify": "a"}]
)
async def test_a_name_where_a_part_belongs_is_refused_at_once(part):
    with pytest.raises(ConfigurationError, match="expected an object"):
        ChatNestApp(**{"provider": DemoProvider(), **part})


@pytest.mark.process
def test_a_head_without_end_is_answered_431(tmp_path):
    """What comes behind the answer is read, but not for longer than the rest of a body."""
    command = ["-m", "chatnest", "serve", "--demo", "--port", "0", "--ledger", "memory:"]
    line = b"X-A: " + b"b" * 1_000 + b"\r\n"
    with Process(command, cwd=tmp_path, CHATNEST_BOUNDS__BODY_SECONDS="1") as process:
        with socket.create_connection(("127.0.0.1", process.ready()), timeout=PATIENCE) as client:

            def is_closed() -> bool:
                try:
                    client.sendall(line)
                except OSError:
                    return True
                return False

            client.sendall(b"GET / HTTP/1.1\r\n" + line * 100)
            assert client.recv(65_536).startswith(b"HTTP/1.1 431 ")
            assert not is_closed()
            wait_for(is_closed)
        process.signal(signal.SIGTERM)
        process.wait()
