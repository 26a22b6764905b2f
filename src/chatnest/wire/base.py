"""WireFormat: how one kind of client speaks. The seam. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.events import ClientEvent
from chatnest.requests import ChatRequest, EventKind

__all__ = ["Frames", "StreamInfo", "WireFormat"]


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a response that its frames may need.

    ``request`` is None for a client that resumes a run. ``usage_event`` is whether the client, or
    the operator, wants the cost at the end, and ``events`` the kinds of additional events.
    """

    request_id: str
    model: str
    usage_event: bool = False
    events: frozenset[EventKind] = frozenset()
    request: ChatRequest | None = None


class Frames(Protocol):
    """The encoder of one response. It may keep what is open from one call to the next."""

    def encode(self, events: Sequence[ClientEvent], /) -> bytes:
        """The bytes of these events, in their order, ready to be sent in one write.

        The order of events is ``Start (Delta | Ping)* (Done | Failed)``. In a run, Delta, Done and
        Failed come inside a Numbered. An event that the format does not have adds no bytes.
        """
        ...


class WireFormat(Protocol):
    """How one kind of client speaks: the body of its requests, the frames of its streams, and its
    errors. A format has no state of a request: ``frames`` makes an encoder for each response.
    """

    @property
    def path(self) -> str:
        """The path of its chat requests, relative to the chat: "" for the chat's own path, or one
        that begins with "/", such as "/v1/chat/completions". Its runs are at ``/runs/{id}`` below.
        """
        ...

    @property
    def content_type(self) -> str:
        """The media type of its streams."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """More header fields of its streams."""
        ...

    def parse(self, body: bytes, head: Mapping[bytes, bytes], /) -> ChatRequest:
        """The request in a body, which is JSON by its Content-Type. ``head`` has the first value of
        each header field, by its lower-case name, as bytes (ASGI).

        Raises InvalidRequest, whose detail must not repeat what was sent.
        """
        ...

    def frames(self, info: StreamInfo, /) -> Frames:
        """A new encoder."""
        ...

    def problem(self, error: ChatNestError, /, *, request_id: str, charged: bool) -> Document:
        """The response to a request that failed before its stream. ``charged`` is whether it cost
        anything.
        """
        ...
