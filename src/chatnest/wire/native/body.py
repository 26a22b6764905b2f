"""Body: a native request as its JSON has it, before anything beside the types is checked. No I/O.

The fields of a request are in camel case, as chat-nest-server has them. Messages, tools, a choice
of a tool and a format of the answer have the shape of Chat Completions, with its names.
"""

from typing import Literal

import msgspec

from chatnest.requests import Effort, EventKind

__all__ = [
    "Body",
    "SentCall",
    "SentChoice",
    "SentImage",
    "SentJson",
    "SentMessage",
    "SentReasoning",
    "SentSchema",
    "SentText",
    "SentTool",
]


class _Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An object of a body. JSON has no cycles, so none is left to the garbage collector."""


class SentText(_Sent, frozen=True, tag_field="type", tag="text"):
    """A part of a message: text."""

    text: str


class SentUrl(_Sent, frozen=True):
    """The address of an image. ``detail`` is ignored: it decides what an image costs."""

    url: str
    detail: str | None = None


class SentImage(_Sent, frozen=True, tag_field="type", tag="image_url"):
    """A part of a message: an image."""

    image_url: SentUrl


class SentCalled(_Sent, frozen=True):
    """The function of a call."""

    name: str
    arguments: str


class SentCall(_Sent, frozen=True):
    """A call of a tool."""

    id: str
    function: SentCalled
    type: Literal["function"] = "function"


class SentReasoning(_Sent, frozen=True):
    """A block of thinking."""

    text: str | None = None
    signature: str | None = None
    provider: str | None = None
    model: str | None = None
    redacted: bool | None = None
    id: str | None = None


class SentMessage(_Sent, frozen=True):
    """A message of any role."""

    role: Literal["user", "assistant", "tool"]
    content: str | list[SentText | SentImage] | None = None
    id: str | None = None
    tool_calls: list[SentCall] | None = None
    tool_call_id: str | None = None
    is_error: bool | None = None
    reasoning: list[SentReasoning] | None = None


class SentFunction(_Sent, frozen=True):
    """The function of a tool. ``parameters`` stay as they were written: the model reads them."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw = msgspec.Raw()
    strict: bool | None = None


class SentTool(_Sent, frozen=True):
    """A tool."""

    function: SentFunction
    type: Literal["function"] = "function"


class SentName(_Sent, frozen=True):
    """The name of a tool."""

    name: str


class SentChoice(_Sent, frozen=True):
    """The choice of one tool."""

    function: SentName
    type: Literal["function"] = "function"


class SentPlain(_Sent, frozen=True, tag_field="type", tag="text"):
    """Text as the format of the answer."""


class SentJson(_Sent, frozen=True, tag_field="type", tag="json_object"):
    """Any JSON object as the format of the answer."""


class SentDefinition(_Sent, frozen=True):
    """A JSON schema and its name."""

    name: str
    schema: msgspec.Raw = msgspec.Raw()
    description: str | None = None
    strict: bool | None = None


class SentSchema(_Sent, frozen=True, tag_field="type", tag="json_schema"):
    """A JSON schema as the format of the answer."""

    json_schema: SentDefinition


class Body(_Sent, frozen=True, rename="camel"):
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
