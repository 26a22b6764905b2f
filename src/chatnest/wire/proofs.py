"""Proofs of thinking: to the client with an answer, and back in its next request. No I/O.

A proof is encrypted or signed by the provider of the thinking, which checks it. Formats have its
fields as they are, or sealed, as one text that clients keep unread: "cn1." and the base64url of a
JSON object.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from chatnest.conversation import Reasoning
from chatnest.events import ReasoningSignature
from chatnest.wire.sse import json_of

__all__ = ["NO_PROOF", "Proof", "SentProof", "proof_of", "seal", "thinking_of", "unseal"]

_OURS: Final = "cn1."
"""The beginning of all texts that this server has sealed."""


class SentProof(Protocol):
    """The proof of a block of thinking in a request."""

    @property
    def signature(self) -> str | None: ...
    @property
    def provider(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def redacted(self) -> bool | None: ...
    @property
    def id(self) -> str | None: ...


class Proof(msgspec.Struct, frozen=True, gc=False):
    """A proof that was sealed. See ReasoningSignature for its fields."""

    signature: str = ""
    provider: str = ""
    model: str = ""
    redacted: bool = False
    id: str = ""


NO_PROOF: Final = Proof()
"""The proof of thinking without one."""

_decoder: Final = msgspec.json.Decoder(Proof)


def proof_of(signature: ReasoningSignature) -> dict[str, object]:
    """The fields of a proof, in an answer and in a request that takes the thinking back."""
    proof: dict[str, object] = {
        "signature": signature.signature,
        "provider": signature.provider,
        "model": signature.model,
    }
    if signature.redacted:
        proof["redacted"] = True
    if signature.id:
        proof["id"] = signature.id
    return proof


def seal(proof: Mapping[str, object]) -> str:
    """The fields of a proof as one text. Thinking without a proof has none of the fields."""
    return _OURS + urlsafe_b64encode(json_of(proof)).decode().rstrip("=")


def unseal(text: str) -> Proof | None:
    """The proof in a text, or None if another server has written the text."""
    if not text.startswith(_OURS):
        return None
    try:
        return _decoder.decode(urlsafe_b64decode(text[len(_OURS) :] + "=="))
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None


def thinking_of(text: str | None, proof: SentProof) -> Reasoning | None:
    """The block of thinking with this text and this proof, or None if it has neither."""
    if not text and not proof.signature:
        return None
    return Reasoning(
        text=text or "",
        signature=proof.signature or "",
        provider=proof.provider or "",
        model=proof.model or "",
        redacted=bool(proof.redacted),
        id=proof.id or "",
    )
