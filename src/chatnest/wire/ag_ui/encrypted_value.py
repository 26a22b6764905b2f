"""Encrypted values: the proof of a block of thinking, as a text that clients keep unread. No I/O.

The text is "cn1." and the base64url of a JSON object. The proof itself is encrypted or signed by
its provider, which checks it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from chatnest.conversation import Reasoning
from chatnest.events import ReasoningSignature
from chatnest.wire.sse import json_of

__all__ = ["thinking_of", "value_of"]

_OURS: Final = "cn1."


class _Proof(msgspec.Struct, frozen=True, gc=False):
    signature: str
    provider: str
    model: str
    redacted: bool = False
    id: str = ""


_decoder: Final = msgspec.json.Decoder(_Proof)


def value_of(event: ReasoningSignature, block: str) -> str:
    """The value of a signature. ``block`` is the id of the block, by which the client knows it."""
    proof: dict[str, object] = {
        "signature": event.signature,
        "provider": event.provider,
        "model": event.model,
    }
    if event.redacted:
        proof["redacted"] = True
    if block:
        proof["id"] = block
    return _OURS + urlsafe_b64encode(json_of(proof)).decode().rstrip("=")


def thinking_of(text: str, value: str | None) -> Reasoning | None:
    """The block of thinking with this text and this value, or None if it has neither. A value that
    is not ours belongs to another server, and is dropped.
    """
    proof = None if value is None else _proof(value)
    if proof is None or not proof.signature:
        return Reasoning(text=text) if text else None
    return Reasoning(
        text=text,
        signature=proof.signature,
        provider=proof.provider,
        model=proof.model,
        redacted=proof.redacted,
        id=proof.id,
    )


def _proof(value: str) -> _Proof | None:
    if not value.startswith(_OURS):
        return None
    try:
        return _decoder.decode(urlsafe_b64decode(value[len(_OURS) :] + "=="))
    except (msgspec.DecodeError, ValueError):
        return None
