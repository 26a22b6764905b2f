"""Body: a request of the Responses API as its JSON has it. No I/O.

Only the types are checked here. A field of the type Raw is one whose value has no meaning for this
server: it is either ignored or refused.
"""

from typing import Final, Literal

import msgspec

from chatnest.requests import Effort

__all__ = [
    "Body",
    "SentChoice",
    "SentImage",
    "SentInput",
    "SentItem",
    "SentJson",
    "SentOutput",
    "SentPart",
    "SentPlain",
    "SentRefusal",
    "SentSchema",
    "SentSummary",
    "SentThought",
    "SentTool",
]

_ABSENT: Final = msgspec.field(default_factory=msgspec.Raw)


class _Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An object of a body. JSON has no cycles, so none is left to the garbage collector."""


class SentInput(_Sent, frozen=True, tag_field="type", tag="input_text"):
    """A part of a message or of a result: text."""

    text: str
    prompt_cache_breakpoint: msgspec.Raw = _ABSENT


class SentOutput(_Sent, frozen=True, tag_field="type", tag="output_text"):
    """A part of an answer: text. openai-node adds ``parsed`` to it."""

    text: str
    annotations: msgspec.Raw = _ABSENT
    logprobs: msgspec.Raw = _ABSENT
    parsed: msgspec.Raw = _ABSENT


class SentRefusal(_Sent, frozen=True, tag_field="type", tag="refusal"):
    """A part of an answer: the text with which the model refused."""

    refusal: str


class SentImage(_Sent, frozen=True, tag_field="type", tag="input_image"):
    """A part of a message: an image. ``detail`` is ignored: it decides what an image costs."""

    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: msgspec.Raw = _ABSENT


class SentThought(_Sent, frozen=True, tag_field="type", tag="reasoning_text"):
    """A part of a reasoning item: the thinking itself."""

    text: str


class SentSummary(_Sent, frozen=True, tag_field="type", tag="summary_text"):
    """A text in the summary of a reasoning item."""

    text: str


SentPart = SentInput | SentOutput | SentRefusal | SentImage | SentThought
"""A part of an item: a closed union."""


class SentItem(_Sent, frozen=True):
    """An item of any type. A message may leave its type out. openai-node adds
    ``parsed_arguments`` to a call.
    """

    type: str | None = None
    id: str | None = None
    status: str | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[SentPart] | None = None
    phase: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    parsed_arguments: msgspec.Raw = _ABSENT
    output: str | list[SentPart] | None = None
    summary: list[SentSummary] | None = None
    encrypted_content: str | None = None


class SentTool(_Sent, frozen=True):
    """A tool. ``parameters`` stay as they were written: the model reads them."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: msgspec.Raw = _ABSENT
    strict: bool | None = None


class SentChoice(_Sent, frozen=True):
    """The choice of one tool."""

    type: Literal["function"]
    name: str


class SentPlain(_Sent, frozen=True, tag_field="type", tag="text"):
    """Text as the format of the answer."""


class SentJson(_Sent, frozen=True, tag_field="type", tag="json_object"):
    """Any JSON object as the format of the answer."""


class SentSchema(_Sent, frozen=True, tag_field="type", tag="json_schema"):
    """A JSON schema as the format of the answer."""

    name: str
    schema: msgspec.Raw = _ABSENT
    description: str | None = None
    strict: bool | None = None


class SentText(_Sent, frozen=True):
    """The form of the answer. ``verbosity`` is ignored."""

    format: SentPlain | SentJson | SentSchema | None = None
    verbosity: str | None = None


class SentReasoning(_Sent, frozen=True):
    """How much to think. All other fields are ignored: clients get the thinking in any case."""

    effort: Effort | None = None
    summary: str | None = None
    generate_summary: str | None = None
    context: str | None = None


class Body(_Sent, frozen=True):
    """The whole body."""

    input: str | list[SentItem]
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: list[SentTool] | None = None
    tool_choice: Literal["auto", "none", "required"] | SentChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: SentReasoning | None = None
    text: SentText | None = None
    include: list[str] | None = None
    truncation: str | None = None
    background: bool | None = None
    service_tier: str | None = None
    top_logprobs: int | None = None
    # refused
    previous_response_id: msgspec.Raw = _ABSENT
    conversation: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    context_management: msgspec.Raw = _ABSENT
    moderation: msgspec.Raw = _ABSENT
    # ignored
    store: bool | None = None
    metadata: msgspec.Raw = _ABSENT
    user: msgspec.Raw = _ABSENT
    safety_identifier: msgspec.Raw = _ABSENT
    prompt_cache_key: msgspec.Raw = _ABSENT
    prompt_cache_retention: msgspec.Raw = _ABSENT
    prompt_cache_options: msgspec.Raw = _ABSENT
    stream_options: msgspec.Raw = _ABSENT
    max_tool_calls: msgspec.Raw = _ABSENT
