"""The content blocks and the usage of Anthropic's Messages API. No I/O."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias, assert_never

from chatnest.testing.upstream.parts import (
    Block,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
    joined,
)

__all__ = ["BlockDelta", "closed", "deltas", "opened", "stopped", "usage_object"]

Json: TypeAlias = dict[str, Any]

_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class BlockDelta(NamedTuple):
    """The delta of a block, and whether it counts as a piece."""

    fields: Json
    is_piece: bool = True


def opened(block: Block) -> Json:
    """Return a block at its start, without its content."""
    part = block.part
    match part:
        case Text() | Refusal():
            found: Json = {"type": "text", "text": ""}
            if block.sources:
                found["citations"] = []
        case Thinking():
            found = {"type": "thinking", "thinking": "", "signature": ""}
        case RedactedThinking(data):
            found = {"type": "redacted_thinking", "data": data}
        case ToolCall(id_, name):
            found = {"type": "tool_use", "id": id_, "name": name, "input": {}}
        case _:
            assert_never(part)
    return found


def deltas(block: Block) -> Iterator[BlockDelta]:
    """Yield what comes between the start of a block and its stop."""
    part = block.part
    match part:
        case Text() | Refusal():
            for text in part.deltas():
                yield BlockDelta({"type": "text_delta", "text": text})
            for citation in _citations(block):
                yield BlockDelta({"type": "citations_delta", "citation": citation}, is_piece=False)
        case Thinking():
            for text in part.deltas():
                yield BlockDelta({"type": "thinking_delta", "thinking": text})
            if part.signature is not None:
                signature = {"type": "signature_delta", "signature": part.signature}
                yield BlockDelta(signature, is_piece=False)
        case RedactedThinking():
            pass
        case ToolCall():
            empty = {"type": "input_json_delta", "partial_json": ""}
            yield BlockDelta(empty, is_piece=False)
            for text in part.deltas():
                yield BlockDelta(empty | {"partial_json": text})
        case _:
            assert_never(part)


def closed(block: Block) -> tuple[Json, int]:
    """Return a complete block and the number of pieces in it."""
    part, found = block.part, opened(block)
    if isinstance(part, RedactedThinking):
        return found, 0
    text, pieces = joined(part)
    match part:
        case Text() | Refusal():
            found["text"] = text
            if block.sources:
                found["citations"] = _citations(block)
        case Thinking():
            found |= {"thinking": text, "signature": part.signature or ""}
        case ToolCall():
            with contextlib.suppress(ValueError):  # a whole message cannot have broken arguments
                found["input"] = json.loads(text)
        case _:
            assert_never(part)
    return found, pieces


def stopped(reason: str) -> Json:
    """Return the fields for the end of a message."""
    word = _REASONS.get(reason, reason)
    details = {"type": "refusal", "category": None, "explanation": None}
    end: Json = {"stop_reason": word, "stop_sequence": None}
    return end | {"stop_details": details} if word == "refusal" else end


def usage_object(usage: TokenUsage, *, is_detailed: bool) -> Json:
    """Return the usage of a message. Its `input_tokens` do not include the cache's."""
    counts: Json = {
        "input_tokens": usage.input - usage.cached - usage.cache_written,
        "cache_creation_input_tokens": usage.cache_written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.output,
    }
    if is_detailed:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
        counts["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_written - usage.cache_written_1h,
            "ephemeral_1h_input_tokens": usage.cache_written_1h,
        }
    return counts


def _citations(block: Block) -> list[Json]:
    text = joined(block.part)[0] if isinstance(block.part, Text) and block.sources else ""
    return [
        {
            "type": "web_search_result_location",
            "cited_text": text[source.start : end],
            "encrypted_index": "Eo8BCioIAhgBIiQ",
            "title": source.title,
            "url": source.url,
        }
        for source, end in block.annotations(text)
    ]
