"""DataUrls: the images of a large JSON body, cut out before the rest of it is parsed. No I/O.

A JSON parser may need many times the memory of its input, so only small bodies are parsed as they
are. An honest large body consists of images in base64 and little else.
"""

import re
from typing import Final

__all__ = ["SMALL_BODY", "DataUrls"]

SMALL_BODY: Final = 262_144
"""Bytes up to which a body is parsed as it is, on the event loop."""

_MOST_PLACES: Final = 1_024
"""Maximum places that are examined. After them, nothing more is cut out."""

_START: Final = re.compile(
    rb'"(?:url|image_url)"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}"(?=data:)'
    rb'|"(?:value|data)"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}"(?=[A-Za-z0-9+/\\]{1024})'
)
"""A key and the quote after it. Shorter texts of base64 are parsed as they are."""

_LONGEST_START: Final = 2_048
"""Bytes by which two searches overlap: a match of ``_START`` with its lookahead is shorter."""

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\"

_WINDOW: Final = 1_048_576
"""Bytes of one search. A search holds the GIL, so other threads wait."""

_MARK: Final = "\0data:"


class DataUrls:
    """A body without the ``data:`` URLs that are the value of ``url`` or ``image_url``, and without
    the long texts of base64 that are the value of ``value`` or ``data``.

    In ``rest`` a mark replaces each of these strings. ``take`` returns the string of a mark, once.
    ``rest`` is still JSON: a string is cut out from quote to quote. The only escapes in a valid
    string are those of slashes.
    """

    def __init__(self, body: bytes) -> None:
        self._urls: dict[str, bytes] = {}
        pieces: list[bytes] = []
        done = place = 0
        for _ in range(_MOST_PLACES):
            start = _find(body, place)
            end = body.find(b'"', start)
            if start < 0 or end < 0:
                break
            place = start
            if body.startswith(b"data:", start) or _is_base64(body, start, end):
                mark = f"{len(self._urls)}"
                self._urls[_MARK + mark] = body[start:end]
                pieces += (body[done : start - 1], b'"\\u0000data:%b"' % mark.encode())
                done = place = end + 1
        self.rest: bytes = b"".join([*pieces, body[done:]]) if pieces else body

    def __len__(self) -> int:
        """The number of strings that have not been taken."""
        return len(self._urls)

    def take(self, text: str) -> str:
        """The text that was replaced by ``text``, or ``text`` itself if it is not a mark."""
        url = self._urls.pop(text, None)
        if url is None:
            return text
        return url.replace(b"\\/", b"/").decode("latin-1")  # PHP escapes slashes


def _find(body: bytes, place: int) -> int:
    """The next first byte of a string that may be an image, from a place on, or -1."""
    while place < len(body):
        found = _START.search(body, place, place + _WINDOW + _LONGEST_START)
        if found is not None:
            return found.end()
        place += _WINDOW
    return -1


def _is_base64(body: bytes, start: int, end: int) -> bool:
    """Whether all of a string is base64, with slashes that may be escaped."""
    for place in range(start, end, _WINDOW):
        if body[place : min(end, place + _WINDOW)].translate(None, _BASE64):
            return False
    return body.count(b"\\", start, end) == body.count(b"\\/", start, end)
