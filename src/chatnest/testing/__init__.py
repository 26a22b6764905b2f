"""Parts for testing a chat endpoint: a scripted upstream, hand-driven ASGI, clocks, SSE readers.

`import chatnest` does not import it.
"""

from chatnest.testing.clock import ManualClock
from chatnest.testing.conversation import Conversation, ProtocolViolation
from chatnest.testing.sse import (
    Event,
    EventReader,
    OriginalView,
    chat_nest_client,
    parse_events,
)
from chatnest.testing.upstream import CANARY, Answer, FakeUpstream, SeenRequest, faults

__all__ = [
    "CANARY",
    "Answer",
    "Conversation",
    "Event",
    "EventReader",
    "FakeUpstream",
    "ManualClock",
    "OriginalView",
    "ProtocolViolation",
    "SeenRequest",
    "chat_nest_client",
    "faults",
    "parse_events",
]
