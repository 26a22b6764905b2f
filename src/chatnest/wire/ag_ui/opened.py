"""Opened: the open parts of an AG-UI stream, and the frames that open and close them. No I/O."""

from typing import Final

from chatnest.events import ToolCall
from chatnest.wire.ag_ui.facts import RunFacts
from chatnest.wire.sse import json_of

__all__ = ["Opened"]

_TEXT_START: Final = b'data: {"type":"TEXT_MESSAGE_START","messageId":%b,"role":"assistant"}\n\n'
_TEXT_END: Final = b'data: {"type":"TEXT_MESSAGE_END","messageId":%b}\n\n'
_THINKING_START: Final = (
    b'data: {"type":"REASONING_START","messageId":%b}\n\n'
    b'data: {"type":"REASONING_MESSAGE_START","messageId":%b,"role":"reasoning"}\n\n'
)
_THINKING_END: Final = (
    b'data: {"type":"REASONING_MESSAGE_END","messageId":%b}\n\n'
    b'data: {"type":"REASONING_END","messageId":%b}\n\n'
)
_CALL_START: Final = (
    b'data: {"type":"TOOL_CALL_START","toolCallId":%b,"toolCallName":%b,"parentMessageId":%b}\n\n'
)
_CALL_END: Final = b'data: {"type":"TOOL_CALL_END","toolCallId":%b}\n\n'


class Opened:
    """The open parts of one answer. Ids are in the JSON of their frames.

    Text and calls are one message, and each block of thinking is one of its own. A new message
    begins after thinking, so that the client returns everything in its order. Calls end with the
    answer, since the pieces of two calls may alternate.

    ``text`` and ``thinking`` are the ids of the open messages, or None. ``calls`` has the ids of
    calls by their index.
    """

    __slots__ = ("_count", "_facts", "_message", "_shown", "calls", "text", "thinking")

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._count = 0
        self._message: bytes | None = None
        self._shown: dict[str, str] = {}  # the ids of calls: the model's by the client's
        self.text: bytes | None = None
        self.thinking: bytes | None = None
        self.calls: dict[int, bytes] = {}

    def begin_text(self) -> tuple[bytes, bytes]:
        """The frames before a piece of text, and the id of its message."""
        if (text := self.text) is not None:
            return b"", text
        closing = self.end_thinking()
        self.text = text = self._own_message()
        return closing + _TEXT_START % text, text

    def begin_thinking(self) -> tuple[bytes, bytes]:
        """The frames before a piece of thinking, and the id of its block."""
        if (thinking := self.thinking) is not None:
            return b"", thinking
        closing = self._end_text()
        self._message = None
        self.thinking = thinking = self._new_id()
        return closing + _THINKING_START % (thinking, thinking), thinking

    def begin_call(self, call: ToolCall) -> bytes:
        """The frames that begin a call."""
        closing = self.end_thinking() + self._end_text()
        if (earlier := self.calls.get(call.index)) is not None:
            closing += _CALL_END % earlier
        shown = self._free_id(call.id)
        self.calls[call.index] = id_ = json_of(shown)
        return closing + _CALL_START % (id_, json_of(call.name), self._own_message())

    def call_of(self, call_id: str) -> str | None:
        """The id under which the client knows a call of this answer, by the model's id."""
        calls = reversed(self._shown.items()) if call_id else ()
        return next((shown for shown, own in calls if own == call_id), None)

    def end_thinking(self) -> bytes:
        """The frames that end the open block of thinking, if any."""
        if (thinking := self.thinking) is None:
            return b""
        self.thinking = None
        return _THINKING_END % (thinking, thinking)

    def end(self) -> bytes:
        """The frames that end all that is open."""
        closing = [self._end_text(), self.end_thinking()]
        closing += [_CALL_END % call for call in self.calls.values()]
        self.calls.clear()
        return b"".join(closing)

    def _end_text(self) -> bytes:
        if (text := self.text) is None:
            return b""
        self.text = None
        return _TEXT_END % text

    def _own_message(self) -> bytes:
        """The id of the message of the assistant, a new one after thinking."""
        if self._message is None:
            self._message = self._new_id()
        return self._message

    def _new_id(self) -> bytes:
        self._count += 1
        return json_of(f"{self._facts.prefix}-{self._count}")

    def _free_id(self, call_id: str) -> str:
        """An id that no other call of the conversation has. Some servers give the calls of each
        answer the same ids, and a client would add the arguments to the earlier call.
        """
        free, number = call_id, 1
        while not free or free in self._facts.call_ids or free in self._shown:
            number += 1
            free = f"{call_id}-{number}"
        self._shown[free] = call_id
        return free
