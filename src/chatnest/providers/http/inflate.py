"""Inflating: a compressed body, inflated in small steps, although the request did not allow it.

gzip, and deflate with and without zlib's frame (RFC 9110, section 8.4.1.2, requires the frame, but
servers send both).
"""

import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Final

from anyio.lowlevel import checkpoint

__all__ = ["CODINGS", "Inflating"]

CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})

_STEP: Final = 32_768
"""Maximum bytes that one step inflates, so that a megabyte does not become a gigabyte at once."""

_ANY_FRAME: Final = zlib.MAX_WBITS | 32
_NO_FRAME: Final = -zlib.MAX_WBITS


class Inflating:
    """``read`` returns the data of ``source`` inflated: at least one byte, or none at the end. It
    raises zlib.error if the data is not compressed, and EOFError if the data breaks off.
    """

    __slots__ = ("_begun", "_inflater", "_rest", "_source")

    def __init__(self, source: Callable[[], Awaitable[bytes]]) -> None:
        self._source = source
        self._inflater = zlib.decompressobj(_ANY_FRAME)
        self._rest = b""
        self._begun = False

    async def read(self) -> bytes:
        while True:
            if not self._rest:
                self._rest = await self._source()
                if not self._rest:
                    return self._end()
            else:
                await checkpoint()
            if data := self._step():
                return data

    def last(self, data: bytes) -> Iterator[bytes]:
        """Inflate the last ``data``, step by step, up to the first byte that cannot be inflated."""
        self._rest += data
        with suppress(zlib.error):
            while self._rest:
                yield self._step()

    def _step(self) -> bytes:
        try:
            data = self._inflater.decompress(self._rest, _STEP)
        except zlib.error:
            if self._begun:
                raise
            self._inflater = zlib.decompressobj(_NO_FRAME)
            data = self._inflater.decompress(self._rest, _STEP)
        self._begun = True
        self._rest = self._inflater.unconsumed_tail
        if self._inflater.eof:
            self._rest = self._inflater.unused_data  # a further member (RFC 1952, section 2.2)
            if self._rest:
                self._inflater = zlib.decompressobj(_ANY_FRAME)
        return data

    def _end(self) -> bytes:
        if self._begun and not self._inflater.eof:
            data = self._inflater.flush(_STEP)
            if data:
                return data
            raise EOFError
        return b""
