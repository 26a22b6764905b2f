"""Answer: the pieces of an answer as far as they have arrived, and its bounds. No I/O."""

from collections.abc import Sequence
from typing import Final, assert_never

from chatnest import conversation
from chatnest.events import (
    Delta,
    Finish,
    NotReasoning,
    Piece,
    ProviderEvent,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    ToolCall,
    ToolCallDelta,
    Usage,
)

__all__ = ["Answer"]

_MOST_LATE: Final = 128
"""Maximum pieces of an answer that are kept apart before they are joined."""

_ENVELOPE: Final = 128
"""Characters of a signature that are not thinking: keys, a checksum, the names of fields."""

_HIDDEN: Final = Reasoning("")
"""Thinking that the provider does not show. It is counted, and has nothing for clients."""


class Answer:
    """The model's answer so far: text, thinking, tool calls, the reason to stop, the usage.

    ``begun``: the model has accepted the request. ``said``: something billable has arrived.
    ``calls`` has the pieces of each tool call by its index, or is None without any. ``sealed`` is
    the characters of encrypted thinking in all signatures, or None without any. ``waited`` is the
    seconds from the call to the first piece.
    """

    __slots__ = (
        *("_early", "_late", "_seal", "_thinking", "begun", "bytes_left", "calls"),
        *("finish_reason", "said", "sealed", "tokens_left", "usage", "waited"),
    )

    def __init__(self) -> None:
        self.begun: bool = False
        self.said: bool = False
        self.tokens_left: int = 0  # by an upper estimate, until they are counted
        self.bytes_left: int = 0
        self._early: list[str] = []  # joined pieces: each alone would take 60 bytes and more
        self._late: list[str] = []
        self._thinking: list[str] | None = None
        self.calls: dict[int, tuple[ToolCall, list[str]]] | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.sealed: int | None = None
        self.waited: float = 0.0
        self._seal: object = 0, 0  # the pieces of text before the last signature, None after a call

    def add(  # noqa: C901  # a case for each kind, and a frame less for each batch
        self, events: Sequence[ProviderEvent]
    ) -> list[Piece]:
        """Add events that arrived, and return those that the client gets."""
        pieces: list[Piece] = []
        texts: list[str] = []
        thoughts: list[str] = []
        for event in events:
            match event:
                case Delta() | Refusal():  # first, since nearly all events are
                    pieces.append(event)
                    texts.append(event.text)
                case Reasoning():
                    thoughts.append(event.text)
                    if event != _HIDDEN:
                        pieces.append(event)
                case ReasoningSignature() | ToolCall() | ToolCallDelta() | Source():
                    self._add_unseen(event)
                    pieces.append(event)
                case NotReasoning():
                    self.add_thoughts(thoughts)
                    thoughts.clear()
                    pieces += self._turn_out()
                case Usage():
                    self.usage = event
                case Finish():
                    self.finish_reason = event.reason
                case _:
                    assert_never(event)
        if texts:
            self.add_pieces(texts)
        if thoughts:
            self.add_thoughts(thoughts)
        return pieces

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

    def add_thoughts(self, texts: Sequence[str]) -> None:
        """Add pieces of thinking that arrived."""
        text = "".join(texts)
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        self.tokens_left -= max(len(texts), size // 2)
        self.bytes_left -= size
        self.said = True
        if self._thinking is None:
            self._thinking = []
        self._thinking += texts
        if len(self._thinking) > _MOST_LATE:
            self._thinking[:] = ["".join(self._thinking)]

    @property
    def text(self) -> str:
        """The text, with the text of a refusal."""
        return "".join([*self._early, *self._late])

    @property
    def thinking(self) -> str:
        """The thinking, as far as the provider shows it."""
        return "".join(self._thinking or ())

    @property
    def may_think(self) -> bool:
        """Whether there is no text and no tool call since the last signature."""
        return self._seal == (len(self._early), len(self._late))

    @property
    def tool_calls(self) -> tuple[conversation.ToolCall, ...]:
        """The tool calls, in the order in which they began. The arguments of the last one may be
        incomplete.
        """
        return tuple(
            conversation.ToolCall(id=call.id, name=call.name, arguments="".join(arguments))
            for call, arguments in (self.calls or {}).values()
        )

    @property
    def unseen(self) -> str:
        """Thinking and tool calls, which are billed like text."""
        calls = [call.name + call.arguments for call in self.tool_calls] if self.calls else ()
        return "".join([*(self._thinking or ()), *calls])

    @property
    def is_blank(self) -> bool:
        """Whether there is no tool call, and the text is empty or only white space."""
        if self._late and not self._late[0].isspace():  # nearly always, without a join
            return False
        return not self.calls and not self.text.strip()

    def _turn_out(self) -> list[Delta]:
        text, self._thinking = self.thinking, None
        self._late.append(text)
        return [Delta(text)] if text else []

    def _add_unseen(self, event: ReasoningSignature | ToolCall | ToolCallDelta | Source) -> None:
        match event:
            case ToolCall():
                self._seal = None
                if self.calls is None:
                    self.calls = {}
                self.calls[event.index] = event, []
                self._take(1 + len(event.name) // 2, len(event.name) + len(event.id))
            case ToolCallDelta(index=index, text=text):
                self._seal = None
                self._take_text(text)
                if self.calls is None or index not in self.calls:  # of a call without a name
                    self.calls = {**(self.calls or {}), index: (ToolCall(index, "", ""), [])}
                _append(self.calls[index][1], text)
            case ReasoningSignature():
                self._seal = len(self._early), len(self._late)
                self.sealed = (self.sealed or 0) + max(0, len(event.signature) - _ENVELOPE)
                self._take(0, len(event.signature))
            case Source():
                self._take(0, len(event.url) + len(event.title))
            case _:
                assert_never(event)

    def _take_text(self, text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        self._take(max(1, size // 2), size)

    def _take(self, tokens: int, size: int) -> None:
        self.tokens_left -= tokens
        self.bytes_left -= size
        self.said = True


def _append(texts: list[str], text: str) -> None:
    texts.append(text)
    if len(texts) > _MOST_LATE:
        texts[:] = ["".join(texts)]
