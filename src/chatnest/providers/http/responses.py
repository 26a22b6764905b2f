"""ResponseParser: bytes of an HTTP/1.1 server to responses, one at a time, within bounds.

The parser is llhttp. It appends the parts of a body to a list itself, so that a part of a body
costs no call of Python. A server is trusted as little as a client: heads are bounded, and both data
that was not requested and data that is not HTTP are errors.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from math import inf
from typing import Any, Final

import httptools

__all__ = ["BODY", "HEAD", "HTTP_ERRORS", "IDLE", "WHOLE", "RefusedResponse", "ResponseParser"]

_HEAD_BYTES: Final = 65_536
_MOST_FIELDS: Final = 256
_MOST_HEADS: Final = 16
"""Maximum heads of one response: interim ones (RFC 9110, section 15.2) and the last."""

_KEPT: Final = re.compile(r"(?:^|,)\s*timeout\s*=\s*\"?([0-9]+)\"?\s*(?=,|$)", re.IGNORECASE)
"""The seconds in a ``Keep-Alive`` field (RFC 2068, section 19.7.1.1)."""

HTTP_ERRORS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
"""Exceptions of ``ResponseParser.feed``."""


class RefusedResponse(Exception):
    """The server sent more than a bound allows, or something that was not requested."""


IDLE, HEAD, BODY, WHOLE = range(4)
"""Stages of a parser: no request is open; its response has no head yet; the response has a head;
the response is complete.
"""


class ResponseParser:
    """The responses of one connection.

    ``expect`` announces a request, ``feed`` parses bytes, and ``pieces`` has the parts of the body
    that were not read. ``whole_at`` is the time at which the last response was complete, by
    ``clock``, and ``kept_for`` the seconds from then for which the server keeps the connection.
    """

    __slots__ = (
        *("_clock", "_fields_left", "_head_left", "_heads_left", "_parser", "feed", "fields"),
        *("is_reusable", "kept_for", "on_body", "pieces", "stage", "status", "until_end"),
        "whole_at",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.stage: int = IDLE
        self.pieces: list[bytes] = []
        self.whole_at: float = 0.0
        self.kept_for: float = inf
        self.on_body: Any = self.pieces.append  # llhttp calls it
        self._parser: Any = httptools.HttpResponseParser(self)
        # A client must accept folded fields and may accept the others (RFC 9112, sections 2.2, 5.2,
        # 6.3 and 7.1.1). With one request at a time, leniency cannot enable smuggling.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self.feed: Callable[[bytes], None] = self._parser.feed_data

    def expect(self) -> None:
        """Expect the response to a request that is about to be sent."""
        self.stage = HEAD
        self._head_left, self._heads_left = _HEAD_BYTES, _MOST_HEADS

    def is_too_long(self, size: int) -> bool:
        """Whether ``size`` more bytes of a head are beyond the bound. The bytes then count."""
        self._head_left -= size
        return self._head_left < 0

    def end(self) -> None:
        """Note the end of the connection, which completes a body without a length."""
        if self.stage == BODY and self.until_end:
            self.stage = WHOLE

    def close(self) -> None:
        """Break the reference cycle with llhttp's parser. Nothing can be fed any more."""
        self._parser = self.on_body = self.feed = None  # type: ignore[assignment]

    # ------------------------------------------------ called by llhttp

    def on_message_begin(self) -> None:
        if self.stage != HEAD or self._heads_left == 0:
            raise RefusedResponse
        self._heads_left -= 1
        self._fields_left = _MOST_FIELDS
        self.fields: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called for a field of the head or a trailer. The first value of a name counts."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise RefusedResponse
        if self.stage == HEAD:
            self.fields.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise RefusedResponse
        if status < HTTPStatus.OK:
            return  # an interim response
        fields = self.fields
        self.status: int = status
        self.is_reusable: bool = self._parser.should_keep_alive()
        self.kept_for = _seconds_kept(fields["keep-alive"]) if "keep-alive" in fields else inf
        self.until_end: bool = "content-length" not in fields and "transfer-encoding" not in fields
        self.stage = BODY

    def on_message_complete(self) -> None:
        if self.stage == BODY:
            self.stage = WHOLE
            self.whole_at = self._clock()


def _seconds_kept(field: str) -> float:
    return min(map(float, _KEPT.findall(field)), default=inf)
