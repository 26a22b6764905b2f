"""Chat: the chunks of OpenAI's Chat Completions API, streamed and whole. No I/O."""

from collections.abc import Iterator
from typing import Any, ClassVar, assert_never

from chatnest.testing.upstream.answers import Answer, content_of, reason_of
from chatnest.testing.upstream.delivery import Fault
from chatnest.testing.upstream.dialects.base import Dialect, to_json
from chatnest.testing.upstream.parts import (
    Block,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
    blocks,
    joined,
)

__all__ = ["Chat"]


class Chat(Dialect):
    """The events of one answer.

    The constant parts of a chunk are encoded once. A chunk then costs about a microsecond, so a
    benchmark measures the server under test and not the fake upstream.
    """

    broken: ClassVar[dict[str, tuple[str, bytes]]] = {}

    def __init__(self, answer: Answer, request: dict[str, Any]) -> None:
        super().__init__(answer, request)
        options = request.get("stream_options")
        self._wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._blocks = blocks(content_of(answer))
        self._id = f"chatcmpl-{self.number:08d}"
        self._before = self._prefix() + b'{"index":0,"delta":'
        self._between = b',"logprobs":null,"finish_reason":'
        self._after = self._tail()

    def first(self) -> list[bytes]:
        """Return the chunk with the role and no text."""
        empty = self.answer.null_first_delta or self.answer.refusal
        content = b"null" if empty else b'""'
        return [self._chunk(b'{"role":"assistant","content":%b,"refusal":null}' % content)]

    def pieces(self) -> Iterator[tuple[bytes, int]]:
        calls = thoughts = 0
        for block in self._blocks:
            part = block.part
            match part:
                case Text():
                    yield from self._deltas(part.deltas(), b'{"content":%b}')
                    if block.sources:
                        yield self._chunk(b'{"annotations":%b}' % to_json(_annotations(block))), 0
                case Refusal():
                    yield from self._deltas(part.deltas(), b'{"refusal":%b}')
                case Thinking():
                    yield from self._thinking(part, thoughts)
                    thoughts += 1
                case RedactedThinking(data):
                    yield from self._details(
                        {"type": "reasoning.encrypted", "data": data}, thoughts
                    )
                    thoughts += 1
                case ToolCall():
                    call = {"index": calls, **_call(part, "")}
                    yield self._chunk(b'{"tool_calls":[%b]}' % to_json(call)), 0
                    delta = b'{"tool_calls":[{"index":%d,"function":{"arguments":%%b}}]}' % calls
                    yield from self._deltas(part.deltas(), delta)
                    calls += 1
                case _:
                    assert_never(part)

    def finish(self) -> list[bytes]:
        """Return the events after the last piece: the finish reason, the usage, ``[DONE]``."""
        answer, events = self.answer, []
        reason = reason_of(answer)
        if reason is not None:
            events.append(self._chunk(b"{}", to_json(_reason(reason))))
        if self._wants_usage and answer.usage is not None:
            usage = b'],"usage":' + to_json(self._usage()) + b"}" + self.eol * 2
            events.append(self._prefix() + usage)
        return [*events, b"data: [DONE]" + self.eol * 2]

    def error(self, fault: Fault) -> bytes:  # noqa: ARG002 - the base class's signature
        """Return the bytes that the answer gives: they are those of this API."""
        return self.answer.inject

    def ping(self) -> bytes:
        """Return a chunk with an empty delta."""
        return self._chunk(b"{}")

    def endless_line(self) -> tuple[bytes, bytes]:
        """Return the start and the end of a chunk, without its content."""
        key = b"refusal" if self.answer.refusal else b"content"
        begin, end = self._chunk(b'{"%b":"#"}' % key).split(b"#")
        return begin, end

    def whole(self) -> bytes:
        """Return the body of a response that is not streamed."""
        reason = reason_of(self.answer)
        choice = {
            "index": 0,
            "message": self._message(),
            "finish_reason": None if reason is None else _reason(reason),
        }
        completion = {
            "id": self._id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "service_tier": self.answer.service_tier or "default",
            "choices": [choice],
        }
        if self.answer.usage is not None:
            completion["usage"] = self._usage()
        return to_json(completion)

    def _message(self) -> dict[str, Any]:
        said: dict[str, str] = {}
        calls, annotations = [], []
        for block in self._blocks:
            part = block.part
            match part:
                case RedactedThinking():
                    continue
                case Text():
                    key = "content"
                    annotations += _annotations(block)
                case Refusal():
                    key = "refusal"
                case Thinking():
                    key = self.answer.thinking_field
                case ToolCall():
                    calls.append(_call(part, self._joined(part)))
                    continue
                case _:
                    assert_never(part)
            said[key] = said.get(key, "") + self._joined(part)
        message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None, **said}
        message |= {"tool_calls": calls} if calls else {}
        return message | ({"annotations": annotations} if annotations else {})

    def _joined(self, part: Text | Refusal | Thinking | ToolCall) -> str:
        text, pieces = joined(part)
        self.sent += pieces
        return text

    def _deltas(self, pieces: Iterator[str], delta: bytes) -> Iterator[tuple[bytes, int]]:
        waits = self.answer.comments or self.answer.pings
        for piece in pieces:
            before = self.waiting() if waits else b""
            self.sent += 1
            yield before + self._chunk(delta % to_json(piece)), 1

    def _thinking(self, part: Thinking, index: int) -> Iterator[tuple[bytes, int]]:
        name = self.answer.thinking_field.encode()
        if not self.answer.reasoning_details:
            yield from self._deltas(part.deltas(), b'{"%b":%%b}' % name)
            return
        detail = {"type": "reasoning.text", "index": index}
        for piece in part.deltas():
            details = to_json([detail | {"text": piece}]).replace(b"%", b"%%")
            delta = b'{"%b":%%b,"reasoning_details":%b}' % (name, details)
            yield from self._deltas(iter([piece]), delta)
        if part.signature is not None:
            yield from self._details({"type": "reasoning.text", "signature": part.signature}, index)

    def _details(self, detail: dict[str, Any], index: int) -> Iterator[tuple[bytes, int]]:
        if self.answer.reasoning_details:
            details = to_json([detail | {"index": index}])
            yield self._chunk(b'{"reasoning_details":%b}' % details), 0

    def _chunk(self, delta: bytes, finish_reason: bytes = b"null") -> bytes:
        tail = self._tail() if self.answer.usage_on_every_chunk else self._after
        return b"%b%b%b%b%b" % (self._before, delta, self._between, finish_reason, tail)

    def _prefix(self) -> bytes:
        names = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,'
        more = b'"service_tier":%b,"system_fingerprint":"fp_fake","choices":['
        tier = to_json(self.answer.service_tier or "default")
        return names % (to_json(self._id), self.created, to_json(self.model)) + more % tier

    def _tail(self) -> bytes:
        if self.answer.usage_on_every_chunk:
            usage = b',"usage":' + to_json(self._usage())
        else:
            usage = b',"usage":null' if self._wants_usage else b""
        return b"}]" + usage + b"}" + self.eol * 2

    def _usage(self) -> dict[str, Any]:
        usage = self.usage()
        counts: dict[str, Any] = {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
        }
        if isinstance(self.answer.usage, TokenUsage):
            counts["prompt_tokens_details"] = {
                "cached_tokens": usage.cached,
                "cache_write_tokens": usage.cache_written,
            }
            counts["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning}
        return counts | {**self.answer.usage_fields}


def _reason(reason: str) -> str:
    return "stop" if reason == "refusal" else reason


def _call(part: ToolCall, arguments: str) -> dict[str, Any]:
    function = {"name": part.name, "arguments": arguments}
    return {"id": part.id, "type": "function", "function": function}


def _annotations(block: Block) -> list[dict[str, Any]]:
    text = joined(block.part)[0] if isinstance(block.part, Text) and block.sources else ""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "start_index": source.start,
                "end_index": end,
                "title": source.title,
                "url": source.url,
            },
        }
        for source, end in block.annotations(text)
    ]
