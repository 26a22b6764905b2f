"""Keys: digests that identify repeated requests. No I/O."""

import hashlib
from typing import Final

import msgspec

from chatnest.conversation import Message, Part, Text
from chatnest.requests import ChatRequest

__all__ = ["fingerprint", "hold_id", "key_id", "next_key", "note_name"]

_FIRST: Final = {
    *("messages", "profile", "daily_token_limit", "max_tokens_per_request", "system_prompt"),
    *("usage_event", "linger"),
}
"""The fields of a request that the first release had."""

_LATER: Final = {
    field.name: field.default
    for field in msgspec.structs.fields(ChatRequest)
    if field.name not in {*_FIRST, "submission"}
}
"""The fields that came later, and their defaults."""

_encoder: Final = msgspec.json.Encoder(order="sorted")


def key_id(realm: str, principal: str, key: str) -> str:
    """The id of a principal's key in one chat. Another principal's equal key has another id, and so
    has a key in another chat (``realm``) that shares the store.
    """
    return _digest(realm, principal, key)


def hold_id(key: str, run_id: str) -> str:
    """The id of the hold for a key's run. Only the request that claimed the run holds tokens, so a
    duplicate holds none. A key that is used again after its run was forgotten has a new hold.
    """
    return _digest("hold", key, run_id)


def next_key(key: str, run_id: str) -> str:
    """The key of the next answer to a submission, after the answer of ``key`` has ended."""
    return _digest("next", key, run_id)


def note_name(realm: str, principal: str, conversation: str) -> str:
    """The name under which the latest run of a principal's conversation is noted."""
    return _digest("conversation", realm, principal, conversation)


def fingerprint(request: ChatRequest) -> str:
    """A digest of the request's content that does not depend on the form of its JSON.

    Unset fields, and a message of one text, are encoded as in earlier versions, so that a request
    still matches a run that such a version has begun.
    """
    messages = [{"role": each.role, "content": _content(each)} for each in request.messages]
    same = msgspec.structs.asdict(request) | {"linger": None, "messages": messages}
    del same["submission"]
    for name, default in _LATER.items():
        if same[name] == default:
            del same[name]
    if "events" in same:
        same["events"] = sorted(request.events)
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
