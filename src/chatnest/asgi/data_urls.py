"""DataUrls: the images of a large JSON body, cut out before the rest of it is parsed. No I/O.

A JSON parser makes an object of every few bytes, so it is given small bodies alone. A large one
that is honest consists of images in base64, and has little beside them.
"""

import re
from typing import Final

__all__ = ["SMALL_BODY", "DataUrls"]

SMALL_BODY: Final = 262_144
"""Bytes up to which a body is parsed as it is, on the event loop."""

_MOST_PLACES: Final = 1_024
"""Places that are tried. Beyond, nothing more is cut out."""

_START: Final = b'"data:'
_KEY: Final = re.compile(rb'"(?:url|image_url)"[ \t\r\n]*:[ \t\r\n]*\Z')
_BEFORE: Final = 64
"""Bytes before a URL in which its key is found."""

_WINDOW: Final = 1_048_576
"""Bytes that are searched at once. A search keeps all threads of Python waiting."""

_MARK: Final = "\0data:"


class DataUrls:
    """A body without the ``data:`` URLs that are the value of ``url`` or ``image_url``.

    In ``rest`` each one is replaced by a mark, which ``take`` exchanges for it, once. JSON stays
    JSON: a string is cut out from quote to quote. Slashes are the only escapes in a valid URL.
    """

    def __init__(self, body: bytes) -> None:
        self._urls: dict[str, bytes] = {}
        pieces: list[bytes] = []
        done = place = 0
        for _ in range(_MOST_PLACES):
            start = _find(body, place)
            end = body.find(b'"', start + len(_START))
            if start < 0 or end < 0:
                break
            place = start + 1
            if _KEY.search(body[max(0, start - _BEFORE) : start]):
                mark = f"{len(self._urls)}"
                self._urls[_MARK + mark] = body[start + 1 : end]
                pieces += (body[done:start], b'"\\u0000data:%b"' % mark.encode())
                done = place = end + 1
        self.rest: bytes = b"".join([*pieces, body[done:]]) if pieces else body

    def __len__(self) -> int:
        """How many have not been taken."""
        return len(self._urls)

    def take(self, text: str) -> str:
        """The URL that was replaced by ``text``, or ``text`` itself if it is not a mark."""
        url = self._urls.pop(text, None)
        if url is None:
            return text
        return url.replace(b"\\/", b"/").decode("latin-1")  # PHP escapes slashes


def _find(body: bytes, place: int) -> int:
    """The next start of a URL from a place on, or -1."""
    while place < len(body):
        start = body.find(_START, place, place + _WINDOW + len(_START) - 1)
        if start >= 0:
            return start
        place += _WINDOW
    return -1
