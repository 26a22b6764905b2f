"""Bodies of responses: how they are compressed, error documents, and a bounded close."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Final

from anyio import CancelScope, move_on_after

from chatnest.errors import UpstreamBadResponse
from chatnest.providers.http.inflate import CODINGS, Inflating
from chatnest.providers.http.transport import Response

__all__ = [
    "FED_AT_ONCE",
    "READS_WITHOUT_BREAK",
    "check_coding",
    "closing",
    "in_steps",
    "is_compressed",
    "is_readable",
    "read_document",
]

FED_AT_ONCE: Final = 32_768
"""Maximum bytes that are decoded without a break, so that a flood does not block the event loop."""

READS_WITHOUT_BREAK: Final = 64
"""Maximum reads without a break: reading a body in tiny chunks may never have to wait."""

_ERROR_BYTES: Final = 65_536
"""Maximum bytes that are read of an error document."""

_ERROR_SECONDS: Final = 2.0
"""Maximum seconds to read an error document."""

_CLOSE_SECONDS: Final = 1.0
"""Maximum seconds to close a connection."""


def closing() -> CancelScope:
    """A scope in which to close a connection: shielded, and limited in time."""
    return move_on_after(_CLOSE_SECONDS, shield=True)


def in_steps(rest: bytes, more: Iterable[bytes]) -> Iterator[bytes]:
    """Bytes that are left, in parts of at most FED_AT_ONCE."""
    for data in chain((rest,), more):
        for start in range(0, len(data), FED_AT_ONCE):
            yield data[start : start + FED_AT_ONCE]


def is_compressed(response: Response) -> bool:
    """Whether the body has a content coding (RFC 9110, section 8.4)."""
    return bool(_coding_of(response))


def is_readable(response: Response) -> bool:
    """Whether the body is uncompressed, or has a coding that can be inflated."""
    return _coding_of(response) in {"", *CODINGS}


def check_coding(response: Response) -> None:
    """Raise UpstreamBadResponse unless the body is readable."""
    if not is_readable(response):
        raise UpstreamBadResponse(facts={"content_encoding": _coding_of(response)})


async def read_document(response: Response) -> bytes:
    """The beginning of an error document. It may be incomplete or empty, and nothing is raised:
    the status alone describes the error well enough.
    """
    document = b""
    read = Inflating(response.read).read if _coding_of(response) in CODINGS else response.read
    with move_on_after(_ERROR_SECONDS), suppress(Exception):
        while len(document) < _ERROR_BYTES and (data := await read()):
            document += data
    return document[:_ERROR_BYTES]


def _coding_of(response: Response) -> str:
    coding = response.headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding
