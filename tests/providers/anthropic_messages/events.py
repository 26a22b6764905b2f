"""Events of the dialect, as servers send them."""

import json
from typing import Any

from chatnest.events import ProviderEvent
from chatnest.providers.anthropic_messages.decode import MessageDecoder
from chatnest.providers.sse import EventSplitter

MODEL = "claude-opus-5"
DIALECT = "anthropic-messages"


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields})
    return f"event: {kind}\ndata: {data}\n\n".encode()


def start(**usage: Any) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 1} | usage,
    }
    return event("message_start", message=message)


def block(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def text(piece: str, index: int = 0) -> bytes:
    return delta(index, "text_delta", text=piece)


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def end(reason: str | None = "end_turn", *, details: Any = None, **usage: Any) -> bytes:
    ends: dict[str, Any] = {"stop_reason": reason, "stop_sequence": None}
    if details is not None:
        ends["stop_details"] = details
    return event("message_delta", delta=ends, usage={"output_tokens": 4} | usage)


PING = event("ping")
TEXT = block(0, "text", text="")
LAST = event("message_stop")
SAID = start() + TEXT + text("Hello") + text(" world") + stop(0)
WHOLE = SAID + end() + LAST


def decoder(model: str = MODEL, *, max_events: int = 1_000, **bounds: int) -> MessageDecoder:
    return MessageDecoder(EventSplitter(**bounds), model=model, max_events=max_events)


def decoded(*pieces: bytes) -> list[ProviderEvent]:
    """The events of an answer that has ended. Raises what ends it otherwise."""
    made = decoder()
    events = [event for piece in pieces for event in made.feed(piece)]
    events += made.finish()
    made.end()
    return events
