"""Parsing of a native request: from the bytes of a body to a valid ChatRequest. No I/O.

The body is that of chat-nest-server. Everything about it is checked here, once.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from chatnest.conversation import Message, Text
from chatnest.errors import InvalidRequest
from chatnest.profiles import profile_name
from chatnest.requests import MAX_CONVERSATION, NO_QUESTION, ChatRequest, is_conversation

__all__ = ["MAX_MESSAGES", "parse_request"]


class _Message(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str
    id: str | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    messages: list[_Message]
    profile: str | None = None
    ai_usage_profile: str | None = None
    daily_token_limit: int | None = None
    max_tokens_per_request: int | None = None
    system_prompt: str | None = None
    usage_event: bool | None = None
    linger: float | None = None
    conversation: str | None = None


_decoder: Final = msgspec.json.Decoder(_Body)
# Only known names: msgspec's message about an unknown field or role ends with the client's text.
_PLACE: Final = re.compile(
    r"- at `\$\.?(messages|messages\[\d{1,6}\](?:\.(?:role|content|id))?|profile|aiUsageProfile"
    r"|dailyTokenLimit|maxTokensPerRequest|systemPrompt|usageEvent|linger|conversation)`$"
)

MAX_MESSAGES: Final = 1_000
"""Messages in one body. Policies keep far fewer; this only bounds the work of reading them."""

_EXPECTED: Final = {
    "": "a JSON object with a list `messages`",
    "messages": f"a list of 1 to {MAX_MESSAGES:,} messages",
    "role": "'user' or 'assistant'",
    "content": "a string that is not blank",
    "id": "a string",
    "profile": "the name of a profile",
    "aiUsageProfile": "the name of a profile",
    "dailyTokenLimit": "a whole number of at least 1",
    "maxTokensPerRequest": "a whole number of at least 1",
    "systemPrompt": "a string",
    "usageEvent": "true or false",
    "linger": "a number of seconds, at least 0",
    "conversation": f"a string of 1 to {MAX_CONVERSATION} printable characters, not only spaces",
}


def parse_request(body: bytes, _: Mapping[bytes, bytes] | None = None) -> ChatRequest:
    """The request in ``body``, which is JSON in UTF-8 (RFC 8259). See WireFormat.parse; the head of
    the request has nothing for this format.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent. Duplicate keys are refused: a proxy in front may have read the other one.
    """
    parsed = _decode(body)
    messages = _messages(parsed.messages)
    for name, value in (
        ("dailyTokenLimit", parsed.daily_token_limit),
        ("maxTokensPerRequest", parsed.max_tokens_per_request),
    ):
        if value is not None and value < 1:
            raise _wrong(name)
    if parsed.linger is not None and parsed.linger < 0:
        raise _wrong("linger")
    if parsed.conversation is not None and not is_conversation(parsed.conversation):
        raise _wrong("conversation")
    profile = parsed.profile if parsed.profile is not None else parsed.ai_usage_profile
    return ChatRequest(
        messages=messages,
        profile=None if profile is None else profile_name(profile),
        daily_token_limit=parsed.daily_token_limit,
        max_tokens_per_request=parsed.max_tokens_per_request,
        system_prompt=parsed.system_prompt,
        usage_event=bool(parsed.usage_event),
        linger=parsed.linger,
        conversation=parsed.conversation,
    )


def _messages(sent: list[_Message]) -> tuple[Message, ...]:
    """The messages that say something. Many models refuse a blank message, so a blank one in the
    history would make every later request of its conversation fail. chat-nest's client keeps an
    empty answer, for example, when it was stopped before its first token.
    """
    if not 1 <= len(sent) <= MAX_MESSAGES:
        raise _wrong("messages")
    last = sent[-1]
    if last.role == "user" and not last.content.strip():
        raise _wrong(f"messages[{len(sent) - 1}].content")
    messages = [Message(each.role, (Text(each.content),)) for each in sent if each.content.strip()]
    if not messages:
        raise InvalidRequest(NO_QUESTION)
    return tuple(messages)


def _decode(body: bytes) -> _Body:
    try:
        try:
            parsed = _decoder.decode(body)
        except (msgspec.ValidationError, UnicodeError):
            raise
        except msgspec.DecodeError as exc:
            if "UTF-8" in str(exc):  # msgspec 0.23; before, it was a UnicodeDecodeError
                body.decode()
            body = _mend_surrogates(body)
            parsed = _decoder.decode(body)
        # The typed decoder has bounded the depth, so the second reading cannot overflow.
        _unique.decode(body.decode())
    except InvalidRequest:
        raise
    except msgspec.ValidationError as exc:
        raise _explain(exc) from None
    except UnicodeError:
        raise InvalidRequest("The body must be valid UTF-8.") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidRequest("The body is not valid JSON.") from None
    return parsed


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("A key stands twice in one JSON object.")
    return found


_unique: Final = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def _mend_surrogates(body: bytes) -> bytes:
    """The body with U+FFFD for each half of a surrogate pair. Clients that cut text by UTF-16
    units send halves, which msgspec refuses and Python's own decoder takes.
    """
    if not _SURROGATE.search(body):
        return body
    text = json.dumps(_unique.decode(body.decode()), ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _explain(exc: msgspec.ValidationError) -> InvalidRequest:
    text = str(exc)
    match = _PLACE.search(text)
    place = match[1] if match else ""
    if text.startswith("Object contains unknown field"):
        where = f"{place}: " if place else ""
        return InvalidRequest(f"{where}there is a field that is not one of {_fields(place)}.")
    if text.startswith("Object missing required field"):
        # this is the name of a known field, never the client's text
        field = text.split("`")[1]
        place = f"{place}.{field}" if place else field
    return _wrong(place)


def _fields(place: str) -> str:
    kind: type[msgspec.Struct] = _Message if place else _Body
    return ", ".join(kind.__struct_encode_fields__)


def _wrong(place: str) -> InvalidRequest:
    leaf = re.sub(r"\[\d*\.*\]$", "", place).rsplit(".", 1)[-1]
    expected = _EXPECTED.get(leaf, _EXPECTED[""])
    if place.endswith("]"):
        expected = "an object with role and content"
    return InvalidRequest(f"{place or 'The body'}: must be {expected}.")
