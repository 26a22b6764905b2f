"""CANARY, and the message of every error of the fake upstream, which carries it. No I/O."""

from typing import Any

__all__ = ["CANARY", "MESSAGE", "openai_error"]

CANARY = "org-canary7f3a9c"
"""Text in every error of the fake upstream. It must not reach a client or a log."""

MESSAGE = f"Refused for organization {CANARY} with key sk-{CANARY}. See your account."
"""The message of every error."""


def openai_error(code: str | int | None, kind: str | None) -> dict[str, Any]:
    """Return the error object of OpenAI's APIs."""
    return {"message": MESSAGE, "type": kind, "param": None, "code": code}
