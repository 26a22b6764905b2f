"""The rules of ASGI 3.0 (HTTP, spec version 2.4) for what an app sends. No I/O."""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

__all__ = ["ProtocolViolation", "ResponseRules"]

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")


class ProtocolViolation(AssertionError):
    """The app broke a rule of ASGI that its server would have to put up with."""


class ResponseRules:
    """Checks the messages of one response as they are sent.

    `check` and `returned` raise `ProtocolViolation`; the first is kept in `violation`, since an
    app may swallow what `send` raises. With `head`, the body is empty.
    """

    def __init__(self, *, head: bool = False) -> None:
        self._head = head
        self.started: bool = False
        self.complete: bool = False
        self.violation: ProtocolViolation | None = None
        self._declared: int | None = None
        self._sent = 0

    def check(self, message: Mapping[str, Any]) -> None:
        """Check the next message to be sent."""
        match message.get("type"):
            case "http.response.start":
                self._check_start(message)
                self.started = True
            case "http.response.body":
                self._check_body(message)
            case kind:
                self._broken(f"no server offered to take a message of the type {kind!r}")

    def returned(self) -> None:
        """Check what is left when the app returns to a client that is still there."""
        if not self.started:
            self._broken("the app returned without a response")
        if not self.complete:
            self._broken("the app returned before its last http.response.body")

    def _check_start(self, message: Mapping[str, Any]) -> None:
        if self.started:
            self._broken("a second http.response.start")
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 599:  # noqa: PLR2004
            self._broken(f"a status is an int from 200 to 599, not {status!r}")
        for name, value in message.get("headers", ()):
            self._check_header(name, value)

    def _check_header(self, name: object, value: object) -> None:
        if not isinstance(name, bytes) or not _NAME.fullmatch(name):
            self._broken(f"a header's name is a token in lower-case bytes, not {name!r}")
        if not isinstance(value, bytes) or not _VALUE.fullmatch(value):
            self._broken(f"the header {name!r} has no valid bytes for a value: {value!r}")
        if name == b"content-length":
            self._declared = int(value)

    def _check_body(self, message: Mapping[str, Any]) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self.started:
            self._broken("an http.response.body before http.response.start")
        if self.complete:
            self._broken("an http.response.body after the last one")
        if not isinstance(body, bytes) or not isinstance(more, bool):
            self._broken(f"a body is bytes and more_body a bool, not {body!r} and {more!r}")
        self._sent += len(body)
        self.complete = not more
        self._check_length()

    def _check_length(self) -> None:
        """RFC 9110, 8.6: the length declared is the length sent, but for HEAD, which has none."""
        declared = 0 if self._head else self._declared
        if declared is None:
            return
        if self._sent > declared or (self.complete and self._sent < declared):
            self._broken(f"{self._sent} bytes of body, {declared} declared")

    def _broken(self, rule: str) -> NoReturn:
        violation = ProtocolViolation(rule)
        self.violation = self.violation or violation
        raise violation
