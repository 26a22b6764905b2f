"""Parts of a message of the user: from their JSON to texts and images. No I/O."""

from collections.abc import Callable
from typing import assert_never

from chatnest.conversation import Image, Text
from chatnest.errors import InvalidRequest
from chatnest.wire.ag_ui.body import (
    SentAudio,
    SentBinary,
    SentContent,
    SentData,
    SentDocument,
    SentFile,
    SentImage,
    SentText,
    SentUrl,
    SentVideo,
)
from chatnest.wire.ag_ui.places import PLACES
from chatnest.wire.caps import MAX_PARTS
from chatnest.wire.images import image_of

__all__ = ["parts_of", "text_of"]


def parts_of(
    content: str | list[SentContent], place: str, whole: Callable[[str], str]
) -> list[Text | Image]:
    """The parts of a message, without blank texts. ``whole`` is DataUrls.take."""
    if isinstance(content, str):
        return [Text(content)] if content.strip() else []
    if len(content) > MAX_PARTS:
        raise InvalidRequest(f"{place}: must have at most {MAX_PARTS} parts.")
    return [
        part
        for number, each in enumerate(content)
        if (part := _part(each, f"{place}[{number}]", whole)) is not None
    ]


def text_of(content: str | list[SentContent], place: str) -> str:
    """The text of a result, which may be empty and has nothing but texts."""
    if isinstance(content, str):
        return content
    if len(content) > MAX_PARTS:
        raise InvalidRequest(f"{place}: must have at most {MAX_PARTS} parts.")
    texts = []
    for number, each in enumerate(content):
        if not isinstance(each, SentText):
            raise InvalidRequest(
                f"{place}[{number}]: must be a text. Only the user's messages have images."
            )
        texts.append(each.text)
    return "".join(texts)


def _part(sent: SentContent, place: str, whole: Callable[[str], str]) -> Text | Image | None:
    match sent:
        case SentText(text=text):
            return Text(text) if text.strip() else None
        case SentImage(source=source):
            return _image_of(source, f"{place}.source", whole)
        case SentBinary(data=data, mime_type=kind) if data:
            return _image(whole(data), kind, place, f"{place}.data")
        case SentBinary(url=url):
            return _image_at(whole(url or ""), place)
        case SentAudio() | SentVideo() | SentDocument():
            raise InvalidRequest(f"{place}: must be a text or an image. This server takes no more.")
        case _:
            assert_never(sent)


def _image_of(
    source: SentData | SentUrl | SentFile, place: str, whole: Callable[[str], str]
) -> Image:
    match source:
        case SentData(value=data, mime_type=kind):
            return _image(whole(data), kind, place, f"{place}.value")
        case SentUrl(value=url):
            return _image_at(whole(url), place)
        case SentFile():
            raise _unreadable(place)
        case _:
            assert_never(source)


def _image(data: str, kind: str, place: str, value: str) -> Image:
    if not kind.lower().startswith("image/"):
        raise PLACES.wrong(f"{place}.mimeType")
    return image_of(f"data:{kind};base64,{data}", value)


def _image_at(url: str, place: str) -> Image:
    """The image in a ``data:`` URL. Nothing is fetched from another address."""
    if not url.startswith("data:"):
        raise _unreadable(place)
    return image_of(url, place)


def _unreadable(place: str) -> InvalidRequest:
    return InvalidRequest(
        f"{place}: must have the image itself, in base64. The server fetches nothing from an "
        "address: it could be one in its own network."
    )
