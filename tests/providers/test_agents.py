"""A Pydantic AI agent as a provider, as docs/how-to/agents.md has it."""

import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from chatnest.conversation import Message
from chatnest.errors import ChatNestError
from chatnest.events import Finish, ToolCall, ToolCallDelta, Usage
from chatnest.ledger.audit import TurnRecord
from chatnest.ledger.sqlite import SQLiteLedger
from chatnest.requests import ModelRequest
from chatnest.testing import AnswerContract, Conversation
from chatnest.testing.answer_contract import answer_of, question, text_of
from chatnest.turn import ModelCall
from tests.docs.agents import LOOK, Script, agent_of, programs
from tests.runs.test_runs import KEY, LINGER, cancel, said
from tests.streams.support import CLIENT, Books, answer_to, ask, kinds, profile, serving, text

pytestmark = [pytest.mark.anyio, pytest.mark.loops("asyncio")]

LOOKED = 13
"""The output tokens of LOOK, as FunctionModel counts them."""

INPUT = 50
"""The input tokens of each step, as FunctionModel counts them."""


@pytest.fixture
def provider_of(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    made = programs()["AgentProvider"]
    return lambda script, tool=None, **options: made(
        agent_of(script, tool or Weather().weather), "gpt-5.2", **options
    )


class Weather:
    """A tool that counts its calls, and can be held up."""

    def __init__(self, *, held: bool = False) -> None:
        self.calls = 0
        self.began, self.go_on, self.left = anyio.Event(), anyio.Event(), anyio.Event()
        if not held:
            self.go_on.set()

    async def weather(self, city: str) -> str:
        """The weather of a city."""
        self.calls += 1
        self.began.set()
        try:
            await self.go_on.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            self.left.set()
        return f"Rain in {city}"


def asked_for(tokens: int) -> ModelCall:
    request = ModelRequest(
        messages=(Message.of("user", "Hi"),), max_output_tokens=tokens, temperature=0.5
    )
    return ModelCall(request=request, request_id="a-request")


def ending(events: list[Any]) -> tuple[str, Usage]:
    (finish,) = [event for event in events if isinstance(event, Finish)]
    (usage,) = [event for event in events if isinstance(event, Usage)]
    return finish.reason, usage


class TestContract(AnswerContract):
    @pytest.fixture(autouse=True)
    def _provider_of_the_page(self, provider_of):
        self.provider_of = provider_of

    def make(self):
        return self.provider_of(AnyTime())


class AnyTime(Script):
    """Two steps, however often it is asked."""

    async def __call__(self, messages, info):
        self.settings = self.settings[: (len(messages) - 1) // 2]
        async for piece in super().__call__(messages, info):
            yield piece


async def test_each_call_of_a_tool_has_an_index_of_its_own(provider_of):
    script = Script(LOOK, LOOK[1:], ["Rain."])
    events = await answer_of(provider_of(script), question())

    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(call.index, call.name) for call in calls] == [(0, "weather"), (1, "weather")]
    arguments = [event for event in events if isinstance(event, ToolCallDelta)]
    assert [each.index for each in arguments] == [0, 1]
    assert text_of(events) == "Rain."
    assert ending(events)[0] == "stop"


async def test_the_conversation_reaches_the_agent(provider_of):
    script = Script(["Yes."])
    messages = (
        Message.of("system", "Be brief."),
        Message.of("user", "Is it wet?"),
        Message.of("assistant", "Where?"),
        Message.of("user", "In Oslo."),
    )
    call = ModelCall(
        request=ModelRequest(messages=messages, max_output_tokens=99, temperature=0.5),
        request_id="a-request",
    )
    await answer_of(provider_of(script), call)

    (asked,) = script.asked
    parts: list[Any] = [part for message in asked for part in message.parts]
    assert [part.content for part in parts] == ["Is it wet?", "Where?", "In Oslo."]
    last: Any = asked[-1]
    assert last.instructions == "Be brief."


async def test_a_call_that_comes_back_is_left_out(provider_of):
    script = Script(["Yes."])
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Is it wet?"},
        {"role": "assistant", "content": "Where?", "tool_calls": [call]},
        {"role": "user", "content": "In Oslo."},
    ]
    async with serving(None, provider=provider_of(script)) as app:
        c = await answer_to(app, {"messages": messages})

    assert text(c.received) == "Yes."
    (asked,) = script.asked
    parts: list[Any] = [part for message in asked for part in message.parts]
    assert [part.content for part in parts] == ["Is it wet?", "Where?", "In Oslo."]


# ---------------------------------------------------------------- the budget


async def test_each_step_gets_what_the_steps_before_have_left(provider_of):
    script = Script()
    events = await answer_of(provider_of(script), asked_for(100))

    assert [each["max_tokens"] for each in script.settings] == [100, 100 - LOOKED]
    reason, usage = ending(events)
    assert reason == "stop"
    assert usage.input_tokens == 2 * INPUT
    assert usage.output_tokens > LOOKED


async def test_nothing_is_asked_when_nothing_is_left(provider_of):
    script = Script()
    events = await answer_of(provider_of(script), asked_for(LOOKED))

    assert len(script.settings) == 1
    reason, usage = ending(events)
    assert (reason, usage.output_tokens) == ("length", LOOKED)


async def test_a_step_beyond_the_budget_is_stopped_as_its_usage_arrives(provider_of):
    words = [f"word{n} " for n in range(100)]
    script = Script(LOOK, words)
    events = await answer_of(provider_of(script), asked_for(LOOKED + 20))

    reason, usage = ending(events)
    assert reason == "length"
    assert LOOKED + 20 < usage.output_tokens < LOOKED + 30
    assert 0 < len(text_of(events).split()) < 30


async def test_steps_are_limited(provider_of):
    script = Script(LOOK, LOOK, LOOK)
    events = await answer_of(provider_of(script, steps=2), question())

    assert len(script.settings) == 2
    assert ending(events)[0] == "length"


async def test_the_ledger_shows_what_both_steps_cost(provider_of):
    books = Books()
    async with serving(None, provider=provider_of(Script()), ledger=books) as app:
        c = await answer_to(app, ask(usageEvent=True))

        assert text(c.received) == "Take an umbrella."
        charge = books.charge
        assert (charge.source, charge.outcome) == ("provider", "done")
        assert charge.input_tokens == 2 * INPUT
        assert await books.used() == charge.tokens


async def test_what_the_steps_read_beyond_the_hold_is_overrun(provider_of, tmp_path):
    ledger = SQLiteLedger(tmp_path / "ledger.db")
    own = {"profiles": [profile(max_output_tokens=30)], "default_profile": "own"}
    async with serving(None, provider=provider_of(Script()), ledger=ledger, **own) as app:
        await answer_to(app, ask())
        audit = ledger.audit()
        (turn,) = [each async for each in audit.records(0) if isinstance(each, TurnRecord)]
        balances = await audit.balances(CLIENT)

    assert turn.held < 2 * INPUT < turn.tokens
    assert [(each.settled, each.overrun) for each in balances if each.day] == [
        (turn.tokens, turn.tokens - turn.held)
    ]


# ---------------------------------------------------------------- stop, and come back


async def test_a_client_that_leaves_stops_the_tool(provider_of):
    books, weather = Books(), Weather(held=True)
    script = Script()
    async with serving(None, provider=provider_of(script, weather.weather), ledger=books) as app:
        async with Conversation(app, json=ask(events=["tools"])) as c:
            await said(c, b"tool_arguments")
            with anyio.fail_after(20):
                await weather.began.wait()
            c.disconnect()
            await c.finished()

        assert weather.left.is_set()
        assert (weather.calls, len(script.settings)) == (1, 1)
        assert books.charge.outcome == "client_gone"
        assert await books.held() == (0, 0)


async def test_a_tool_in_a_thread_goes_on_and_nobody_waits_for_it(provider_of):
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def weather(city: str) -> str:
        """The weather of a city."""
        began.set()
        go_on.wait(20)
        ended.set()
        return "Rain"

    async with serving(None, provider=provider_of(Script(), weather)) as app:
        async with Conversation(app, json=ask(events=["tools"])) as c:
            await said(c, b"tool_arguments")
            assert await anyio.to_thread.run_sync(began.wait, 20)
            c.disconnect()
            await c.finished()
        assert not ended.is_set()
        go_on.set()
        assert await anyio.to_thread.run_sync(ended.wait, 20)


class Pause:
    """A model that writes nothing more."""

    def __init__(self) -> None:
        self.began = anyio.Event()

    async def __call__(self) -> str:
        self.began.set()
        await anyio.sleep_forever()
        return ""


async def stopped_in_the_second_step(provider_of, pieces):
    """The charge for an answer that is left while the second step is under way."""
    books, pause = Books(), Pause()
    provider = provider_of(Script(LOOK, [*pieces, pause]))
    async with serving(None, provider=provider, ledger=books) as app:
        async with Conversation(app, json=ask()) as c:
            with anyio.fail_after(20):
                await pause.began.wait()
            c.disconnect()
            await c.finished()
        assert books.charge.outcome == "client_gone"
        assert await books.held() == (0, 0)
        return books.charge


async def test_a_step_that_is_stopped_is_charged_what_is_known_of_it(provider_of):
    charge = await stopped_in_the_second_step(provider_of, ["."] * 60)  # two tokens each, it says

    assert charge.source == "provider"
    assert charge.input_tokens == 2 * INPUT
    assert charge.output_tokens == LOOKED + 2 * 60


async def test_a_step_that_has_not_said_its_usage_is_estimated(provider_of):
    charge = await stopped_in_the_second_step(provider_of, ["rain" * 200])  # one token, it says

    assert charge.source == "estimated"
    assert charge.input_tokens < INPUT  # of the first step alone
    assert charge.output_tokens > 200


async def test_a_client_comes_back_and_the_tool_has_run_once(provider_of):
    books, weather = Books(), Weather(held=True)
    script = Script()
    provider = provider_of(script, weather.weather)
    async with (
        serving(None, provider=provider, ledger=books, runs=LINGER) as app,
        anyio.create_task_group() as group,
    ):
        first = Conversation(app, json=ask(events=["tools"]), headers=KEY)

        async def leave_during_the_tool():
            async with first:
                await said(first, b"tool_arguments")

        group.start_soon(leave_during_the_tool)
        with anyio.fail_after(20):
            await weather.began.wait()
        while not first.is_disconnected:  # noqa: ASYNC110  # it tells nobody
            await anyio.sleep(0.001)
        run = first.headers["chatnest-run-id"]
        seen = max(int(line[4:]) for line in first.received.splitlines() if line[:3] == b"id:")
        async with Conversation(
            app, method="GET", path=f"/api/chat/runs/{run}", query=f"after={seen}"
        ) as second:
            weather.go_on.set()
            await second.read_all()

        assert text(second.received) == "Take an umbrella."
        assert kinds(second.received)[-1] == "done"
        assert b"tool_call" not in second.received
        assert (weather.calls, len(script.settings), len(books.charges)) == (1, 2, 1)


async def test_a_run_that_is_cancelled_stops_the_tool(provider_of):
    weather = Weather(held=True)
    provider = provider_of(Script(), weather.weather)
    async with serving(None, provider=provider, runs=LINGER) as app:
        async with Conversation(app, json=ask(events=["tools"]), headers=KEY) as c:
            await said(c, b"tool_arguments")
            with anyio.fail_after(20):
                await weather.began.wait()
            receipt = await cancel(app, c.headers["chatnest-run-id"])
            await c.finished()
            with anyio.fail_after(20):
                await weather.left.wait()

        assert receipt.status == 200
        assert not weather.go_on.is_set()


# ---------------------------------------------------------------- failures


async def fail(error: Exception) -> None:
    raise error


REFUSALS = [
    (401, "upstream_account"),
    (429, "upstream_overloaded"),
    (503, "upstream_overloaded"),
    (500, "upstream_error"),
    (400, "upstream_rejected"),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
async def test_a_refusal_of_the_model_is_an_error_of_chatnest(provider_of, status, code):
    from pydantic_ai.exceptions import ModelHTTPError

    refused = ModelHTTPError(status_code=status, model_name="m")
    script = Script([lambda: fail(refused)])
    with pytest.raises(ChatNestError) as raised:
        await answer_of(provider_of(script), question())
    assert raised.value.code == code


async def test_other_failures_of_the_agent(provider_of):
    from pydantic_ai import exceptions

    for failure, code in (
        (exceptions.ModelTimeoutError("m", "late"), "upstream_timeout"),
        (exceptions.ModelConnectionError("m", "gone"), "upstream_unavailable"),
        (exceptions.UnexpectedModelBehavior("odd"), "upstream_bad_response"),
    ):
        script = Script([lambda failure=failure: fail(failure)])
        with pytest.raises(ChatNestError) as raised:
            await answer_of(provider_of(script), question())
        assert raised.value.code == code


async def test_a_refusal_after_a_tool_has_run_is_not_retried(provider_of):
    from pydantic_ai.exceptions import ModelHTTPError

    books, weather = Books(), Weather()
    refused = ModelHTTPError(status_code=503, model_name="m")
    script = Script(LOOK, [lambda: fail(refused)], ["Rain."])
    provider = provider_of(script, weather.weather)
    async with serving(None, provider=provider, ledger=books) as app:
        c = await answer_to(app, ask())

        assert kinds(c.received)[-1] == "error"
        assert (weather.calls, len(script.settings)) == (1, 2)
        assert books.charge.output_tokens >= LOOKED
