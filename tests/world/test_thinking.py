"""Thinking counts as it arrives, by whatever it is told from text."""

import json
from collections.abc import Iterator

import pytest

from chatnest import Bounds, ModelParameters, OpenAIProvider
from chatnest.events import Delta, NotReasoning, ProviderEvent, Reasoning
from chatnest.providers.openai_chat.think_tags import TagHabit, ThinkTags
from chatnest.testing import Answer, Conversation, FakeUpstream
from tests.streams.support import (
    PATIENCE,
    START,
    Books,
    answer_to,
    ask,
    input_tokens,
    serving,
    text,
)
from tests.world.shapes import BILL, STOP, event, stream
from tests.world.shapes import text as piece

pytestmark = pytest.mark.anyio


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as fake:
        yield fake


async def test_a_client_that_leaves_in_the_middle_of_thinking_pays_for_it(upstream):
    thoughts = b"".join(
        event({"choices": [{"delta": {"reasoning_content": " step by step"}}]}) for _ in range(100)
    )
    upstream.script(Answer.stall(0, inject=thoughts))
    books = Books()
    async with serving(upstream, ledger=books) as app:
        async with Conversation(app, json=ask()) as c:
            await c.until(lambda: c.received == START)
            c.disconnect()
            await c.finished()
        counted = await app.provider.counter.count(" step by step" * 100)
        assert books.charge.tokens == await input_tokens(app) + counted + counted // 20
    assert books.charge.outcome == "client_gone"


async def test_thinking_is_kept_within_the_bound_of_an_answer(upstream):
    thoughts = b"".join(
        event({"choices": [{"delta": {"reasoning": "x" + " " * 999}}]}) for _ in range(20)
    )
    upstream.script(Answer(inject=thoughts, after=0))
    bounds = Bounds(answer_bytes=10_000, ledger_seconds=PATIENCE)
    async with serving(upstream, bounds=bounds) as app:
        c = await answer_to(app, ask())
    assert b"answer_too_long" in c.received


HABITS = [
    # what the operator says, the model, and whether it is asked the second time
    (True, "m", False),
    (None, "deepseek-r1-distill-qwen-7b", False),
    (None, "qwen3-30b-a3b-thinking-2507", False),
    (None, "m", True),
]


@pytest.mark.parametrize(("said", "model", "again"), HABITS)
async def test_the_closing_tag_alone_ends_thinking(upstream, said, model, again):
    pieces = ["Let me", " see.", "</think>", "\n\n", "Hello", " world"]
    upstream.default = Answer(raw=stream(*map(piece, pieces), STOP, BILL))
    provider = OpenAIProvider(
        base_url=upstream.base_url, model=model, parameters=ModelParameters(think_tags=said)
    )
    async with serving(upstream, provider=provider) as app:
        if again:
            first = await answer_to(app, ask())
            assert text(first.received) == "Let me see.\n\nHello world"
        c = await answer_to(app, ask())
    assert text(c.received) == "Hello world"


async def test_text_without_tags_is_text_for_a_model_that_always_thinks(upstream):
    upstream.default = Answer(raw=stream(piece("Hello"), piece(" world"), STOP))
    books = Books()
    provider = OpenAIProvider(
        base_url=upstream.base_url, parameters=ModelParameters(think_tags=True)
    )
    async with serving(upstream, provider=provider, ledger=books) as app:
        c = await answer_to(app, ask())
    assert text(c.received) == "Hello world"
    assert books.charge.tokens == 10


async def test_tags_are_text_where_the_operator_says_so(upstream):
    upstream.default = Answer(raw=stream(piece("<think>x</think>y"), STOP, BILL))
    provider = OpenAIProvider(
        base_url=upstream.base_url, parameters=ModelParameters(think_tags=False)
    )
    async with serving(upstream, provider=provider) as app:
        c = await answer_to(app, ask())
    assert text(c.received) == "<think>x</think>y"


def read(habit: TagHabit, *pieces: str) -> tuple[str, str]:
    """The text and the thinking of an answer in pieces, without blanks at the thinking's end."""
    tags = ThinkTags(habit)
    events: list[ProviderEvent] = []
    for each in pieces:
        events += [Delta(each)] if tags.over else tags.feed(each)
    events += [] if tags.over else tags.end()
    said = "".join(e.text for e in events if isinstance(e, Delta))
    thought = "".join(e.text for e in events if isinstance(e, Reasoning))
    return (thought + said, "") if NotReasoning() in events else (said, thought.rstrip())


ANSWERS = {
    "<think>a b</think>c": ("c", "a b"),
    "  <think>\na\n</think>\n\nc d": ("c d", "\na"),
    "<thinking>a</thinking>c": ("c", "a"),
    "[THINK]a[/THINK]c": ("c", "a"),
    "<think>a </thi b</think>c": ("c", "a </thi b"),
    "<think>a": ("", "a"),
    "<think>a</thin": ("", "a</thin"),
    "<think></think>c": ("c", ""),
    "<th": ("<th", ""),
    "<b>c</b>": ("<b>c</b>", ""),
    "c <think>a</think>": ("c <think>a</think>", ""),
    "": ("", ""),
}


@pytest.mark.parametrize(("answer", "found"), ANSWERS.items(), ids=map(json.dumps, ANSWERS))
def test_an_answer_is_told_apart_wherever_it_is_cut(answer, found):
    whole = read(TagHabit("m"), answer)
    if "</think>" not in answer or answer.lstrip().startswith("<think"):
        assert whole == found
        assert read(TagHabit("m"), *answer) == found
        for at in range(len(answer) + 1):
            assert read(TagHabit("m"), answer[:at], answer[at:]) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("a</think>c", ("c", "a")),
        ("<think>a</think>c", ("c", "a")),
        ("a c", ("a c", "")),
        ("a </think", ("a </think", "")),
    ],
)
def test_a_model_that_always_thinks_is_told_apart_wherever_it_is_cut(answer, found):
    assert read(TagHabit("m", always=True), *answer) == found
    for at in range(len(answer) + 1):
        assert read(TagHabit("m", always=True), answer[:at], answer[at:]) == found
