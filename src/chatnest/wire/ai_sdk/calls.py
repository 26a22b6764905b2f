"""Calls: the tool calls of one answer, while their arguments arrive. No I/O."""

from typing import Final

import msgspec

from chatnest.events import ToolCall, ToolCallDelta
from chatnest.wire.sse import json_of

__all__ = ["Calls", "frame"]

_INCOMPLETE: Final = "The answer ended within a call of a tool, so the call was not made."
_NO_OBJECT: Final = (
    "The model called a tool with arguments that are not a JSON object, so the call was not made."
)


def frame(type_: str, **fields: object) -> bytes:
    """The frame of one part of a stream."""
    return b"data: %b\n\n" % json_of({"type": type_, **fields})


class Calls:
    """The calls by their index. Pieces of two calls may alternate, so no call is whole before the
    end of the answer.
    """

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[int, tuple[ToolCall, list[str]]] = {}

    def begin(self, call: ToolCall) -> bytes:
        """The frame of a call that begins."""
        self._calls[call.index] = call, []
        return frame("tool-input-start", toolCallId=call.id, toolName=call.name)

    def add(self, piece: ToolCallDelta) -> bytes:
        """The frame of a piece of a call's arguments."""
        if piece.index not in self._calls:
            return b""
        call, texts = self._calls[piece.index]
        texts.append(piece.text)
        return frame("tool-input-delta", toolCallId=call.id, inputTextDelta=piece.text)

    def end(self, *, incomplete: bool) -> tuple[bytes, str]:
        """The frames that end all calls, and the reason why some cannot be made, or "". With
        ``incomplete`` the last call cannot.
        """
        frames, reason = [], ""
        last = max(self._calls, default=None)
        for index, (call, texts) in self._calls.items():
            text = "".join(texts).encode("utf-8", "replace").decode()
            is_cut = incomplete and index == last
            found = None if is_cut else _object(text or "{}")
            if found is None:
                reason = _INCOMPLETE if is_cut else _NO_OBJECT
            ending = {"toolCallId": call.id, "toolName": call.name}
            frames.append(
                frame("tool-input-available", **ending, input=found)
                if found is not None
                else frame("tool-input-error", **ending, input=text, errorText=reason)
            )
        return b"".join(frames), reason


def _object(text: str) -> msgspec.Raw | None:
    """A JSON object on one line, or None if the text is not one, or cannot be read by clients."""
    try:
        line = msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not line.startswith("{") or _is_poison(msgspec.json.decode(line)):
        return None
    return msgspec.Raw(line.encode())


def _is_poison(value: object) -> bool:
    """Whether the parsers of clients refuse a value, and with it the whole stream: it has a key
    that could change the prototype of JavaScript's objects.
    """
    waiting: list[object] = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            own = node.get("constructor")
            if "__proto__" in node or (isinstance(own, dict) and "prototype" in own):
                return True
            waiting += node.values()
    return False
