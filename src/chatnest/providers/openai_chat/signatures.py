"""Signatures: the fields with which servers take their thinking back, in a ReasoningSignature.

OpenRouter needs its ``reasoning_details`` unchanged and in order. Google needs the
``extra_content`` of a tool call, or else refuses the call. The text of a signature is the JSON of
the field that goes back, without the thinking itself, which the block has already. No I/O.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from chatnest.conversation import Reasoning
from chatnest.events import ReasoningSignature

__all__ = ["PROVIDER", "Details", "Restored", "restored", "seal_of_call"]

PROVIDER: Final = "openai-chat"
"""The name of this dialect in a ReasoningSignature."""

_SAID: Final = ("text", "summary")
_MOST_ENTRIES: Final = 1_024
_SIZE: Final = "size"
"""The field for the characters of a summary, which may have several entries. A text has one."""
_FIELDS: Final = (*("type", "id", "format", "index", "text", "summary", "data", "signature"), _SIZE)
"""The fields of an entry, which OpenRouter documents, and ours."""
_SHOWN: Final = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""The types of entries that have a text, and its field."""


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def seal_of_call(extra: dict[str, Any], call_id: str, model: str) -> ReasoningSignature:
    """The signature in the ``extra_content`` of the tool call ``call_id``, or of the message."""
    text = _json({"extra_content": extra})
    return ReasoningSignature(text, PROVIDER, model, redacted=True, id=call_id)


class Details:
    """The entries of ``reasoning_details`` since the last signature. They arrive in pieces."""

    __slots__ = ("_entries", "_model")

    def __init__(self, model: str) -> None:
        self._model = model
        self._entries: list[dict[str, Any]] = []

    def read(self, found: object) -> Iterator[ReasoningSignature]:
        """Add pieces that arrived together. Yields a signature if they end with one."""
        pieces = found if isinstance(found, list) else [found]
        is_sealed = False
        for piece in pieces:
            if isinstance(piece, dict):
                self._add(piece)
                is_sealed = is_sealed or bool(piece.get("signature") or piece.get("data"))
        if not is_sealed:
            return
        entries, self._entries = self._entries, []
        shows = any(_kind(entry) in _SHOWN for entry in entries)
        block = next((e["id"] for e in entries if isinstance(e.get("id"), str)), "")
        text = _json({"reasoning_details": entries})
        yield ReasoningSignature(text, PROVIDER, self._model, redacted=not shows, id=block)

    def _add(self, piece: dict[str, Any]) -> None:
        kind = piece.get("type"), piece.get("index")
        same = [e for e in self._entries[-2:] if (e.get("type"), e.get("index")) == kind]
        if same:
            entry = same[-1]
        elif len(self._entries) < _MOST_ENTRIES:
            entry = {}
            self._entries.append(entry)
        else:
            return
        for name, value in piece.items():
            if name not in _SAID:
                if value is not None or name not in entry:
                    entry[name] = value
            elif name == "summary" and isinstance(value, str) and value:
                entry[_SIZE] = entry.get(_SIZE, 0) + len(value)


class Restored:
    """The fields of a block of thinking: details of the message, and extra content of a call or,
    with an empty ``call_id``, of the message.
    """

    __slots__ = ("call_id", "details", "extra")

    def __init__(self) -> None:
        self.details: list[dict[str, Any]] = []
        self.extra: dict[str, Any] | None = None
        self.call_id: str = ""


def restored(block: Reasoning) -> Restored:
    """The fields of a block with a signature. None if the signature is not ours.

    A client may have written it, so it brings no other fields to the model than servers send.
    """
    found = Restored()
    try:
        sealed = msgspec.json.decode(block.signature)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return found
    if not isinstance(sealed, dict):
        return found
    google = _object(sealed.get("extra_content")).get("google")
    if isinstance(signature := _object(google).get("thought_signature"), str):
        found.extra = {"google": {"thought_signature": signature}}
        found.call_id = block.id
    details = sealed.get("reasoning_details")
    if isinstance(details, list):
        entries = [_known_fields(entry) for entry in details if isinstance(entry, dict)]
        found.details = _with_text(entries, block.text)
    return found


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _known_fields(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in entry.items()
        if name in _FIELDS and isinstance(value, str | int | None)
    }


def _with_text(entries: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The entries with their shares of the text. If the sizes do not match, the first entry that
    has a text gets all of it.
    """
    sizes = [size if type(size := entry.pop(_SIZE, 0)) is int else 0 for entry in entries]
    shown = [entry for entry in entries if _kind(entry) in _SHOWN]
    if shown and sum(sizes) != len(text):
        shown[0][_SHOWN[_kind(shown[0])]] = text
        return entries
    for entry, size in zip(entries, sizes, strict=True):
        if size > 0 and _kind(entry) in _SHOWN:
            entry[_SHOWN[_kind(entry)]], text = text[:size], text[size:]
    return entries


def _kind(entry: dict[str, Any]) -> str:
    kind = entry.get("type")
    return kind if isinstance(kind, str) else ""
