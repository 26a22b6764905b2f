"""The rules of ASGI 3.0 (HTTP, spec version 2.4) for the messages an app sends. No I/O."""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["ProtocolViolation", "ResponseRules"]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class ProtocolViolation(AssertionError):
    """The app broke a rule of the ASGI specification."""


class ResponseRules:
    """Checks the messages of one response as the app sends them.

    `check` and `returned` raise `ProtocolViolation`. `violation` keeps the first one, because an
    app may catch the exception that `send` raises. With `head`, the response has no body.
    """

    def __init__(self, *, head: bool = False) -> None:
        self._head = head
        self.started: bool = False
        self.complete: bool = False
        self.violation: ProtocolViolation | None = None
        self._declared: int | None = None
        self._sent = 0

    def check(self, message: Mapping[str, Any]) -> None:
        """Check the next message."""
        match message.get("type"):
            case "http.response.start":
                self._check_start(message)
                self.started = True
            case "http.response.body":
                self._check_body(message)
            case kind:
                self._violate(f"type: expected an http.response message, got {kind!r}")

    def returned(self) -> None:
        """Check that the response is complete when the app returns to a connected client."""
        if not self.started:
            self._violate("the app returned without a response")
        if not self.complete:
            self._violate("the app returned before its last http.response.body")

    def _check_start(self, message: Mapping[str, Any]) -> None:
        if self.started:
            self._violate("a second http.response.start")
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 599:  # noqa: PLR2004
            self._violate(f"status: expected an int from 200 to 599, got {status!r}")
        for name, value in message.get("headers", ()):
            self._check_header(name, value)

    def _check_header(self, name: object, value: object) -> None:
        if not isinstance(name, bytes) or not _NAME.fullmatch(name):
            self._violate(f"header name: expected a token in lower-case bytes, got {name!r}")
        if not isinstance(value, bytes) or not _VALUE.fullmatch(value):
            self._violate(f"header {name!r}: expected bytes without NUL, CR and LF, got {value!r}")
        if name == b"content-length":
            self._declared = int(value)

    def _check_body(self, message: Mapping[str, Any]) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self.started:
            self._violate("an http.response.body before http.response.start")
        if self.complete:
            self._violate("an http.response.body after the last one")
        if not isinstance(body, bytes) or not isinstance(more, bool):
            self._violate(f"expected body in bytes and more_body a bool, got {body!r}, {more!r}")
        self._sent += len(body)
        self.complete = not more
        self._check_length()

    def _check_length(self) -> None:
        """Compare the declared length with the body (RFC 9110, 8.6); HEAD must not send one."""
        declared = 0 if self._head else self._declared
        if declared is None:
            return
        if self._sent > declared or (self.complete and self._sent < declared):
            self._violate(f"content-length: declared {declared} bytes, sent {self._sent}")

    def _violate(self, rule: str) -> NoReturn:
        violation = ProtocolViolation(rule)
        self.violation = self.violation or violation
        raise violation
