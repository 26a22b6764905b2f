"""Body: a request for a chat completion as its JSON has it, before more than its types is checked.

The fields are those of OpenAI's API. A field that would cost the operator money beside tokens, or
that names something in the operator's account, is None: it must be absent, or null. Other fields do
not exist. No I/O.
"""

from typing import Any, Literal

from chatnest.wire.shapes import (
    Sent,
    SentCall,
    SentCalled,
    SentChoice,
    SentImage,
    SentJson,
    SentPlain,
    SentSchema,
    SentText,
    SentTool,
)

__all__ = [
    "Body",
    "SentAssistant",
    "SentDeveloper",
    "SentMessage",
    "SentRefusal",
    "SentSystem",
    "SentToolResult",
    "SentUser",
]

Ignored = dict[str, Any]
"""An object that has no effect."""


class SentTextPart(SentText, frozen=True, tag_field="type", tag="text"):
    """A part of a message: text."""

    prompt_cache_breakpoint: Ignored | None = None


class SentImagePart(SentImage, frozen=True, tag_field="type", tag="image_url"):
    """A part of a message: an image."""

    prompt_cache_breakpoint: Ignored | None = None


class SentRefusal(Sent, frozen=True, tag_field="type", tag="refusal"):
    """A part of a message: the text of a refusal."""

    refusal: str


class SentCalledFunction(SentCalled, frozen=True):
    """The function of a call. The clients of OpenAI send the arguments back as they parsed them."""

    parsed_arguments: Any = None


class SentToolCall(SentCall, frozen=True):
    """A call of a tool. Clients that read a stream send its index back."""

    function: SentCalledFunction
    index: int | None = None


class SentSystem(Sent, frozen=True, tag_field="role", tag="system"):
    """A message of the system."""

    content: str | list[SentTextPart]
    name: str | None = None


class SentDeveloper(SentSystem, frozen=True, tag_field="role", tag="developer"):
    """The same by its newer name."""


class SentUser(Sent, frozen=True, tag_field="role", tag="user"):
    """A message of the user."""

    content: str | list[SentTextPart | SentImagePart]
    name: str | None = None


class SentAssistant(Sent, frozen=True, tag_field="role", tag="assistant"):
    """A message of the model, as it came. ``reasoning_content`` is its thinking. ``annotations``
    and ``parsed`` are ignored.
    """

    content: str | list[SentTextPart | SentRefusal] | None = None
    refusal: str | None = None
    tool_calls: list[SentToolCall] | None = None
    reasoning_content: str | None = None
    name: str | None = None
    annotations: list[Ignored] | None = None
    parsed: Any = None
    audio: None = None
    function_call: None = None


class SentToolResult(Sent, frozen=True, tag_field="role", tag="tool"):
    """The result of a call."""

    content: str | list[SentTextPart]
    tool_call_id: str
    name: str | None = None


SentMessage = SentSystem | SentDeveloper | SentUser | SentAssistant | SentToolResult
"""A message of any role."""


class SentStreamOptions(Sent, frozen=True):
    """Options of a stream. The padding that ``include_obfuscation`` asks for is never sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Body(Sent, frozen=True):
    """The whole body."""

    messages: list[SentMessage]
    model: str | None = None
    stream: bool | None = None
    stream_options: SentStreamOptions | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    response_format: SentPlain | SentJson | SentSchema | None = None
    tools: list[SentTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | SentChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )

    # These must have the value that they have by default.
    n: Literal[1] | None = None
    logprobs: bool | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None

    # These are ignored.
    metadata: Ignored | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Ignored | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    store: bool | None = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = None

    # These must be absent.
    audio: None = None
    function_call: None = None
    functions: None = None
    logit_bias: None = None
    moderation: None = None
    prediction: None = None
    top_logprobs: None = None
    web_search_options: None = None
