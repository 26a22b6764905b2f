"""Chunks that the typed decoding rejects, read with the standard library. No I/O."""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from chatnest.errors import UpstreamBadResponse
from chatnest.providers.event_decoder import MOST_WORDS
from chatnest.providers.openai.loose_json import loads
from chatnest.providers.openai_chat.shapes import (
    DONE,
    NOTHING,
    Choice,
    Chunk,
    Delta,
    OddChunk,
    Words,
    thoughts,
)

__all__ = ["one_by_one", "spoken"]

_SCALARS: Final = (b"null", b"true", b"false", b"NaN")

_chunk: Final = msgspec.json.Decoder(Chunk)


def spoken(message: msgspec.Raw) -> Delta | None:
    """A complete message as a delta, or None."""
    found = loads(message)
    return _delta(found) if isinstance(found, dict) else None


def one_by_one(payloads: list[bytes]) -> Iterator[tuple[Chunk | Words, bytes]]:
    """Each chunk with its bytes, up to the first that is invalid. Raises UpstreamBadResponse."""
    for payload in payloads:
        try:
            yield _chunk.decode(payload), payload
        except (msgspec.DecodeError, ValueError, RecursionError):
            yield from _odd(payload)


def _odd(payload: bytes) -> Iterator[tuple[Chunk | Words, bytes]]:
    """The chunks and texts in data that the typed decoding rejects."""
    text = payload.strip()
    if not text:
        return
    lines = text.split(b"\n")
    try:
        yield from _read(text)
    except UpstreamBadResponse:
        if len(lines) == 1:
            raise
        for line in filter(None, map(bytes.strip, lines)):  # a server that omits blank lines
            yield from _read(line)


def _read(text: bytes) -> Iterator[tuple[Chunk | Words, bytes]]:
    if text == DONE or (text[:1] not in b'{["<-0123456789' and text not in _SCALARS):
        yield Words(text[:MOST_WORDS].decode("utf-8", "replace")), text
        return
    found = loads(text)
    values = found if isinstance(found, list) else [found]
    if not values:
        raise UpstreamBadResponse
    for value in values:
        if isinstance(value, str):
            yield Words(value[:MOST_WORDS]), text
        elif isinstance(value, dict):
            yield _chunk_of(value), _dumps(value)
        else:
            raise UpstreamBadResponse


def _dumps(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _chunk_of(value: dict[str, Any]) -> Chunk:
    choices = value.get("choices")
    if choices is not None and not isinstance(choices, list):
        raise UpstreamBadResponse
    return OddChunk(
        choices=[_choice(choices[0])] if choices else None,
        **{name: _raw(value.get(name)) for name in _RAW_OF_CHUNK},
    )


_RAW_OF_CHUNK: Final = (
    *("usage", "error", "error_type", "x_groq", "usageMetadata", "object", "citations"),
    "search_results",
)


def _choice(value: object) -> Choice:
    if not isinstance(value, dict):
        raise UpstreamBadResponse
    delta, reason = value.get("delta"), value.get("finish_reason")
    if not isinstance(delta, dict | None) or not isinstance(reason, str | None):
        raise UpstreamBadResponse
    return Choice(
        delta=None if delta is None else _delta(delta),
        finish_reason=reason,
        **{name: _raw(value.get(name)) for name in ("message", "usage", "error")},
    )


def _delta(value: dict[str, Any]) -> Delta:
    content, thinking = _parts(value.get("content"))
    refusal = value.get("refusal")
    said = [content]
    for name in ("reasoning_content", "reasoning", "thinking", "reasoning_text"):
        if not thinking and value.get(name):
            thinking = "".join(thoughts(value[name]))
    calls = value.get("tool_calls") or ()
    if not isinstance(calls, list | tuple) or not isinstance(refusal, str | None):
        raise UpstreamBadResponse
    return Delta(
        content="".join(said),
        refusal=refusal,
        reasoning_content=thinking,
        tool_calls=[_raw(call) for call in calls],
        reasoning_details=_raw(value.get("reasoning_details")),
        function_call=_raw(value.get("function_call")),
        annotations=_raw(value.get("annotations")),
        extra_content=_raw(value.get("extra_content")),
    )


def _parts(content: object) -> tuple[str, str]:
    """The text and the thinking in a message's content. Parts of unknown types are ignored."""
    if content is None or isinstance(content, str):
        return content or "", ""
    parts = content if isinstance(content, list) else [content]
    text: list[str] = []
    thinking: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif not isinstance(part, dict):
            raise UpstreamBadResponse
        elif part.get("type", "text") in _TEXTS:
            found = part.get("text", part.get("content", part.get("refusal")))
            if isinstance(found, dict):  # the form of the Assistants API
                found = found.get("value")
            if found is not None and not isinstance(found, str):
                raise UpstreamBadResponse
            text.append(found or "")
        elif part.get("type") in _THINKING:
            thinking += thoughts(part)
    return "".join(text), "".join(thinking)


_TEXTS: Final = ("text", "output_text", "text_delta", "refusal")
_THINKING: Final = ("thinking", "reasoning", "thinking_delta", "reasoning_text", "thought")


def _raw(value: object) -> msgspec.Raw:
    return NOTHING if value is None else msgspec.Raw(_dumps(value))
