"""Failures: the one line in the log that a failed call of the model leaves. No I/O.

It has facts of ours, and of what the upstream wrote only what looks like a code: its texts may name
accounts and keys.
"""

import logging
import re
from collections.abc import Mapping
from typing import Final

from chatnest.errors import (
    AnswerTooLong,
    ChatNestError,
    EmptyAnswer,
    StreamTimeout,
    UpstreamAccount,
    UpstreamError,
)
from chatnest.turn import Turn

__all__ = ["log_failure"]

_log = logging.getLogger("chatnest.calls")

_CODE: Final = re.compile(
    r"(?=(?:\D*\d){0,4}\D*$)"
    r"(?:[a-z][a-z0-9_]{0,63}|[A-Z][A-Z_]{0,63}|(?:[A-Z][a-z]+){1,8}|[1-9][0-9]{2,3})"
)
"""As providers' codes are: ``model_not_found``, ``RESOURCE_EXHAUSTED``, ``BadRequestError``, 429.
What is not like them may be anything, a key among others.
"""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._+-]{1,40}(?:/[A-Za-z0-9._+-]{1,60})?")

_ADVICE: Final[Mapping[str, str]] = {
    "answer_too_long": "The server does not keep to max_tokens.",
    "context_length": "The profile's history or max_tokens_per_request is too large for the model.",
    "stream_timeout": "A longer answer needs a larger bounds.stream_seconds.",
    "upstream_account": "Check the key, its permissions and the credit of its account.",
    "upstream_bad_response": "Check that base_url leads to chat completions.",
    "upstream_error": "The provider failed; its status page may say more.",
    "upstream_interrupted": "The provider, or a proxy before it, ended the answer.",
    "upstream_overloaded": "The provider limits this account, or has no capacity.",
    "upstream_rejected": "Check the model's name and what it takes.",
    "upstream_timeout": "A slow model needs larger bounds.first_byte_seconds and idle_seconds.",
    "upstream_unavailable": "Check base_url, and the network to it.",
}
_ADVICE_BY_FIELD: Final[Mapping[str, str]] = {
    "stream_options": "The server does not take stream_options: set include_usage to false.",
    "messages": "The server does not take the conversation as it is.",
}
_ADVICE_BY_CODE: Final[Mapping[str, str]] = {
    "tool_calls": "The model called a tool although it was given none.",
}


def log_failure(turn: Turn, error: BaseException | None) -> None:
    """Log a failed call of ``turn``; nothing where there was no call, or it did not fail."""
    call = turn.call
    if call is None or not isinstance(error, UpstreamError | AnswerTooLong | StreamTimeout):
        return
    said = error.facts if isinstance(error, UpstreamError) else {}
    facts = {
        "request": turn.id,
        "address": call.place,
        "model": turn.model,
        "error": error.code,
        "status": str(call.status or ""),
        **{n: v for n, v in said.items() if _is_fact(n, v) and v != str(call.status)},
        "content_type": _media_type(call.content_type),
    }
    _log.log(
        logging.ERROR if isinstance(error, UpstreamAccount) else logging.WARNING,
        "model call failed: %s. %s",
        " ".join(f"{name}={value}" for name, value in facts.items() if value),
        _advice(turn, error, said),
    )


def _is_fact(name: str, value: str) -> bool:
    return (_CODE if name == "code" else _TOKEN).fullmatch(value) is not None


def _media_type(field: str) -> str:
    media_type = field.partition(";")[0].strip().lower()
    return media_type if _TOKEN.fullmatch(media_type) else ""


def _advice(turn: Turn, error: ChatNestError, said: Mapping[str, str]) -> str:
    if isinstance(error, EmptyAnswer):
        limit = f"max_output_tokens of profile {turn.profile.name!r} ({turn.max_output_tokens})"
        return f"A model that thinks may need a larger {limit}: thinking counts towards it."
    if (coding := said.get("content_encoding")) is not None:
        return f"The server compresses with {coding}, which is not read: turn that off for it."
    if (field := said.get("param", "")) and error.code == "upstream_rejected":
        return _ADVICE_BY_FIELD.get(field, f"The server does not take {field} as it was sent.")
    return _ADVICE_BY_CODE.get(said.get("code", "")) or _ADVICE.get(error.code, "")
