"""One chunk of a chat completion out of its JSON, in all the shapes in which servers send it.

A typed decoding reads what nearly all send; what it refuses is read again, slowly, and brought into
the same form. No I/O.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

import msgspec

from chatnest.errors import UpstreamBadResponse, UpstreamError, UpstreamServerError
from chatnest.providers.openai_chat.error_documents import names_error, read_refusal
from chatnest.providers.openai_chat.faults import error_for

__all__ = [
    "DONE",
    "MOST_WORDS",
    "NOTHING",
    "PIECE",
    "Chunk",
    "OddChunk",
    "Words",
    "decode_all",
    "decode_pieces",
    "refusal_in",
    "spoken",
]

NOTHING: Final = msgspec.Raw(b"null")
_EMPTY: Final = (NOTHING, *map(msgspec.Raw, (b'""', b"{}", b"[]", b"false", b"0")))
MOST_WORDS: Final = 2_048
DONE: Final = b"[DONE]"
_GOOD_CODES: Final = {"", "ok", "success", "succeeded"}
_SCALARS: Final = (b"null", b"true", b"false", b"NaN")

_Nothing = Annotated[str, msgspec.Meta(max_length=0)] | None
_NoList = Annotated[list[Any], msgspec.Meta(max_length=0)] | None


class Delta(msgspec.Struct, gc=False):
    """A part of the message. Thinking has a name of each server's own."""

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: msgspec.Raw = NOTHING
    thinking: str | None = None
    reasoning_text: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: msgspec.Raw = NOTHING

    @property
    def thought(self) -> str | None:
        """The thinking, once: servers repeat it under several names. None where there is none."""
        said = self.reasoning_content or self.reasoning or self.thinking or self.reasoning_text
        if said or self.reasoning_details in _EMPTY:
            return said or None
        return "".join(_thoughts(_loads(self.reasoning_details)))

    @property
    def call(self) -> str | None:
        """The tool calls as their text, about. None where there are none."""
        calls: list[Any] = [_loads(raw) for raw in self.tool_calls or ()]
        if self.function_call not in _EMPTY:
            calls.append({"function": _loads(self.function_call)})
        return "".join(map(_call, calls)) if calls else None


class Choice(msgspec.Struct, gc=False):
    """One of the answers, of which the first counts."""

    delta: Delta | None = None
    finish_reason: str | None = None
    message: msgspec.Raw = NOTHING
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING


class Chunk(msgspec.Struct, gc=False):
    """What a server says at a time."""

    choices: list[Choice] | None = None
    usage: msgspec.Raw = NOTHING
    error: msgspec.Raw = NOTHING
    error_type: msgspec.Raw = NOTHING
    x_groq: msgspec.Raw = NOTHING
    usageMetadata: msgspec.Raw = NOTHING  # noqa: N815  # Google's
    object: msgspec.Raw = NOTHING


class OddChunk(Chunk, gc=False):
    """One that was read the slow way: its texts may have halves of surrogate pairs."""


class Words(msgspec.Struct):
    """Text where a chunk belongs: a server says that it lives, or in words what went wrong."""

    text: str


class _DeltaOfPiece(msgspec.Struct, gc=False):
    content: Annotated[str, msgspec.Meta(min_length=1)]
    refusal: str | None = None
    reasoning_content: _Nothing = None
    reasoning: _Nothing = None
    reasoning_details: _NoList = None
    thinking: _Nothing = None
    reasoning_text: _Nothing = None
    tool_calls: _NoList = None
    function_call: None = None


class _ChoiceOfPiece(msgspec.Struct, gc=False):
    delta: _DeltaOfPiece
    finish_reason: None = None
    usage: None = None
    error: None = None


class _Piece(msgspec.Struct, gc=False):
    """A chunk that is a piece of the answer and nothing else: every other is no such chunk."""

    choices: tuple[_ChoiceOfPiece]
    usage: None = None
    error: None = None
    error_type: None = None
    usageMetadata: None = None  # noqa: N815


_chunk: Final = msgspec.json.Decoder(Chunk)
PIECE: Final = msgspec.json.Decoder(_Piece)
"""Decodes a chunk that is a piece of the answer and nothing else, and raises for any other."""


def decode_pieces(payloads: list[bytes]) -> list[str] | None:
    """The texts of chunks that are pieces of the answer and nothing else, if all of them are."""
    try:
        pieces = PIECE.decode_lines(b"\n".join(payloads))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if len(pieces) != len(payloads) or not all(map(bytes.strip, payloads)):
        return None  # one has lines of its own, or two chunks beside one that has none
    texts = []
    for piece in pieces:
        texts.append(piece.choices[0].delta.content)  # noqa: PERF401  # a frame less for each batch
    return texts


def decode_all(payloads: list[bytes]) -> Iterable[tuple[Chunk | Words, bytes]]:
    """Each chunk with its bytes: all at once where that can be done, else one by one, up to the
    one that is wrong. Raises UpstreamBadResponse.
    """
    try:
        chunks = _chunk.decode_lines(b"\n".join(payloads))
        if len(chunks) == len(payloads) and all(map(bytes.strip, payloads)):
            return zip(chunks, payloads, strict=True)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    return _one_by_one(payloads)


def refusal_in(chunk: Chunk, payload: bytes) -> UpstreamError | None:
    """What went wrong by this chunk, or None where it says nothing of the kind. A field ``error``
    beside the choices that holds nothing is none: some servers always send one.
    """
    choices = chunk.choices
    if choices:
        named = (chunk.error, chunk.error_type, choices[0].error)
        if all(raw in _EMPTY or _is_hollow(raw) for raw in named):
            return None
    elif chunk.error == NOTHING:
        if chunk.usageMetadata != NOTHING:
            return None
        document = _loads(payload)
        if not names_error(document):
            return _by_its_message(document, payload)
    return error_for(read_refusal(payload))


def _by_its_message(document: dict[str, Any], payload: bytes) -> UpstreamError | None:
    """For a message that stands there without anything that calls it an error: it is one if it says
    so, or has a code that is a word.
    """
    if not (document.get("message") or document.get("msg")):
        return None
    error = error_for(read_refusal(payload))
    code = document.get("code")
    in_words = isinstance(code, str) and not code.isdecimal() and code.lower() not in _GOOD_CODES
    return error if in_words or type(error) is not UpstreamServerError else None


def spoken(message: msgspec.Raw) -> Delta | None:
    """A whole message in place of its parts."""
    found = _loads(message)
    return _delta(found) if isinstance(found, dict) else None


# ------------------------------------------------ the slow way


def _one_by_one(payloads: list[bytes]) -> Iterator[tuple[Chunk | Words, bytes]]:
    for payload in payloads:
        try:
            yield _chunk.decode(payload), payload
        except (msgspec.DecodeError, ValueError, RecursionError):
            yield from _odd(payload)


def _odd(payload: bytes) -> Iterator[tuple[Chunk | Words, bytes]]:
    """What stands in data that is not as it should be."""
    text = payload.strip()
    if not text:
        return
    lines = text.split(b"\n")
    try:
        yield from _read(text)
    except UpstreamBadResponse:
        if len(lines) == 1:
            raise
        for line in filter(None, map(bytes.strip, lines)):  # a server that saves blank lines
            yield from _read(line)


def _read(text: bytes) -> Iterator[tuple[Chunk | Words, bytes]]:
    if text == DONE or (text[:1] not in b'{["<-0123456789' and text not in _SCALARS):
        yield Words(text[:MOST_WORDS].decode("utf-8", "replace")), text
        return
    found = _loads(text)
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


def _loads(payload: bytes | msgspec.Raw) -> Any:
    """By the standard library, which takes what JavaScript and Python write: halves of surrogate
    pairs, NaN.
    """
    try:
        return json.loads(bytes(payload), parse_constant=str)
    except (ValueError, RecursionError) as exc:
        raise UpstreamBadResponse from exc


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


_RAW_OF_CHUNK: Final = ("usage", "error", "error_type", "x_groq", "usageMetadata", "object")


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
    content, thoughts = _parts(value.get("content"))
    refusal = value.get("refusal")
    said = [content]
    for name in ("reasoning_content", "reasoning", "thinking", "reasoning_text"):
        if not thoughts and value.get(name):
            thoughts = "".join(_thoughts(value[name]))
    calls = value.get("tool_calls") or ()
    if not isinstance(calls, list | tuple) or not isinstance(refusal, str | None):
        raise UpstreamBadResponse
    return Delta(
        content="".join(said),
        refusal=refusal,
        reasoning_content=thoughts,
        reasoning_details=_raw(value.get("reasoning_details")),
        tool_calls=[_raw(call) for call in calls],
        function_call=_raw(value.get("function_call")),
    )


def _parts(content: object) -> tuple[str, str]:
    """Text and thinking of a message's content: parts of type ``text`` and their like are text,
    those of thinking are thinking, and unknown ones are nothing.
    """
    if content is None or isinstance(content, str):
        return content or "", ""
    parts = content if isinstance(content, list) else [content]
    text: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            text.append(part)
        elif not isinstance(part, dict):
            raise UpstreamBadResponse
        elif part.get("type", "text") in _TEXTS:
            found = part.get("text", part.get("content", part.get("refusal")))
            if isinstance(found, dict):  # as the Assistants API has it
                found = found.get("value")
            if found is not None and not isinstance(found, str):
                raise UpstreamBadResponse
            text.append(found or "")
        elif part.get("type") in _THINKING:
            thoughts += _thoughts(part)
    return "".join(text), "".join(thoughts)


_TEXTS: Final = ("text", "output_text", "text_delta", "refusal")
_THINKING: Final = ("thinking", "reasoning", "thinking_delta", "reasoning_text", "thought")
_SAID: Final = ("text", "thinking", "reasoning", "summary", "content")


def _thoughts(value: object) -> Iterator[str]:
    """Every text in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _thoughts(inner)
    elif isinstance(value, dict):
        for name in _SAID:
            if value.get(name):
                yield from _thoughts(value[name])
                return


def _call(value: object) -> str:
    function = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(function, dict):
        return ""
    name, arguments = function.get("name"), function.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    return f"{name if isinstance(name, str) else ''}{arguments or ''}"


def _raw(value: object) -> msgspec.Raw:
    return NOTHING if value is None else msgspec.Raw(_dumps(value))


def _is_hollow(raw: msgspec.Raw) -> bool:
    """Whether it is an object of empty values."""
    found = _loads(raw)
    return isinstance(found, dict) and not any(found.values())
