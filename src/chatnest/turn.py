"""Turn: one request from its principal to its answer and its charge. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import filterfalse
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final, assert_never

import msgspec

from chatnest.conversation import ChatRequest, Message, ModelRequest, joined
from chatnest.errors import RequestTooLarge
from chatnest.events import (
    Delta,
    Finish,
    NotReasoning,
    ProviderEvent,
    Reasoning,
    ToolCall,
    Usage,
)
from chatnest.profiles import Profile
from chatnest.tokens.base import TokenCounter

__all__ = ["Answer", "Attempt", "LookUp", "ModelCall", "Turn"]

_UNLIMITED = 1 << 62
_NO_GROUPS: Final[Mapping[str, str]] = MappingProxyType({})
_MOST_LATE = 128
"""Maximum pieces of an answer that are kept apart before they are joined."""

_FAR = 4_096
"""Tokens beyond a limit from which a request is refused without an exact count."""

_LARGE: Final = 8_192
"""Characters above which a request is large: counting its tokens costs more than the rest of it."""


class ModelCall(msgspec.Struct, kw_only=True):
    """One call of the model: its request, and the provider's record of how it went.

    A provider sets ``sent`` as soon as the request may have reached the model, since from then on
    it may cost something. If the answer is stopped early, a provider may set ``unread`` to the
    events that had arrived by then: they cost as much as those that were read. ``place``,
    ``status`` and ``content_type`` are for the log: the address, and the head of the response.
    """

    request: ModelRequest
    request_id: str
    sent: bool = False
    unread: Iterator[Sequence[ProviderEvent]] | None = None
    place: str = ""
    status: int = 0
    content_type: str = ""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a model that has ended. ``started`` is in seconds since 1970. ``outcome`` is the
    code of the error that ended it, or None, and ``status`` the HTTP status of the response, or 0.
    """

    model: str
    started: float
    seconds: float
    outcome: str | None
    status: int


class Answer:
    """The model's answer so far: text, thinking, the reason to stop, the usage.

    ``begun``: the model has accepted the request. ``said``: something billable has arrived.
    """

    __slots__ = (
        *("_early", "_late", "_unseen", "begun", "bytes_left", "finish_reason", "said"),
        *("tokens_left", "usage"),
    )

    def __init__(self) -> None:
        self.begun: bool = False
        self.said: bool = False
        self.tokens_left: int = 0  # by an upper estimate, until they are counted
        self.bytes_left: int = 0
        self._early: list[str] = []  # joined pieces: each alone would take 60 bytes and more
        self._late: list[str] = []
        self._unseen: list[str] | None = None  # thinking and tool calls
        self.finish_reason: str | None = None
        self.usage: Usage | None = None

    def add(self, events: Sequence[ProviderEvent]) -> list[Delta]:
        """Add events that arrived, and return those that the client gets."""
        deltas, texts = [], []
        for event in events:
            match event:
                case Delta():  # first, since nearly all events are
                    deltas.append(event)
                    texts.append(event.text)
                case Reasoning() | ToolCall():
                    self._add_unseen(event.text)
                case NotReasoning():
                    deltas += self._turn_out()
                case Usage():
                    self.usage = event
                case Finish():
                    self.finish_reason = event.reason
                case _:
                    assert_never(event)
        if texts:
            self.add_pieces(texts)
        return deltas

    def add_pieces(self, texts: Sequence[str]) -> None:
        """Add pieces of text that arrived."""
        text = "".join(texts)
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self.tokens_left -= max(len(texts), size // 2)
        self.bytes_left -= size
        self.said = True
        self._late += texts
        if len(self._late) > _MOST_LATE:
            self._early.append("".join(self._late))
            self._late.clear()

    @property
    def text(self) -> str:
        return "".join([*self._early, *self._late])

    @property
    def unseen(self) -> str:
        """Thinking and tool calls, which are billed like text."""
        return "".join(self._unseen or ())

    @property
    def is_blank(self) -> bool:
        """Whether the text is empty or only white space."""
        if self._late and not self._late[0].isspace():  # nearly always, without a join
            return False
        return not self.text.strip()

    def _turn_out(self) -> list[Delta]:
        text, self._unseen = self.unseen, None
        self._late.append(text)
        return [Delta(text)] if text else []

    def _add_unseen(self, text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        self.tokens_left -= max(1, size // 2)
        self.bytes_left -= size
        self.said = True
        if self._unseen is None:
            self._unseen = []
        self._unseen.append(text)
        if len(self._unseen) > _MOST_LATE:
            self._unseen = ["".join(self._unseen)]


class Turn:
    """One request of one principal. ``groups`` are those of its Identity: a name by kind, such as
    team. ``headers`` are the request's header fields, if a policy needs them.

    In ``prepare``, a policy may change ``system`` and ``messages``, which the model gets, and lower
    ``max_output_tokens``. Policies may keep their own values in ``state``. After the end,
    ``outcome`` is ``"done"`` or the code of the error that ended the turn, and ``charged`` is its
    cost in tokens, by the figure of ``source``: ``provider``, ``estimated`` or ``none``.
    ``attempts`` are the calls of the model that have ended.
    """

    asked_at: float = 0.0
    """When observers saw its beginning, by the monotonic clock."""

    def __init__(
        self,
        *,
        turn_id: str,
        principal: str,
        request: ChatRequest,
        profile: Profile,
        model: str,
        counter: TokenCounter,
        system: tuple[Message, ...] = (),
        groups: Mapping[str, str] = _NO_GROUPS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.id = turn_id
        self.principal = principal
        self.groups = groups
        self.request = request
        self.profile = profile
        self.model = model
        self.system: tuple[Message, ...] = system
        self.messages: tuple[Message, ...] = request.messages
        self.is_large: bool = sum(map(len, map(attrgetter("text"), request.messages))) > _LARGE
        """Whether counting the client's messages costs more than the rest of the request."""
        self.max_output_tokens: int = profile.max_output_tokens
        self.input_tokens: int = 0
        self.call: ModelCall | None = None
        self.attempts: tuple[Attempt, ...] = ()
        self.answer: Answer = Answer()
        self.outcome = ""
        self.charged = 0
        self.source = "none"
        self.state: dict[str, Any] = {}
        self._counter = counter
        self._counted: dict[Message, int] = {}
        self._headers = headers

    def __repr__(self) -> str:
        return f"Turn({self.id!r}, principal={self.principal!r}, profile={self.profile.name!r})"

    @property
    def conversation(self) -> str | None:
        """The client's id of the conversation, or None. Other principals may use the same id."""
        return self.request.conversation

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's header fields, by name in lower case, read-only.

        Raises RuntimeError unless a policy has ``needs_headers = True``: only then are they kept.
        """
        if self._headers is None:
            raise RuntimeError(
                "turn.headers: expected a policy with needs_headers = True, got none. Set it on "
                "the class that reads them."
            )
        return self._headers

    @property
    def max_tokens_per_request(self) -> int:
        """Maximum tokens of input and output together: the client's limit, if it is lower than the
        profile's.
        """
        asked = self.request.max_tokens_per_request or _UNLIMITED
        return min(self.profile.max_tokens_per_request, asked)

    @property
    def daily_token_limit(self) -> int:
        """Maximum tokens a day: the client's limit, if it is lower than the profile's."""
        return min(self.profile.daily_token_limit, self.request.daily_token_limit or _UNLIMITED)

    @property
    def min_output_tokens(self) -> int:
        """Minimum tokens of output. A request that leaves less room is refused."""
        return min(self.profile.min_output_tokens, self.max_output_tokens)

    @property
    def slack(self) -> int:
        """Tokens that the output may exceed its limit by, since our count is an estimate."""
        return max(8, self.max_output_tokens // 20)

    @property
    def most_counted(self) -> int:
        """Tokens of output, by our count, beyond which an answer is too long. A counter that does
        not have the model's own encoding may count several times as many tokens as the model.
        """
        overcounts: int = getattr(self._counter, "overcounts", 1)
        return (self.max_output_tokens + self.slack) * overcounts

    @property
    def reply_tokens(self) -> int:
        """Tokens that the chat format adds once, beside the messages."""
        return self._counter.reply_tokens

    def least_tokens(self, message: Message) -> int:
        """Minimum tokens of a message, without counting."""
        return self._counter.bounds(message.text)[0]

    async def tokens(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of each message in the chat format. A turn counts each message once."""
        counted = self._counted
        if new := list(filterfalse(counted.__contains__, dict.fromkeys(messages))):
            counts = await self._counter.count_messages(new)
            counted.update(zip(new, counts, strict=True))
        return list(map(counted.__getitem__, messages))

    async def output_tokens(self) -> int:
        """Tokens of the answer so far, with its thinking, by our count."""
        shown = await self._counter.count(self.answer.text)
        unseen = self.answer.unseen
        return shown + await self._counter.count(unseen) if unseen else shown

    def most_output_tokens(self) -> int:
        """Maximum tokens of the answer so far, without counting."""
        answer = self.answer
        return self._counter.bounds(answer.text)[1] + self._counter.bounds(answer.unseen)[1]

    async def fit(self) -> None:
        """Count the input, and lower the output so that both fit into one request.

        Raises RequestTooLarge if not even ``min_output_tokens`` fit.
        """
        self.system = joined(self.system)
        self.messages = joined(self.messages)
        messages = (*self.system, *self.messages)
        cap = self.max_tokens_per_request
        reply, output = self.reply_tokens, self.min_output_tokens
        if self.is_large:
            least = reply + sum(map(self.least_tokens, messages)) + output
            if least > cap + _FAR:  # a count would take long and change nothing
                raise RequestTooLarge(needed=least, limit=cap)
        self.input_tokens = reply + sum(await self.tokens(messages))
        if self.input_tokens + output > cap:
            raise RequestTooLarge(needed=self.input_tokens + output, limit=cap)
        self.max_output_tokens = min(self.max_output_tokens, cap - self.input_tokens)


class LookUp(Turn):
    """A turn without a conversation, for ``GET .../limits``: it has the limits of a turn of the
    same principal under ``profile``. It is never answered, and costs nothing.
    """

    def __init__(
        self,
        *,
        principal: str,
        profile: Profile,
        model: str,
        counter: TokenCounter,
        groups: Mapping[str, str] = _NO_GROUPS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            turn_id="",
            principal=principal,
            groups=groups,
            headers=headers,
            request=ChatRequest(messages=(), profile=profile.name),
            profile=profile,
            model=model,
            counter=counter,
        )
