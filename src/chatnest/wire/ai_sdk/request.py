"""Parsing of a request of ``useChat``: from the bytes of a body to a valid ChatRequest. No I/O."""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.asgi.data_urls import DataUrls
from chatnest.profiles import profile_name
from chatnest.requests import ChatRequest
from chatnest.wire.ai_sdk.body import Body
from chatnest.wire.ai_sdk.messages import messages_of, system_prompt_of
from chatnest.wire.ai_sdk.places import PLACES
from chatnest.wire.ai_sdk.submission import submission_of
from chatnest.wire.ai_sdk.tools import tools_of
from chatnest.wire.bodies import decode
from chatnest.wire.caps import is_model

__all__ = ["parse_request"]

_decoder: Final = msgspec.json.Decoder(Body)


def parse_request(body: bytes, _: Mapping[bytes, bytes] | None = None) -> ChatRequest:
    """The request in ``body``, which is JSON in UTF-8 (RFC 8259). See WireFormat.parse; the head of
    the request has nothing for this format.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent.
    """
    parsed, cut = decode(_decoder, body, PLACES)
    urls = _Urls(cut)
    if parsed.max_output_tokens is not None and parsed.max_output_tokens < 1:
        raise PLACES.wrong("maxOutputTokens")
    if parsed.model is not None and not is_model(parsed.model):
        raise PLACES.wrong("model")
    messages = messages_of(parsed.messages, urls.take)
    prompts = (parsed.system_prompt, parsed.system, *system_prompt_of(parsed.messages))
    return ChatRequest(
        messages=messages,
        profile=None if parsed.profile is None else profile_name(parsed.profile),
        model=parsed.model,
        max_output_tokens=parsed.max_output_tokens,
        system_prompt="\n\n".join(filter(None, prompts)) or None,
        conversation=parsed.id,
        tools=tools_of(parsed.tools) if parsed.tools else (),
        submission=submission_of(parsed, urls.digest()),
    )


class _Urls:
    """The images of a body, which are cut out of a large one, and the digest of those that were
    taken. URLs in places that this format ignores stay where they are.
    """

    def __init__(self, cut: DataUrls | None) -> None:
        self._cut = cut
        self._taken = hashlib.sha256()

    def take(self, text: str) -> str:
        """See DataUrls.take."""
        if self._cut is None:
            return text
        url = self._cut.take(text)
        self._taken.update(b"%d:" % len(url) + url.encode("utf-8", "replace"))
        return url

    def digest(self) -> bytes:
        """A digest of the URLs that were taken, empty if the whole body has been parsed."""
        return b"" if self._cut is None else self._taken.digest()
