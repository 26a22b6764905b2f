"""Calls of tools and their results stay together, and a tool turn counts as one message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatnest.conversation import Message, Part, Reasoning, Text, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.policies import TrimHistory
from chatnest.requests import ChatRequest
from chatnest.tool_turns import answered_calls, turns_of, without_signatures
from chatnest.turn import Turn
from tests.support.words import Words
from tests.test_policies import profile

USER = Message.of("user", "q")
SIGNED = Reasoning(text="hm", signature="s", provider="p", model="m")


def call(*ids: str) -> Message:
    return Message("assistant", tuple(ToolCall(id=i, name="f", arguments="{}") for i in ids))


def result(*ids: str) -> Message:
    return Message("tool", tuple(ToolResult(call_id=i, text="r") for i in ids))


PAIRS = {
    "whole": ([USER, call("a"), result("a")], [USER, call("a"), result("a")]),
    "a call without a result": ([USER, call("a"), USER], [USER, USER]),
    "one of two calls": (
        [USER, call("a", "b"), result("b")],
        [USER, call("b"), result("b")],
    ),
    "a result without a call": ([USER, result("a"), USER], [USER, USER]),
    "a result before its call": ([USER, result("a"), call("a")], [USER]),
    "two results of a call": (
        [USER, call("a"), result("a"), result("a")],
        [USER, call("a"), result("a")],
    ),
    "a call twice": (
        [USER, call("a"), call("a"), result("a")],
        [USER, call("a"), result("a")],
    ),
    "an id that a later call has again": (
        [USER, call("a"), result("a"), call("a"), result("a")],
        [USER, call("a"), result("a"), call("a"), result("a")],
    ),
    "an id that an unanswered call had": (
        [USER, call("a"), USER, call("a"), result("a")],
        [USER, USER, call("a"), result("a")],
    ),
    "thinking that led to a dropped call": (
        [USER, Message("assistant", (SIGNED, *call("a").parts)), USER],
        [USER, USER],
    ),
    "text beside a dropped call": (
        [USER, Message("assistant", (Text("t"), *call("a").parts)), USER],
        [USER, Message.of("assistant", "t"), USER],
    ),
}


@pytest.mark.parametrize(("messages", "kept"), PAIRS.values(), ids=PAIRS)
def test_calls_and_results_are_kept_in_pairs(messages, kept):
    assert list(answered_calls(messages)) == kept


@st.composite
def talks(draw: st.DrawFn) -> tuple[Message, ...]:
    ids = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3)
    kinds = st.one_of(ids.map(lambda i: call(*i)), ids.map(lambda i: result(*i)), st.just(USER))
    return (USER, *draw(st.lists(kinds, max_size=12)))


@given(talks())
def test_no_half_of_a_pair_is_left(messages):
    open_calls: set[str] = set()
    for message in answered_calls(messages):
        for part in message.parts:
            if isinstance(part, ToolCall):
                assert part.id not in open_calls
                open_calls.add(part.id)
            elif isinstance(part, ToolResult):
                open_calls.remove(part.call_id)
    assert open_calls == set()


def turn(messages: tuple[Message, ...], **changes: int) -> Turn:
    return Turn(
        turn_id="t",
        principal="ann",
        request=ChatRequest(messages=messages),
        profile=profile(**changes),
        model="m",
        counter=Words(),
    )


LOOP = (USER, call("a"), result("a"), call("b"), result("b"))


@pytest.mark.anyio
async def test_a_tool_turn_counts_as_one_message():
    t = turn((*LOOP, Message.of("assistant", "t"), USER), max_messages=4)
    await TrimHistory().prepare(t)

    assert len(t.messages) == 7
    t = turn((*LOOP, Message.of("assistant", "t"), USER), max_messages=3)
    await TrimHistory().prepare(t)
    assert t.messages == (USER,)


@pytest.mark.anyio
async def test_an_open_tool_turn_is_never_cut():
    t = turn((USER, *LOOP), max_messages=1)
    await TrimHistory().prepare(t)

    assert t.messages == LOOP


@pytest.mark.anyio
async def test_a_tool_turn_without_end_is_refused():
    with pytest.raises(InvalidRequest, match="at most 3 calls and results"):
        await TrimHistory().prepare(turn(LOOP, max_tool_messages=3))


@pytest.mark.anyio
async def test_signed_thinking_goes_with_the_messages_before_it():
    thinking: tuple[Part, ...] = (SIGNED, Reasoning(text="unsigned"), Text("t"))
    talk = (USER, Message.of("assistant", "x"), USER, Message("assistant", thinking), USER)
    whole, cut = turn(talk, max_messages=5), turn(talk, max_messages=3)
    await TrimHistory().prepare(whole)
    await TrimHistory().prepare(cut)

    assert whole.messages == talk
    assert cut.messages == without_signatures(talk[2:])
    assert cut.messages[1].parts == (Reasoning(text="unsigned"), Text("t"))


def test_groups_have_all_messages_in_their_order():
    talk = (*LOOP, USER, call("c"), result("c"))
    assert [len(group) for group in turns_of(talk)] == [1, 4, 1, 2]
    assert tuple(message for group in turns_of(talk) for message in group) == talk
