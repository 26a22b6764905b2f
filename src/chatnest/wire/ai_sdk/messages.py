"""Messages of a request: from UI messages to a conversation that models accept. No I/O."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from chatnest.conversation import Image, Message, Part, Reasoning, Text, ToolCall, ToolResult
from chatnest.errors import InvalidRequest
from chatnest.requests import NO_QUESTION
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.tool_turns import answered_calls
from chatnest.wire.ai_sdk.body import SentMessage, SentPart
from chatnest.wire.ai_sdk.places import MAX_UI_PARTS, PLACES
from chatnest.wire.caps import MAX_MESSAGES, is_identifier
from chatnest.wire.images import image_of
from chatnest.wire.proofs import NO_PROOF, thinking_of

__all__ = ["messages_of", "system_prompt_of"]

_CAPS: Final = ToolCaps()
_TOOL: Final = "tool-"
_ABSENT: Final = (b"", b"null")
_CUT: Final = b"\\u0000data:"
"""The mark in JSON of a URL that DataUrls has cut out."""

_Step = list[tuple[str, SentPart]]
"""The parts of one answer of the model, each with its place."""


def messages_of(sent: Sequence[SentMessage], url_of: Callable[[str], str]) -> tuple[Message, ...]:
    """The messages of the user and the assistant that say something.

    A message of the assistant may have several answers of the model, each of which began with a
    ``step-start``. Each becomes a message, with the results of its calls behind it. A call without
    a result is left out: the client was stopped before it had one. ``url_of`` is DataUrls.take.
    """
    if not 1 <= len(sent) <= MAX_MESSAGES:
        raise PLACES.wrong("messages")
    messages: list[Message] = []
    for number, each in enumerate(sent):
        place = f"messages[{number}]"
        if len(each.parts) > MAX_UI_PARTS:
            raise PLACES.wrong(f"{place}.parts")
        if each.role == "assistant":
            for step in _steps(each.parts, place):
                messages += _step_messages(step)
        elif each.role == "user":
            parts = _question(each.parts, place, url_of)
            if parts:
                messages.append(Message("user", parts))
            elif number == len(sent) - 1:
                raise PLACES.wrong(f"{place}.parts")
    if not messages:
        raise InvalidRequest(NO_QUESTION, field="messages")
    return answered_calls(messages) if len(messages) > 1 else tuple(messages)


def system_prompt_of(sent: Sequence[SentMessage]) -> Iterator[str]:
    """The texts of the messages of the system."""
    for message in sent:
        if message.role == "system":
            yield "".join(part.text or "" for part in message.parts if part.type == "text")


def _question(
    sent: Sequence[SentPart], place: str, url_of: Callable[[str], str]
) -> tuple[Text | Image, ...]:
    """The texts and the images of a message of the user."""
    parts: list[Text | Image] = []
    for number, part in enumerate(sent):
        if part.type == "text" and part.text and part.text.strip():
            parts.append(Text(part.text))
        elif part.type == "file":
            parts.append(_image(part, f"{place}.parts[{number}]", url_of))
    return tuple(parts)


def _image(part: SentPart, place: str, url_of: Callable[[str], str]) -> Image:
    if not (part.media_type or "image/").lower().startswith("image/"):
        raise InvalidRequest("This chat takes images (PNG, JPEG, GIF, WebP) and no other files.")
    return image_of(url_of(part.url or ""), f"{place}.url")


def _steps(parts: Sequence[SentPart], place: str) -> Iterator[_Step]:
    step: _Step = []
    for number, part in enumerate(parts):
        if part.type == "step-start":
            yield step
            step = []
        else:
            step.append((f"{place}.parts[{number}]", part))
    yield step


def _step_messages(step: _Step) -> list[Message]:
    """One answer of the model, and the results of its calls. Thinking alone is left out."""
    parts: list[Part] = []
    results: list[ToolResult] = []
    for place, part in step:
        if part.type == "text":
            if part.text and part.text.strip():
                parts.append(Text(part.text))
        elif part.type == "reasoning":
            parts += _thinking(part)
        elif part.type == "dynamic-tool" or part.type.startswith(_TOOL):
            call = _call(part, place)
            if any(isinstance(each, ToolCall) and each.id == call.id for each in parts):
                raise InvalidRequest(f"{place}.toolCallId: must differ from those before it.")
            parts.append(call)
            results += _result(part, place)
    if all(isinstance(part, Reasoning) for part in parts):
        return []
    answer = Message("assistant", tuple(parts))
    return [answer, *(Message("tool", (result,)) for result in results)]


def _thinking(part: SentPart) -> list[Reasoning]:
    """The block of thinking in a part, unless it is empty. Its provider checks the signature."""
    metadata = part.provider_metadata
    proof = NO_PROOF if metadata is None or metadata.chatnest is None else metadata.chatnest
    block = thinking_of(part.text, proof)
    return [] if block is None else [block]


def _call(part: SentPart, place: str) -> ToolCall:
    name = part.tool_name if part.type == "dynamic-tool" else part.type.removeprefix(_TOOL)
    if name is None or not is_identifier(name):
        raise PLACES.wrong(f"{place}.toolName")
    if part.tool_call_id is None or not is_identifier(part.tool_call_id):
        raise PLACES.wrong(f"{place}.toolCallId")
    # an input that could not be read is in `rawInput` in 5 and 6, and a text in `input` in 7
    arguments = _text(part.input, f"{place}.input") or _text(part.raw_input, f"{place}.rawInput")
    _CAPS.check_arguments(arguments, f"{place}.input")
    return ToolCall(id=part.tool_call_id, name=name, arguments=arguments or "{}")


def _result(part: SentPart, place: str) -> list[ToolResult]:
    """The result of a call, or an empty list while there is none."""
    call_id = part.tool_call_id or ""
    if part.state == "output-available":
        text = _text(part.output, f"{place}.output") or "null"
        return [ToolResult(call_id=call_id, text=text)]
    if part.state == "output-error":
        text = part.error_text or "The call failed."
        return [ToolResult(call_id=call_id, text=text, is_error=True)]
    return []


def _text(raw: msgspec.Raw, place: str) -> str:
    """The text of a JSON string, or the JSON of another value, or an empty text for none."""
    data = bytes(raw)
    if data in _ABSENT:
        return ""
    if _CUT in data:
        raise InvalidRequest(
            f"{place}: must not have a data: URL of this size. The model would read it as text."
        )
    if data.startswith(b'"'):
        return msgspec.json.decode(data, type=str)
    return data.decode()
