"""The errors of Anthropic's Messages API, as bodies and as events. No I/O."""

import dataclasses
from typing import Any

from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.canary import CANARY, MESSAGE
from chatnest.testing.upstream.dialects.base import to_json

__all__ = ["error_object", "refusal", "type_of_code"]

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_CODES = {"server_error": "overloaded_error", "rate_limit_exceeded": "rate_limit_error"}
_MESSAGES = {
    "context_length_exceeded": "prompt is too long: 210000 tokens > 200000 maximum.",
    "insufficient_quota": "Your credit balance is too low to access the Anthropic API.",
}
_SERVER_ERRORS = 500
_OPENAI_HEADERS = {"x-request-id", "openai-organization"}


def refusal(answer: Answer) -> Answer:
    """Return an answer with an error of OpenAI's as the same error of the Messages API.

    An account without credit is a 400 there, whose message is all that sets it apart.
    """
    fault = answer.fault
    if fault is None or fault.name != "refusal":
        return answer
    code = str(fault.code)
    status = 400 if code == "insufficient_quota" else answer.status
    other = "api_error" if status >= _SERVER_ERRORS else "invalid_request_error"
    body = error_object(_TYPES.get(status, other), _MESSAGES.get(code, ""))
    headers = {"request-id": f"req_{CANARY}", "anthropic-organization-id": CANARY}
    headers |= {k: v for k, v in answer.headers.items() if k.lower() not in _OPENAI_HEADERS}
    return dataclasses.replace(answer, status=status, headers=headers, body=to_json(body))


def type_of_code(code: str | int | None) -> str:
    """Return the type of an error event. OpenAI's words are translated, others stay."""
    word = code if isinstance(code, str) else "api_error"
    return _CODES.get(word, word)


def error_object(kind: str, why: str = "") -> dict[str, Any]:
    """Return the object of an error, in a body or in an event."""
    error = {"type": kind, "message": f"{why} {MESSAGE}".strip()}
    return {"type": "error", "error": error, "request_id": f"req_{CANARY}"}
