"""WireFormat: how one kind of client speaks. The seam. No I/O."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, runtime_checkable

import msgspec

from chatnest.asgi.http import Document
from chatnest.errors import ChatNestError
from chatnest.events import ClientEvent
from chatnest.requests import ChatRequest, EventKind

__all__ = [
    "RUNS",
    "Action",
    "Frames",
    "HasBodyType",
    "HasDocuments",
    "HasModels",
    "HasMorePaths",
    "HasQuotaErrors",
    "HasReceipts",
    "MorePath",
    "StreamInfo",
    "WireFormat",
]


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a response that its frames may need.

    ``request_id`` is the id of the request, and ``run_id`` the id of the run that it has joined, if
    any. ``request`` is None for a client that resumes a run, and ``note`` is then the note of the
    request that began it.
    ``usage_event`` is whether the client, or the operator, wants the cost at the end, and
    ``events`` the kinds of additional events.
    """

    request_id: str
    model: str
    usage_event: bool = False
    events: frozenset[EventKind] = frozenset()
    request: ChatRequest | None = None
    note: str = ""
    run_id: str = ""

    @property
    def answer_id(self) -> str:
        """The id of the answer, which all its readers share."""
        return self.run_id or self.request_id


class Frames(Protocol):
    """The encoder of one response. It may keep what is open from one call to the next. It may have
    ``headers``, a mapping of header fields for its response.

    For a request whose submission has ``stream=False``, all bytes come with the last event, and are
    one JSON document.
    """

    def encode(self, events: Sequence[ClientEvent], /) -> bytes:
        """The bytes of these events, in their order, ready to be sent in one write.

        The order of events is ``Start (Delta | Ping)* (Done | Failed)``. In a run, Delta, Done and
        Failed come inside a Numbered. An event that the format does not have adds no bytes.
        """
        ...


class WireFormat(Protocol):
    """How one kind of client speaks: the body of its requests, the frames of its streams, and its
    errors. A format has no state of a request: ``frames`` makes an encoder for each response.

    The other protocols of this module name what a format may have beside: paths, receipts, models,
    and for the OpenAPI document the type of its body, answers without a stream and errors of quota.
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


Action = Literal["resume", "cancel", "models"]
"""The effect of a path: resume a run, cancel a run, or list models."""


class MorePath(msgspec.Struct, frozen=True):
    """A path of a format beside the one of its chats, and its action by HTTP method.

    ``path`` is relative to the chat, and may have one of these placeholders:

    - ``{run}``: the id of a run
    - ``{conversation}``: the id of a conversation, for its latest run
    - ``{model}``: the name of a model
    """

    path: str
    actions: Mapping[str, Action]


RUNS: Final[Mapping[str, Action]] = {"GET": "resume", "DELETE": "cancel"}
"""The actions of a run, for formats without paths of their own."""


@runtime_checkable
class HasMorePaths(Protocol):
    """A format with paths of its own beside the one of its chats. Other formats have their runs at
    ``/runs/{run}`` below their path.
    """

    @property
    def more_paths(self) -> Sequence[MorePath]:
        """The paths beside the one of its chats."""
        ...


@runtime_checkable
class HasReceipts(Protocol):
    """A format with its own response to a cancellation. For other formats it is a JSON object."""

    def receipt(self, receipt: Mapping[str, object], /) -> Document:
        """The response to a cancellation. ``receipt`` has run_id, was_running, outcome, and charged
        and source for a run that has ended.
        """
        ...


@runtime_checkable
class HasModels(Protocol):
    """A format with a list of models. It has the action ``models`` among its ``more_paths``."""

    def models(self, names: Sequence[str], name: str | None, /) -> Document:
        """The list of the models that the principal may use, or the one with the name ``name``,
        which is among them.
        """
        ...


@runtime_checkable
class HasBodyType(Protocol):
    """A format whose requests have a schema in the OpenAPI document."""

    @property
    def body_type(self) -> type[msgspec.Struct]:
        """The Struct of a request."""
        ...


@runtime_checkable
class HasDocuments(Protocol):
    """A format that may answer without a stream."""

    @property
    def has_documents(self) -> bool:
        """Whether it answers requests without a stream, by one document."""
        ...


@runtime_checkable
class HasQuotaErrors(Protocol):
    """A format with a status of its own for a limit that is not free again soon."""

    @property
    def has_quota_errors(self) -> bool:
        """Whether it answers 402."""
        ...
