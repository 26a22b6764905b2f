"""Turn: one request on its way: who asks, what is asked of the model, what came of it. No I/O."""

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from chatnest.errors import RequestTooLarge
from chatnest.events import Delta, ProviderEvent, Usage
from chatnest.profiles import Profile
from chatnest.request import ChatMessage, ChatRequest

__all__ = ["Answer", "ModelCall", "TokenCounter", "Turn"]

_UNLIMITED = 1 << 62
_MOST_LATE = 128
"""Pieces of an answer before they are joined."""

_FAR = 4_096
"""Tokens beyond a limit for which it does not matter how many there are."""


class TokenCounter(Protocol):
    """Counts tokens as the model does; chatnest.tokens.Tokenizer is one."""

    @property
    def reply_tokens(self) -> int:
        """What the chat format adds once to every conversation."""
        ...

    def warm(self) -> Awaitable[None]:
        """Load what counting needs."""
        ...

    def bounds(self, text: str) -> tuple[int, int]:
        """At least and at most so many tokens, without counting."""
        ...

    def count(self, text: str) -> Awaitable[int]:
        """Tokens of a text."""
        ...

    def count_each(self, messages: Sequence[tuple[str, str]]) -> Awaitable[list[int]]:
        """Tokens of each (role, content), with what the chat format adds to a message."""
        ...


class ModelCall(msgspec.Struct, kw_only=True):
    """What is sent to the model. A provider sets ``sent`` as soon as the call may have reached
    it, since from then on it may cost something. When it leaves an answer before its end, it may
    leave in ``unread`` what had arrived by then: events that cost as much as those that were read.
    """

    messages: tuple[ChatMessage, ...]
    max_output_tokens: int
    temperature: float
    request_id: str
    sent: bool = False
    unread: Iterator[Sequence[ProviderEvent]] | None = None


class Answer:
    """What the model has said so far: text, its reason to stop, its bill."""

    __slots__ = (
        *("_early", "_late", "begun", "bytes_left", "finish_reason", "pieces_left", "usage"),
    )

    def __init__(self) -> None:
        self.begun: bool = False  # the model has taken the request and answers
        self.pieces_left: int = 0  # until it is counted how many tokens they are
        self.bytes_left: int = 0
        self._early: list[str] = []  # pieces that were joined: each alone takes 60 bytes and more
        self._late: list[str] = []
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    def add(self, events: Sequence[ProviderEvent]) -> list[Delta]:
        """Take note of what came, and return what of it the client is shown."""
        deltas, texts = [], []
        for event in events:
            if isinstance(event, Delta):
                deltas.append(event)
                texts.append(event.text)
            elif isinstance(event, Usage):
                self.usage = event
            else:
                self.finish_reason = event.reason
        self.add_pieces(texts)
        return deltas

    def add_pieces(self, texts: Sequence[str]) -> None:
        """Take note of what the model said."""
        text = "".join(texts)
        self.pieces_left -= len(texts)
        self.bytes_left -= len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self._late += texts
        if len(self._late) > _MOST_LATE:
            self._early.append("".join(self._late))
            self._late.clear()

    @property
    def text(self) -> str:
        return "".join([*self._early, *self._late])


class Turn:
    """One request of one principal.

    A policy reads it, and in ``prepare`` it may change ``system`` and ``messages`` (what the
    model will see) and lower ``max_output_tokens``. ``state`` is for policies to keep things in.
    When it has ended, ``outcome`` is ``"done"`` or the code of what ended it, and ``charged`` the
    tokens that it cost, by the figure of ``source``: ``provider``, ``estimated`` or ``none``.
    """

    def __init__(
        self,
        *,
        turn_id: str,
        principal: str,
        request: ChatRequest,
        profile: Profile,
        model: str,
        counter: TokenCounter,
        system: tuple[ChatMessage, ...] = (),
    ) -> None:
        self.id = turn_id
        self.principal = principal
        self.request = request
        self.profile = profile
        self.model = model
        self.system = system
        self.messages: tuple[ChatMessage, ...] = request.messages
        self.max_output_tokens: int = profile.max_output_tokens
        self.input_tokens: int = 0
        self.call: ModelCall | None = None
        self.answer: Answer = Answer()
        self.outcome = ""
        self.charged = 0
        self.source = "none"
        self.state: dict[str, Any] = {}
        self._counter = counter
        self._counted: dict[ChatMessage, int] = {}

    def __repr__(self) -> str:
        return f"Turn({self.id!r}, principal={self.principal!r}, profile={self.profile.name!r})"

    @property
    def max_tokens_per_request(self) -> int:
        """Tokens of input and output together: the profile's, or the client's where lower."""
        asked = self.request.max_tokens_per_request or _UNLIMITED
        return min(self.profile.max_tokens_per_request, asked)

    @property
    def daily_token_limit(self) -> int:
        """Tokens a day: the profile's, or the client's where lower."""
        return min(self.profile.daily_token_limit, self.request.daily_token_limit or _UNLIMITED)

    @property
    def min_output_tokens(self) -> int:
        """How far the output may be lowered before the request is refused instead."""
        return min(self.profile.min_output_tokens, self.max_output_tokens)

    @property
    def slack(self) -> int:
        """What the output may be counted beyond its limit: we count it as best we can."""
        return max(8, self.max_output_tokens // 20)

    @property
    def reply_tokens(self) -> int:
        """What the chat format adds once, beside the messages."""
        return self._counter.reply_tokens

    def least_tokens(self, message: ChatMessage) -> int:
        """What a message has at least, known without counting."""
        return self._counter.bounds(message.content)[0]

    async def tokens(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Tokens of each message in the chat format. Each is counted once a turn."""
        counted = self._counted
        new = [message for message in dict.fromkeys(messages) if message not in counted]
        if new:
            counts = await self._counter.count_each([(m.role, m.content) for m in new])
            counted.update(zip(new, counts, strict=True))
        return [counted[message] for message in messages]

    async def output_tokens(self) -> int:
        """Tokens of the answer so far, counted by us."""
        return await self._counter.count(self.answer.text)

    def most_output_tokens(self) -> int:
        """What the answer so far has at most, known without counting."""
        return self._counter.bounds(self.answer.text)[1]

    async def fit(self) -> None:
        """Count the input, and lower the output so that both fit one request.

        Raises RequestTooLarge where not even the least output fits.
        """
        messages = (*self.system, *self.messages)
        cap = self.max_tokens_per_request
        least = self.reply_tokens + sum(map(self.least_tokens, messages))
        if least + self.min_output_tokens > cap + _FAR:  # not worth the counting
            raise RequestTooLarge(needed=least + self.min_output_tokens, limit=cap)
        self.input_tokens = self.reply_tokens + sum(await self.tokens(messages))
        if self.input_tokens + self.min_output_tokens > cap:
            raise RequestTooLarge(needed=self.input_tokens + self.min_output_tokens, limit=cap)
        self.max_output_tokens = min(self.max_output_tokens, cap - self.input_tokens)
