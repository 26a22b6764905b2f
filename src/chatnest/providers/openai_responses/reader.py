"""ResponseReader: the events of one answer to provider events, within bounds. No I/O."""

from typing import Any, Final

import msgspec

from chatnest.errors import UpstreamBadResponse, UpstreamError, UpstreamInterrupted
from chatnest.events import Delta, Finish, ProviderEvent, Usage
from chatnest.providers.openai.figures import usage_in
from chatnest.providers.openai_responses.output import Output
from chatnest.providers.openai_responses.shapes import (
    DONE,
    Event,
    decode_pieces,
    events_in,
    fields_of,
    text_in,
)
from chatnest.providers.refusals.error_documents import names_error, read_refusal
from chatnest.providers.refusals.faults import error_for
from chatnest.providers.served import Served

__all__ = ["ResponseReader"]

_LONGEST_REASON: Final = 32
"""Maximum characters of a finish reason."""

_LIMIT: Final = "max_output_tokens"
"""The reason for an incomplete response that has reached its limit."""


class ResponseReader:
    """Provider events from the payloads of one answer.

    ``seen`` is True after the first event of the dialect, and ``finished`` after the last response.
    ``words`` is the first text that arrived in place of an event. ``failed`` is the error of a
    response that failed without a reason: Azure sends the reason in another event, after it.
    """

    __slots__ = ("_closed", "events_left", "failed", "finished", "output", "seen", "words")

    def __init__(self, max_events: int, model: str) -> None:
        self.events_left: int = max_events
        self.output: Output = Output(model)
        self.words: str = ""
        self.seen: bool = False
        self.finished: bool = False
        self.failed: UpstreamError | None = None
        self._closed = False

    def read(self, payloads: list[bytes], events: list[ProviderEvent]) -> bool:
        """See EventReader."""
        output = self.output
        if payloads and not output.gap and not output.half and not self._closed:
            pieces = decode_pieces(payloads, in_thought=output.in_thought)
            if pieces is not None and len(pieces) <= self.events_left:
                self.events_left -= len(pieces)
                events += pieces
                self.seen = True
                if Delta in map(type, pieces):
                    output.said = output.in_part = output.in_item = True
                return False
        for payload in payloads:
            if self._closed:
                break
            self._read_payload(payload, events)
        return self._closed

    def read_document(self, document: bytes, events: list[ProviderEvent]) -> bool:
        """See EventReader."""
        closed = self.read([document], events)
        if not (self.finished or self.seen or self.words):
            raise UpstreamBadResponse
        return closed

    def flush(self, events: list[ProviderEvent]) -> None:
        """See EventReader."""
        if not self.finished:
            self.output.flush(events)

    def _read_payload(self, payload: bytes, events: list[ProviderEvent]) -> None:
        try:
            for event in events_in(payload):
                self.events_left -= 1
                if self.events_left < 0:
                    raise UpstreamBadResponse
                if isinstance(event, str):
                    self.words = self.words or event
                    self._closed = event == DONE.decode()
                else:
                    self._read_event(event, events)
                if self._closed:
                    return
        except RecursionError as exc:
            raise UpstreamBadResponse from exc

    def _read_event(self, event: Event, events: list[ProviderEvent]) -> None:  # noqa: C901, PLR0912  # a table
        kind, output = event.get("type"), self.output
        self.seen = self.seen or str(kind).startswith("response.")
        match kind:
            case "response.output_text.delta":
                output.text(text_in(event.get("delta")), events)
            case "response.output_text.done":
                output.part_done(event, "text", events)
            case "response.refusal.delta":
                output.refusal(text_in(event.get("delta")), events)
            case "response.refusal.done":
                output.part_done(event, "refusal", events)
            case "response.output_text.annotation.added":
                output.annotation(fields_of(event.get("annotation")), events)
            case "response.function_call_arguments.delta":
                output.calls.delta(event, events)
            case "response.function_call_arguments.done":
                output.calls.done(event, events)
            case (
                "response.reasoning_summary_text.delta"
                | "response.reasoning_text.delta"
                | "response.reasoning.delta"
                | "response.reasoning_summary.delta"
            ):
                output.thought(text_in(event.get("delta")), events)
            case "response.reasoning_summary_part.added":
                output.thought_part()
            case "response.reasoning_summary_text.done" | "response.reasoning_text.done":
                output.thought_done(text_in(event.get("text")), events)
            case "response.output_item.added":
                output.item_added(event, fields_of(event.get("item")), events)
            case "response.output_item.done":
                output.item_done(event, fields_of(event.get("item")), events)
            case "response.completed" | "response.done" | "response.incomplete" | "response.failed":
                self._end(fields_of(event.get("response")), kind.removeprefix("response."), events)
            case "response.cancelled":
                raise UpstreamInterrupted
            case _:
                self._read_other(event, events)

    def _read_other(self, event: Event, events: list[ProviderEvent]) -> None:
        """A document in place of a stream, or an error. Other events are ignored."""
        if event.get("object") == "response" and "type" not in event:
            self.seen = True
            self._end(event, "", events)
        elif event.get("type") in ("error", "response.error") or (
            names_error(event) and not str(event.get("type")).startswith("response.")
        ):
            raise error_for(read_refusal(event))

    def _end(self, response: dict[str, Any], kind: str, events: list[ProviderEvent]) -> None:
        """Append the items that were not streamed, a Finish and the usage."""
        status = str(response.get("status"))
        if kind and status not in {"cancelled", "failed", "incomplete"}:
            status = kind
        if status in {"queued", "in_progress"}:
            raise UpstreamBadResponse  # a document of a response that has not ended
        usage = _usage(response)
        if status in {"cancelled", "failed"}:
            if usage is not None:
                events.append(usage)
            self._fail(response, status)
            return
        self.output.last(response, events)
        self.output.flush(events)
        self.finished = self._closed = True
        events.append(Finish(self._reason(response, is_incomplete=status == "incomplete")))
        if usage is not None:
            events.append(usage)

    def _fail(self, response: dict[str, Any], status: str) -> None:
        if response.get("error"):
            raise error_for(read_refusal({"error": response["error"]}))
        if status == "cancelled":
            raise UpstreamInterrupted
        self.failed = error_for(read_refusal({}))

    def _reason(self, response: dict[str, Any], *, is_incomplete: bool) -> str:
        if is_incomplete:
            reason = fields_of(response.get("incomplete_details")).get("reason")
            reason = reason if isinstance(reason, str) and reason else _LIMIT
            return "length" if reason == _LIMIT else reason[:_LONGEST_REASON]
        if self.output.calls:
            return "tool_calls"
        return "refusal" if self.output.refused else "stop"


def _usage(response: dict[str, Any]) -> Usage | None:
    value = response.get("usage")
    try:
        usage = usage_in(msgspec.json.encode(value)) if value else None
    except (ValueError, RecursionError):  # a text in it has half of a surrogate pair
        return None
    return None if usage is None else Served.of(response).on(usage)
