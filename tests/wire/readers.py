"""Readers: what a client of each format has of one answer, in the same words for all of them."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from chatnest.client.frames import Frames, piece_of
from chatnest.client.said import Said
from chatnest.testing import Conversation, parse_events
from chatnest.wire import FormatName
from chatnest.wire.proofs import NO_PROOF, Proof, unseal
from tests.wire.agent import Agent, user
from tests.wire.ui_messages import UIMessage

__all__ = ["WAYS", "Answer", "Way"]


class Answer(NamedTuple):
    """An answer. The text of a refusal is part of the text, as three of the formats have it.

    ``calls`` are those that a client makes. ``end`` is a finish reason, ``cut`` for an answer that
    broke off within a call, or ``failure``. ``usage`` is the input and the output in tokens.
    """

    text: str
    thinking: str
    proof: Proof
    calls: tuple[tuple[str, str, Any], ...]
    end: str
    usage: tuple[int, int] | None


class Way(NamedTuple):
    """A way to ask for an answer: a format, the body of a request, and the reader."""

    format: FormatName
    body: dict[str, Any]
    read: Callable[[Conversation], Answer]
    has_proofs: bool = True
    shows_cuts: bool = True


def _proof(fields: Mapping[str, Any]) -> Proof:
    known = {name: each for name, each in fields.items() if name in Proof.__struct_fields__}
    return msgspec.convert(known, Proof)


def _unsealed(text: str | None) -> Proof:
    found = unseal(text or "")
    assert found is not None
    return found


# ---------------------------------------------------------------- native


def read_native(c: Conversation) -> Answer:
    said, thinking = Said(), ""
    facts: dict[str, Any] = {}
    frames = Frames().feed(c.received)
    for frame in frames:
        if (piece := piece_of(frame)) is not None:
            said.add(piece)
        elif frame.name == "usage":
            facts = json.loads(frame.data)
    blocks = said.message().get("reasoning", [])
    thinking = "".join(block["text"] for block in blocks)
    calls = [(call.id, call.name, call.arguments) for call in said.calls]
    if frames[-1].name == "error":
        return Answer(said.text, thinking, _proof(blocks[-1]), (), "failure", None)
    assert frames[-1].name == "done"
    if is_cut := facts.get("incomplete", False):
        calls.pop()
    return Answer(
        text=said.text,
        thinking=thinking,
        proof=_proof(blocks[-1]),
        calls=tuple((id_, name, json.loads(text)) for id_, name, text in calls),
        end="cut" if is_cut else facts["finish_reason"],
        usage=(facts["input_tokens"], facts["output_tokens"]),
    )


# ---------------------------------------------------------------- ai-sdk


def read_ai_sdk(c: Conversation) -> Answer:
    message = UIMessage(c.received)
    assert message.is_over
    blocks = [part for part in message.parts if part["type"] == "reasoning"]
    calls = [part for part in message.parts if part.get("state") == "input-available"]
    usage = message.metadata.get("usage")
    end = message.metadata.get("finishReason")
    if message.error is not None:
        end = "failure" if message.facts is not None else "cut"
    elif end in {"stop", "length"}:
        assert message.finish == end
    return Answer(
        text=message.text,
        thinking="".join(block["text"] for block in blocks),
        proof=_proof(blocks[-1]["providerMetadata"]["chatnest"]),
        calls=tuple(
            (call["toolCallId"], call["type"].removeprefix("tool-"), call["input"])
            for call in calls
        ),
        end=str(end),
        usage=usage and (usage["inputTokens"], usage["outputTokens"]),
    )


# ---------------------------------------------------------------- openai-chat


def read_chunks(c: Conversation) -> Answer:
    """Chunks as one message, as the stream helper of openai puts them together."""
    message: dict[str, Any] = {}
    calls: dict[int, dict[str, Any]] = {}
    end, usage, data = "", None, [event.data for event in parse_events(c.received)]
    for chunk in map(json.loads, filter("[DONE]".__ne__, data)):
        usage = chunk.get("usage", usage)
        if "error" in chunk:
            assert "[DONE]" not in data
            end = "failure"
        for choice in chunk.get("choices", ()):
            end = choice["finish_reason"] or end
            for field in ("content", "refusal", "reasoning_content"):
                message[field] = message.get(field, "") + (choice["delta"].get(field) or "")
            for call in choice["delta"].get("tool_calls", ()):
                known = calls.setdefault(call["index"], {"id": call.get("id"), "arguments": ""})
                known["name"] = call["function"].get("name", known.get("name"))
                known["arguments"] += call["function"]["arguments"]
    message["tool_calls"] = [{"id": call["id"], "function": call} for call in calls.values()]
    return _of_message(message, end, usage)


def read_completion(c: Conversation) -> Answer:
    document = json.loads(c.received)
    if c.status != 200:
        return _of_nothing(document)
    (choice,) = document["choices"]
    return _of_message(choice["message"], choice["finish_reason"], document["usage"])


def _of_message(message: Mapping[str, Any], end: str, usage: Any) -> Answer:
    calls = message.get("tool_calls", ())
    made = []
    for call in calls:
        try:
            arguments = json.loads(call["function"]["arguments"])
        except ValueError:
            assert end == "length"
            end = "cut"
        else:
            made.append((call["id"], call["function"]["name"], arguments))
    if message.get("refusal"):
        assert end == "stop", "the refusal itself is the sign"
        end = "refusal"
    return Answer(
        text=(message["content"] or "") + (message.get("refusal") or ""),
        thinking=message.get("reasoning_content", ""),
        proof=NO_PROOF,
        calls=tuple(made),
        end=end,
        usage=usage and (usage["prompt_tokens"], usage["completion_tokens"]),
    )


def _of_nothing(document: Mapping[str, Any]) -> Answer:
    """A whole answer that failed is an error, and nothing of it arrives."""
    assert document["error"]["message"]
    return Answer("", "", NO_PROOF, (), "failure", None)


# ---------------------------------------------------------------- openai-responses


def read_events(c: Conversation) -> Answer:
    """The events of a response. Its last one has the whole response, which must be the same."""
    events = [json.loads(event.data) for event in parse_events(c.received)]
    items = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    last = events[-1]

    def joined(*kinds: str) -> str:
        return "".join(e["delta"] for e in events if e["type"].removeprefix("response.") in kinds)

    text = joined("output_text.delta", "refusal.delta")
    thinking = joined("reasoning_summary_text.delta")
    if last["type"] == "error":
        return Answer(text, thinking, _of_items(items).proof, (), "failure", None)
    assert list(map(_without_status, items)) == list(
        map(_without_status, last["response"]["output"])
    )
    found = _of_response(last["response"])
    assert (found.text, found.thinking) == (text, thinking)
    return found


def _without_status(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item without its status: a message is complete, until the call after it is cut."""
    return {name: each for name, each in item.items() if name != "status"}


def read_response(c: Conversation) -> Answer:
    document = json.loads(c.received)
    return _of_response(document) if c.status == 200 else _of_nothing(document)


def _of_response(response: Mapping[str, Any]) -> Answer:
    found, usage = _of_items(response["output"]), response["usage"]
    reason = (response["incomplete_details"] or {"reason": ""})["reason"]
    assert response["status"] == ("incomplete" if reason else "completed")
    if reason:
        found = found._replace(end=reason.replace("max_output_tokens", "length"))
    return found._replace(usage=(usage["input_tokens"], usage["output_tokens"]))


def _of_items(items: list[dict[str, Any]]) -> Answer:
    blocks = [item for item in items if item["type"] == "reasoning"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    calls = [item for item in items if item["type"] == "function_call"]
    end = "tool_calls" if calls else "stop"
    return Answer(
        text="".join(part.get("text", part.get("refusal")) for part in parts),
        thinking="".join(part["text"] for block in blocks for part in block["summary"]),
        proof=_unsealed(blocks[-1]["encrypted_content"]),
        calls=tuple((c["call_id"], c["name"], json.loads(c["arguments"])) for c in calls),
        end="refusal" if any(part["type"] == "refusal" for part in parts) else end,
        usage=None,
    )


# ---------------------------------------------------------------- ag-ui


def read_ag_ui(c: Conversation, *, is_0: bool = False) -> Answer:
    agent = Agent(is_0=is_0).read(c.received)
    assert agent.last is not None
    blocks = [message for message in agent.messages if message["role"] == "reasoning"]
    calls = [call for message in agent.messages for call in message.get("toolCalls", ())]
    (usage,) = agent.last.get("usage", [None])
    if agent.last["type"] == "RUN_FINISHED":
        end = agent.last["result"]["finishReason"]
    else:  # and a client makes no calls
        end, calls = "cut" if agent.last["code"] == "answer_too_long" else "failure", []
    functions = [(call["id"], call["function"]) for call in calls]
    return Answer(
        text=agent.text,
        thinking="".join(block["content"] for block in blocks),
        proof=_unsealed(blocks[-1]["encryptedValue"]),
        calls=tuple((id_, each["name"], json.loads(each["arguments"])) for id_, each in functions),
        end=end,
        usage=usage and (usage["inputTokens"], usage["outputTokens"]),
    )


# ---------------------------------------------------------------- all of them

_PARTS = [{"type": "text", "text": "Hi"}]
_HI = [{"role": "user", "content": "Hi"}]

WAYS: dict[str, Way] = {
    "native": Way(
        "native",
        {"messages": _HI, "usageEvent": True, "events": ["reasoning", "tools"]},
        read_native,
    ),
    "ai-sdk": Way("ai-sdk", {"messages": [{"role": "user", "parts": _PARTS}]}, read_ai_sdk),
    "openai-chat": Way(
        "openai-chat",
        {"messages": _HI, "stream": True, "stream_options": {"include_usage": True}},
        read_chunks,
        has_proofs=False,
    ),
    "openai-chat, whole": Way("openai-chat", {"messages": _HI}, read_completion, has_proofs=False),
    "openai-responses": Way(
        "openai-responses", {"input": "Hi", "stream": True}, read_events, shows_cuts=False
    ),
    "openai-responses, whole": Way(
        "openai-responses", {"input": "Hi"}, read_response, shows_cuts=False
    ),
    "ag-ui": Way("ag-ui", Agent(user()).body(), read_ag_ui),
    "ag-ui 0.0.x": Way(
        "ag-ui", Agent(user(), is_0=True).body(), lambda c: read_ag_ui(c, is_0=True)
    ),
}
"""Each format, streamed and whole. Chat Completions has no field for a proof, and a response does
not show why a call that was cut is missing.
"""
