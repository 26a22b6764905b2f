"""Turn: one request from its principal to its answer and its charge. No I/O."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, filterfalse
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import msgspec

from chatnest._util.threads import in_thread
from chatnest.answer import Answer
from chatnest.conversation import Message, Text, ToolCall, ToolResult, joined
from chatnest.errors import RequestTooLarge
from chatnest.events import ProviderEvent
from chatnest.prices import Price, Prices
from chatnest.profiles import Profile
from chatnest.requests import ChatRequest, ModelRequest
from chatnest.tokens.base import TokenCounter
from chatnest.tokens.definitions import definitions_of, size_of_definitions
from chatnest.tool_turns import answered_calls

__all__ = ["Attempt", "LookUp", "ModelCall", "Turn"]

_UNLIMITED = 1 << 62
_NO_GROUPS: Final[Mapping[str, str]] = MappingProxyType({})
_TOOL_PARTS: Final = frozenset({ToolCall, ToolResult})

_FAR = 4_096
"""Tokens beyond a limit from which a request is refused without an exact count."""

_LARGE: Final = 8_192
"""Characters above which a request is large: counting its tokens costs more than the rest of it."""


class ModelCall(msgspec.Struct, kw_only=True):
    """One call to the model: its request, and the provider's record of how it went.

    A provider sets ``sent`` as soon as the request may have reached the model, since from then on
    it may cost something. If the answer is stopped early, a provider may set ``unread`` to the
    events that had arrived by then: they cost as much as those that were read. ``hidden_tokens``
    is the maximum tokens that the model may think without showing them, for an answer that breaks
    off before its usage; None if the provider does not know. ``place``, ``status`` and
    ``content_type`` are for the log: the address, and the head of the response. ``api`` is the
    provider's dialect, or empty. ``headers`` are header fields to send with the request.
    """

    request: ModelRequest
    request_id: str
    sent: bool = False
    unread: Iterator[Sequence[ProviderEvent]] | None = None
    hidden_tokens: int | None = None
    place: str = ""
    status: int = 0
    content_type: str = ""
    api: str = ""
    headers: Mapping[str, str] = {}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call to a model that has ended. ``started`` is in seconds since 1970. ``outcome`` is the
    code of the error that ended it, or None, and ``status`` the HTTP status of the response, or 0.
    """

    model: str
    started: float
    seconds: float
    outcome: str | None
    status: int


class Turn:
    """One request of one principal. ``groups`` are those of its Identity: a name by kind, such as
    team. ``plan`` is the name of its plan, or None. ``headers`` are the request's header fields,
    if a policy needs them.

    In ``prepare``, a policy may change ``system`` and ``messages``, which the model gets, and lower
    ``max_output_tokens``. Policies may keep their own values in ``state``. After the end,
    ``outcome`` is ``"done"`` or the code of the error that ended the turn, and ``charged`` is its
    cost in tokens, by the figure of ``source``: ``provider``, ``estimated`` or ``none``.
    ``attempts`` are the calls to the model that have ended.
    """

    # An open stream keeps its turn, and a dictionary of its attributes would be large.
    __slots__ = (
        "__weakref__",
        "_added_tokens",
        "_context_window",
        "_counted",
        "_counter",
        "_defined",
        "_headers",
        "_least_output",
        "answer",
        "asked_at",
        "attempts",
        "call",
        "charged",
        "charged_money",
        "first_piece_seconds",
        "groups",
        "has_definitions",
        "has_tool_parts",
        "id",
        "input_tokens",
        "is_large",
        "max_output_tokens",
        "max_reasoning_tokens",
        "messages",
        "model",
        "outcome",
        "plan",
        "price",
        "prices",
        "principal",
        "profile",
        "request",
        "source",
        "state",
        "system",
        "wanted_tokens",
    )

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
        plan: str | None = None,
        headers: Mapping[str, str] | None = None,
        context_window: int | None = None,
        least_output: int = 1,
        added_tokens: int = 0,
        prices: Prices | None = None,
    ) -> None:
        self.asked_at: float = 0.0
        """When it began, by the monotonic clock."""
        self.first_piece_seconds: float | None = None
        """Seconds from there to the first piece, if there are observers."""
        self.id: str = turn_id
        self.principal: str = principal
        self.groups: Mapping[str, str] = groups
        self.plan: str | None = plan
        self.request: ChatRequest = request
        self.profile: Profile = profile
        self.model: str = model
        self.system: tuple[Message, ...] = system
        self.messages: tuple[Message, ...] = request.messages
        parts = chain.from_iterable(map(attrgetter("parts"), request.messages))
        self.has_tool_parts: bool = not _TOOL_PARTS.isdisjoint(map(type, parts))
        """Whether the request has calls or results of tools, of which only whole pairs are kept."""
        if self.has_tool_parts:
            self.messages = answered_calls(request.messages)
        self.is_large: bool = sum(map(attrgetter("size"), request.messages)) > _LARGE
        """Whether counting the client's messages costs more than the rest of the request."""
        asked = _UNLIMITED if request.max_output_tokens is None else request.max_output_tokens
        self.max_output_tokens: int = min(profile.max_output_tokens, asked)
        self.max_reasoning_tokens: int | None = None
        if profile.max_reasoning_tokens is not None and request.effort not in {None, "none"}:
            self.max_reasoning_tokens = profile.max_reasoning_tokens
            self.max_output_tokens += profile.max_reasoning_tokens
        self.prices: Prices | None = prices
        """The prices of the model; None if it has none."""
        self.price: Price | None = None
        """The price in force when the turn was admitted."""
        self.wanted_tokens: int = 0
        """The maximum output that was asked for when the turn was admitted, in tokens."""
        self.input_tokens: int = 0
        self.call: ModelCall | None = None
        self.attempts: tuple[Attempt, ...] = ()
        self.answer: Answer = Answer()
        self.outcome: str = ""
        self.charged: int = 0
        self.charged_money: int = 0
        self.source: str = "none"
        self.state: dict[str, Any] = {}
        self._context_window = context_window or _UNLIMITED
        self._least_output = least_output  # that the model's API accepts as a limit
        self._added_tokens = added_tokens  # by the provider, to the input
        self._counter = counter
        self._counted: dict[Message, int] = {}
        self.has_definitions: bool = bool(request.tools) or request.output is not None
        """Whether the request has tools or an output format, which are input as well."""
        self._defined: int | None = None
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
        """Maximum tokens of input and output together: the lowest limit of the client, the profile
        and the model.
        """
        asked = self.request.max_tokens_per_request or _UNLIMITED
        return min(self.profile.max_tokens_per_request, asked, self._context_window)

    @property
    def daily_token_limit(self) -> int:
        """Maximum tokens a day: the client's limit, if it is lower than the profile's."""
        return min(self.profile.daily_token_limit, self.request.daily_token_limit or _UNLIMITED)

    @property
    def min_output_tokens(self) -> int:
        """Minimum tokens of output. A request that leaves less room is refused."""
        usual = min(self.profile.min_output_tokens, self.max_output_tokens)
        return max(usual, self._least_output)

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

    async def definition_tokens(self) -> int:
        """Tokens of the tools and the output format of the request. Raises InvalidRequest for a
        definition that is not JSON, or exceeds a cap.
        """
        if self._defined is None:
            request = self.request
            if size_of_definitions(request) > _LARGE:
                countable = await in_thread(definitions_of, request)
            else:
                countable = definitions_of(request)
            together = Message("user", tuple(map(Text, countable.texts)))
            self._defined = sum(await self._counter.count_messages([together])) + countable.tokens
            if self.request.tools:
                self._defined += getattr(self._counter, "tool_tokens", 0)
        return self._defined

    async def output_tokens(self) -> int:
        """Tokens of the answer so far, with its thinking, by our count."""
        shown = await self._counter.count(self.answer.text)
        unseen = self.answer.unseen
        return shown + await self._counter.count(unseen) if unseen else shown

    async def thinking_tokens(self) -> int:
        """Tokens of the thinking that the provider has shown, by our count."""
        return await self._counter.count(self.answer.thinking)

    def most_output_tokens(self) -> int:
        """Maximum tokens of the answer so far, without counting."""
        answer = self.answer
        return self._counter.bounds(answer.text)[1] + self._counter.bounds(answer.unseen)[1]

    async def fit(self) -> None:
        """Count the input, and lower the output so that both fit into one request. An output below
        the least that the model accepts becomes that.

        Raises RequestTooLarge if not even ``min_output_tokens`` fit.
        """
        if len(self.system) > 1:
            self.system = joined(self.system)
        if len(self.messages) > 1:
            self.messages = joined(self.messages)
        self.max_output_tokens = max(self.max_output_tokens, self._least_output)
        messages = (*self.system, *self.messages)
        cap = self.max_tokens_per_request
        reply = self._counter.reply_tokens + self._added_tokens
        output = self.min_output_tokens
        if self.is_large:
            least = reply + sum(map(self.least_tokens, messages)) + output
            if least > cap + _FAR:  # a count would take long and change nothing
                raise RequestTooLarge(needed=least, limit=cap)
        self.input_tokens = reply + sum(await self.tokens(messages))
        if self.has_definitions:
            self.input_tokens += await self.definition_tokens()
        if self.input_tokens + output > cap:
            raise RequestTooLarge(needed=self.input_tokens + output, limit=cap)
        self.max_output_tokens = min(self.max_output_tokens, cap - self.input_tokens)
        self._counted.clear()  # it need not live as long as the stream


class LookUp(Turn):
    """A turn without a conversation, for ``GET .../limits``: it has the limits of a turn of the
    same principal under ``profile``. It is never answered, and costs nothing.
    """

    __slots__ = ()

    def __init__(
        self,
        *,
        principal: str,
        profile: Profile,
        model: str,
        counter: TokenCounter,
        groups: Mapping[str, str] = _NO_GROUPS,
        plan: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            turn_id="",
            principal=principal,
            groups=groups,
            plan=plan,
            headers=headers,
            request=ChatRequest(messages=(), profile=profile.name),
            profile=profile,
            model=model,
            counter=counter,
        )
