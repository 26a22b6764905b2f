"""Contents of messages in the shape of Chat Completions: from JSON to checked parts. No I/O."""

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from chatnest.conversation import Image, Text, ToolCall
from chatnest.errors import InvalidRequest
from chatnest.tokens.tool_bounds import ToolCaps
from chatnest.wire.caps import MAX_PARTS, is_identifier
from chatnest.wire.images import image_of
from chatnest.wire.places import Places
from chatnest.wire.shapes import SentCall, SentImage, SentText

__all__ = ["calls_of", "content_of"]

_CAPS: Final = ToolCaps()


def content_of(
    content: str | Sequence[SentText | SentImage] | None,
    role: str,
    place: str,
    url_of: Callable[[str], str],
) -> list[Text | Image]:
    """The parts of a content, without blank texts. ``url_of`` is DataUrls.take."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content.strip() else []
    if len(content) > MAX_PARTS:
        raise InvalidRequest(f"{place}: must have at most {MAX_PARTS} parts.")
    return [
        part
        for number, each in enumerate(content)
        if (part := _part(each, role, f"{place}[{number}]", url_of)) is not None
    ]


def _part(
    sent: SentText | SentImage, role: str, place: str, url_of: Callable[[str], str]
) -> Text | Image | None:
    match sent:
        case SentText(text=text):
            return Text(text) if text.strip() else None
        case SentImage(image_url=found):
            if role != "user":
                raise InvalidRequest(
                    f"{place}: must be a text. Only the user's messages have images."
                )
            return image_of(url_of(found.url), f"{place}.image_url.url")
        case _:
            assert_never(sent)


def calls_of(sent: Sequence[SentCall], place: str, places: Places) -> list[ToolCall]:
    """The calls of a message, within the caps."""
    if len(sent) > MAX_PARTS:
        raise places.wrong(place)
    calls: list[ToolCall] = []
    for number, each in enumerate(sent):
        here = f"{place}[{number}]"
        if not is_identifier(each.id):
            raise places.wrong(f"{here}.id")
        if not is_identifier(each.function.name):
            raise places.wrong(f"{here}.function.name")
        arguments = each.function.arguments
        _CAPS.check_arguments(arguments, f"{here}.function.arguments")
        calls.append(ToolCall(id=each.id, name=each.function.name, arguments=arguments))
    if len({call.id for call in calls}) < len(calls):
        raise InvalidRequest(f"{place}: must have different ids.")
    return calls
