"""What these tests share: the three dialects, each with a chat in front of a fake upstream."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from chatnest import ASSISTANT, AnthropicProvider, ChatNestApp, HardCaps, Model, OpenAIProvider
from chatnest.policies import ConcurrentStreams, DailyBudget, TrimHistory
from chatnest.providers import OpenAIResponsesProvider
from chatnest.testing import Answer, FakeUpstream, Part, parse_events
from chatnest.turn import Turn
from tests.streams.support import Books, serving

EVENTS = ["reasoning", "tools", "sources", "usage"]
QUERY = "events=reasoning,tools,sources,usage"
PROFILE = msgspec.structs.replace(
    ASSISTANT, max_reasoning_effort="high", daily_token_limit=900_000_000
)
HI: dict[str, Any] = {"role": "user", "content": "Do I need an umbrella?"}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Dialect(NamedTuple):
    """One of the APIs: its provider, a model of it, and another one."""

    name: str
    kind: Any
    model: str
    other: str

    def provider(self, upstream: FakeUpstream, model: str | None = None) -> Any:
        is_claude = self.name == "messages"
        address = upstream.origin if is_claude else upstream.base_url
        return self.kind(base_url=address, api_key="k", model=model or self.model)

    def answer(self, *parts: Part, **fields: Any) -> Answer:
        """An answer of these parts. Chat Completions has signatures as OpenRouter sends them."""
        return Answer(parts=parts, reasoning_details=self.name == "chat", **fields)


CHAT = Dialect("chat", OpenAIProvider, "gpt-5", "gpt-5-mini")
RESPONSES = Dialect("responses", OpenAIResponsesProvider, "gpt-5", "gpt-5-mini")
MESSAGES = Dialect("messages", AnthropicProvider, "claude-sonnet-4-5", "claude-haiku-4-5")
DIALECTS = (CHAT, RESPONSES, MESSAGES)


class Ended:
    """A policy that keeps the turns that have ended."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []

    async def finished(self, turn: Turn) -> None:
        self.turns.append(turn)


class Chat(NamedTuple):
    """A chat, its books, and its turns."""

    app: ChatNestApp
    books: Books
    ended: Ended

    @property
    def turn(self) -> Turn:
        """The one turn that there was."""
        (turn,) = self.ended.turns
        return turn

    async def delivered(self, body: bytes) -> int:
        """Tokens of the output in these frames, by our own count."""
        counter = self.app.provider.counter
        text, unseen = said(body)
        return await counter.count(text) + await counter.count(unseen)


@asynccontextmanager
async def chatting(
    dialect: Dialect, upstream: FakeUpstream, *, provider: Any = None, **options: Any
) -> AsyncIterator[Chat]:
    """A chat in front of ``upstream``, with two models: ``main``, which is the default, and
    ``other``.
    """
    books, ended = Books(), Ended()
    provider = provider or dialect.provider(upstream)
    async with serving(
        None,
        models={
            "main": Model(provider=provider),
            "other": Model(provider=provider, model=dialect.other),
        },
        profiles=[PROFILE],
        hard_caps=HardCaps(daily_token_limit=None),
        default_profile="assistant",
        policies=[ConcurrentStreams(), TrimHistory(), DailyBudget(), ended],
        ledger=books,
        **options,
    ) as app:
        yield Chat(app, books, ended)


def asking(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The body of a request for everything that an answer has."""
    return {"messages": list(messages) or [HI], "events": EVENTS, "usageEvent": True, **fields}


def datas(body: bytes, name: str) -> list[Any]:
    """The data of the events of one name."""
    return [json.loads(event.data) for event in parse_events(body) if event.event == name]


def said(body: bytes) -> tuple[str, str]:
    """The text of an answer, and its thinking and its calls."""
    text, thinking = "".join(datas(body, "token")), "".join(datas(body, "reasoning"))
    calls = {call["index"]: call["name"] for call in datas(body, "tool_call")}
    for piece in datas(body, "tool_arguments"):
        calls[piece["index"]] = calls.get(piece["index"], "") + piece["arguments"]
    return text, thinking + "".join(calls.values())
