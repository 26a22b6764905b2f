"""Tools for testing a chat endpoint: a fake upstream, hand-driven ASGI, faults, leaks, clocks, SSE.

`import chatnest` does not import this package.
"""

from chatnest.testing.answer_contract import AnswerContract
from chatnest.testing.clock import ManualClock
from chatnest.testing.conversation import Conversation, ProtocolViolation
from chatnest.testing.fail_points import FailPoints
from chatnest.testing.fault_proxy import FaultProxy
from chatnest.testing.format_contract import FormatContract
from chatnest.testing.leak_probe import LeakProbe
from chatnest.testing.provider_contract import ProviderContract
from chatnest.testing.sse import (
    Event,
    EventReader,
    OriginalView,
    chat_nest_client,
    parse_events,
)
from chatnest.testing.upstream import (
    CANARY,
    Answer,
    FakeUpstream,
    Part,
    RedactedThinking,
    Refusal,
    SeenRequest,
    Source,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
    faults,
)

__all__ = [
    "CANARY",
    "Answer",
    "AnswerContract",
    "Conversation",
    "Event",
    "EventReader",
    "FailPoints",
    "FakeUpstream",
    "FaultProxy",
    "FormatContract",
    "LeakProbe",
    "ManualClock",
    "OriginalView",
    "Part",
    "ProtocolViolation",
    "ProviderContract",
    "RedactedThinking",
    "Refusal",
    "SeenRequest",
    "Source",
    "Text",
    "Thinking",
    "TokenUsage",
    "ToolCall",
    "chat_nest_client",
    "faults",
    "parse_events",
]
