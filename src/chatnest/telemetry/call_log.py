"""CallLog: an observer that logs failed calls to the model. No I/O.

Each failed call is one line with our own facts. From the upstream, the line takes only codes and
short names, since any other text may contain accounts and keys.
"""

import logging
import re
from collections.abc import Mapping
from typing import Final, assert_never

from chatnest.errors import (
    AnswerTooLong,
    ChatNestError,
    EmptyAnswer,
    StreamTimeout,
    UpstreamAccount,
    UpstreamError,
)
from chatnest.telemetry.base import (
    Admitted,
    Asked,
    Attempted,
    Ended,
    FirstPiece,
    Observation,
    Refused,
)

__all__ = ["CallLog"]

_log = logging.getLogger("chatnest.calls")

_CODE: Final = re.compile(
    r"(?=(?:\D*\d){0,4}\D*$)"
    r"(?:[a-z][a-z0-9_]{0,63}|[A-Z][A-Z_]{0,63}|(?:[A-Z][a-z]+){1,8}|[1-9][0-9]{2,3})"
)
"""The shapes of providers' codes: ``model_not_found``, ``RESOURCE_EXHAUSTED``, ``BadRequestError``,
429. Any other text may be a secret, such as a key.
"""
_TOKEN: Final = re.compile(r"[A-Za-z0-9._+-]{1,40}(?:/[A-Za-z0-9._+-]{1,60})?")

_ADVICE: Final[Mapping[str, str]] = {
    "answer_too_long": "The server does not keep to max_tokens.",
    "context_length": "The profile's history or max_tokens_per_request is too large for the model.",
    "stream_timeout": "A longer answer needs a larger bounds.stream_seconds.",
    "upstream_account": "Check the key, its permissions and the credit of its account.",
    "upstream_bad_response": "Check that base_url points to an API with /chat/completions.",
    "upstream_error": "The provider failed; its status page may say more.",
    "upstream_interrupted": "The provider, or a proxy before it, ended the answer.",
    "upstream_overloaded": "The provider limits this account, or has no capacity.",
    "upstream_rejected": "Check the model's name, and which parameters it accepts.",
    "upstream_timeout": "A slow model needs larger bounds.first_byte_seconds and idle_seconds.",
    "upstream_unavailable": "Check base_url, and the network to it.",
}
_ADVICE_BY_FIELD: Final[Mapping[str, str]] = {
    "stream_options": "The server does not accept stream_options: set include_usage to false.",
    "messages": "The server rejected the messages. Check which roles and content it accepts.",
}
_ADVICE_BY_CODE: Final[Mapping[str, str]] = {
    "tool_calls": "The model called a tool although it was given none.",
}


class CallLog:
    """Logs each failed call to the model. Refusals and successful answers are not logged."""

    def observe(self, event: Observation) -> None:
        """See Observer."""
        match event:
            case Attempted(error=UpstreamError() | AnswerTooLong() | StreamTimeout() as error):
                _log_failure(event, error)
            case Asked() | Refused() | Admitted() | Attempted() | FirstPiece() | Ended():
                pass
            case _:
                assert_never(event)


def _log_failure(event: Attempted, error: ChatNestError) -> None:
    status = str(event.attempt.status or "")
    said = error.facts if isinstance(error, UpstreamError) else {}
    facts = {
        "request": event.id,
        "address": event.address,
        "model": event.attempt.model,
        "error": error.code,
        "status": status,
        **{n: v for n, v in said.items() if _is_fact(n, v) and v != status},
        "content_type": _media_type(event.content_type),
    }
    _log.log(
        logging.ERROR if isinstance(error, UpstreamAccount) else logging.WARNING,
        "model call failed: %s. %s",
        " ".join(f"{name}={value}" for name, value in facts.items() if value),
        _advice(event, error, said),
    )


def _is_fact(name: str, value: str) -> bool:
    return (_CODE if name == "code" else _TOKEN).fullmatch(value) is not None


def _media_type(field: str) -> str:
    media_type = field.partition(";")[0].strip().lower()
    return media_type if _TOKEN.fullmatch(media_type) else ""


def _advice(event: Attempted, error: ChatNestError, said: Mapping[str, str]) -> str:
    if isinstance(error, EmptyAnswer):
        limit = f"max_output_tokens of profile {event.profile!r} ({event.max_output_tokens})"
        return f"A model that thinks may need a larger {limit}: thinking counts towards it."
    if (coding := said.get("content_encoding")) is not None:
        return f"The server compresses with {coding}, which chatnest cannot read: turn that off."
    if (field := said.get("param", "")) and error.code == "upstream_rejected":
        return _ADVICE_BY_FIELD.get(field, f"The server rejected {field}. Check what it accepts.")
    return _ADVICE_BY_CODE.get(said.get("code", "")) or _ADVICE.get(error.code, "")
