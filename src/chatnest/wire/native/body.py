"""Body: a native request as its JSON has it, before anything beside the types is checked. No I/O.

The fields of a request are in camel case, as chat-nest-server has them. Messages, tools, a choice
of a tool and a format of the answer have the shape of Chat Completions, with its names.
"""

from typing import Literal

from chatnest.requests import Effort, EventKind
from chatnest.wire.shapes import (
    Sent,
    SentCall,
    SentChoice,
    SentImage,
    SentJson,
    SentPlain,
    SentSchema,
    SentText,
    SentTool,
)

__all__ = ["Body", "SentMessage", "SentReasoning"]


class SentReasoning(Sent, frozen=True):
    """A block of thinking."""

    text: str | None = None
    signature: str | None = None
    provider: str | None = None
    model: str | None = None
    redacted: bool | None = None
    id: str | None = None


class SentMessage(Sent, frozen=True):
    """A message of any role."""

    role: Literal["user", "assistant", "tool"]
    content: str | list[SentText | SentImage] | None = None
    id: str | None = None
    tool_calls: list[SentCall] | None = None
    tool_call_id: str | None = None
    is_error: bool | None = None
    reasoning: list[SentReasoning] | None = None


class Body(Sent, frozen=True, rename="camel"):
    """The whole body."""

    messages: list[SentMessage]
    profile: str | None = None
    ai_usage_profile: str | None = None
    model: str | None = None
    daily_token_limit: int | None = None
    max_tokens_per_request: int | None = None
    max_output_tokens: int | None = None
    system_prompt: str | None = None
    usage_event: bool | None = None
    events: list[EventKind] | None = None
    linger: float | None = None
    conversation: str | None = None
    tools: list[SentTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | SentChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: SentPlain | SentJson | SentSchema | None = None
    reasoning_effort: Effort | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
