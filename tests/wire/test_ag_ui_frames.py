"""The events of AG-UI: exact frames in both versions, and what a client makes of them."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.conversation import Message, Reasoning, Text, ToolCall
from chatnest.errors import (
    InternalError,
    RunCancelled,
    UpstreamInterrupted,
    UpstreamOverloaded,
)
from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Ping,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCallDelta,
    Usage,
)
from chatnest.events import Reasoning as Thought
from chatnest.events import ToolCall as Call
from chatnest.testing import FormatContract
from chatnest.wire import AGUIFormat, Frames, StreamInfo
from tests.wire.agent import Agent, calling, result, user

STOP = Done("stop", Usage(12, 34))
SEAL = ReasoningSignature("sig", "p", "m")
VERSIONS = pytest.mark.parametrize("is_0", [True, False], ids=["0.0.59", "1.0"])


def frames_for(agent: Agent, **fields: Any) -> Frames:
    """The encoder of the answer to an agent."""
    request = AGUIFormat().parse(json.dumps(agent.body(**fields)).encode(), {})
    return AGUIFormat().frames(StreamInfo(request_id="req-1", model="m", request=request))


def answered(agent: Agent, *events: ClientEvent, **fields: Any) -> Agent:
    """An agent that has read an answer."""
    return agent.read(frames_for(agent, **fields).encode([Start(), *events]))


class Asked(AGUIFormat):
    """The format, of which each encoder belongs to a request."""

    body = json.dumps(Agent(user()).body()).encode()

    def frames(self, info: StreamInfo) -> Frames:  # type: ignore[override]
        request = self.parse(self.body, {})
        return super().frames(msgspec.structs.replace(info, request=request))


class TestAlone(FormatContract):
    """Without a request, as in the contract."""

    body = Asked.body
    is_0 = True

    def make(self) -> AGUIFormat:
        return AGUIFormat()

    def text(self, stream: bytes) -> str:
        return Agent(is_0=self.is_0).read(stream).text

    def ending(self, stream: bytes) -> object:
        last = Agent(is_0=self.is_0).read(stream).last
        return last and last["type"]


class TestAsked(TestAlone):
    """With a request of 1.0."""

    is_0 = False

    def make(self) -> AGUIFormat:
        return Asked()


# ------------------------------------------------ frames, byte for byte

RUN = '"threadId":"thread-1","runId":"run-1"'
STARTED = f'{{"type":"RUN_STARTED",{RUN}}}'
STARTED_1 = f'{{"type":"RUN_STARTED",{RUN},"protocolVersion":"1.0"}}'
USAGE = '"usage":[{"model":"m","inputTokens":12,"outputTokens":34,"totalTokens":46}]'
FINISHED = f'{{"type":"RUN_FINISHED",{RUN},"result":{{"finishReason":"stop"}},{USAGE}}}'
M1, M2 = '"messageId":"run-1-1-1"', '"messageId":"run-1-1-2"'


def opened(kind: str, message: str) -> str:
    role = {"TEXT_MESSAGE": ',"role":"assistant"', "REASONING_MESSAGE": ',"role":"reasoning"'}
    return f'{{"type":"{kind}_START",{message}{role.get(kind, "")}}}'


def closed(kind: str, message: str) -> str:
    return f'{{"type":"{kind}_END",{message}}}'


def begun(call: str, name: str) -> str:
    return (
        f'{{"type":"TOOL_CALL_START","toolCallId":"{call}","toolCallName":"{name}",'
        '"parentMessageId":"run-1-1-1"}'
    )


def content(kind: str, message: str, delta: str) -> str:
    return f'{{"type":"{kind}",{message},"delta":{delta}}}'


TEXT, THOUGHT = "TEXT_MESSAGE", "REASONING_MESSAGE"
SEALED = (
    '{"type":"REASONING_ENCRYPTED_VALUE","subtype":"message","entityId":"run-1-1-1",'
    '"encryptedValue":"cn1.eyJzaWduYXR1cmUiOiJzaWciLCJwcm92aWRlciI6InAiLCJtb2RlbCI6Im0ifQ"}'
)
CITED = '{"type":"CUSTOM","name":"source","value":{"url":"https://e.org"}}'
TITLED = CITED.replace("}}", ',"title":"E","start":0,"end":2}}')

TABLE: dict[str, tuple[Sequence[ClientEvent], Sequence[str]]] = {
    "text": (
        [Delta("Hel"), Delta('lo\n"')],
        [
            opened(TEXT, M1),
            content("TEXT_MESSAGE_CONTENT", M1, '"Hel"'),
            content("TEXT_MESSAGE_CONTENT", M1, r'"lo\n\""'),
            closed(TEXT, M1),
            FINISHED,
        ],
    ),
    "a refusal": (
        [Refusal("No")],
        [opened(TEXT, M1), content("TEXT_MESSAGE_CONTENT", M1, '"No"'), closed(TEXT, M1), FINISHED],
    ),
    "thinking": (
        [Thought("H"), Thought("m"), SEAL, Delta("Yes")],
        [
            opened("REASONING", M1),
            opened(THOUGHT, M1),
            content("REASONING_MESSAGE_CONTENT", M1, '"H"'),
            content("REASONING_MESSAGE_CONTENT", M1, '"m"'),
            SEALED,
            closed(THOUGHT, M1),
            closed("REASONING", M1),
            opened(TEXT, M2),
            content("TEXT_MESSAGE_CONTENT", M2, '"Yes"'),
            closed(TEXT, M2),
            FINISHED,
        ],
    ),
    "calls whose pieces alternate": (
        [
            Delta("Let me"),
            Call(0, "c1", "f"),
            Call(1, "c2", "g"),
            ToolCallDelta(0, "{"),
            ToolCallDelta(1, "{}"),
            ToolCallDelta(0, "}"),
        ],
        [
            opened(TEXT, M1),
            content("TEXT_MESSAGE_CONTENT", M1, '"Let me"'),
            closed(TEXT, M1),
            begun("c1", "f"),
            begun("c2", "g"),
            content("TOOL_CALL_ARGS", '"toolCallId":"c1"', '"{"'),
            content("TOOL_CALL_ARGS", '"toolCallId":"c2"', '"{}"'),
            content("TOOL_CALL_ARGS", '"toolCallId":"c1"', '"}"'),
            closed("TOOL_CALL", '"toolCallId":"c1"'),
            closed("TOOL_CALL", '"toolCallId":"c2"'),
            FINISHED,
        ],
    ),
    "sources": (
        [Delta("It"), Source("https://e.org"), Source("https://e.org", "E", 0, 2)],
        [
            opened(TEXT, M1),
            content("TEXT_MESSAGE_CONTENT", M1, '"It"'),
            CITED,
            TITLED,
            closed(TEXT, M1),
            FINISHED,
        ],
    ),
}


def sent(lines: Sequence[str]) -> bytes:
    return "".join(f"data: {line}\n\n" for line in lines).encode()


@VERSIONS
@pytest.mark.parametrize(("events", "lines"), TABLE.values(), ids=TABLE)
@pytest.mark.parametrize("numbered", [False, True], ids=["plain", "run"])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_an_answer_is_exactly_these_frames(events, lines, is_0, numbered, apart):
    agent = Agent(user(), is_0=is_0)
    all_events: list[Any] = [*events, STOP]
    if numbered:
        all_events = [Numbered(n, event) for n, event in enumerate(all_events, 1)]
    all_events = [Start(), *all_events]
    encoder = frames_for(agent)
    stream = encoder.encode(all_events)
    if apart:
        encoder = frames_for(agent)
        stream = b"".join(encoder.encode([event]) for event in all_events)

    assert stream == sent([STARTED if is_0 else STARTED_1, *lines])
    assert agent.read(stream).last is not None


def test_a_ping_is_a_comment():
    agent = Agent(user())
    stream = frames_for(agent).encode([Start(), Ping(), Delta("a"), Ping(), STOP])

    assert stream.count(b": ping\n\n") == 2
    assert (agent.read(stream).text, agent.comments) == ("a", 2)


def test_halves_of_pairs_become_question_marks_in_every_frame():
    half = "\ud83d"
    pieces: list[ClientEvent] = [
        Thought(half),
        ReasoningSignature(half, half, half),
        Call(0, half, half),
        ToolCallDelta(0, half),
        Source(half, half),
    ]
    agent = answered(Agent(user()), *pieces, STOP)
    assert [m["role"] for m in agent.messages] == ["user", "reasoning", "assistant"]
    assert agent.messages[1]["content"] == agent.messages[2]["toolCalls"][0]["id"] == "?"

    agent = Agent(user())
    encoder = frames_for(agent)
    stream = encoder.encode([Start()]) + encoder.encode([Delta(half), Delta("a")])
    assert agent.read(stream).text == "?a"


def test_no_events_are_no_bytes():
    assert frames_for(Agent(user())).encode([]) == b""


@pytest.mark.parametrize(
    ("usage", "shown"),
    [
        (Usage(0, 0), {"inputTokens": 0, "outputTokens": 0, "totalTokens": 0}),
        (
            Usage(9, 8, cached_tokens=3, cache_written_tokens=2, reasoning_tokens=5),
            {
                "inputTokens": 9,
                "outputTokens": 8,
                "totalTokens": 17,
                "reasoningTokens": 5,
                "cachedInputTokens": 3,
                "cacheWriteInputTokens": 2,
            },
        ),
    ],
)
def test_the_run_ends_with_its_usage(usage, shown):
    last = answered(Agent(user()), Delta("a"), Done("length", usage)).last

    assert last is not None
    assert last["usage"] == [{"model": "m", **shown}]
    assert last["result"] == {"finishReason": "length"}


def test_an_estimate_is_called_one():
    last = answered(Agent(user()), Delta("a"), Done("stop", Usage(1, 2, "estimated"))).last

    assert last is not None
    assert last["result"] == {"finishReason": "stop", "usageIsEstimated": True}


# ------------------------------------------------ ends


@VERSIONS
@pytest.mark.parametrize("begun", [True, False])
def test_an_error_may_come_at_any_time(is_0, begun):
    error = UpstreamOverloaded(retry_after=1.2)
    agent = Agent(user(), is_0=is_0)
    before: list[ClientEvent] = [Start(), Thought("Hm"), Call(0, "c", "f")] if begun else []
    agent.read(frames_for(agent).encode([*before, Failed(error, charged=True)]))

    assert agent.last == {
        "type": "RUN_ERROR",
        "message": "The model is overloaded.",
        "code": "upstream_overloaded",
        "metadata": {
            "retryable": True,
            "retry_after": 2,
            "charged": True,
            "request_id": "req-1",
        },
    }


def test_a_cancelled_run_ends_as_its_version_has_it():
    parts = (Delta("a"), Call(0, "c", "f"), Failed(RunCancelled()))
    old, new = answered(Agent(user(), is_0=True), *parts), answered(Agent(user()), *parts)

    assert old.last is not None
    assert (old.last["type"], old.last["code"]) == ("RUN_ERROR", "cancelled")
    assert new.last is not None
    assert (new.last["type"], new.last["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})


def test_a_run_that_is_cancelled_before_it_begins_is_an_error():
    agent = Agent(user())
    agent.read(frames_for(agent).encode([Failed(RunCancelled())]))

    assert agent.types == ["RUN_ERROR"]


def test_a_call_that_broke_off_is_not_one_to_make():
    """After RUN_FINISHED a client makes all calls."""
    done = Done("length", Usage(1, 2), incomplete=True)
    agent = answered(Agent(user()), Call(0, "c", "f"), ToolCallDelta(0, '{"a'), done)

    assert agent.last is not None
    assert (agent.last["type"], agent.last["code"]) == ("RUN_ERROR", "answer_too_long")
    assert agent.last["usage"][0]["totalTokens"] == 3
    assert "TOOL_CALL_END" not in agent.types


# ------------------------------------------------ there and back

GOOGLE = ReasoningSignature('{"extra_content":{}}', "openai-chat", "g", redacted=True, id="c1")
ANSWERS: dict[str, tuple[Sequence[ClientEvent], Sequence[Any]]] = {
    "text": ([Delta("a"), Delta("b")], [Text("ab")]),
    "thinking without a proof": ([Thought("Hm"), Delta("a")], [Reasoning(text="Hm"), Text("a")]),
    "several blocks": (
        [
            Thought("H"),
            Thought("m"),
            SEAL,
            ReasoningSignature("x", "p", "m", redacted=True, id="r"),
            Delta("a"),
        ],
        [
            Reasoning(text="Hm", signature="sig", provider="p", model="m"),
            Reasoning(text="", signature="x", provider="p", model="m", redacted=True, id="r"),
            Text("a"),
        ],
    ),
    "thinking between text and calls": (
        [
            Delta("a"),
            Thought("H"),
            SEAL,
            Call(0, "c1", "f"),
            ToolCallDelta(0, "{}"),
            Thought("m"),
            Call(1, "c2", "f"),
            ToolCallDelta(1, "{oops"),
        ],
        [
            Text("a"),
            Reasoning(text="H", signature="sig", provider="p", model="m"),
            ToolCall(id="c1", name="f", arguments="{}"),
            Reasoning(text="m"),
            ToolCall(id="c2", name="f", arguments="{oops"),
        ],
    ),
    "a proof of a call": (
        [
            Call(0, "c1", "f"),
            ToolCallDelta(0, "{}"),
            GOOGLE,
            Call(1, "c2", "f"),
            ToolCallDelta(1, "{}"),
        ],
        [
            Reasoning(
                text="",
                signature='{"extra_content":{}}',
                provider="openai-chat",
                model="g",
                redacted=True,
                id="c1",
            ),
            ToolCall(id="c1", name="f", arguments="{}"),
            ToolCall(id="c2", name="f", arguments="{}"),
        ],
    ),
    "text after a call": (
        [Delta("a"), Call(0, "c1", "f"), ToolCallDelta(0, "{}"), Delta("b")],
        [Text("ab"), ToolCall(id="c1", name="f", arguments="{}")],
    ),
    "a source within thinking": (
        [Thought("H"), Source("https://e.org"), Thought("m"), Delta("a")],
        [Reasoning(text="H"), Reasoning(text="m"), Text("a")],
    ),
}


@VERSIONS
@pytest.mark.parametrize(("events", "parts"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_comes_back_as_it_was(events, parts, is_0):
    agent = answered(Agent(user(), is_0=is_0), *events, STOP)
    calls = [part.id for part in parts if isinstance(part, ToolCall)]
    agent.messages += [result(call) for call in calls] or [user("Go on", "u2")]
    request = AGUIFormat().parse(json.dumps(agent.body("run-2")).encode(), {})

    assert request.messages[0] == Message.of("user", "Hi")
    assert request.messages[1] == Message("assistant", tuple(parts))
    assert [message.role for message in request.messages[2:]] == (["tool"] * len(calls) or ["user"])


def test_a_call_gets_another_id_than_an_earlier_one():
    agent = Agent(user(), calling("call_0", "call_0-2"), result("call_0"), result("call_0-2"))
    seal = ReasoningSignature("s", "openai-chat", "g", id="call_0")
    answered(agent, Call(0, "call_0", "f"), seal, Call(1, "", "g"), ToolCallDelta(1, "{}"), STOP)
    agent.messages += [result("call_0-3"), result("-2")]
    request = AGUIFormat().parse(json.dumps(agent.body("run-2")).encode(), {})

    thinking, first, second = request.messages[4].parts
    assert isinstance(thinking, Reasoning)
    assert isinstance(first, ToolCall)
    assert isinstance(second, ToolCall)
    assert (thinking.id, first.id, second.id) == ("call_0-3", "call_0-3", "-2")
    assert second.arguments == "{}"


def test_the_arguments_of_an_unknown_call_are_left_out():
    assert answered(Agent(user()), ToolCallDelta(3, "{}"), STOP).text == ""


def test_the_messages_of_two_runs_differ_even_with_one_id():
    agent = answered(Agent(user()), Delta("a"), STOP)
    agent.messages.append(user("Go on", "u2"))
    agent.events.clear()
    answered(agent, Delta("b"), STOP)

    ids = [message["id"] for message in agent.messages]
    assert len(set(ids)) == len(ids) == 4


# ------------------------------------------------ anything

any_text = st.text(min_size=1)
any_piece: st.SearchStrategy[ClientEvent] = (
    any_text.map(Delta)
    | any_text.map(Refusal)
    | any_text.map(Thought)
    | st.builds(Source, any_text, any_text)
    | st.builds(ReasoningSignature, any_text, any_text, any_text, st.booleans(), any_text)
    | st.builds(Call, st.integers(0, 3), any_text, any_text)
    | st.builds(ToolCallDelta, st.integers(0, 3), any_text)
    | st.builds(Ping)
)
any_end: st.SearchStrategy[ClientEvent] = st.sampled_from(
    [STOP, Failed(InternalError()), Failed(RunCancelled()), Failed(UpstreamInterrupted())]
)


@given(st.lists(any_piece), any_end, st.booleans())
def test_any_answer_keeps_the_rules(pieces, end, is_0):
    one, two = Agent(user(), is_0=is_0), Agent(user(), is_0=is_0)
    encoder = frames_for(one)
    stream = b"".join(encoder.encode([event]) for event in [Start(), *pieces, end])

    assert one.read(stream).last is not None
    assert frames_for(two).encode([Start(), *pieces, end]) == stream
    texts = "".join(p.text for p in pieces if isinstance(p, Delta | Refusal))
    assert one.text == texts.encode("utf-8", "replace").decode()


@VERSIONS
def test_a_cut_at_any_byte_is_no_end(is_0):
    pieces: list[ClientEvent] = [
        Thought("é\n\n"),
        SEAL,
        Delta("é\n\n😀\u2028"),
        Call(0, "c", "f"),
        ToolCallDelta(0, "{}"),
    ]
    stream = frames_for(Agent(user(), is_0=is_0)).encode([Start(), *pieces, STOP])
    whole = Agent(user(), is_0=is_0).read(stream)
    for size in range(len(stream)):
        cut = Agent(user(), is_0=is_0).read(stream[:size])
        assert cut.events == whole.events[: len(cut.events)]
        assert cut.last is None
        cut.read(stream[size:])
        assert cut.events == whole.events
