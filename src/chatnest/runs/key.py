"""Keys: what makes two requests the same one. No I/O."""

import hashlib
from typing import Final

import msgspec

from chatnest.conversation import ChatRequest, Message, Part, Text

__all__ = ["fingerprint", "hold_id", "key_id"]

_encoder: Final = msgspec.json.Encoder(order="sorted")


def key_id(realm: str, principal: str, key: str) -> str:
    """A key within its principal's, so that nobody reaches another's by choosing the same; and
    within those of a chat, since another may share its store.
    """
    return _digest(realm, principal, key)


def hold_id(key: str, run_id: str) -> str:
    """The hold of the run that a key stands for. One request alone has claimed it, so a duplicate
    holds nothing; and a key that is used again, when its run is forgotten, holds anew.
    """
    return _digest("hold", key, run_id)


def fingerprint(request: ChatRequest) -> str:
    """A digest of what the request asks for, in any spelling of its JSON.

    Fields that are not set, and a message of one text, are encoded as earlier versions did, so that
    a request still fits the run that such a version has begun.
    """
    messages = [{"role": each.role, "content": _content(each)} for each in request.messages]
    same = msgspec.structs.asdict(request) | {"linger": None, "messages": messages}
    if request.conversation is None:
        del same["conversation"]
    return hashlib.sha256(_encoder.encode(same)).hexdigest()


def _content(message: Message) -> str | tuple[Part, ...]:
    match message.parts:
        case (Text(text=text),):
            return text
        case parts:
            return parts


def _digest(*words: str) -> str:
    joined = "\0".join(words).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:32]
