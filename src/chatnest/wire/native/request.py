"""Parsing of a native request: from the bytes of a body to a valid ChatRequest. No I/O.

The body is that of chat-nest-server, with the messages and tools of Chat Completions. Everything
about it is checked here, once.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from chatnest.asgi.data_urls import SMALL_BODY, DataUrls
from chatnest.errors import InvalidRequest
from chatnest.profiles import profile_name
from chatnest.requests import DEFAULT_SAMPLING, ChatRequest, Sampling, ToolChoice, is_conversation
from chatnest.wire.native.body import Body
from chatnest.wire.native.messages import messages_of
from chatnest.wire.native.places import (
    MAX_MODEL,
    MAX_SEED,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    explain,
    wrong,
)
from chatnest.wire.native.tools import choice_of, format_of, tools_of

__all__ = ["parse_request"]

_decoder: Final = msgspec.json.Decoder(Body)
_AUTO: Final = ToolChoice()

_COUNTS: Final = {
    "daily_token_limit": "dailyTokenLimit",
    "max_tokens_per_request": "maxTokensPerRequest",
    "max_output_tokens": "maxOutputTokens",
}
_RANGES: Final = {
    "temperature": ("temperature", 0, 2),
    "top_p": ("topP", 0, 1),
    "presence_penalty": ("presencePenalty", -2, 2),
    "frequency_penalty": ("frequencyPenalty", -2, 2),
    "seed": ("seed", -MAX_SEED - 1, MAX_SEED),
}


def parse_request(body: bytes, _: Mapping[bytes, bytes] | None = None) -> ChatRequest:
    """The request in ``body``, which is JSON in UTF-8 (RFC 8259). See WireFormat.parse; the head of
    the request has nothing for this format.

    Raises InvalidRequest, whose detail names the place and what belongs there, and never repeats
    what was sent. Duplicate keys are refused: a proxy in front may have read the other one.
    """
    urls = DataUrls(body) if len(body) > SMALL_BODY else None
    parsed = _decode(body if urls is None else urls.rest)
    _check_numbers(parsed)
    messages = messages_of(parsed.messages, str if urls is None else urls.take)
    if urls:
        raise InvalidRequest(
            "messages: must have each data: URL as the image_url of a part of its own."
        )
    if parsed.linger is not None and parsed.linger < 0:
        raise wrong("linger")
    if parsed.conversation is not None and not is_conversation(parsed.conversation):
        raise wrong("conversation")
    model = parsed.model
    if model is not None and not (0 < len(model) <= MAX_MODEL and model.isprintable()):
        raise wrong("model")
    profile = parsed.profile if parsed.profile is not None else parsed.ai_usage_profile
    tools = tools_of(parsed.tools) if parsed.tools else ()
    sampling = Sampling(
        temperature=parsed.temperature,
        top_p=parsed.top_p,
        presence_penalty=parsed.presence_penalty,
        frequency_penalty=parsed.frequency_penalty,
        seed=parsed.seed,
        stop=_stops(parsed.stop) if parsed.stop is not None else (),
    )
    return ChatRequest(
        messages=messages,
        profile=None if profile is None else profile_name(profile),
        model=model,
        daily_token_limit=parsed.daily_token_limit,
        max_tokens_per_request=parsed.max_tokens_per_request,
        max_output_tokens=parsed.max_output_tokens,
        system_prompt=parsed.system_prompt,
        usage_event=bool(parsed.usage_event),
        events=frozenset(parsed.events or ()),
        linger=parsed.linger,
        conversation=parsed.conversation,
        tools=tools,
        tool_choice=_AUTO
        if parsed.tool_choice is None and parsed.parallel_tool_calls is None
        else choice_of(parsed, tools),
        output=None if parsed.response_format is None else format_of(parsed.response_format),
        effort=parsed.reasoning_effort,
        sampling=DEFAULT_SAMPLING if sampling == DEFAULT_SAMPLING else sampling,
    )


def _check_numbers(parsed: Body) -> None:
    for field, name in _COUNTS.items():
        value = getattr(parsed, field)
        if value is not None and value < 1:
            raise wrong(name)
    for field, (name, least, most) in _RANGES.items():
        value = getattr(parsed, field)
        if value is not None and not least <= value <= most:
            raise wrong(name)


def _stops(sent: str | list[str]) -> tuple[str, ...]:
    words = [sent] if isinstance(sent, str) else sent
    if len(words) > MAX_STOPS or not all(0 < len(word) <= MAX_STOP_CHARACTERS for word in words):
        raise wrong("stop")
    return tuple(words)


def _decode(body: bytes) -> Body:
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
        _unique.decode(body.decode())
    except InvalidRequest:
        raise
    except msgspec.ValidationError as exc:
        raise explain(exc) from None
    except UnicodeError:
        raise InvalidRequest("The body must be valid UTF-8.") from None
    except RecursionError:
        raise InvalidRequest("The body has too many levels of nesting.") from None
    except (msgspec.DecodeError, ValueError):
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
