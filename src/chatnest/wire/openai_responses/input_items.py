"""Input items of a request: from their JSON to a conversation that models accept. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from chatnest.conversation import (
    Image,
    Message,
    Part,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from chatnest.errors import InvalidRequest
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.caps import MAX_MESSAGES, MAX_PARTS, is_identifier
from chatnest.wire.conversations import Conversation
from chatnest.wire.images import image_of
from chatnest.wire.openai_responses.body import (
    SentImage,
    SentInput,
    SentItem,
    SentOutput,
    SentPart,
    SentRefusal,
    SentThought,
)
from chatnest.wire.openai_responses.places import PLACES
from chatnest.wire.proofs import NO_PROOF, thinking_of, unseal

__all__ = ["Asked", "asked_in"]

_CAPS: Final = ToolCaps()

_OF_ALL: Final = frozenset({"type", "id", "status", "parsed_arguments"})
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "message": _OF_ALL | {"role", "content", "phase"},
    "function_call": _OF_ALL | {"call_id", "name", "arguments"},
    "function_call_output": _OF_ALL | {"call_id", "output"},
    "reasoning": _OF_ALL | {"summary", "content", "encrypted_content"},
}
"""The fields of each type of item."""


class Asked(msgspec.Struct, frozen=True):
    """The content of an input: its conversation, and its instructions to the model."""

    messages: tuple[Message, ...]
    instructions: tuple[str, ...] = ()


def asked_in(sent: str | Sequence[SentItem], url_of: Callable[[str], str]) -> Asked:
    """The content of an input. ``url_of`` is DataUrls.take.

    Blank messages are left out, as in the native format, and so is a call without a result. Items
    of the model's side that follow each other are one message. Thinking that another server has
    signed is left out.
    """
    if isinstance(sent, str):
        if not sent.strip():
            raise PLACES.wrong("input")
        return Asked((Message.of("user", sent),))
    if not 1 <= len(sent) <= MAX_MESSAGES:
        raise PLACES.wrong("input")
    reader = _Reader(url_of)
    for number, item in enumerate(sent):
        reader.read(item, f"input[{number}]", is_last=number == len(sent) - 1)
    return reader.finished()


class _Reader:
    """The conversation so far. ``_parts`` are those of the last message, if it is the model's."""

    def __init__(self, url_of: Callable[[str], str]) -> None:
        self._url_of = url_of
        self._conversation = Conversation()
        self._instructions: list[str] = []
        self._parts: list[Part] = []

    def finished(self) -> Asked:
        self._end_message()
        messages = self._conversation.messages()
        if not any(message.role == "user" for message in messages):
            raise InvalidRequest("input: must have at least one message of the user.")
        return Asked(messages, tuple(self._instructions))

    def read(self, item: SentItem, place: str, *, is_last: bool) -> None:
        kind = "message" if item.type is None else item.type
        if kind == "item_reference":
            raise InvalidRequest(
                f"{place}: must be a whole item, since this server keeps none. Set store: false "
                "(in the AI SDK: providerOptions.openai.store), and clients send whole items."
            )
        if (fields := _FIELDS.get(kind)) is None:
            raise PLACES.wrong(f"{place}.type")
        for name in item.__struct_fields__:
            if name not in fields and getattr(item, name) is not None:
                raise InvalidRequest(f"{place}.{name}: must be absent in items of this type.")
        match kind:
            case "message":
                self._read_message(item, place, is_last=is_last)
            case "function_call":
                self._parts.append(self._call(item, place))
            case "function_call_output":
                self._read_result(item, place)
            case _:
                if (block := _thinking(item)) is not None:
                    self._parts.append(block)

    # ------------------------------------------------ items

    def _read_message(self, item: SentItem, place: str, *, is_last: bool) -> None:
        role = item.role
        if role is None:
            raise PLACES.wrong(f"{place}.role")
        parts = self._content(item.content, f"{place}.content", role)
        if role == "assistant":
            self._begin_message()
            self._parts += parts
            return
        self._end_message()
        if role != "user":
            self._instructions.append("".join(p.text for p in parts if isinstance(p, Text)))
        elif parts:
            self._conversation.add(Message("user", tuple(parts)))
        elif is_last:
            raise PLACES.wrong(f"{place}.content")

    def _call(self, item: SentItem, place: str) -> ToolCall:
        call_id, name, arguments = item.call_id, item.name, item.arguments
        if call_id is None or not is_identifier(call_id):
            raise PLACES.wrong(f"{place}.call_id")
        if name is None or not is_identifier(name):
            raise PLACES.wrong(f"{place}.name")
        if arguments is None:
            raise PLACES.wrong(f"{place}.arguments")
        _CAPS.check_arguments(arguments, f"{place}.arguments")
        if any(isinstance(part, ToolCall) and part.id == call_id for part in self._parts):
            raise InvalidRequest(f"{place}.call_id: must differ from those of the other calls.")
        return ToolCall(id=call_id, name=name, arguments=arguments)

    def _read_result(self, item: SentItem, place: str) -> None:
        if item.call_id is None:
            raise PLACES.wrong(f"{place}.call_id")
        self._end_message()
        self._conversation.check_result(item.call_id, f"{place}.call_id")
        parts = self._content(item.output, f"{place}.output", "tool")
        text = "".join(part.text for part in parts if isinstance(part, Text))
        self._conversation.add_result(ToolResult(call_id=item.call_id, text=text))

    # ------------------------------------------------ messages of the model

    def _begin_message(self) -> None:
        """End the model's message if another text would follow its text. Thinking at its end
        belongs to the text that follows.
        """
        if any(isinstance(part, ToolCall) for part in self._parts):
            return  # its results have to follow it
        thinking: list[Part] = []
        while self._parts and isinstance(self._parts[-1], Reasoning):
            thinking.insert(0, self._parts.pop())
        self._end_message()
        self._parts = thinking

    def _end_message(self) -> None:
        """Add the model's message, unless it is thinking alone: the answer was stopped there."""
        parts, self._parts = tuple(self._parts), []
        if any(not isinstance(part, Reasoning) for part in parts):
            self._conversation.add(Message("assistant", parts))

    # ------------------------------------------------ parts

    def _content(
        self, content: str | list[SentPart] | None, place: str, role: str
    ) -> list[Text | Image | Refusal]:
        """The parts that are not blank. A result keeps its text as it is."""
        if content is None:
            raise PLACES.wrong(place)
        if isinstance(content, str):
            return [Text(content)] if role == "tool" or content.strip() else []
        if len(content) > MAX_PARTS:
            raise PLACES.wrong(place)
        parts = [
            self._part(each, f"{place}[{number}]", role) for number, each in enumerate(content)
        ]
        return [part for part in parts if part is not None]

    def _part(self, sent: SentPart, place: str, role: str) -> Text | Image | Refusal | None:
        match sent:
            case SentInput(text=text) | SentOutput(text=text):
                return Text(text) if role == "tool" or text.strip() else None
            case SentRefusal(refusal=text) if role == "assistant":
                return Refusal(text) if text.strip() else None
            case SentImage() if role == "user":
                return self._image(sent, place)
            case SentImage():
                raise InvalidRequest(
                    f"{place}: must be a text. Only the user's messages have images."
                )
            case SentRefusal() | SentThought():
                raise PLACES.wrong(f"{place}.type")
            case _:
                assert_never(sent)

    def _image(self, sent: SentImage, place: str) -> Image:
        if sent.file_id is not None:
            raise PLACES.wrong(f"{place}.file_id")
        if sent.image_url is None:
            raise PLACES.wrong(f"{place}.image_url")
        return image_of(self._url_of(sent.image_url), f"{place}.image_url")


def _thinking(item: SentItem) -> Reasoning | None:
    """The thinking of an item, whose summary has it. Its content, which is rare, counts without
    one. None if another server has written the encrypted content, or if the item has nothing.
    """
    content = item.encrypted_content
    proof = NO_PROOF if content is None else unseal(content)
    if proof is None:
        return None
    texts = [each.text for each in item.summary or ()]
    if not texts and isinstance(item.content, list):
        texts = [each.text for each in item.content if isinstance(each, SentThought)]
    return thinking_of("\n\n".join(texts), proof)
