"""Tools of a request, and the format of its answer: from their JSON to checked values. No I/O."""

from collections.abc import Sequence
from typing import assert_never

from chatnest.requests import OutputFormat, Tool, ToolChoice
from chatnest.wire import tools as shared
from chatnest.wire.openai_responses.body import (
    Body,
    SentChoice,
    SentJson,
    SentPlain,
    SentSchema,
    SentTool,
)
from chatnest.wire.openai_responses.places import PLACES

__all__ = ["choice_of", "format_of", "tools_of"]


def tools_of(sent: Sequence[SentTool]) -> tuple[Tool, ...]:
    """The tools, within the caps."""
    return shared.tools_of(sent, "tools[{}]", PLACES)


def choice_of(body: Body, tools: Sequence[Tool]) -> ToolChoice:
    """Which tools the model may call."""
    sent, parallel = body.tool_choice, body.parallel_tool_calls
    if isinstance(sent, SentChoice):
        place = "tool_choice.name"
        return shared.named_choice(sent.name, tools, place, PLACES, parallel=parallel)
    return shared.choice_of(sent, tools, "tool_choice", PLACES, parallel=parallel)


def format_of(sent: SentPlain | SentJson | SentSchema | None) -> OutputFormat | None:
    """The format of the answer, or None for text."""
    match sent:
        case None | SentPlain():
            return None
        case SentJson():
            return OutputFormat()
        case SentSchema():
            return shared.schema_format(sent, "text.format", PLACES)
        case _:
            assert_never(sent)
