"""Chunks of a chat completion from their JSON, in every shape that servers send. No I/O.

A typed decoding reads the shape of nearly all servers. A chunk that it rejects is read again with
the standard library, and brought into the same form.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec

from chatnest.errors import UpstreamError, UpstreamServerError
from chatnest.providers.dialect import decoded_together
from chatnest.providers.openai.loose_json import loads
from chatnest.providers.openai_chat.odd_chunks import one_by_one
from chatnest.providers.openai_chat.shapes import EMPTY, NOTHING, Chunk, Words
from chatnest.providers.refusals.error_documents import names_error, read_refusal
from chatnest.providers.refusals.faults import error_for

__all__ = ["PIECE", "THOUGHT", "decode_all", "decode_pieces", "decode_thoughts", "refusal_in"]

_GOOD_CODES: Final = {"", "ok", "success", "succeeded"}
_Nothing = Annotated[str, msgspec.Meta(max_length=0)] | None
_NoList = Annotated[list[Any], msgspec.Meta(max_length=0)] | None


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
    annotations: _NoList = None
    extra_content: None = None


class _ChoiceOfPiece(msgspec.Struct, gc=False):
    delta: _DeltaOfPiece
    finish_reason: None = None
    usage: None = None
    error: None = None


class _Piece(msgspec.Struct, gc=False):
    """A chunk that is a piece of the answer and nothing else. Any other chunk fails to decode."""

    choices: tuple[_ChoiceOfPiece]
    usage: None = None
    error: None = None
    error_type: None = None
    usageMetadata: None = None  # noqa: N815


class _Detail(msgspec.Struct, gc=False):
    """An entry of OpenRouter's without a signature."""

    type: Literal["reasoning.text"]
    text: str
    signature: None = None
    data: None = None


class _DeltaOfThought(msgspec.Struct, gc=False):
    content: _Nothing = None
    refusal: None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: tuple[_Detail] | None = None
    thinking: None = None
    reasoning_text: None = None
    tool_calls: _NoList = None
    function_call: None = None
    annotations: _NoList = None
    extra_content: None = None


class _ChoiceOfThought(msgspec.Struct, gc=False):
    delta: _DeltaOfThought
    finish_reason: None = None
    usage: None = None
    error: None = None


class _Thought(msgspec.Struct, gc=False):
    """A chunk that is a piece of thinking and nothing else, or has no text. Any other chunk fails
    to decode.
    """

    choices: tuple[_ChoiceOfThought]
    usage: None = None
    error: None = None
    error_type: None = None
    usageMetadata: None = None  # noqa: N815


_chunk: Final = msgspec.json.Decoder(Chunk)
PIECE: Final = msgspec.json.Decoder(_Piece)
"""Decodes a chunk that is a piece of the answer and nothing else, and raises for any other."""

THOUGHT: Final = msgspec.json.Decoder(_Thought)
"""Decodes a chunk that is a piece of thinking and nothing else, in the fields of nearly all
servers, and raises for any other with a text.
"""


def decode_pieces(payloads: list[bytes]) -> list[str] | None:
    """The texts of chunks that are pieces of the answer and nothing else, if all of them are."""
    pieces = decoded_together(PIECE, payloads)
    if pieces is None:
        return None
    texts = []
    for piece in pieces:
        texts.append(piece.choices[0].delta.content)  # noqa: PERF401  # a frame less for each batch
    return texts


def decode_thoughts(payloads: list[bytes]) -> list[str] | None:
    """The texts of chunks that are pieces of thinking and nothing else, if all of them are."""
    pieces = decoded_together(THOUGHT, payloads)
    if pieces is None:
        return None
    texts = []
    for piece in pieces:
        delta = piece.choices[0].delta
        texts.append(delta.reasoning_content or delta.reasoning or "")
    return texts if all(texts) else None


def decode_all(payloads: list[bytes]) -> Iterable[tuple[Chunk | Words, bytes]]:
    """Each chunk with its bytes: decoded together if possible, else one by one, up to the first
    that is invalid. Raises UpstreamBadResponse.
    """
    try:  # as in decoded_together, in a frame less for each request
        chunks = _chunk.decode_lines(b"\n".join(payloads))
        if len(chunks) == len(payloads) and all(map(bytes.strip, payloads)):
            return zip(chunks, payloads, strict=True)
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    return one_by_one(payloads)


def refusal_in(chunk: Chunk, payload: bytes) -> UpstreamError | None:
    """The error that this chunk reports, or None. An empty field ``error`` beside choices is
    ignored: some servers always send one.
    """
    choices = chunk.choices
    if choices:
        named = (chunk.error, chunk.error_type, choices[0].error)
        if all(raw in EMPTY or _is_hollow(raw) for raw in named):
            return None
    elif chunk.error == NOTHING:
        if chunk.usageMetadata != NOTHING:
            return None
        document = loads(payload)
        if not names_error(document):
            return _by_its_message(document, payload)
    return error_for(read_refusal(payload))


def _by_its_message(document: dict[str, Any], payload: bytes) -> UpstreamError | None:
    """The error in an object with a message but without a field that names an error, or None. It is
    an error if the words of the message are those of one, or if its code is a word.
    """
    if not (document.get("message") or document.get("msg")):
        return None
    error = error_for(read_refusal(payload))
    code = document.get("code")
    in_words = isinstance(code, str) and not code.isdecimal() and code.lower() not in _GOOD_CODES
    return error if in_words or type(error) is not UpstreamServerError else None


def _is_hollow(raw: msgspec.Raw) -> bool:
    """Whether the value is an object with only empty values."""
    found = loads(raw)
    return isinstance(found, dict) and not any(found.values())
