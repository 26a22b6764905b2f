"""Errors as sentences: the body of a refusal, which ``useChat`` shows as it is. No I/O."""

import math
from typing import Final

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.wire.error_headers import error_headers

__all__ = ["problem_response", "sentence_of"]

_STOPPED: Final = "This answer was stopped before its end. Ask again."

_SENTENCES: Final = {
    "client_gone": _STOPPED,
    "client_stalled": _STOPPED,
    "run_lost": "The server that was writing this answer has ended. Ask again.",
}
"""Sentences in place of details that advise a client, which a person cannot follow."""

_ADVICE: Final = ("ry again", "sk again")
_UNITS: Final = ((3_600, "hours"), (60, "minutes"))


def problem_response(error: ChatNestError) -> Document:
    """The response to a request that failed before its stream. ``useChat`` has the status and this
    text alone, so the text has the time to wait as well.
    """
    return Document(
        status=error.status,
        media_type="text/plain; charset=utf-8",
        headers=error_headers(error),
        body=sentence_of(error).encode("utf-8", "replace"),
    )


def sentence_of(error: ChatNestError) -> str:
    """An error as a sentence for people, with the time to wait if there is one."""
    text = _SENTENCES.get(error.code, error.detail)
    if (seconds := error.retry_after_seconds) is None or any(advice in text for advice in _ADVICE):
        return text
    return f"{text} Try again in {_duration(seconds)}."


def _duration(seconds: int) -> str:
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{math.ceil(seconds / size)} {unit}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
