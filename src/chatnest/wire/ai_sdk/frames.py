"""AISDKFrames: the UI message stream of the AI SDK, as Server-Sent Events. No I/O.

Each frame is one part of the stream, as JSON on one line, so that nothing in a model's text can end
a frame. An optional field that has no value is left out: null ends the stream of ``useChat``.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from chatnest.errors import ChatNestError
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
from chatnest.wire.ai_sdk.calls import Calls, frame
from chatnest.wire.ai_sdk.problem import sentence_of
from chatnest.wire.base import StreamInfo
from chatnest.wire.proofs import proof_of
from chatnest.wire.sse import json_of, lines_of

__all__ = ["AISDKFrames"]

_START: Final = (
    b'data: {"type":"start","messageId":%b}\n\n'
    b'data: {"type":"start-step"}\n\n'
)  # fmt: skip
_PING: Final = b": ping\n\n"
_OPEN: Final = b'data: {"type":"%b-start","id":"%d"}\n\n'
_DELTA: Final = b'data: {"type":"%b-delta","id":"%d","delta":'
_CLOSE: Final = b'data: {"type":"%b-end","id":"%d"}\n\n'
_FINISH_STEP: Final = b'data: {"type":"finish-step"}\n\n'
_END: Final = b"data: [DONE]\n\n"
_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool-calls",
    "content_filter": "content-filter",
    "refusal": "content-filter",
}
"""The finish reasons of the AI SDK. All others are ``other``."""


class AISDKFrames:
    """The parts of one answer: text, thinking, tool calls, sources. At most one block of text or
    thinking is open at a time.

    The frames of a run depend on its events and on the id of the message alone: a client resumes it
    from its beginning. A message without an id of its own is named after the run.
    """

    __slots__ = ("_block", "_calls", "_delta", "_kind", "_message_id", "_sources")

    def __init__(self, info: StreamInfo) -> None:
        known = info.note if info.request is None else info.request.submission.facts
        self._message_id = known if isinstance(known, str) and known else f"msg_{info.answer_id}"
        self._kind: type[Delta | Reasoning] | None = None  # of the open block
        self._delta = b""  # the beginning of its frames
        self._block = 0
        self._calls: Calls | None = None
        self._sources = 0

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        if len(events) == 1:
            event = events[0]
            if type(event) is Numbered:
                event = event.event
            if type(event) is Delta and self._kind is Delta:  # nearly always
                return b"%b%b}\n\n" % (self._delta, json_of(event.text))
            return self._frames(event)
        plain = [each.event if type(each) is Numbered else each for each in events]
        if self._kind is Delta and set(map(type, plain)) == {Delta}:
            texts = [each.text for each in plain if type(each) is Delta]
            return lines_of(texts, self._delta, b"}\n\n")
        return b"".join([self._frames(each) for each in plain])

    def _frames(self, event: ClientEvent) -> bytes:  # noqa: C901  # a case for each kind
        match event:
            case Start():
                return _START % json_of(self._message_id)
            case Delta() | Refusal():
                return self._piece(Delta, event.text)
            case Reasoning():
                return self._piece(Reasoning, event.text)
            case ReasoningSignature():
                return self._signature(event)
            case ToolCall() | ToolCallDelta():
                return self._call(event)
            case Source():
                return self._source(event)
            case Ping():
                return _PING
            case Done():
                return self._done(event)
            case Failed():
                return self._failed(event.error, charged=event.charged)
            case Numbered():
                return self._frames(event.event)
            case _:
                assert_never(event)

    # ------------------------------------------------ text and thinking

    def _piece(self, kind: type[Delta | Reasoning], text: str) -> bytes:
        begin = b"" if self._kind is kind else self._close() + self._open(kind)
        return b"%b%b%b}\n\n" % (begin, self._delta, json_of(text))

    def _open(self, kind: type[Delta | Reasoning]) -> bytes:
        self._kind, self._block = kind, self._block + 1
        name = b"text" if kind is Delta else b"reasoning"
        self._delta = _DELTA % (name, self._block)
        return _OPEN % (name, self._block)

    def _close(self) -> bytes:
        """End the open block, if there is one."""
        if self._kind is None:
            return b""
        name = b"text" if self._kind is Delta else b"reasoning"
        self._kind = None
        return _CLOSE % (name, self._block)

    def _signature(self, signature: ReasoningSignature) -> bytes:
        """End the block of thinking, with its proof. Thinking that the provider does not show has a
        block of its own.
        """
        begin = b""
        if self._kind is not Reasoning:
            begin = self._close() + self._open(Reasoning)
        self._kind = None
        metadata = {"chatnest": proof_of(signature)}
        return begin + frame("reasoning-end", id=str(self._block), providerMetadata=metadata)

    def _call(self, event: ToolCall | ToolCallDelta) -> bytes:
        if isinstance(event, ToolCall):
            self._calls = self._calls or Calls()
            return self._close() + self._calls.begin(event)
        return b"" if self._calls is None else self._calls.add(event)

    def _source(self, source: Source) -> bytes:
        self._sources += 1
        fields: dict[str, object] = {"sourceId": f"source-{self._sources}", "url": source.url}
        if source.title:
            fields["title"] = source.title
        if source.end:
            place = {"start": source.start, "end": source.end}
            fields["providerMetadata"] = {"chatnest": place}
        return frame("source-url", **fields)

    # ------------------------------------------------ the end

    def _done(self, done: Done) -> bytes:
        """The end of a whole answer. An answer with a call that cannot be made ends with an error:
        otherwise the client would send the failed call at once, and the model may repeat it without
        an end.
        """
        calls, reason = b"", ""
        if self._calls is not None:
            calls, reason = self._calls.end(incomplete=done.incomplete)
        ended = self._close() + calls + _FINISH_STEP
        metadata = _metadata(done)
        if reason:
            said = frame("message-metadata", messageMetadata=metadata)
            return ended + said + frame("error", errorText=reason) + _END
        finish = _REASONS.get(done.finish_reason, "other")
        return ended + frame("finish", finishReason=finish, messageMetadata=metadata) + _END

    def _failed(self, error: ChatNestError, *, charged: bool) -> bytes:
        """The end of an answer that failed. ``error`` ends the reading of ``useChat``, so the facts
        come before it.
        """
        facts: dict[str, object] = {"code": error.code, "retryable": error.retryable}
        if "retry_after" in (fields := error.fields()):
            facts["retryAfter"] = fields["retry_after"]
        facts["charged"] = charged
        return (
            self._close()
            + frame("data-chatnest-error", data=facts, transient=True)
            + frame("error", errorText=sentence_of(error))
            + _END
        )


def _metadata(done: Done) -> dict[str, object]:
    usage = done.usage
    tokens: dict[str, object] = {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
    }
    if usage.reasoning_tokens:
        tokens["reasoningTokens"] = usage.reasoning_tokens
    if usage.cached_tokens:
        tokens["cachedInputTokens"] = usage.cached_tokens
    tokens["source"] = usage.source
    return {"usage": tokens, "finishReason": done.finish_reason}
