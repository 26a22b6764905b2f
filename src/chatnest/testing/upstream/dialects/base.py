"""Dialect: an answer to one request as the events of one API. No I/O."""

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import msgspec

from chatnest.testing.upstream.answers import Answer, usage_of
from chatnest.testing.upstream.delivery import Fault
from chatnest.testing.upstream.parts import TokenUsage

__all__ = ["Dialect", "to_json"]

to_json: Callable[[Any], bytes] = msgspec.json.encode
_numbers = itertools.count(1)


class Dialect(ABC):
    """An answer to one request as the events of one API, each ready to be written.

    A stream is `first`, `pieces` and `finish`, in this order. Subclasses encode; the order of
    writes, delays and faults is not their concern.
    """

    broken: ClassVar[dict[str, tuple[str, bytes]]]
    """For the faults that are unusable events: the name of the event, and its data."""

    def __init__(self, answer: Answer, request: dict[str, Any]) -> None:
        self.answer = answer
        self.request = request
        self.sent = 0
        self.number: int = next(_numbers)
        self.created: int = int(time.time())
        self.model: Any = request.get("model", "fake")
        self.eol = b"\r\n" if answer.crlf else b"\n"

    @classmethod
    def refusal(cls, answer: Answer) -> Answer:
        """Return the answer with the error of this API as its body. The default is OpenAI's."""
        return answer

    @abstractmethod
    def first(self) -> Iterable[bytes]:
        """Return the events before all content."""

    @abstractmethod
    def pieces(self) -> Iterator[tuple[bytes, int]]:
        """Yield the events of the content, each with the number of pieces in it, 0 or 1."""

    @abstractmethod
    def finish(self) -> Iterable[bytes]:
        """Return the events after the content: finish reason, usage, the last event."""

    @abstractmethod
    def endless_line(self) -> tuple[bytes, bytes]:
        """Return the start and the end of an event with text, without the text."""

    @abstractmethod
    def whole(self) -> bytes:
        """Return the body of a response that is not streamed."""

    @abstractmethod
    def ping(self) -> bytes:
        """Return an event that means nothing."""

    @abstractmethod
    def error(self, fault: Fault) -> bytes:
        """Return the event for a fault that is not in `broken`: an error in the stream."""

    def inserted(self) -> bytes:
        """Return the bytes of the answer's fault, or those that it gives for insertion."""
        fault = self.answer.fault
        if fault is None:
            return self.answer.inject
        if fault.name in self.broken:
            return self.frame(*self.broken[fault.name])
        return self.error(fault)

    def frame(self, event: str, data: bytes) -> bytes:
        """Return the bytes of an event with a name."""
        return b"event: %b%bdata: %b%b" % (event.encode(), self.eol, data, self.eol * 2)

    def waiting(self) -> bytes:
        """Return the comment and the ping before a piece, if the answer has them."""
        comment = b": waiting" + self.eol * 2 if self.answer.comments else b""
        return comment + self.ping() if self.answer.pings else comment

    def usage(self) -> TokenUsage:
        """Return the usage so far: the answer's, or 9 and the number of pieces sent."""
        return usage_of(self.answer, self.sent)
