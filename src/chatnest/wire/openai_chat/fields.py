"""Fields of a chat completion that a stream and a document have in common. No I/O."""

from collections.abc import Mapping
from typing import Final

from chatnest._util.identifiers import seconds_of
from chatnest.endings import plain_reason
from chatnest.events import Done, Source, Usage
from chatnest.wire.base import StreamInfo

__all__ = ["annotation_of", "head_of", "reason_of", "usage_of"]

_PREFIX: Final = "chatcmpl-"


def head_of(info: StreamInfo, kind: str) -> dict[str, object]:
    """The fields that are the same in each object of an answer."""
    return {
        "id": _PREFIX + info.answer_id,
        "object": kind,
        "created": seconds_of(info.answer_id),
        "model": info.model,
    }


def reason_of(done: Done, *, refused: bool) -> str:
    """The finish reason in one of OpenAI's four words. ``refused`` is whether the answer has the
    text of a refusal, which OpenAI ends with ``stop``.
    """
    if done.incomplete:
        return "length"
    if refused and done.finish_reason == "refusal":
        return "stop"
    return plain_reason(done.finish_reason)


def usage_of(usage: Usage) -> Mapping[str, object]:
    """The cost of an answer. Tokens of a class are part of the sum of their kind."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_written_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def annotation_of(source: Source) -> Mapping[str, object]:
    """A page that the answer refers to."""
    return {
        "type": "url_citation",
        "url_citation": {
            "start_index": source.start,
            "end_index": source.end,
            "title": source.title,
            "url": source.url,
        },
    }
