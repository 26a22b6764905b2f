"""Encrypted content: the proof of a block of thinking, as an opaque text of a reasoning item. No
I/O.

It is not encrypted. The name is the field's, whose text clients return unchanged.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final

import msgspec

from chatnest.conversation import Reasoning
from chatnest.events import ReasoningSignature
from chatnest.wire.sse import json_of

__all__ = ["content_of", "thinking_of"]

_PREFIX: Final = "cn1."
"""The beginning of all contents that this server has written."""


class _Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    signature: str = ""
    provider: str = ""
    model: str = ""
    redacted: bool = False
    id: str = ""


_decoder: Final = msgspec.json.Decoder(_Proof)


def content_of(signature: ReasoningSignature | None) -> str:
    """The content for a block of thinking. A block without a signature has one as well: the AI SDK
    returns no others.
    """
    proof = _Proof()
    if signature is not None:
        proof = _Proof(
            signature=signature.signature,
            provider=signature.provider,
            model=signature.model,
            redacted=signature.redacted,
            id=signature.id,
        )
    return _PREFIX + urlsafe_b64encode(json_of(proof)).decode().rstrip("=")


def thinking_of(text: str, content: str | None) -> Reasoning | None:
    """The block of thinking in an item, whose texts are ``text``. None if another server has
    written the content, or if there is nothing in the item.
    """
    proof = _Proof()
    if content is not None:
        if not content.startswith(_PREFIX):
            return None
        data = content.removeprefix(_PREFIX)
        try:
            proof = _decoder.decode(urlsafe_b64decode(data + "=" * (-len(data) % 4)))
        except (ValueError, RecursionError, msgspec.DecodeError):
            return None
    if not text and not proof.signature:
        return None
    return Reasoning(
        text=text,
        signature=proof.signature,
        provider=proof.provider,
        model=proof.model,
        redacted=proof.redacted,
        id=proof.id,
    )
