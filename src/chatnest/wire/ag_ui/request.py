"""Parsing of an AG-UI request: from the bytes of a RunAgentInput to a ChatRequest. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from chatnest.profiles import profile_name
from chatnest.requests import ChatRequest, Submission, is_conversation
from chatnest.wire.ag_ui.body import Body, SentContext, SentProperties
from chatnest.wire.ag_ui.facts import RunFacts
from chatnest.wire.ag_ui.messages import read_messages
from chatnest.wire.ag_ui.places import PLACES
from chatnest.wire.ag_ui.tools import tools_of
from chatnest.wire.bodies import decode
from chatnest.wire.caps import is_model

__all__ = ["parse_request"]

_decoder: Final = msgspec.json.Decoder(Body)
_NONE: Final = SentProperties()


def parse_request(body: bytes, _: Mapping[bytes, bytes] | None = None) -> ChatRequest:
    """The request in ``body``, which is JSON in UTF-8 (RFC 8259). See WireFormat.parse; the head of
    the request has nothing for this format.

    The thread is the conversation, and the run is the key of the submission. ``linger`` is 0: a
    client of AG-UI cannot resume a run, and stops one by closing the connection.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent.
    """
    parsed, urls = decode(_decoder, body, PLACES)
    whole = str if urls is None else urls.take
    _check(parsed)
    reading = read_messages(parsed.messages, whole)
    messages = reading.messages()
    given = parsed.forwarded_props or _NONE
    instructions = [*reading.instructions, *_context(parsed.context or (), whole)]
    return ChatRequest(
        messages=messages,
        profile=None if given.profile is None else profile_name(given.profile),
        model=given.model,
        max_output_tokens=given.max_output_tokens,
        system_prompt="\n\n".join(instructions) or None,
        linger=0.0,
        conversation=parsed.thread_id,
        tools=tools_of(parsed.tools) if parsed.tools else (),
        submission=Submission(
            key=f"{parsed.thread_id}\0{parsed.run_id}",
            facts=RunFacts(
                thread_id=parsed.thread_id,
                run_id=parsed.run_id,
                prefix=f"{parsed.run_id}-{len(parsed.messages)}",
                is_0=not parsed.protocol_version,
                call_ids=frozenset(reading.call_ids),
            ),
        ),
    )


def _check(parsed: Body) -> None:
    for name, value in (("threadId", parsed.thread_id), ("runId", parsed.run_id)):
        if not is_conversation(value):
            raise PLACES.wrong(name)
    if parsed.resume:
        raise PLACES.wrong("resume")
    given = parsed.forwarded_props or _NONE
    if given.model is not None and not is_model(given.model):
        raise PLACES.wrong("forwardedProps.model")
    if given.max_output_tokens is not None and given.max_output_tokens < 1:
        raise PLACES.wrong("forwardedProps.maxOutputTokens")


def _context(sent: Sequence[SentContext], whole: Callable[[str], str]) -> list[str]:
    """The context as instructions. It is the client's text, as those are."""
    entries = [(each.description.strip(), whole(each.value).strip()) for each in sent]
    texts = [f"{what}:\n{value}" if what else value for what, value in entries if value]
    return ["Context from the application:", *texts] if texts else []
