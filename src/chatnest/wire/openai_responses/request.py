"""Parsing of a request to the Responses API: from the bytes of a body to a valid ChatRequest. No
I/O.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from chatnest.requests import DEFAULT_SAMPLING, ChatRequest, Sampling, Submission
from chatnest.wire.bodies import decode, left_out
from chatnest.wire.caps import is_model
from chatnest.wire.openai_responses.body import Body
from chatnest.wire.openai_responses.input_items import asked_in
from chatnest.wire.openai_responses.places import PLACES
from chatnest.wire.openai_responses.tools import choice_of, format_of, tools_of

__all__ = ["parse_request"]

_decoder: Final = msgspec.json.Decoder(Body)

_ENCRYPTED: Final = "reasoning.encrypted_content"
_NULL: Final = b"null"

_REFUSED: Final = (
    *("previous_response_id", "conversation", "prompt", "context_management", "moderation"),
)
"""Fields that change the answer, or refer to something that this server does not keep."""

_HARMLESS: Final[Mapping[str, tuple[object, ...]]] = {
    "background": (None, False),
    "truncation": (None, "disabled"),
    "service_tier": (None, "auto", "default"),
    "top_logprobs": (None, 0),
}
"""Fields that may only have these values."""

_RANGES: Final = {"temperature": 2, "top_p": 1}
_SUBMISSIONS: Final = {
    stream: Submission(stream=stream, may_be_empty=True, note="") for stream in (False, True)
}


def parse_request(body: bytes, _: Mapping[bytes, bytes]) -> ChatRequest:
    """The request in ``body``, which is JSON in UTF-8 (RFC 8259). See WireFormat.parse; the head of
    the request has nothing for this format.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent. A field that is null counts as absent.
    """
    parsed, urls = decode(_decoder, body, PLACES)
    _check_fields(parsed)
    asked = asked_in(parsed.input, str if urls is None else urls.take)
    if urls:
        raise left_out("input")
    tools = tools_of(parsed.tools) if parsed.tools else ()
    return ChatRequest(
        messages=asked.messages,
        model=parsed.model,
        max_output_tokens=parsed.max_output_tokens,
        system_prompt=_system_prompt(parsed.instructions, asked.instructions),
        tools=tools,
        tool_choice=choice_of(parsed, tools),
        output=None if parsed.text is None else format_of(parsed.text.format),
        effort=None if parsed.reasoning is None else parsed.reasoning.effort,
        sampling=DEFAULT_SAMPLING
        if parsed.temperature is None and parsed.top_p is None
        else Sampling(temperature=parsed.temperature, top_p=parsed.top_p),
        submission=_SUBMISSIONS[bool(parsed.stream)],
    )


def _check_fields(parsed: Body) -> None:
    """Raise InvalidRequest for a field without a right value, or one that is refused."""
    for name in _REFUSED:
        raw: msgspec.Raw = getattr(parsed, name)
        if bytes(raw).strip() not in {b"", _NULL}:
            raise PLACES.wrong(name)
    for name, harmless in _HARMLESS.items():
        if getattr(parsed, name) not in harmless:
            raise PLACES.wrong(name)
    if not {_ENCRYPTED}.issuperset(parsed.include or ()):
        raise PLACES.wrong("include")
    if parsed.model is not None and not is_model(parsed.model):
        raise PLACES.wrong("model")
    if parsed.max_output_tokens is not None and parsed.max_output_tokens < 1:
        raise PLACES.wrong("max_output_tokens")
    for name, most in _RANGES.items():
        value = getattr(parsed, name)
        if value is not None and not 0 <= value <= most:
            raise PLACES.wrong(name)


def _system_prompt(instructions: str | None, others: tuple[str, ...]) -> str | None:
    """All instructions to the model, in their order, as one text. A client sends them in a field,
    or in messages of the roles ``system`` and ``developer``.
    """
    texts = [text for text in (instructions or "", *others) if text.strip()]
    return "\n\n".join(texts) or None
