"""Endings: whether an answer that has ended is whole, and what else may end one. No I/O."""

import re
from typing import Final, Literal

import msgspec

from chatnest.answer import Answer
from chatnest.errors import (
    ChatNestError,
    ClientGone,
    ConfigurationError,
    EmptyAnswer,
    InternalError,
    UpstreamInterrupted,
)

__all__ = [
    "PlainReason",
    "StopAnswer",
    "cause_of",
    "check_end",
    "is_incomplete",
    "plain_reason",
]


_REASON: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class StopAnswer(Exception):
    """A policy raises it in ``watch`` to end the answer. The client gets ``done`` with
    ``finish_reason``, and nothing of the text that was watched. Raises ValueError for a reason that
    is not a word of letters, digits, "_" and "-".
    """

    def __init__(self, finish_reason: str) -> None:
        given: object = finish_reason
        if not isinstance(given, str) or not _REASON.fullmatch(given):
            raise ValueError(
                f"finish_reason: expected letters, digits, '_' and '-', got {finish_reason!r}."
            )
        self.finish_reason: str = finish_reason
        super().__init__(finish_reason)


def cause_of(
    failure: BaseException | None, stopped: ChatNestError | None = None
) -> ChatNestError | None:
    """The error that a failure stands for, or None for an answer that ended without fault.

    A cancellation stands for ``stopped``, or for a client that has disconnected.

    The error has no traceback from here on: its callers keep it, and a traceback would keep their
    frames, with the request and its images, until the next collection of garbage.
    """
    match failure:
        case None | StopAnswer():
            return None
        case ConfigurationError():
            return InternalError()
        case ChatNestError():
            return failure.with_traceback(None)
        case Exception():
            return InternalError()
        case _:
            return stopped or ClientGone()


_FAILURES: Final = frozenset(
    {
        *("abort", "aborted", "cancel", "canceled", "cancelled", "connection_error", "deadline"),
        *("deadline_exceeded", "disconnected", "engine_error", "engine_overloaded", "error"),
        *("error_internal", "exception", "failed", "failure", "insufficient_system_resource"),
        *(
            "insufficient_system_resources",
            "internal_error",
            "internal_server_error",
            "interrupted",
        ),
        *("malformed_function_call", "malformed_response", "model_error", "network_error"),
        *("no_capacity", "out_of_memory", "oom", "overloaded", "preempted", "provider_error"),
        *(
            "rate_limit",
            "rate_limited",
            "resource_exhausted",
            "server_error",
            "service_unavailable",
        ),
        *("shutdown", "system_error", "timeout", "timed_out", "time_limit", "unavailable"),
        *("unexpected_tool_call", "upstream_error"),
    }
)
"""Words for an answer that the provider did not finish: DeepSeek's, Zhipu's, SGLang's and vLLM's,
OpenRouter's, Google's, and their like. Other words are the provider's own, and no failure.
"""

_LIMITS: Final = frozenset(
    {
        *("length", "max_length", "max_output_tokens", "max_tokens", "model_length", "token_limit"),
        *("model_context_window_exceeded", "max_completion_tokens"),
    }
)
_FILTERED: Final = frozenset(
    {
        *("blocklist", "content_filter", "content_filtered", "error_toxic", "guardrail_intervened"),
        *("prohibited_content", "recitation", "refusal", "safety", "sensitive", "spii"),
    }
)
_CALLED: Final = frozenset({"function_call", "tool_calls", "tool_use"})
_REASONS_FOR_NOTHING: Final = _FILTERED | _CALLED
"""After which an answer may be empty."""

PlainReason = Literal["stop", "length", "content_filter", "tool_calls"]
"""A finish reason in the words of OpenAI's API."""


def check_end(answer: Answer, *, may_be_empty: bool = False) -> None:
    """Raise unless the answer is whole: UpstreamInterrupted where the model did not say that it
    finished, or named a failure, EmptyAnswer where it wrote nothing and there is no reason for it.
    With ``may_be_empty`` an answer needs no reason to be empty.
    """
    if answer.finish_reason is None:
        raise UpstreamInterrupted
    if answer.finish_reason == "stop" and not answer.is_blank:  # nearly always
        return
    reason = _word(answer.finish_reason)
    facts = {"finish_reason": reason}
    if reason in _FAILURES:
        raise UpstreamInterrupted(facts=facts)
    if not may_be_empty and answer.is_blank and reason not in _REASONS_FOR_NOTHING:
        raise EmptyAnswer(spent=reason in _LIMITS, facts=facts)


def is_incomplete(answer: Answer) -> bool:
    """Whether the answer broke off within a tool call: it was cut for its length, and the arguments
    of its last call are not JSON.
    """
    calls = answer.tool_calls
    if not calls or _word(answer.finish_reason or "") not in _LIMITS:
        return False
    try:
        msgspec.json.decode(calls[-1].arguments)
    except (msgspec.DecodeError, UnicodeError):
        return True
    return False


def plain_reason(reason: str) -> PlainReason:
    """The word of OpenAI's API for a finish reason. Its clients know no others. A word that stands
    for nothing else is a ``stop``.
    """
    word = _word(reason)
    if word in _LIMITS:
        return "length"
    if word in _FILTERED:
        return "content_filter"
    return "tool_calls" if word in _CALLED else "stop"


def _word(reason: str) -> str:
    return reason.strip().lower().replace("-", "_").replace(" ", "_")
