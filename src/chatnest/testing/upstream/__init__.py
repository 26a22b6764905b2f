"""An upstream with scripted answers, faults included: OpenAI's two APIs and Anthropic's.

Run it by hand: ``python -m chatnest.testing.upstream --port 9000 --pieces 200 --pace 0.02``.
"""

from chatnest.testing.upstream import faults
from chatnest.testing.upstream.answers import Answer
from chatnest.testing.upstream.canary import CANARY
from chatnest.testing.upstream.parts import (
    Part,
    RedactedThinking,
    Refusal,
    Source,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
)
from chatnest.testing.upstream.record import SeenRequest
from chatnest.testing.upstream.server import FakeUpstream

__all__ = [
    "CANARY",
    "Answer",
    "FakeUpstream",
    "Part",
    "RedactedThinking",
    "Refusal",
    "SeenRequest",
    "Source",
    "Text",
    "Thinking",
    "TokenUsage",
    "ToolCall",
    "faults",
]
