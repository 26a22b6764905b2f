"""What a model says in each dialect, in bytes that were put together beforehand."""

import json
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.upstream import HEAD, MARK, TOKEN, end
from chatnest import AnthropicProvider, OpenAIProvider, OpenAIResponsesProvider

__all__ = ["CHAT", "MESSAGES", "RESPONSES", "Dialect", "Speech"]

_SSE: Final = HEAD[: HEAD.index(b"\r\n\r\n") + 4]
_WORD: Final = f"tok{MARK.decode()}"


@dataclass(frozen=True)
class Speech:
    """An answer in its dialect: what comes before the pieces, a piece, and what comes after them,
    with a text if the pieces are of thinking.
    """

    head: bytes
    piece: bytes
    end: bytes


@dataclass(frozen=True)
class Dialect:
    """A provider of ours, and what its model says as text and as thinking."""

    name: str
    provider: Any
    path: str
    model: str
    text: Speech
    thinking: Speech


def _framed(data: bytes) -> bytes:
    """One chunk of HTTP for one event, as real servers write them."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _named(*events: dict[str, Any]) -> bytes:
    """Events whose names are their types, each in a chunk of its own."""
    return b"".join(
        _framed(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        for event in events
    )


# ------------------------------------------------ Chat Completions

_THOUGHT = _framed(
    TOKEN[TOKEN.index(b"\r\n") + 2 : -2].replace(b'"content": ', b'"reasoning_content": ')
)
_SAID = TOKEN.replace(MARK, b"!")

CHAT: Final = Dialect(
    "chat",
    OpenAIProvider,
    "/v1",
    "gpt-4o-mini",
    Speech(HEAD, TOKEN, end(1)),
    Speech(HEAD, _THOUGHT, _SAID + end(1)),
)

# ------------------------------------------------ Responses

_ENDED = {"id": "resp_1", "object": "response", "status": "completed", "output": []}
_USED = {"input_tokens": 12, "output_tokens": 1, "total_tokens": 13}
_COMPLETED = (
    _named({"type": "response.completed", "response": _ENDED | {"usage": _USED}}) + b"0\r\n\r\n"
)


def _item(index: int, kind: str) -> dict[str, Any]:
    item = {"id": f"item_{index}", "type": kind, "status": "in_progress", "content": []}
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def _response_text(index: int, text: str) -> dict[str, Any]:
    place = {"item_id": f"item_{index}", "output_index": index, "content_index": 0}
    return {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []}


def _summary(kind: str, **fields: Any) -> dict[str, Any]:
    place = {"item_id": "item_0", "output_index": 0, "summary_index": 0}
    return {"type": f"response.reasoning_summary_{kind}", **place, **fields}


_CREATED = {"type": "response.created", "response": _ENDED | {"status": "in_progress"}}

RESPONSES: Final = Dialect(
    "responses",
    OpenAIResponsesProvider,
    "/v1",
    "gpt-5-mini",
    Speech(
        _SSE + _named(_CREATED, _item(0, "message")), _named(_response_text(0, _WORD)), _COMPLETED
    ),
    Speech(
        _SSE + _named(_CREATED, _item(0, "reasoning"), _summary("text.delta", delta="I think")),
        _named(_summary("text.delta", delta=_WORD)),
        _named(_summary("text.done", text="")) + _named(_item(1, "message"))
        + _named(_response_text(1, "tok!")) + _COMPLETED,
    ),
)  # fmt: skip

# ------------------------------------------------ Messages


def _start(index: int, kind: str) -> dict[str, Any]:
    block = {"type": kind, "text" if kind == "text" else kind: ""}
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, kind: str, text: str) -> dict[str, Any]:
    delta = {"type": f"{kind}_delta", kind: text}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


_STARTED = _named(
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [],
            "usage": {"input_tokens": 12, "output_tokens": 1},
        },
    }
)
_STOPPED = (
    _named(
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    )
    + b"0\r\n\r\n"
)

MESSAGES: Final = Dialect(
    "messages",
    AnthropicProvider,
    "",
    "claude-sonnet-4-5",
    Speech(
        _SSE + _STARTED + _named(_start(0, "text")),
        _named(_delta(0, "text", _WORD)),
        _named(_stop(0)) + _STOPPED,
    ),
    Speech(
        _SSE + _STARTED + _named(_start(0, "thinking")),
        _named(_delta(0, "thinking", _WORD)),
        _named(_stop(0), _start(1, "text"), _delta(1, "text", "tok!"), _stop(1)) + _STOPPED,
    ),
)
