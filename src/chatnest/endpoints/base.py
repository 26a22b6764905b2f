"""Exchange: one HTTP request on its way to an endpoint, with what answers it."""

from collections.abc import Mapping

import msgspec
from starlette.types import Receive, Scope, Send

from chatnest.wire.base import WireFormat

__all__ = ["Exchange"]


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and the ``send`` of its response. ``head`` has the first value of each field."""

    scope: Scope
    receive: Receive
    send: Send
    id: str
    head: Mapping[bytes, bytes]
    format: WireFormat
