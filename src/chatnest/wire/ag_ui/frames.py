"""AGUIFrames: the events of AG-UI as Server-Sent Events. No I/O.

Frames end their lines with LF alone, since the clients of AG-UI take no other end. An optional
field without a value is left out, since null ends the run in a client.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from chatnest.errors import AnswerTooLong, ChatNestError, RunCancelled
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
    Usage,
)
from chatnest.wire.ag_ui.facts import RunFacts
from chatnest.wire.ag_ui.names import NAMES
from chatnest.wire.ag_ui.opened import Opened
from chatnest.wire.base import StreamInfo
from chatnest.wire.proofs import proof_of, seal
from chatnest.wire.sse import json_of, lines_of

__all__ = ["AGUIFrames"]

_PING: Final = b": ping\n\n"
_TEXT_HEAD: Final = b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":'
_TEXT: Final = _TEXT_HEAD + b"%b}\n\n"
_THOUGHT: Final = b'data: {"type":"REASONING_MESSAGE_CONTENT","messageId":%b,"delta":%b}\n\n'
_ARGUMENTS: Final = b'data: {"type":"TOOL_CALL_ARGS","toolCallId":%b,"delta":%b}\n\n'
_VALUE: Final = (
    b'data: {"type":"REASONING_ENCRYPTED_VALUE","subtype":%b,"entityId":%b,"encryptedValue":%b}\n\n'
)


class AGUIFrames:
    """The frames of one answer: text, thinking with its proof, calls of tools, sources as CUSTOM
    events, and the usage in RUN_FINISHED. A Ping is a comment.
    """

    __slots__ = ("_facts", "_has_started", "_model", "_opened", "_request_id")

    def __init__(self, info: StreamInfo) -> None:
        facts = None if info.request is None else info.request.submission.facts
        if not isinstance(facts, RunFacts):  # a run is read without its request
            run = info.request_id
            facts = RunFacts(thread_id=run, run_id=run, prefix=run)
        self._facts = facts
        self._request_id = info.request_id
        self._model = info.model
        self._has_started = False
        self._opened = Opened(facts)

    def encode(self, events: Sequence[ClientEvent]) -> bytes:
        if len(events) == 1:
            event = events[0]
            if type(event) is Numbered:  # nearly always
                event = event.event
            opened = self._opened
            if type(event) is Delta and opened.text is not None:
                return _TEXT % (opened.text, json_of(event.text))
            if type(event) is Reasoning and opened.thinking is not None:
                return _THOUGHT % (opened.thinking, json_of(event.text))
            return self._frame(event)
        bare = [event.event if type(event) is Numbered else event for event in events]
        if set(map(type, bare)) == {Delta}:
            return self._texts([event.text for event in bare if type(event) is Delta])
        return b"".join([self._frame(event) for event in bare])

    def _texts(self, texts: list[str]) -> bytes:
        """The frames of pieces that came together, all at once."""
        opening, message = self._opened.begin_text()
        return opening + lines_of(texts, _TEXT_HEAD % message, b"}\n\n")

    def _frame(self, event: ClientEvent) -> bytes:
        match event:
            case Start():
                return self._start()
            case Delta() | Refusal():
                opening, message = self._opened.begin_text()
                return opening + _TEXT % (message, json_of(event.text))
            case Reasoning() | ReasoningSignature():
                return self._thinking(event)
            case ToolCall() | ToolCallDelta():
                return self._call(event)
            case Source():
                return self._opened.end_thinking() + _source(event)
            case Ping():
                return _PING
            case Done():
                return self._done(event)
            case Failed():
                return self._failed(event)
            case Numbered():
                return self._frame(event.event)
            case _:
                assert_never(event)

    def _start(self) -> bytes:
        self._has_started = True
        event: dict[str, object] = {
            "type": "RUN_STARTED",
            "threadId": self._facts.thread_id,
            "runId": self._facts.run_id,
        }
        if not self._facts.is_0:
            event["protocolVersion"] = "1.0"
        return _event(event)

    def _thinking(self, event: Reasoning | ReasoningSignature) -> bytes:
        """A piece of thinking, or the proof that ends it. Google has proofs of calls."""
        opened = self._opened
        match event:
            case Reasoning(text=text):
                opening, message = opened.begin_thinking()
                return opening + _THOUGHT % (message, json_of(text))
            case ReasoningSignature(id=id_) if (call := opened.call_of(id_)) is not None:
                sealed = seal({**proof_of(event), "id": call})
                return _VALUE % (b'"tool-call"', json_of(call), json_of(sealed))
            case ReasoningSignature():
                opening, message = opened.begin_thinking()
                value = _VALUE % (b'"message"', message, json_of(seal(proof_of(event))))
                return opening + value + opened.end_thinking()
            case _:
                assert_never(event)

    def _call(self, event: ToolCall | ToolCallDelta) -> bytes:
        match event:
            case ToolCall():
                return self._opened.begin_call(event)
            case ToolCallDelta(index=index, text=text):
                call = self._opened.calls.get(index)
                return b"" if call is None else _ARGUMENTS % (call, json_of(text))
            case _:
                assert_never(event)

    def _done(self, done: Done) -> bytes:
        """The end of a whole answer. An answer that broke off within a call ends with an error,
        because a client makes every call of a run that has finished.
        """
        if done.incomplete:
            return self._error(AnswerTooLong(), charged=True, usage=done.usage)
        result: dict[str, object] = {"finishReason": done.finish_reason}
        if done.usage.source == "estimated":
            result["usageIsEstimated"] = True
        return self._finished({"result": result, "usage": [self._usage(done.usage)]})

    def _failed(self, failed: Failed) -> bytes:
        is_cancelled = isinstance(failed.error, RunCancelled)
        if is_cancelled and self._has_started and not self._facts.is_0:
            return self._finished({"outcome": {"type": "cancelled"}})
        return self._error(failed.error, charged=failed.charged)

    def _finished(self, fields: dict[str, object]) -> bytes:
        head = {
            "type": "RUN_FINISHED",
            "threadId": self._facts.thread_id,
            "runId": self._facts.run_id,
        }
        return self._opened.end() + _event({**head, **fields})

    def _error(self, error: ChatNestError, *, charged: bool, usage: Usage | None = None) -> bytes:
        """The error event, which may come with anything open. Clients keep ``metadata`` unread."""
        facts = error.fields()
        event: dict[str, object] = {
            "type": "RUN_ERROR",
            "message": error.detail_in(NAMES),
            "code": facts.pop("code"),
            "metadata": {**facts, "charged": charged, "request_id": self._request_id},
        }
        if usage is not None:
            event["usage"] = [self._usage(usage)]
        return _event(event)

    def _usage(self, usage: Usage) -> dict[str, object]:
        counts = {
            "reasoningTokens": usage.reasoning_tokens,
            "cachedInputTokens": usage.cached_tokens,
            "cacheWriteInputTokens": usage.cache_written_tokens,
        }
        return {
            "model": self._model,
            "inputTokens": usage.input_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.total_tokens,
            **{name: count for name, count in counts.items() if count},
        }


def _source(source: Source) -> bytes:
    value: dict[str, object] = {"url": source.url}
    if source.title:
        value["title"] = source.title
    if source.end:
        value |= {"start": source.start, "end": source.end}
    return _event({"type": "CUSTOM", "name": "source", "value": value})


def _event(fields: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % json_of(fields)
