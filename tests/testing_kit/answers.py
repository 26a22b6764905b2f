"""Scripted answers that each dialect must carry, for the tests of all of them."""

from chatnest.testing import (
    Answer,
    RedactedThinking,
    Source,
    Text,
    Thinking,
    TokenUsage,
    ToolCall,
)

USAGE = TokenUsage(120, 40, cached=64, cache_written=16, reasoning=25)

EVERYTHING = Answer(
    parts=[
        Thinking(["Is it", " raining?"], signature="c2lnbmF0dXJl"),
        RedactedThinking("cmVkYWN0ZWQ="),
        Text(["I will", " look. "]),
        Source("https://example.org/a", "A page"),
        Source("https://example.org/b", start=2, end=6),
        ToolCall("call_1", "weather", ['{"city":', ' "Köln"', "}"]),
        ToolCall("call_2", "now", "{}"),
    ],
    usage=USAGE,
)
"""An answer with each kind of part but a refusal."""
