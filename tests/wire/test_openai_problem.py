"""Errors in the form of OpenAI: none that was charged has a status that a client repeats."""

import json
from typing import Any

import pytest

from chatnest import errors
from chatnest.errors import (
    ChatNestError,
    ContextLengthExceeded,
    ForbiddenProfile,
    InternalError,
    InvalidRequest,
    KeyReused,
    LedgerUnavailable,
    LimitExceeded,
    MethodNotAllowed,
    Overloaded,
    RunCancelled,
    SlowBody,
    Unauthenticated,
    UnknownModel,
    UpstreamAccount,
    UpstreamInterrupted,
    UpstreamRejected,
    UpstreamTimeout,
)
from chatnest.wire.openai_problem import error_object, openai_problem

ID = "0" * 32


def limit(wait: float | None, unit: Any = "requests") -> LimitExceeded:
    return LimitExceeded("r", unit=unit, window=60, wait=wait, amount=1)


PROBLEMS: list[tuple[ChatNestError, bool, int, str, str]] = [
    (InvalidRequest("stop: must be a string."), False, 400, "invalid_request_error", ""),
    (Unauthenticated(), False, 401, "authentication_error", ""),
    (ForbiddenProfile(["a"]), False, 403, "permission_error", ""),
    (UnknownModel(["a"]), False, 404, "invalid_request_error", ""),
    (SlowBody(1), False, 408, "invalid_request_error", ""),
    (KeyReused(), False, 422, "invalid_request_error", ""),
    (limit(60), False, 429, "rate_limit_error", "rate_limit_exceeded"),
    (limit(60.1), False, 402, "insufficient_quota", "insufficient_quota"),
    (limit(None), False, 402, "insufficient_quota", "insufficient_quota"),
    (limit(1, "streams"), False, 429, "rate_limit_error", "rate_limit_exceeded"),
    (limit(3_600, "tokens"), False, 402, "insufficient_quota", "insufficient_quota"),
    (limit(1), True, 402, "insufficient_quota", "insufficient_quota"),
    (LedgerUnavailable(), False, 503, "server_error", ""),
    (Overloaded(), False, 503, "server_error", ""),
    (InternalError(), False, 500, "server_error", ""),
    (InternalError(), True, 424, "invalid_response_error", ""),
    (RunCancelled(), False, 499, "invalid_response_error", ""),
    (RunCancelled(), True, 424, "invalid_response_error", ""),
    (UpstreamTimeout(), False, 504, "server_error", ""),
    (UpstreamTimeout(), True, 424, "invalid_response_error", ""),
    (UpstreamInterrupted(), True, 424, "invalid_response_error", ""),
    (UpstreamAccount(), False, 424, "invalid_response_error", ""),
    (UpstreamRejected(), False, 424, "invalid_response_error", ""),
    (ContextLengthExceeded(), False, 400, "invalid_request_error", "context_length_exceeded"),
    (ContextLengthExceeded(), True, 400, "invalid_response_error", "context_length_exceeded"),
]


@pytest.mark.parametrize(("error", "charged", "status", "kind", "code"), PROBLEMS)
def test_an_error_has_a_status_a_type_and_a_code(error, charged, status, kind, code):
    problem = openai_problem(error, request_id=ID, charged=charged, names={})
    (name, found), *others = json.loads(problem.body).items()

    assert (name, others) == ("error", [])
    assert (problem.status, found["type"], found["code"]) == (status, kind, code or error.code)
    assert found["message"] == error.detail
    assert (problem.media_type, problem.headers["x-request-id"]) == ("application/json", ID)


def every_error() -> list[ChatNestError]:
    """One of each class that needs no facts, and limits."""
    found: list[ChatNestError] = [limit(1), limit(3_600), limit(None)]
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, ChatNestError):
            try:
                found.append(kind())
            except TypeError:
                continue
    return found


@pytest.mark.parametrize("error", every_error(), ids=lambda error: type(error).__name__)
def test_a_charged_failure_is_repeated_by_no_client(error):
    problem = openai_problem(error, request_id=ID, charged=True, names={})
    found = error_object(error, charged=True, names={})

    assert problem.status < 500
    assert problem.status not in {408, 409, 429}
    assert problem.headers["x-should-retry"] == "false"
    assert not is_repeated_by_the_ai_sdk(found["code"], found["type"])


def is_repeated_by_the_ai_sdk(code: str | None, kind: str | None) -> bool:
    """The rule of its package for OpenAI, for an error in a stream before the first content."""
    if "insufficient_quota" in {code, kind}:
        return False
    words = f"{code} {kind}".lower()
    if "rate_limit" in words and "insufficient_quota" not in words:
        return True
    refused = ("authentication", "permission", "not_found", "invalid", "bad_request")
    return not any(word in words for word in (*refused, "context_length"))


WAITS = [(0.2, "1", "200"), (1.5, "2", "1500"), (60, "60", "60000"), (3_600, "3600", None)]


@pytest.mark.parametrize(("wait", "seconds", "milliseconds"), WAITS)
def test_a_wait_is_in_both_fields_and_only_a_short_one_in_milliseconds(wait, seconds, milliseconds):
    headers = openai_problem(limit(wait), request_id=ID, charged=False, names={}).headers

    assert (headers["Retry-After"], headers.get("retry-after-ms")) == (seconds, milliseconds)


def test_a_client_may_repeat_a_failure_that_cost_nothing():
    repeated = openai_problem(Overloaded(), request_id=ID, charged=False, names={})
    final = openai_problem(InvalidRequest("No."), request_id=ID, charged=False, names={})

    assert "x-should-retry" not in repeated.headers
    assert final.headers["x-should-retry"] == "false"


PARAMS = {
    "messages[0].content[1].image_url.url: must be a data: URL.": (
        "messages[0].content[1].image_url.url"
    ),
    "n: must be 1.": "n",
    "The body is not valid JSON.": None,
    "The body: must be a JSON object.": None,
    "there is a field that is not one of a, b.": None,
}


@pytest.mark.parametrize(("detail", "param"), PARAMS.items())
def test_the_place_of_an_error_is_its_param(detail, param):
    assert error_object(InvalidRequest(detail), charged=False, names={})["param"] == param


def test_the_header_fields_of_an_error_are_sent():
    problem = openai_problem(MethodNotAllowed("POST"), request_id=ID, charged=False, names={})

    assert problem.headers["Allow"] == "POST"
