"""OpenAIChatDocument: an answer as one chat completion, for clients that do not stream. No I/O."""

from collections.abc import Mapping, Sequence
from typing import assert_never

from chatnest.events import (
    ClientEvent,
    Delta,
    Done,
    Failed,
    Numbered,
    Ping,
    Reasoning,
    ReasoningSignature,
    Refusal,
    Source,
    Start,
    ToolCall,
    ToolCallDelta,
)
from chatnest.wire.base import StreamInfo
from chatnest.wire.openai_chat.fields import annotation_of, head_of, reason_of, usage_of
from chatnest.wire.openai_chat.names import NAMES
from chatnest.wire.openai_problem import error_object
from chatnest.wire.sse import json_of

__all__ = ["OpenAIChatDocument"]


class OpenAIChatDocument:
    """Collects an answer, and is its document at the end.

    Text is kept as UTF-8: each piece alone would take 60 bytes and more.
    """

    __slots__ = ("_calls", "_info", "_refusal", "_sources", "_text", "_thinking", "headers")

    def __init__(self, info: StreamInfo) -> None:
        self.headers: Mapping[str, str] = {"x-request-id": info.request_id}
        self._info = info
        self._text = bytearray()
        self._refusal = bytearray()
        self._thinking = bytearray()
        self._calls: dict[int, tuple[ToolCall, bytearray]] = {}
        self._sources: list[Mapping[str, object]] = []

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        for event in events:
            inner = event.event if type(event) is Numbered else event
            if type(inner) is Delta:  # nearly always
                self._text += inner.text.encode("utf-8", "replace")
            elif document := self._add(inner):
                return document
        return b""

    def _add(self, event: ClientEvent) -> bytes:
        match event:
            case Start() | Ping() | ReasoningSignature() | Numbered():
                pass
            case Delta(text=text):
                self._text += text.encode("utf-8", "replace")
            case Reasoning(text=text):
                self._thinking += text.encode("utf-8", "replace")
            case Refusal(text=text):
                self._refusal += text.encode("utf-8", "replace")
            case ToolCall():
                self._calls[event.index] = event, bytearray()
            case ToolCallDelta(index=index, text=text):
                _, arguments = self._calls.setdefault(index, (ToolCall(index, "", ""), bytearray()))
                arguments += text.encode("utf-8", "replace")
            case Source():
                self._sources.append(annotation_of(event))
            case Done():
                return self._document(event)
            case Failed():
                return json_of(
                    {"error": error_object(event.error, charged=event.charged, names=NAMES)}
                )
            case _:
                assert_never(event)
        return b""

    def _document(self, done: Done) -> bytes:
        choice = {
            "index": 0,
            "message": self._message(),
            "finish_reason": reason_of(done, refused=bool(self._refusal)),
        }
        head = head_of(self._info, "chat.completion")
        return json_of({**head, "choices": [choice], "usage": usage_of(done.usage)})

    def _message(self) -> dict[str, object]:
        """The message. ``content`` and ``refusal`` are null where they are nothing, as OpenAI's
        API has them; other fields are absent.
        """
        is_text = self._text or not (self._calls or self._refusal)
        message: dict[str, object] = {
            "role": "assistant",
            "content": self._text.decode() if is_text else None,
            "refusal": self._refusal.decode() or None,
        }
        if self._thinking:
            message["reasoning_content"] = self._thinking.decode()
        if self._calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": arguments.decode()},
                }
                for _, (call, arguments) in sorted(self._calls.items())
            ]
        if self._sources:
            message["annotations"] = self._sources
        return message
